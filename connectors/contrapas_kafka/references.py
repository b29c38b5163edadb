"""Values by reference: `env:NAME` and `file:/path` in an address, read when a client is made, shown never."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from contrapas.errors import Refused
from contrapas_kafka.allowed import SECRET

LIMIT: Final = 64_000
_TOKEN: Final = "sasl.oauthbearer.token"
_TOKEN_S: Final = 300.0
"""How soon a token is read again that does not say when it ends."""


def is_reference(value: str) -> bool:
    """Whether a value says where to find it."""
    return value.startswith(("env:", "file:"))


def dereference(
    options: Mapping[str, str], environ: Mapping[str, str], *, dev: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings with their values, and which of them are secrets, longest first. Refused CP801, CP802."""
    settings: dict[str, Any] = {}
    secrets: list[str] = []
    for name, value in options.items():
        if name == _TOKEN:  # read anew whenever the client asks: tokens end
            resolve(name, value, environ, dev=dev)
            settings[name] = lambda value=value: resolve(_TOKEN, value, environ, dev=dev)
            continue
        settings[name] = resolve(name, value, environ, dev=dev)
        if name in SECRET:
            secrets.append(settings[name])
    if "sasl.mechanism" in settings:
        settings["sasl.mechanism"] = settings["sasl.mechanism"].upper()
    return settings, tuple(sorted(secrets, key=len, reverse=True))


def resolve(name: str, value: str, environ: Mapping[str, str], *, dev: bool) -> str:
    """What a value refers to, or itself. Refused CP801: nothing is there; CP802: others can read the file of a secret."""
    kind, _, rest = value.partition(":")
    if kind == "env":
        found = environ.get(rest, "")
        if not found:
            raise Refused("CP801", f"{name}=env:{rest}: there is no such variable", fix=f"export {rest}=…")
        return found
    if kind != "file":
        return value
    try:
        with open(rest, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(LIMIT + 1)
    except OSError as why:
        words = f"{name}=file:{rest}: {why.strerror or type(why).__name__}"
        raise Refused("CP801", words, fix="correct the path, or its owner and mode") from None
    if name in SECRET and mode & 0o004 and not dev:
        fix = f"chmod 600 {rest}   (a Kubernetes secret: defaultMode: 0400)"
        raise Refused("CP802", f"{name}=file:{rest}: everybody on this machine can read it", fix=fix)
    try:
        text = data.decode().strip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > LIMIT:
        raise Refused("CP801", f"{name}=file:{rest}: holds no text, or too much", fix="correct the file")
    return text


def token_source(settings: dict[str, Any]) -> dict[str, Callable[[str], tuple[str, float]]]:
    """The call-back that hands a bearer token to the client, where one is named; takes it out of the settings."""
    read = settings.pop(_TOKEN, None)
    if read is None:
        return {}

    def token(_: str) -> tuple[str, float]:
        found: str = read()
        return found, ends_at(found, time.time())

    return {"oauth_cb": token}


def ends_at(token: str, now: float) -> float:
    """When a token ends, in s since 1970, as it says itself (`exp` of a JWT); else soon, so that it is read again."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError):
        return now + _TOKEN_S
