"""The one connection whose advisory locks say that we live and what is ours: the server frees them when it closes.

A lost connection is made again at once and the locks are taken again: what nobody took in between, and whose epoch is
still ours, goes on. The epoch is the fence, the locks only keep two workers from fencing each other in turn.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from contrapas.errors import ContrapasError, Retriable
from contrapas.log import Lane
from contrapas.log.sharing import Slot, share
from contrapas_postgres.connections import CALL_S, Connection, Server, close
from contrapas_postgres.explain import FAILURES, explain, lost
from contrapas_postgres.log_statements import Statements

T = TypeVar("T")

BEAT_S: Final = 1.0
SILENT_MS: Final = 30_000
"""An owner beats every second. After this long without a beat it is named, and the server ends its session (14 and later)."""
LOOK_S: Final = 0.25
SETTLE_S: Final = 0.1
"""Members that start together see each other before they take anything."""
IDLE: Final = "select set_config('idle_session_timeout', '30s', false) where current_setting('server_version_num')::int >= 140000"


class Holder(NamedTuple):
    """Who holds a partition's lock, by its own account."""

    partition: int
    owner: str
    host: str
    pid: int
    silent_ms: int
    """Since its last beat."""
    backend: int
    """The server's process for it: what `pg_terminate_backend` takes."""


@dataclass(slots=True)
class _Entry:
    """A row of `session`: a member of a group, or (group "") the process itself."""

    group: str
    name: str
    owner: str
    id: int = 0


@dataclass(slots=True)
class Held:
    """What a session holds."""

    parts: dict[int, Callable[[], int]] = field(default_factory=lambda: dict[int, Callable[[], int]]())
    """Partition -> the epoch under which we own it."""
    entries: list[_Entry] = field(default_factory=lambda: list[_Entry]())


class Session:
    """Locks of one process on one namespace. One statement at a time."""

    def __init__(self, server: Server, sql: Statements, on_lost: Callable[[int], None]) -> None:
        """on_lost: told which partition is ours no more."""
        self.server = server
        self.sql = sql
        self.held = Held()
        self.silent_s = SILENT_MS / 1000
        self.stalled: list[Holder] = []
        self._on_lost = on_lost
        self._conn: Connection | None = None
        self._turn = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._closed = False

    # ---- the connection

    async def _call(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something on the connection, made anew when it is gone. Every failure is Retriable or says why not."""
        async with self._turn:
            idle = self._conn is not None and not self._conn.is_closed()
            try:
                return await self._once(work)
            except Retriable as why:
                if not idle or isinstance(why.__cause__, TimeoutError):
                    raise
            return await self._once(work)  # the server may have ended the session while it was idle

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        conn = await self._alive()
        healthy = False
        try:
            async with asyncio.timeout(CALL_S):
                result = await work(conn)
            healthy = True
            return result
        except FAILURES as why:
            healthy = not lost(why)
            raise explain(why, self.server.place, sent=False) from why
        finally:
            if not healthy:
                conn.terminate()

    async def _alive(self) -> Connection:
        if self._closed:
            raise Retriable("the log is closed", place=self.server.place)
        if self._conn is not None and not self._conn.is_closed():
            return self._conn
        conn = await self.server.reach()
        try:
            async with asyncio.timeout(CALL_S):
                await conn.execute(IDLE)
                await self._again(conn)
        except FAILURES as why:
            conn.terminate()
            raise explain(why, self.server.place, sent=False) from why
        except BaseException:
            conn.terminate()
            raise
        conn.add_termination_listener(self._ended)
        self._conn = conn
        return conn

    def _ended(self, _: object) -> None:
        self._hurry.set()

    async def _again(self, conn: Connection) -> None:
        """Say again who we are, and take the locks that are still ours to take."""
        for entry in self.held.entries:
            await self._enter(conn, entry)
        if not self.held.parts:
            return
        epochs = {row[0]: row[1] for row in await conn.fetch(self.sql.epochs)}
        for partition, epoch in list(self.held.parts.items()):
            ours = epochs.get(partition) == epoch()
            if not ours or not await conn.fetchval(self.sql.lock_part, partition):
                self._lose(partition)

    def _lose(self, partition: int) -> None:
        self.held.parts.pop(partition, None)
        self._on_lost(partition)

    async def _enter(self, conn: Connection, entry: _Entry) -> None:
        entry.id = await conn.fetchval(
            self.sql.begin_session, entry.group, entry.name, entry.owner, socket.gethostname(), os.getpid()
        )
        await conn.execute(self.sql.lock_session, entry.id)

    # ---- partitions

    async def lock(self, partition: int, owner: str, epoch: Callable[[], int]) -> bool:
        """Take a partition's lock; False when another session has it. epoch: of the lease, when it is asked again."""

        async def work(conn: Connection) -> bool:
            if partition in self.held.parts:  # the lock of a former lease of ours
                self.held.parts[partition] = epoch
                return True
            if not any(entry.group == "" for entry in self.held.entries):
                entry = _Entry("", os.urandom(8).hex(), owner)
                await self._enter(conn, entry)
                self.held.entries.append(entry)
            if not await conn.fetchval(self.sql.lock_part, partition):
                return False
            self.held.parts[partition] = epoch
            return True

        taken = await self._call(work)
        self._begin()
        return taken

    async def unlock(self, partition: int) -> None:
        """Give a lock back; one that is lost already is no matter."""
        if self.held.parts.pop(partition, None) is None or self._conn is None or self._conn.is_closed():
            return

        async def work(conn: Connection) -> None:
            while partition not in self.held.parts and await conn.fetchval(self.sql.unlock_part, partition):
                continue  # as often as it was taken

        try:
            await self._call(work)
        except ContrapasError:
            return

    async def holders(self) -> list[Holder]:
        """Who holds which partition now."""

        async def work(conn: Connection) -> list[Holder]:
            rows = await conn.fetch(self.sql.holders)
            return [
                Holder(r["p"], r["owner"], r["host"], r["pid"], r["silent_ms"], r["backend"]) for r in rows
            ]

        return await self._call(work)

    # ---- groups

    async def join(self, group: str, name: str) -> None:
        """Become a member, as long as the session lives."""
        entry = _Entry(group, name, "")

        async def work(conn: Connection) -> None:
            await self._enter(conn, entry)
            self.held.entries.append(entry)

        await self._call(work)
        self._begin()

    async def leave(self, group: str, name: str) -> None:
        """Be none any more."""
        entry = next((e for e in self.held.entries if e.group == group and e.name == name), None)
        if entry is None:
            return
        self.held.entries.remove(entry)

        async def work(conn: Connection) -> None:
            await conn.execute(self.sql.end_session, entry.id)
            await conn.execute(self.sql.unlock_session, entry.id)

        try:
            await self._call(work)
        except ContrapasError:
            return

    async def living(self, group: str) -> list[str]:
        """Members whose session lives."""

        async def work(conn: Connection) -> list[str]:
            return [row[0] for row in await conn.fetch(self.sql.living, group)]

        return await self._call(work)

    # ---- beating

    def _begin(self) -> None:
        if self._beating is None and not self._closed:
            self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        """Once a second, and at once when the connection ends: say that we live, and see what is still ours. Out of
        contact for 30 s: nothing is, another may have it."""
        loop = asyncio.get_running_loop()
        heard = loop.time()
        count = 0
        while not self._closed:
            self._hurry.clear()
            try:
                await self._call(self._look)
                heard = loop.time()
                count += 1
                if count % 5 == 1:
                    found = await self.holders()
                    self.stalled = [h for h in found if h.silent_ms >= SILENT_MS]
                if count % 60 == 1:
                    await self._call(lambda conn: conn.execute(self.sql.forget_dead))
            except ContrapasError:
                if loop.time() - heard > self.silent_s:
                    for partition in list(self.held.parts):
                        self._lose(partition)
                await asyncio.sleep(0.1)
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def _look(self, conn: Connection) -> None:
        await conn.execute(self.sql.beat)
        epochs = {row[0]: row[1] for row in await conn.fetch(self.sql.epochs)} if self.held.parts else {}
        for partition, epoch in list(self.held.parts.items()):
            if epochs.get(partition) != epoch() and epoch() >= 0:
                self._lose(partition)
                await conn.execute(self.sql.unlock_part, partition)

    async def close(self) -> None:
        """Let go of everything."""
        self._closed = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._conn is not None and not self._conn.is_closed():
            self._conn.remove_termination_listener(self._ended)
            await close(self._conn)


class PostgresMembership:
    """One member of a group; rendezvous hashing says what is its share."""

    def __init__(
        self,
        session: Session,
        group: str,
        lanes: Sequence[Lane],
        slots: Callable[[Sequence[Lane]], Awaitable[list[Slot]]],
    ) -> None:
        self.group = group
        self.lanes = tuple(lanes)
        self.member = os.urandom(8).hex()
        self.look_s = LOOK_S
        self._session = session
        self._slots = slots
        self._left = asyncio.Event()
        self._joining = asyncio.ensure_future(self._join())

    async def _join(self) -> None:
        wait = 0.05
        while not self._left.is_set():
            try:
                await self._session.join(self.group, self.member)
            except Retriable:
                await asyncio.sleep(wait)
                wait = min(1.0, wait * 2)
            else:
                await asyncio.sleep(SETTLE_S)
                return

    async def assignments(self) -> AsyncIterator[frozenset[Slot]]:
        """Yield the share at first and at each change; a member that dies is noticed within a quarter of a second."""
        await asyncio.shield(self._joining)
        seen: list[str] = []
        last: frozenset[Slot] | None = None
        while not self._left.is_set():
            try:
                living = sorted(await self._session.living(self.group))
                if living != seen and self.member in living:
                    now = share(living, await self._slots(self.lanes)).get(self.member, frozenset())
                    seen = living
                    if now != last:
                        last = now
                        yield now
                        continue
            except Retriable:  # out of contact: what is ours is decided by the leases
                seen = []
            try:
                async with asyncio.timeout(self.look_s):
                    await self._left.wait()
            except TimeoutError:
                continue

    async def leave(self) -> None:
        """Leave; the others share what was ours."""
        if self._left.is_set():
            return
        self._left.set()
        self._joining.cancel()
        await asyncio.gather(self._joining, return_exceptions=True)
        await self._session.leave(self.group, self.member)
