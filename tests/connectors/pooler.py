"""A small proxy for PostgreSQL on a Unix socket: shares out server sessions by transaction, or cuts at COMMIT.

Shared out as pgbouncer does it (`pool_mode=transaction`): a client gets a server session at its first message and loses it
when that session is idle again; it is told process ids of the proxy's own.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

Mode = Literal["session", "transaction"]


class Server:
    """A session with the real server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.hello: list[bytes] = []


class Pooler:
    """Server sessions, the last one used first; `cut` ends the next client that says COMMIT."""

    def __init__(self, target: str, folder: Path, mode: Mode) -> None:
        parts = urlsplit(target)
        self.database = parts.path.strip("/")
        self.socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self.folder = folder
        self.mode = mode
        self.idle: list[Server] = []
        self.cut: Literal["", "before", "after"] = ""
        self.clients = 0

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/{self.database}?host={self.folder}"

    async def connected(self) -> Server:
        """A new session, logged in."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        words = f"user\0postgres\0database\0{self.database}\0\0".encode()
        writer.write(struct.pack("!II", 8 + len(words), 196608) + words)
        server = Server(reader, writer)
        while True:
            kind, body = await message(reader)
            if kind == b"S":
                server.hello.append(frame(kind, body))
            if kind == b"E":
                raise ConnectionError(body.decode(errors="replace"))
            if kind == b"Z":
                return server

    async def taken(self) -> Server:
        return self.idle.pop() if self.idle else await self.connected()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: Server | None = None
        try:
            while True:  # TLS and GSS are refused, as without them
                size, code = struct.unpack("!II", await reader.readexactly(8))
                await reader.readexactly(size - 8)
                if code == 196608:
                    break
                if code == 80877102:  # a cancel request: whose it would be is not known here
                    return
                writer.write(b"N")
            self.clients += 1
            server = await self.taken()
            writer.write(frame(b"R", struct.pack("!I", 0)) + b"".join(server.hello))
            pid = 900_000 + self.clients if self.mode == "transaction" else await backend_pid(server)
            writer.write(frame(b"K", struct.pack("!II", pid, 1)) + frame(b"Z", b"I"))
            if self.mode == "transaction":
                self.idle.append(server)
                server = None
            await self.carry(reader, writer, server)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            with suppress(Exception):
                writer.transport.abort()

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: Server | None
    ) -> None:
        """Both ways, until one of them leaves."""
        asked = 0
        silent = False
        back: asyncio.Task[None] | None = None

        async def answers(server: Server) -> None:
            nonlocal asked, held
            while True:
                kind, body = await message(server.reader)
                done = kind == b"Z" and (asked := asked - 1) == 0
                if done and silent:
                    writer.transport.abort()
                    return
                if done and body == b"I" and self.mode == "transaction":
                    held = None
                    self.idle.append(server)
                writer.write(frame(kind, body))
                if held is None:
                    return

        try:
            while True:
                kind, body = await message(reader)
                if kind == b"X":
                    return
                if held is None:
                    held, back = await self.taken(), None
                if back is None:
                    back = asyncio.create_task(answers(held))
                if kind == b"Q" and b"COMMIT;" in body.upper() and self.cut:
                    how, self.cut = self.cut, ""
                    if how == "before":
                        return
                    silent = True
                asked += kind in (b"Q", b"S")
                held.writer.write(frame(kind, body))
        finally:
            if silent and back is not None:
                await asyncio.wait((back,), timeout=5)
            if back is not None:
                back.cancel()
            if held is not None:
                held.writer.close()


async def backend_pid(server: Server) -> int:
    """As the server says it."""
    server.writer.write(frame(b"Q", b"select pg_backend_pid()\0"))
    found = 0
    while True:
        kind, body = await message(server.reader)
        if kind == b"D":
            found = int(body[6:])
        if kind == b"Z":
            return found


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (size,) = struct.unpack("!I", await reader.readexactly(4))
    return kind, await reader.readexactly(size - 4)


def frame(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


@asynccontextmanager
async def pooler(url: str, folder: Path, mode: Mode = "transaction") -> AsyncGenerator[Pooler]:
    """A proxy before the server of a Unix-socket address; its own address is `url`."""
    found = Pooler(url, folder, mode)
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        await found.serve(reader, writer)

    listener = await asyncio.start_unix_server(serve, str(folder / ".s.PGSQL.5432"))
    try:
        yield found
    finally:
        listener.close()
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for server in found.idle:
            server.writer.close()
        with suppress(FileNotFoundError):
            os.unlink(folder / ".s.PGSQL.5432")
