"""The relay's view of the outbox: rows by `seq` behind a barrier, under a claim that one relay at a time holds.

A session's advisory lock says who relays; the epoch in `contrapas_relay` is what fences. A holder advances every few
seconds, if only on the spot; one that has been silent, because it was stopped and its session never ends, is taken over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol, TypeVar, cast

from contrapas.errors import ContrapasError, Fenced, Retriable
from contrapas.participant import PAGE_BYTES, SILENT_MS, Claim, Horizon, Outgoing, Row
from contrapas_postgres.meaning import sqlstate, told
from contrapas_postgres.proxied import refused, shared_out
from contrapas_postgres.statements import BARRIER, HORIZON, PASSED, Statements
from contrapas_postgres.transaction import Link

T = TypeVar("T")
IDLE_MS: Final = 20
"""Between looks at an outbox where nothing happens. NOTIFY in every transaction would cost half its speed."""
BUSY_MS: Final = 2
HIDDEN: Final = "<insufficient privilege>"


class Held(Link, Protocol):
    """A session of the outbox's own: its advisory locks live as long as it does."""

    @property
    def closed(self) -> bool:
        """The server or the network ended it."""
        ...

    async def pids(self) -> tuple[int, int]:
        """Process id that was said at connecting, and that the statement just now ran in."""
        ...

    async def close(self) -> None:
        """Give it back, without its locks."""
        ...


class Source(Protocol):
    """The store, as the outbox needs it."""

    name: str

    async def statements(self, link: Link) -> Statements:
        """For the tables as they are. Refused CP514."""
        ...

    async def hold(self) -> Held:
        """A session for as long as the outbox wants it."""
        ...

    def lent(self) -> AbstractAsyncContextManager[Link]:
        """A session for a few statements, each its own transaction."""
        ...


class PostgresOutbox:
    """One relay's outbox; `upto` and `page` come one after the other, `advance` and `horizon` at any time."""

    def __init__(self, source: Source, silent_ms: int = SILENT_MS) -> None:
        self._source = source
        self._silent_ms = silent_ms
        self._held: Held | None = None
        self._mine: tuple[str, int] | None = None
        """Name and epoch of the claim."""
        self._barrier: tuple[int, str] | None = None
        """(S, X): rows up to S are complete when every transaction below X has ended."""
        self._since = 0.0
        self._hint = asyncio.Event()
        self._busy_until = 0.0

    # ---- the claim

    async def claim(self, name: str, owner: str) -> Claim:
        """Fence the relay before, then own the outbox. Fenced: another one holds it and gives signs of life.
        Refused CP514: a proxy shares the session out, so that no lock would be ours."""
        await self._drop()
        with told(self._source.name):
            held = self._held = await self._source.hold()
            try:
                claim = await self._claimed(held, name, owner)
            except BaseException:
                with suppress(Exception):
                    await held.rows("rollback")
                await self._drop()
                raise
        self._mine = (name, claim.epoch)
        self._barrier = None
        return claim

    async def _claimed(self, held: Held, name: str, owner: str) -> Claim:
        said, found = await held.pids()
        if said != found:
            async with self._source.lent() as other:
                if await shared_out(held, other):
                    raise refused(self._source.name, "the relay needs a session of its own")
        sql = await self._source.statements(held)
        if not await held.rows(sql.relay, name):
            await held.rows(sql.enter, name)
        await held.rows("begin isolation level read committed")
        await held.rows("set local idle_in_transaction_session_timeout = '5s'")
        await held.rows(sql.turn, name)
        locked = (await held.rows(sql.lock, name))[0][0]
        who, theirs, _, silent_ms = (await held.rows(sql.relay, name))[0]
        if not locked:
            if who not in (None, owner) and silent_ms < self._silent_ms:
                raise Fenced(f"{who} relays the outbox of {self._source.name}", theirs=theirs, place=name)
            await self._take_lock(held, sql, name)
        claimed = (await held.rows(sql.claim, name, owner))[0]
        await held.rows("commit")
        return Claim(*claimed)

    async def _take_lock(self, held: Held, sql: Statements, name: str) -> None:
        """End the session that has it; where that may not be, the epoch alone fences."""
        for (pid,) in await held.rows(sql.holder, name):
            await held.rows("savepoint ended")
            try:
                await held.rows("select pg_terminate_backend($1)", pid)
            except Exception as error:
                if sqlstate(error) != "42501":
                    raise
                await held.rows("rollback to savepoint ended")
        for _ in range(100):
            if (await held.rows(sql.lock, name))[0][0]:
                return
            await asyncio.sleep(0.01)

    async def release(self, name: str, epoch: int) -> None:
        """Give the outbox up, so that another relay need not wait."""
        held, self._mine = self._held, None
        if held is None:
            return
        try:
            # Where the session was lost, its lock has ended with it: nothing is left to give up but the name.
            with suppress(Retriable), told(self._source.name):
                if held.closed:
                    async with self._source.lent() as link:
                        await link.rows((await self._source.statements(link)).release, name, epoch)
                else:
                    sql = await self._source.statements(held)
                    await held.rows(sql.release, name, epoch)
                    await held.rows(sql.unlock, name)
        finally:
            await self._drop()

    async def close(self) -> None:
        """Give back what is held."""
        if self._mine is not None:
            with suppress(ContrapasError):
                await self.release(*self._mine)
        await self._drop()

    async def _drop(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await held.close()

    @asynccontextmanager
    async def _linked(self) -> AsyncGenerator[tuple[Link, Statements]]:
        """The claim's session, a new one under the same epoch where it was lost; without a claim a lent one."""
        if self._mine is None:
            async with self._source.lent() as link:
                yield link, await self._source.statements(link)
            return
        if self._held is not None and self._held.closed:
            await self._drop()
        if self._held is None:
            self._held = await self._source.hold()
            sql = await self._source.statements(self._held)
            # Where the lost session still has the lock, the epoch must do.
            await self._held.rows(sql.lock, self._mine[0])
        yield self._held, await self._source.statements(self._held)

    async def _run(self, call: Callable[[Link, Statements], Awaitable[T]]) -> T:
        """A call that may be repeated: once more where its session turns out to be lost."""
        for tries in (2, 1):
            try:
                with told(self._source.name):
                    async with self._linked() as (link, sql):
                        return await call(link, sql)
            except Retriable as why:
                if why.code == "CP501":  # whatever its state is: the next call gets another
                    await self._drop()
                if why.code != "CP501" or tries == 1 or self._mine is None:
                    raise
        raise AssertionError  # not reached

    # ---- rows

    async def upto(self, last: int, *, wait_ms: int) -> int:
        """The highest `seq` below which nothing can appear any more; `last` when nothing new is there."""
        until = time.monotonic() + wait_ms / 1000

        async def look(link: Link, sql: Statements) -> int:
            return await self._reached(link, sql, last)

        while True:
            self._hint.clear()
            found = await self._run(look)
            now = time.monotonic()
            if found > last or now >= until:
                return found
            busy = self._barrier is not None or now < self._busy_until
            await self._pause(min(until - now, (BUSY_MS if busy else IDLE_MS) / 1000))

    async def _reached(self, link: Link, sql: Statements, last: int) -> int:
        if self._barrier is None:
            newest = int((await link.rows(sql.last))[0][0])
            if newest <= last:
                return last
            x, passed = (await link.rows(BARRIER))[0]
            self._barrier, self._since = (newest, x), time.monotonic()
        else:
            passed = (await link.rows(PASSED, self._barrier[1]))[0][0]
        if not passed:
            return last
        reached, self._barrier = self._barrier[0], None
        return max(reached, last)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hint.wait(), seconds)

    def committed(self) -> None:
        """A transaction of this process with outbox rows has committed, or soon will: look at once."""
        self._busy_until = time.monotonic() + 0.1
        self._hint.set()

    async def page(self, after: int, upto: int, limit: int) -> Sequence[Row]:
        """Rows with after < seq <= upto, by seq."""

        async def read(link: Link, sql: Statements) -> list[Row]:
            return _rows(await link.rows(sql.page, after, upto, limit, PAGE_BYTES))

        return await self._run(read)

    async def advance(self, name: str, epoch: int, seq: int) -> None:
        """All rows up to `seq` are acknowledged; a sign of life, too. Fenced: a newer claim exists."""

        with told(self._source.name):
            async with self._source.lent() as link:  # not the claim's session: it may be reading meanwhile
                sql = await self._source.statements(link)
                moved = bool(await link.rows(sql.advance, name, epoch, seq))
        if not moved:
            raise Fenced(
                f"another relay has claimed the outbox of {self._source.name} since", mine=epoch, place=name
            )

    # ---- what holds it back

    async def horizon(self) -> Horizon:
        """The oldest transaction of the server that has an id, whether or not it will write here."""
        with told(self._source.name):
            async with self._source.lent() as link:
                return await horizon(link, waited_ms=self._waited_ms)

    @property
    def _waited_ms(self) -> int:
        return 0 if self._barrier is None else int((time.monotonic() - self._since) * 1000)


async def horizon(link: Link, *, waited_ms: int = 0) -> Horizon:
    """The oldest transaction with an id. Where the role may not see its times, how long we have waited for it."""
    rows = await link.rows(HORIZON)
    if not rows:
        return Horizon(0, 0, "")
    age_ms, pid, query = rows[0]
    if query == HIDDEN:
        query = "hidden: grant pg_read_all_stats to this role to see it"
    return Horizon(max(0, int(waited_ms if age_ms is None else age_ms)), int(pid), query or "")


def _rows(found: Sequence[Any]) -> list[Row]:
    """Rows of a page; a relay reads tens of thousands in a second, so their tuples are made without a call."""
    return [
        _new(
            Row,
            (
                seq,
                _new(
                    Outgoing,
                    (id, topic, key, type, payload or b"", source, content_type, trace or "",
                     {} if headers == "{}" else _scan(headers, 0)[0]),
                ),
                at,
            ),
        )
        for seq, id, topic, key, type, payload, source, content_type, trace, headers, at in found
    ]  # fmt: skip


_new: Final[Any] = cast(Any, tuple).__new__
_scan: Final[Any] = cast(Any, json.JSONDecoder()).scan_once
"""Of text that PostgreSQL wrote itself: nothing before it, nothing behind it."""
