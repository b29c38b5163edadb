"""The network before Kafka's nodes, in a thread of its own: clients that come by the nodes' proxied addresses can be cut off.

It reads the requests that pass: every connection names its client (`client.id`), every request says what it asks for.
So faults strike one worker, or the answer of one kind of request.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Self, TypeVar

from deploy.kafka.server import Server
from tests.proxy import Link, Proxy, Way

__all__ = ["PRODUCE", "Ambush", "How", "Lines"]

PRODUCE: Final = 0
"""Kafka's number of a request that appends."""
How = Literal["lost answer", "late answer", "lost request"]
_T = TypeVar("_T")


@dataclass(slots=True)
class _Frames:
    """What a client says on one connection, cut into requests."""

    client: str = ""
    buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and bytes of each request that is whole now."""
        self.buffer += data
        while len(self.buffer) >= 4:
            (size,) = struct.unpack_from(">i", self.buffer)
            if len(self.buffer) < size + 4:
                return
            frame = bytes(self.buffer[4 : size + 4])
            del self.buffer[: size + 4]
            kind, _, _, length = struct.unpack_from(">hhih", frame)
            if length > 0:
                self.client = frame[10 : 10 + length].decode(errors="replace")
            yield kind, frame


@dataclass(slots=True)
class Ambush:
    """Waits for a request and loses, or delays, what belongs to it."""

    marker: bytes
    """Bytes in the request: a topic's name, say; what is compressed is not seen."""
    how: How
    who: str = ""
    """Beginning of the client's name."""
    seconds: float = 0.5
    """Until the connection is reset, or the answer let through."""
    left: int = 1
    struck: int = 0


class Lines:
    """Proxies before all nodes of a server. Use as a context manager; every call may come from any thread."""

    def __init__(self, server: Server, *, seed: int = 0) -> None:
        self.address = server.proxied
        """For `bootstrap.servers` of whoever shall be behind the proxies."""
        self._nodes = [(n.front, n.behind) for n in server.nodes]
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxies: list[Proxy] = []
        self._frames: dict[Link, _Frames] = {}
        self._held: set[tuple[str, Way]] = set()
        self._ambushes: list[Ambush] = []
        self.seen: dict[str, int] = {}
        """Requests by client."""

    def __enter__(self) -> Self:
        self._thread.start()
        for front, behind in self._nodes:
            proxy = Proxy("127.0.0.1", behind, front)
            proxy.watchers.append(self._watch)
            proxy.holds = self._holds
            self._proxies.append(proxy)
            asyncio.run_coroutine_threadsafe(proxy.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            for proxy in self._proxies:
                await proxy.close()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # ---- faults

    def hold(self, way: Way, who: str = "") -> None:
        """What goes there is kept, of clients whose names begin so, on old and new connections, until `heal`."""
        self._do(lambda: self._held.add((who, way)))

    def heal(self, who: str | None = None, *, reset: bool = False) -> None:
        """Deliver what was kept, however late, and keep nothing more; reset: lose it, and the connections. None: of all."""

        def act() -> None:
            self._held = {(w, way) for w, way in self._held if who is not None and w != who}
            for link in self._links(who or ""):
                if link.held:
                    link.reset() if reset else link.release()

        self._do(act)

    def kept(self, marker: bytes, who: str) -> bool:
        """Whether a request to append with these bytes in it is among what is kept, of clients whose names begin so."""

        def look() -> bool:
            return any(
                kind == PRODUCE and marker in frame
                for link in self._links(who)
                for kind, frame in _Frames().feed(b"".join(link.held.get("up", [])))
            )

        return self._do(look)

    def slow(self, wait_s: tuple[float, float] = (0.0, 0.0), rate: int = 0, slices: int = 0) -> None:
        """Everybody: a pause before each piece, at most `rate` bytes a second each way, small ones byte by byte."""

        def pace(data: bytes) -> Iterator[tuple[float, bytes]]:
            yield self._chance.uniform(*wait_s), b""
            size = 1 if slices and len(data) <= slices else max(1, len(data) // 8) if rate else len(data)
            for at in range(0, len(data), size):
                yield (size / rate if rate else 0.0), data[at : at + size]

        def plain(data: bytes) -> Iterator[tuple[float, bytes]]:
            yield 0.0, data

        def act() -> None:
            for proxy in self._proxies:
                proxy.pace = pace if rate or slices or any(wait_s) else plain

        self._do(act)

    def reset(self, who: str = "") -> None:
        """Reset the connections of clients whose names begin so."""

        def act() -> None:
            for link in self._links(who):
                link.reset()

        self._do(act)

    def refuse(self, yes: bool) -> None:
        """No new connections, and none of the old ones; or again."""

        def act() -> None:
            for proxy in self._proxies:
                proxy.refusing = yes
                if yes:
                    proxy.reset()

        self._do(act)

    def ambush(self, ambush: Ambush) -> Ambush:
        """Strike at the next requests of this kind that append; `struck` counts."""
        self._do(lambda: self._ambushes.append(ambush))
        return ambush

    # ---- in the loop's thread

    def _do(self, call: Callable[[], _T]) -> _T:
        async def act() -> _T:
            return call()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def _links(self, who: str) -> list[Link]:
        return [link for proxy in self._proxies for link in proxy.links if self._client(link).startswith(who)]

    def _client(self, link: Link) -> str:
        frames = self._frames.get(link)
        return frames.client if frames is not None else ""

    def _holds(self, link: Link, way: Way) -> bool:
        client = self._client(link)
        return any(w == way and client.startswith(who) for who, w in self._held)

    def _watch(self, link: Link, way: Way, data: bytes) -> None:
        if way != "up":
            return
        frames = self._frames.setdefault(link, _Frames())
        for kind, frame in frames.feed(data):
            self.seen[frames.client] = self.seen.get(frames.client, 0) + 1
            if kind == PRODUCE:
                self._spring(link, frames.client, frame)

    def _spring(self, link: Link, client: str, frame: bytes) -> None:
        for one in self._ambushes:
            if one.left and client.startswith(one.who) and one.marker in frame:
                one.left -= 1
                one.struck += 1
                if one.how == "late answer":
                    link.hold("down")
                    self._loop.call_later(one.seconds, link.release)
                    return
                link.cut |= {"down"} if one.how == "lost answer" else {"up", "down"}
                self._loop.call_later(one.seconds, self._lose, link)
                return

    def _lose(self, link: Link) -> None:
        with contextlib.suppress(OSError):
            link.reset()
