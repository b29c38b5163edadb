"""`s.link`: an answer for one person, as a value that cannot be forged or changed.

A token is URL-safe: what it says, as JSON, and an HMAC-SHA256 over that. It names the instance, its run, the event and how
long it holds; whoever has it can answer, once it is delivered, with that event and no other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from contrapas.author.duration import Duration, duration_ms
from contrapas.author.event import Command, Event, message_spec
from contrapas.errors import DataError

SECRET_MIN: Final = 16
TOKEN_MAX: Final = 8_000
WITHIN_MS: Final = 7 * 24 * 3600 * 1000
Linker = Callable[[str, str, str, int], "Link"]
"""(instance, type, body, how long in ms) -> the link."""


@dataclass(frozen=True, slots=True)
class Link:
    """A signed answer."""

    token: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a genuine token says."""

    instance: str
    run: str
    type: str
    """Registered name of the event."""
    body: str
    """The event as JSON."""
    until: int
    """ms of log time."""

    @property
    def id(self) -> str:
        """Id of the event that it delivers: the same at every use."""
        text = json.dumps([self.instance, self.run, self.type, self.body, self.until])
        return f"link-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def sign(secret: str, claims: Claims) -> str:
    """A token. DataError CP833 for a secret that is too short."""
    if len(secret) < SECRET_MIN:
        raise DataError(
            "CP833",
            "links cannot be signed: no secret is configured",
            expected=f"at least {SECRET_MIN} characters",
            fix="CONTRAPAS_LINK_SECRET, the same for all workers and doors",
        )
    said = json.dumps(
        [claims.instance, claims.run, claims.type, claims.body, claims.until],
        ensure_ascii=False,
        separators=(",", ":"),
    )
    payload = _text(said.encode())
    return f"{payload}.{_text(_mac(secret, payload))}"


def verify(secret: str, token: str, now: int) -> Claims:
    """What a token says. DataError CP831: it is not one of ours, or was changed; CP832: its time is over; CP833."""
    if len(secret) < SECRET_MIN:
        raise DataError("CP833", "links cannot be read: no secret is configured", fix="CONTRAPAS_LINK_SECRET")
    payload, _, given = token.partition(".")
    genuine = len(token) <= TOKEN_MAX and token.isascii()
    if not genuine or not hmac.compare_digest(_text(_mac(secret, payload)).encode(), given.encode()):
        raise DataError("CP831", "this link is not genuine: it was changed, or signed with another secret")
    try:
        said: Any = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        instance, run, type_name, body, until = said
        claims = Claims(
            instance=str(instance), run=str(run), type=str(type_name), body=str(body), until=int(until)
        )
    except (ValueError, TypeError) as why:
        raise DataError("CP831", "this link is not genuine: it does not read") from why
    if claims.until < now:
        raise DataError("CP832", f"this link to {claims.instance} has expired")
    return claims


def claimed(instance: str, event: Event, within: Duration | None, linker: Linker | None) -> Link:
    """`s.link`. Without a linker, outside of an app, the token says what it stands for and is signed by nobody."""
    spec = message_spec(type(event))
    if spec.command or isinstance(event, Command):
        raise TypeError(f"link() takes an event, {spec.name} is a command")
    ms = WITHIN_MS if within is None else duration_ms(within, what="within=")
    if linker is None:
        name = f"unsigned.{spec.name}"
        return Link(token=name, url=f"/link/{name}")
    return linker(instance, spec.name, event.model_dump_json(by_alias=True), ms)


def _mac(secret: str, payload: str) -> bytes:
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
