"""Ownership of one partition: commits under its epoch, alone or in a caller's transaction, and compaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

import asyncpg

from contrapas.errors import ContrapasError, Fenced, Indeterminate, LogError, Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Capabilities, Commit, Control, Draft, Record
from contrapas.log.control import merge_cursor
from contrapas_postgres.commits import Cells, Wanted, send
from contrapas_postgres.connections import Connection
from contrapas_postgres.explain import FAILURES, explain, lost

if TYPE_CHECKING:
    from contrapas_postgres.log import PostgresLog

NAMES.update(
    {
        "postgres.acquire.locked": "postgres: the partition's lock is ours, the epoch not raised",
        "postgres.acquire.fenced": "postgres: former owners are fenced, the tail unread",
        "postgres.commit.before": "postgres: a commit is about to be sent",
        "postgres.commit.accepted": "postgres: a commit is in force, its answer not given",
        "postgres.joined.before": "postgres: a transition is in the caller's transaction, which is not committed",
        "postgres.compact.begun": "postgres: a chunk of superseded records is deleted",
        "postgres.release.before": "postgres: about to give a partition up",
    }
)

CAPS: Final = Capabilities(
    atomic_external=True,
    max_commit_records=5000,
    max_record_bytes=1_000_000,
    compaction="owner",
    joins_user_sql=True,
)
CHUNK: Final = 5000
"""Records looked at in one statement."""
TOMBSTONE_MS: Final = 3 * 86_400_000
"""A tombstone stays so long, longer than the slowest restore."""
INPUT_MS: Final = 86_400_000
"""Input that was read stays so long."""


class Joined(Protocol):
    """`Lease.commit`, in a caller's transaction."""

    async def __call__(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As `Lease.commit`; `durable` once the caller's transaction is."""
        ...


class PostgresLease:
    """Ownership of one partition of a `PostgresLog`."""

    def __init__(self, log: PostgresLog, partition: int, control: Control) -> None:
        self.log = log
        self.partition = partition
        self.epoch = control.epoch
        self.control = control
        self.gone = False
        self._swept = 0
        self._target = 0
        self._lost = asyncio.Event()

    # ---- commits

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As the seam says: one statement, one round trip."""
        self._check()
        wanted = await self._wanted(log, out, control)
        failpoint("postgres.commit.before")
        try:
            row = await self.log.commits.commit(wanted)
            failpoint("postgres.commit.accepted")
        except Fenced:
            self.log.read_only()
            self.lose()
            raise
        except (Indeterminate, asyncio.CancelledError):
            self._unclear()
            raise
        if row is None:
            raise await self._why(wanted)
        return self._done(row, wanted)

    @asynccontextmanager
    async def joining(self, connection: Connection) -> AsyncGenerator[Joined]:
        """A transaction on the caller's own connection that holds business rows and, at most once, a transition.

            async with lease.joining(connection) as commit:
                await connection.execute("update accounts …")
                done = await commit(log, out, control)

        The lease goes on from there when the block's transaction was committed. Raises what `commit` raises; when the
        answer to COMMIT does not come, Indeterminate.
        """
        self._check()
        held: list[tuple[asyncpg.Record, Wanted]] = []

        async def commit(log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
            if held:
                raise LogError("CP522", "one transition in a transaction")
            wanted = await self._wanted(log, out, control)
            try:
                found = await send(connection, self.log.sql, [wanted], self.log.now())
            except FAILURES as why:
                raise explain(why, self.log.place, sent=False) from why
            if (row := found.get(self.partition)) is None:
                raise await self._why(wanted)
            held.append((row, wanted))
            return Commit(row[1], row[1] + len(log) - 1, row[2], self.log.durable)

        transaction = connection.transaction()
        await transaction.start()
        try:
            yield commit
            failpoint("postgres.joined.before")
        except BaseException:
            if not connection.is_closed():
                await transaction.rollback()
            raise
        try:
            await transaction.commit()
        except FAILURES as why:
            if held and lost(why):
                self._unclear()
            raise explain(why, self.log.place, sent=True) from why
        for row, wanted in held:
            self._done(row, wanted)

    def _check(self) -> None:
        if self.gone:
            raise Fenced("the lease was given up", mine=self.epoch)

    def _next(self, count: int, control: Control) -> Control:
        """The control of the next commit; no source moves back below what this lease knows."""
        if count + 1 > CAPS.max_commit_records:
            raise Retriable(f"a commit holds at most {CAPS.max_commit_records} records")
        before = self.control
        control = control._replace(
            epoch=self.epoch,
            owner=before.owner,
            partitions=before.partitions,
            serial=before.serial + 1,
            horizon=before.horizon,
        )
        return control if control.cursor is before.cursor else merge_cursor(before, control)

    async def _wanted(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Wanted:
        control = self._next(len(log) + len(out), control)
        sent = await self.log.outgoing(out) if out else None
        return Wanted(self.partition, self.epoch, control, Cells(log, CAPS.max_record_bytes), sent)

    async def _why(self, wanted: Wanted | None) -> LogError:
        """No row came back: another owner, or a topic that is there no more. Nothing was written."""
        found = await self.log.epoch(self.partition)
        if found == self.epoch and wanted is not None:
            self.log.forget_topics()
            return Retriable("a topic was deleted", place=self.log.place)
        self.lose()
        return Fenced(
            f"epoch {found} owns partition {self.partition}, this is {self.epoch}",
            mine=self.epoch,
            theirs=found,
        )

    def _done(self, row: asyncpg.Record, wanted: Wanted) -> Commit:
        self.control = wanted.control
        count = len(wanted.log.keys)
        self.log.wake(
            [*([(-1, self.partition)] if count else []), *(wanted.out.counts if wanted.out else ())]
        )
        return Commit(row[1], row[1] + count - 1, row[2], self.log.durable)

    # ---- compaction

    async def compact(self, horizon: int, *, budget_ms: int) -> int:
        """Remove superseded records below min(horizon, relayed), and read input a day old, a chunk at a time."""
        end = time.perf_counter() + budget_ms / 1000
        lanes = ("in", f"{self.log.namespace}.in")
        cursor = max(
            (
                at
                for (s, p), at in self.control.cursor.items()
                if p == self.partition and s.partition("@")[0] in lanes
            ),
            default=0,
        )
        more = True
        while more and not self.gone:
            if self._swept >= self._target:
                self._swept, self._target = 0, await self._raise(horizon)
            more = await self._sweep()
            more = await self._trim(cursor) or more
            if time.perf_counter() >= end:
                break
        return self.control.horizon

    async def _raise(self, horizon: int) -> int:
        """Say first up to where records may be missing; who has lost the partition may not."""
        found = await self._write(
            lambda c: c.fetchval(self.log.sql.horizon, self.partition, self.epoch, horizon)
        )
        if found is None:
            raise await self._why(None)
        assert isinstance(found, int)
        self.control = self.control._replace(horizon=max(self.control.horizon, found))
        return found

    async def _sweep(self) -> bool:
        old_ms = self.log.now_ms() - TOMBSTONE_MS
        row = await self._write(
            lambda c: c.fetchrow(self.log.sql.sweep, self.partition, self._swept, self._target, CHUNK, old_ms)
        )
        failpoint("postgres.compact.begun")
        assert isinstance(row, asyncpg.Record)
        self._swept = row["last"] + 1 if row["seen"] == CHUNK else self._target
        return self._swept < self._target

    async def _trim(self, cursor: int) -> bool:
        """Remove input below the cursor that is a day old."""
        old_ms = self.log.now_ms() - INPUT_MS
        last = await self._write(
            lambda c: c.fetchval(self.log.sql.stale_input, self.partition, cursor, old_ms, CHUNK)
        )
        if not isinstance(last, int):
            return False
        await self._write(lambda c: c.execute(self.log.sql.trim, self.partition, last + 1))
        await self._write(lambda c: c.execute(self.log.sql.trimmed, self.partition))
        return True

    async def _write(self, work: Callable[[Connection], Awaitable[object]]) -> object:
        """A change that may be repeated: an answer that does not come is no harm."""
        try:
            return await self.log.pool.write(work, deadline_s=60)
        except Indeterminate as why:
            raise Retriable(why.text, place=why.place) from why

    # ---- the end

    async def look(self) -> Sequence[Record]:
        return ()

    async def lost(self) -> None:
        await self._lost.wait()

    def lose(self) -> None:
        """Know that ownership is gone."""
        self.gone = True
        self._lost.set()
        self.log.forget(self)

    def _unclear(self) -> None:
        """Whether the last commit counts is not known: who acquires next, under a new epoch, reads it from the tail."""
        self.lose()
        self.log.spawn(self.log.session.unlock(self.partition))

    async def release(self) -> None:
        if self.gone:
            return
        failpoint("postgres.release.before")
        try:
            await self._give_up()
        except ContrapasError:
            pass
        finally:
            self.lose()
            await self.log.session.unlock(self.partition)

    async def _give_up(self) -> None:
        wanted = await self._wanted([], [], self.control)
        wanted.control = wanted.control._replace(owner="")
        await self.log.commits.commit(wanted)
