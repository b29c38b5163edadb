"""A proxy as PgBouncer is with `pool_mode = transaction`: few server connections, each lent for one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Self

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pooling:
    """Clients connect over TCP; two server connections over a Unix socket are shared among them, the last used first."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.port = 0
        self.idle: list[Pair] = []
        self.greeting = b""
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.idle = [await self._connect(), await self._connect()]
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *what: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for _, writer in self.idle:
            writer.close()

    async def _connect(self) -> Pair:
        reader, writer = await asyncio.open_unix_connection(self.target)
        body = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
        writer.write(struct.pack("!I", len(body) + 4) + body)
        greeting = b""
        while True:
            kind, data = await _message(reader)
            greeting += data
            if kind == b"Z":
                break
        self.greeting = greeting
        return reader, writer

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            size = struct.unpack("!I", await reader.readexactly(4))[0]
            await reader.readexactly(size - 4)
            writer.write(self._greeted())
            while True:
                kind, data = await _message(reader)
                if kind == b"X":
                    break
                await self._transaction(reader, writer, data)
        writer.close()

    def _greeted(self) -> bytes:
        """As the server greets, but with a process number of the proxy's own."""
        at = self.greeting.index(b"K\0\0\0")
        size = struct.unpack("!I", self.greeting[at + 1 : at + 5])[0]
        own = b"K" + struct.pack("!III", 12, 999_999, 7)
        return self.greeting[:at] + own + self.greeting[at + 1 + size :]

    async def _transaction(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
    ) -> None:
        """Lend a server connection until it says that no transaction is open."""
        theirs, server = self.idle.pop()
        server.write(first)
        done = asyncio.Event()

        async def up() -> None:
            while True:
                _, data = await _message(reader)
                server.write(data)

        sending = asyncio.create_task(up())
        try:
            while not done.is_set():
                kind, data = await _message(theirs)
                writer.write(data)
                if kind == b"Z" and data[-1:] == b"I":
                    done.set()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self.idle.append((theirs, server))


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    size = struct.unpack("!I", head[1:])[0]
    return head[:1], head + await reader.readexactly(size - 4)
