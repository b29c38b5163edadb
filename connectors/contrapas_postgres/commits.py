"""Commits of a process's partitions: those that are ready at the same time share one statement, and so one sync of the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from contrapas.log import Control, Draft
from contrapas.log.checks import check_size
from contrapas.log.control import encode_control
from contrapas.log.sqlite_rows import pack_headers
from contrapas_postgres.connections import Connection, Pool
from contrapas_postgres.log_statements import Statements

FLIGHTS: Final = 2
"""Statements at once: what becomes ready meanwhile goes together with the next."""
RECORDS: Final = 5000
BYTES: Final = 16 << 20
Place = tuple[int, int]
"""(topic number, partition)."""


class Cells:
    """Records column by column; DataError CP409 above the limit, which is a little higher for topics than for lanes."""

    __slots__ = ("headers", "keys", "size", "values")

    def __init__(self, drafts: Sequence[Draft], limit: int) -> None:
        self.keys = [draft.key for draft in drafts]
        self.values = [draft.value for draft in drafts]
        self.headers = [pack_headers(draft.headers) for draft in drafts]
        self.size = 0
        for draft, packed in zip(drafts, self.headers, strict=True):
            size = len(draft.key) + len(draft.value or b"") + len(packed)
            self.size += size
            if size > limit:
                check_size(draft, limit if draft.to in ("", "in") else limit + 65_536)


@dataclass(slots=True)
class Outgoing:
    """Messages, and where they go."""

    counts: dict[Place, int]
    at: list[tuple[int, int, int]]
    """(topic, partition, which of those that go there) of each."""
    cells: Cells

    def arguments(self) -> list[object]:
        """Places in the order in which they are locked, with their counts; then the messages."""
        places = sorted(self.counts)
        return [
            [t for t, _ in places], [p for _, p in places], [self.counts[place] for place in places],
            [t for t, _, _ in self.at], [p for _, p, _ in self.at], [n for _, _, n in self.at],
            self.cells.keys, self.cells.values, self.cells.headers,
        ]  # fmt: skip


@dataclass(slots=True)
class Wanted:
    """One commit of one partition."""

    partition: int
    epoch: int
    control: Control
    log: Cells
    out: Outgoing | None
    done: asyncio.Future[asyncpg.Record | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def records(self) -> int:
        """How many it writes."""
        return len(self.log.keys) + (len(self.out.at) if self.out is not None else 0)

    @property
    def size(self) -> int:
        """Bytes of its records."""
        return self.log.size + (self.out.cells.size if self.out is not None else 0)


async def send(
    conn: Connection, sql: Statements, some: Sequence[Wanted], now: int | None
) -> dict[int, asyncpg.Record]:
    """One statement for some commits; partition -> (partition, base, time) of those that count."""
    if len(some) == 1 and some[0].out is None:
        one = some[0]
        row = await conn.fetchrow(
            sql.commit, one.partition, one.epoch, len(one.log.keys), one.control.owner, one.control.relayed,
            encode_control(one.control), now, one.log.keys, one.log.values, one.log.headers,
        )  # fmt: skip
        return {} if row is None else {one.partition: row}
    rows = await conn.fetch(sql.commits, *_arguments(some, now))
    return {row[0]: row for row in rows}


def _arguments(some: Sequence[Wanted], now: int | None) -> list[object]:
    counts: dict[Place, int] = {}
    sources: list[int] = []
    at: list[tuple[int, int, int]] = []
    cells: list[Cells] = []
    for one in some:
        if one.out is None:
            continue
        cells.append(one.out.cells)
        for t, p, n in one.out.at:
            sources.append(one.partition)
            at.append((t, p, n + counts.get((t, p), 0)))
        for place, count in one.out.counts.items():
            counts[place] = counts.get(place, 0) + count
    places = sorted(counts)
    return [
        [one.partition for one in some], [one.epoch for one in some], [len(one.log.keys) for one in some],
        [one.control.owner for one in some], [one.control.relayed for one in some],
        [encode_control(one.control) for one in some], now,
        [one.partition for one in some for _ in one.log.keys],
        [key for one in some for key in one.log.keys], [v for one in some for v in one.log.values],
        [h for one in some for h in one.log.headers],
        [t for t, _ in places], [p for _, p in places], [counts[place] for place in places],
        sources, [t for t, _, _ in at], [p for _, p, _ in at], [n for _, _, n in at],
        [key for c in cells for key in c.keys], [v for c in cells for v in c.values],
        [h for c in cells for h in c.headers],
    ]  # fmt: skip


class Commits:
    """Takes commits as they come, and sends together what is ready when a connection is."""

    def __init__(self, pool: Pool, sql: Statements, now: Callable[[], int | None]) -> None:
        """now: the time to write; None: the server's."""
        self.pool = pool
        self.sql = sql
        self._now = now
        self._queue: list[Wanted] = []
        self._flights: set[asyncio.Task[None]] = set()
        self._soon = False

    async def commit(self, wanted: Wanted) -> asyncpg.Record | None:
        """(partition, base, time); None when another owns the partition, or a topic was deleted. Raises as `Pool.write`."""
        self._queue.append(wanted)
        if not self._soon and len(self._flights) < FLIGHTS:
            self._soon = True  # at the end of this turn of the loop: others may be ready in it
            asyncio.get_running_loop().call_soon(self._launch)
        return await wanted.done

    def _launch(self) -> None:
        self._soon = False
        while self._queue and len(self._flights) < FLIGHTS:
            some = self._some()
            flight = asyncio.get_running_loop().create_task(self._fly(some))
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _some(self) -> list[Wanted]:
        """What goes together: one commit of a partition at most, in the order in which they came."""
        taken: list[Wanted] = []
        left: list[Wanted] = []
        records = size = 0
        for one in self._queue:
            records += one.records
            size += one.size
            full = taken and (records > RECORDS or size > BYTES)
            again = any(one.partition == other.partition for other in taken)
            (left if full or again or left else taken).append(one)
        self._queue = left
        return taken

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._launch()

    async def _fly(self, some: list[Wanted]) -> None:
        try:
            found = await self.pool.write(lambda conn: send(conn, self.sql, some, self._now()))
        except BaseException as why:
            for one in some:
                if not one.done.done():
                    one.done.set_exception(why)
            if not isinstance(why, Exception):
                raise
            return
        for one in some:
            if not one.done.done():
                one.done.set_result(found.get(one.partition))

    async def close(self) -> None:
        """End what is in the air."""
        for flight in list(self._flights):
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)
