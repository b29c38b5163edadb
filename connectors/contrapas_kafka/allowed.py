"""The options of an address: which there are, which values they take, and which are not for choice since our guarantees rest on them."""

from __future__ import annotations

import difflib
from typing import Final

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
PROTOCOLS: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")

SECRET: Final = frozenset(
    [
        "sasl.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.token",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
    ]
)
"""Never in the address itself: by reference only."""

REFERENCES: Final = SECRET | {
    "sasl.username",
    "sasl.oauthbearer.client.id",
    "ssl.certificate.pem",
    "ssl.ca.pem",
}
"""What may be `env:NAME` or `file:/path`."""

Takes = str | tuple[str, ...] | range
"""A word for free text, a file or a switch; the words there are; the numbers there are."""

_TEXT: Final = ""
_FILE: Final = "file"
_BOOL: Final = "bool"

ALLOWED: Final[dict[str, Takes]] = {
    "security.protocol": PROTOCOLS,
    "sasl.mechanism": MECHANISMS,
    "sasl.username": _TEXT,
    "sasl.oauthbearer.method": ("oidc", "default"),
    "sasl.oauthbearer.client.id": _TEXT,
    "sasl.oauthbearer.token.endpoint.url": _TEXT,
    "sasl.oauthbearer.scope": _TEXT,
    "sasl.oauthbearer.extensions": _TEXT,
    "ssl.ca.location": _FILE,
    "ssl.ca.pem": _TEXT,
    "ssl.certificate.location": _FILE,
    "ssl.certificate.pem": _TEXT,
    "ssl.key.location": _FILE,
    "ssl.keystore.location": _FILE,
    "ssl.crl.location": _FILE,
    "ssl.cipher.suites": _TEXT,
    "ssl.curves.list": _TEXT,
    "ssl.sigalgs.list": _TEXT,
    "ssl.endpoint.identification.algorithm": ("https", "none"),
    "enable.ssl.certificate.verification": _BOOL,
    "https.ca.location": _FILE,
    "client.id": _TEXT,
    "client.rack": _TEXT,
    "broker.address.family": ("any", "v4", "v6"),
    "client.dns.lookup": ("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"),
    "socket.timeout.ms": range(1_000, 60_000 + 1),
    "socket.connection.setup.timeout.ms": range(1_000, 60_000 + 1),
    "connections.max.idle.ms": range(3_600_000 + 1),
    "reconnect.backoff.ms": range(60_000 + 1),
    "reconnect.backoff.max.ms": range(60_000 + 1),
    "metadata.max.age.ms": range(1_000, 3_600_000 + 1),
    "compression.type": ("zstd", "lz4", "snappy", "gzip", "none"),
}

GROUP: Final[dict[str, Takes]] = {
    "group.protocol": ("auto", "classic", "consumer"),
    "session.timeout.ms": range(1_000, 300_000 + 1),
    "heartbeat.interval.ms": range(100, 60_000 + 1),
    "max.poll.interval.ms": range(1_000, 3_600_000 + 1),
}
"""Of members of a group only."""

_ACKS: Final = "what is acknowledged must stand on every replica in sync"
_IDEMPOTENT: Final = "what a partition stored must be a prefix of what was sent"
_TRANSACTIONS: Final = "our lanes use no transactions, the partition's order is the fence"
_POSITIONS: Final = "positions stand in our own records, the group's are never read"
_COUNT: Final = "the partition is computed by contrapas and recorded"
_STUCK: Final = (
    "a stranger's open transaction must not stop the log lane, and users' topics are read committed"
)
_UNSEEN: Final = "never a jump over records, and never one that is damaged"
_DEADLINE: Final = "contrapas keeps a deadline of its own beside each call"
_CODE: Final = "it would load code into the process"
_SIZE: Final = "records are checked against 900 kB before they are sent"

OURS: Final[dict[str, str]] = {
    "bootstrap.servers": "the hosts of the address are the servers",
    "metadata.broker.list": "the hosts of the address are the servers",
    "acks": _ACKS,
    "request.required.acks": _ACKS,
    "enable.idempotence": _IDEMPOTENT,
    "enable.gapless.guarantee": _IDEMPOTENT,
    "max.in.flight": _IDEMPOTENT,
    "max.in.flight.requests.per.connection": _IDEMPOTENT,
    "retries": _IDEMPOTENT,
    "message.send.max.retries": _IDEMPOTENT,
    "transactional.id": _TRANSACTIONS,
    "transaction.timeout.ms": _TRANSACTIONS,
    "partitioner": _COUNT,
    "sticky.partitioning.linger.ms": _COUNT,
    "partition.assignment.strategy": "partitions move one by one (cooperative-sticky)",
    "group.remote.assignor": "the broker's own assignment is used",
    "group.id": "groups are named after the namespace",
    "group.instance.id": "no member is static: a killed one must be replaced at its session's end",
    "group.protocol.type": "groups are of consumers",
    "isolation.level": _STUCK,
    "enable.auto.commit": _POSITIONS,
    "auto.commit.enable": _POSITIONS,
    "auto.commit.interval.ms": _POSITIONS,
    "enable.auto.offset.store": _POSITIONS,
    "offset.store.method": _POSITIONS,
    "auto.offset.reset": _UNSEEN,
    "check.crcs": _UNSEEN,
    "allow.auto.create.topics": "nothing is made unasked",
    "message.timeout.ms": _DEADLINE,
    "delivery.timeout.ms": _DEADLINE,
    "request.timeout.ms": _DEADLINE,
    "linger.ms": "batches are made before they are sent",
    "queue.buffering.max.ms": "batches are made before they are sent",
    "message.max.bytes": _SIZE,
    "receive.message.max.bytes": _SIZE,
    "plugin.library.paths": _CODE,
    "ssl.engine.location": _CODE,
    "ssl.providers": _CODE,
    "enable.sasl.oauthbearer.unsecure.jwt": "anybody could sign such a token",
    "sasl.oauthbearer.config": "anybody could sign such a token",
    "debug": "it prints settings; say -v instead",
    "log_level": "say -v instead",
    "test.mock.num.brokers": "it is no broker",
    "test.mock.broker.rtt": "it is no broker",
}
"""Not for choice, and why."""


def check_value(name: str, value: str) -> str:
    """Why a value is none for its option, quoted as far as it may be; empty if it is one."""
    takes: Takes = ALLOWED.get(name, GROUP.get(name, _TEXT))
    if not value:
        return "is empty"
    if any(ord(ch) < 32 for ch in value):
        return "holds control characters"
    if takes == _BOOL:
        takes = ("true", "false")
    if isinstance(takes, str):
        return ""
    if isinstance(takes, range):
        if value.isascii() and value.isdigit() and int(value[:12]) in takes:
            return ""
        return f"{value[:40]!r} is no number from {takes.start} to {takes.stop - 1}"
    if value.lower() not in {one.lower() for one in takes}:
        return f"{value[:40]!r} is none of {', '.join(takes)}"
    return ""


def nearest(name: str) -> str:
    """The option that was probably meant."""
    known = [*ALLOWED, *GROUP, *SECRET, *OURS]
    return next(iter(difflib.get_close_matches(name.lower(), known, 1, 0.75)), "")
