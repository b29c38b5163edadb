"""Connections to one server: made with our settings, used one call at a time, each call with a deadline of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

from contrapas.errors import Retriable, Unreachable
from contrapas_postgres.explain import FAILURES, explain, explain_connecting, lost, shown

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

T = TypeVar("T")

CONNECT_S: Final = 5.0
CALL_S: Final = 10.0
"""Most calls; what reads a whole lane has its own."""
LIMIT: Final = 10
_SETTINGS: Final = {
    "search_path": "pg_catalog",
    "default_transaction_isolation": "read committed",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
    "enable_seqscan": "off",  # every statement has its index; on tables that are not analysed yet a guess would not take it
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}
_SET: Final = "select " + ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items()
)


class Server:
    """Where to connect to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.place = shown(url)
        self.connect_s = CONNECT_S

    async def connect(self) -> Connection:
        """A connection of ours. Unreachable CP501, Refused CP501, CP514."""
        conn: Connection | None = None
        try:
            async with asyncio.timeout(self.connect_s):
                conn = await asyncpg.connect(self.url, timeout=self.connect_s)
                await conn.execute(_SET)
                return conn
        except (*FAILURES, ValueError) as why:
            if conn is not None:
                conn.terminate()
            raise explain_connecting(why, self.place) from why
        except BaseException:
            if conn is not None:
                conn.terminate()
            raise

    async def reach(self) -> Connection:
        """The same while we run: a server that does not answer now is Retriable, nothing was sent."""
        try:
            return await self.connect()
        except Unreachable as why:
            if why.again:
                raise Retriable(why.text, place=self.place) from why
            raise


class Pool:
    """Up to `LIMIT` connections, made as they are needed; one that failed is thrown away."""

    def __init__(self, server: Server, limit: int = LIMIT) -> None:
        self.server = server
        self.call_s = CALL_S
        self._limit = limit
        self._idle: list[Connection] = []
        self._count = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    async def read(self, work: Callable[[Connection], Awaitable[T]], *, deadline_s: float = 0.0) -> T:
        """Do something that changes nothing; a connection that fails leaves it undone: Retriable."""
        return await self._use(work, False, deadline_s or self.call_s)

    async def write(self, work: Callable[[Connection], Awaitable[T]], *, deadline_s: float = 0.0) -> T:
        """Do something that changes something: Indeterminate when no answer came after it was sent."""
        return await self._use(work, True, deadline_s or self.call_s)

    async def _use(self, work: Callable[[Connection], Awaitable[T]], writes: bool, deadline_s: float) -> T:
        conn = await self._take(deadline_s)
        healthy = False
        try:
            async with asyncio.timeout(deadline_s):
                result = await work(conn)
            healthy = True
            return result
        except FAILURES as why:
            healthy = not lost(why)
            raise explain(why, self.server.place, sent=writes) from why
        finally:
            self._give(conn, healthy)

    async def _take(self, deadline_s: float) -> Connection:
        """A connection; whatever prevents it, nothing was sent: Retriable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            if self._closed:
                raise Retriable("the log is closed", place=self.server.place)
            while self._idle:
                conn = self._idle.pop()
                if not conn.is_closed():
                    return conn
                self._count -= 1
            if self._count < self._limit:
                return await self._make()
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout(end - loop.time()):
                    await turn
            except TimeoutError:
                raise Retriable("all connections are busy", place=self.server.place) from None
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)

    async def _make(self) -> Connection:
        self._count += 1
        try:
            return await self.server.reach()
        except BaseException:
            self._count -= 1
            self._next()
            raise

    def _give(self, conn: Connection, healthy: bool) -> None:
        if healthy and not self._closed and not conn.is_closed() and not conn.is_in_transaction():
            self._idle.append(conn)
        else:
            self._count -= 1
            conn.terminate()
        self._next()

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        self._closed = True
        for conn in self._idle:
            await close(conn)
        self._idle.clear()
        while self._waiting:
            self._next()


async def close(conn: Any) -> None:
    """Say goodbye to the server, at most for a second."""
    try:
        await conn.close(timeout=1)
    except FAILURES:
        conn.terminate()
