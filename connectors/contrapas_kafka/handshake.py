"""Why there is no connection, where the client does not say it: one handshake of our own with the broker, and nothing sent.

The client has refused, or was hung up on, before anybody looks here; nothing rests on what is found but the words.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

from contrapas_kafka.options import Cluster

SECONDS: Final = 1.0


def speaks_tls(cluster: Cluster) -> str:
    """The first `host:port` that answers a client's hello in TLS; empty if none does."""
    for host, port in cluster.hosts:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            _shake(context, host, port)
        except ssl.SSLError as why:
            if why.reason in (None, "WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING"):
                continue
        except (OSError, ValueError):
            continue
        return f"{host}:{port}"
    return ""


def why_untrusted(cluster: Cluster) -> str:
    """What is wrong with a broker's certificate, in the words of the library: its authority, its name, its time. Empty
    where nothing is, or nobody answers."""
    file, text = cluster.authority()
    for host, port in cluster.hosts:
        try:
            context = ssl.create_default_context(cafile=file or None, cadata=text or None)
            _shake(context, host, port)
        except ssl.SSLCertVerificationError as why:
            return str(why.verify_message).strip().rstrip(".")
        except (OSError, ValueError):
            continue
    return ""


def _shake(context: ssl.SSLContext, host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=SECONDS) as plain:
        context.wrap_socket(plain, server_hostname=host).close()
