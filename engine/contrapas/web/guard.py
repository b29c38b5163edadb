"""Who may ask: the Host allow-list, no foreign page, limits of a request, the token. Pure ASGI, before any route."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contrapas.web.problems import problem

BODY_MAX = 1 << 20
PARAMETERS_MAX = 1000
HEADERS_MAX = 100
BODY_S = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
_SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Wraps an app. hosts: names, without port, under which it may be called."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str] = LOOPBACK,
        body_max: int = BODY_MAX,
        body_s: float = BODY_S,
    ) -> None:
        self.app = app
        self.hosts = frozenset(hosts)
        self.body_max = body_max
        self.body_s = body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or let pass with safe headers on the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            code, text, status = refusal
            await problem(code, text, status=status)(scope, receive, _safely(send))
            return
        body = await self._body(receive)
        if isinstance(body, tuple):
            await problem("CP825", body[1], status=body[0], headers={"connection": "close"})(
                scope, receive, _safely(send)
            )
            return
        told = False

        async def again() -> Message:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, _safely(send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[str, str, int] | None:
        if len(scope["headers"]) > HEADERS_MAX:
            return "CP825", f"the request has more than {HEADERS_MAX} headers", 400
        if _name(headers.get("host", "")) not in self.hosts:
            return "CP824", "this server is not called by that name", 403
        origin = headers.get("origin")
        if origin is not None and _origin(origin) not in {_bare(h) for h in self.hosts}:
            return "CP824", "the request comes from a foreign page", 403
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return "CP824", "the request comes from a foreign page", 403
        if scope["query_string"].count(b"&") >= PARAMETERS_MAX:
            return "CP825", f"the request has more than {PARAMETERS_MAX} parameters", 400
        size = headers.get("content-length", "0")
        if not (size.isascii() and size.isdigit()) or len(size) > 18:
            return "CP825", "the length of the body is no number", 400
        if int(size) > self.body_max:
            return "CP825", f"the body has {size} bytes, {self.body_max} are allowed", 413
        return None

    async def _body(self, receive: Receive) -> bytes | tuple[int, str]:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return 400, "the body ended too early"
                    part: bytes = message.get("body", b"")
                    size += len(part)
                    if size > self.body_max:
                        return 413, f"the body has more than {self.body_max} bytes"
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return 408, f"the body did not arrive within {self.body_s:g} s"


def _name(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


def _origin(origin: str) -> str:
    """The name of the page that asks; empty for what is no address."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _bare(host: str) -> str:
    return host.strip("[]")


def _safely(send: Send) -> Send:
    async def inner(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_SAFE_HEADERS]}
        await send(message)

    return inner


def allowed(request: HTTPConnection, token: str) -> bool:
    """Whether the request carries the token, as a bearer or in the query; compared in constant time."""
    given = request.headers.get("authorization", "")
    shown = given[7:] if given[:7].lower() == "bearer " else request.query_params.get("token", "")
    return hmac.compare_digest(shown.encode("utf-8", "replace"), token.encode())


def token_at(folder: str) -> str:
    """The token of a state folder: read, or drawn and written with mode 0600. Links are not followed."""
    path = os.path.join(folder, "token")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="ascii") as file:
            found = file.read().strip()
        if len(found) >= 16 and os.stat(path).st_mode & 0o077 == 0:
            return found
        os.unlink(path)
    except FileNotFoundError:
        pass
    drawn = secrets.token_hex(16)
    with open(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w", encoding="ascii"
    ) as file:
        file.write(f"{drawn}\n")
    return drawn
