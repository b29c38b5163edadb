"""A TCP proxy that does what networks do: delay, silence in one direction, bytes held back, resets, no connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Literal

Way = Literal["up", "down"]
"""To the server, or back from it."""


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.writers: dict[Way, asyncio.StreamWriter] = {"up": server, "down": client}
        self.cut: set[Way] = set()
        """What goes there is lost."""
        self.held: dict[Way, list[bytes]] = {}
        """What goes there waits."""

    async def pump(self, reader: asyncio.StreamReader, way: Way) -> None:
        """Carry bytes one way until the end."""
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.proxy.delay_s:
                    await asyncio.sleep(self.proxy.delay_s)
                for call in list(self.proxy.watchers):
                    call(self, way, data)
                if way in self.cut or way in self.proxy.cut:
                    continue
                if way in self.held or self.proxy.holds(self, way):
                    self.held.setdefault(way, []).append(data)
                    continue
                for wait_s, piece in self.proxy.pace(data):
                    if wait_s:
                        await asyncio.sleep(wait_s)
                    self.writers[way].write(piece)
                    await self.writers[way].drain()
        if not self.cut and not self.held and not self.proxy.cut:
            if self in self.proxy.links:
                self.proxy.links.remove(self)
            for writer in self.writers.values():
                writer.close()

    def hold(self, way: Way) -> None:
        """Keep what goes one way from now on."""
        self.held.setdefault(way, [])

    def release(self) -> None:
        """Deliver what was kept, however late."""
        for way, kept in self.held.items():
            with contextlib.suppress(OSError):
                for data in kept:
                    self.writers[way].write(data)
        self.held.clear()

    def reset(self) -> None:
        """End both connections as a crash of a router does: with RST."""
        for writer in self.writers.values():
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Between clients on a loopback port of its own and one server."""

    def __init__(self, host: str, port: int, at: int = 0) -> None:
        """at: the port to listen on; 0: a free one."""
        self.target = (host, port)
        self.port = at
        self.delay_s = 0.0
        self.cut: set[Way] = set()
        """Of all connections: what goes there is lost."""
        self.refusing = False
        self.holds: Callable[[Link, Way], bool] = lambda _, __: False
        """Whether what goes there on a connection waits, until its `release`."""
        self.pace: Callable[[bytes], Iterable[tuple[float, bytes]]] = lambda data: ((0.0, data),)
        """In which pieces bytes are passed on, and how long before each, in seconds."""
        self.links: list[Link] = []
        self.watchers: list[Callable[[Link, Way, bytes], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            theirs, server = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, writer, server)
        self.links.append(link)
        for source, way in ((reader, "up"), (theirs, "down")):
            task = asyncio.create_task(link.pump(source, "up" if way == "up" else "down"))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def when(self, marker: bytes, act: Callable[[Link], None], way: Way = "up") -> None:
        """Once, when these bytes pass: act on their connection before they go on."""

        def watch(link: Link, went: Way, data: bytes) -> None:
            if went == way and marker in data:
                self.watchers.remove(watch)
                act(link)

        self.watchers.append(watch)

    def reset(self) -> None:
        """Reset every connection."""
        links, self.links = self.links, []
        for link in links:
            link.reset()

    async def close(self) -> None:
        """End everything."""
        self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxied(port: int, host: str = "127.0.0.1", *, at: int = 0) -> AsyncGenerator[Proxy]:
    """A proxy before a server; at: where it listens."""
    proxy = Proxy(host, port, at)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
