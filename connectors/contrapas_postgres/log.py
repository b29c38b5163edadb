"""`PostgresLog`: the seam over one schema of a PostgreSQL database, 13 or later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import asyncpg

from contrapas.errors import (
    ContrapasError,
    Damaged,
    DataError,
    Fenced,
    Indeterminate,
    LogError,
    Refused,
    Retriable,
)
from contrapas.failpoints import failpoint
from contrapas.log import Control, Draft, Known, Lane, Record, Source, Topic
from contrapas.log import partition as partition_of
from contrapas.log.checks import check_position, check_source, claimed
from contrapas.log.control import decode_control, encode_control
from contrapas.log.memory_store import wall_ms
from contrapas.log.sharing import Slot
from contrapas.log.sqlite_rows import unpack_headers
from contrapas_postgres.commits import Cells, Commits, Outgoing
from contrapas_postgres.connections import Connection, Pool, Server
from contrapas_postgres.lease import CAPS, PostgresLease
from contrapas_postgres.log_statements import statements
from contrapas_postgres.session import Holder, PostgresMembership, Session

__all__ = ["PostgresLease", "PostgresLog", "PostgresMembership"]

ACQUIRE_S: Final = 2.0
"""How long `acquire` waits for a holder that is on its way out."""
LOOK_S: Final = (0.004, 0.05)
"""How often the ends of lanes are looked at while somebody waits: just after one grew, and after three quiet seconds."""
WHOLE_S: Final = 600.0
"""Deadline of what goes over a whole lane."""
BATCH_BYTES: Final = 16 << 20


class Part(NamedTuple):
    """One partition as those see it who look after the log."""

    partition: int
    epoch: int
    owner: str
    log_end: int
    in_start: int
    in_end: int
    horizon: int
    relayed: int
    control: Control
    silent_ms: int | None
    """Since its owner's last beat; None: nobody holds it."""


class PostgresLog:
    """One namespace's log in a PostgreSQL database. `contrapas_postgres.connector.open` checks the server first."""

    def __init__(
        self,
        server: Server,
        namespace: str,
        partitions: int,
        id: str,
        *,
        durable: bool = True,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """partitions, id: as recorded. clock: in tests, instead of the server's."""
        self.server = server
        self.place = server.place
        self.namespace = namespace
        self.partitions = partitions
        self.id = id
        self.durable = durable
        self.caps = CAPS
        self.acquire_s = ACQUIRE_S
        self.sql = statements(namespace)
        self.pool = Pool(server)
        self.commits = Commits(self.pool, self.sql, self.now)
        self.session = Session(server, self.sql, self._lost)
        self._clock = clock
        self._leases: dict[int, PostgresLease] = {}
        self._members: list[PostgresMembership] = []
        self._topics: dict[Lane, tuple[int, int]] = {}
        self._waiting: dict[tuple[int, int], dict[asyncio.Future[bool], int]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self._besides: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done besides."""
        task = asyncio.get_running_loop().create_task(work)
        self._besides.add(task)
        task.add_done_callback(self._besides.discard)

    def now(self) -> int | None:
        """The time to write; None: the server's."""
        return None if self._clock is None else self._clock()

    def now_ms(self) -> int:
        """About the log's time."""
        return (self._clock or wall_ms)()

    # ---- lanes

    def name_of(self, lane: Lane) -> Lane:
        """`<ns>.in` and `<ns>.log` are `in` and `log`."""
        if lane == f"{self.namespace}.in":
            return "in"
        return "log" if lane == f"{self.namespace}.log" else lane

    async def _number(self, lane: Lane) -> tuple[int, int]:
        """Number (0 `in`, -1 the log lane) and partition count; LogError CP505 when it does not exist."""
        if lane == "in":
            return 0, self.partitions
        if lane == "log":
            return -1, self.partitions
        if (found := self._topics.get(lane)) is None:
            row = await self.pool.read(lambda c: c.fetchrow(self.sql.topic, lane))
            if row is None:
                fix = f"contrapas topic create {lane}"
                raise LogError("CP505", f"topic {lane} does not exist", fix=fix, place=lane)
            found = self._topics[lane] = (row[0], row[1])
        return found

    async def _spot(self, lane: Lane, partition: int) -> int:
        t, count = await self._number(lane)
        if not 0 <= partition < count:
            raise LogError("CP505", f"{lane} has no partition {partition}", place=f"{lane}/{partition}")
        return t

    def forget_topics(self) -> None:
        """Look topics up again."""
        self._topics.clear()

    async def topic(self, lane: Lane) -> Topic | None:
        name = self.name_of(lane)
        if name in ("in", "log"):
            return Topic(f"{self.id}-{name}", self.partitions)
        row = await self.pool.read(lambda c: c.fetchrow(self.sql.topic, name))
        if row is None:
            self._topics.pop(name, None)
            return None
        self._topics[name] = (row[0], row[1])
        return Topic(f"{self.id}-{row[0]}", row[1])

    async def topics(self) -> dict[str, Topic]:
        """Every topic by name."""
        rows = await self.pool.read(lambda c: c.fetch(self.sql.topics))
        return {r["name"]: Topic(f"{self.id}-{r['t']}", r["partitions"]) for r in rows}

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create what is missing; Refused CP504 when one exists with another count."""
        for name in topics:
            if self.name_of(name) in ("in", "log", ""):
                raise Refused("CP504", f"{name} is a lane, not a topic")

        async def work(conn: Connection) -> None:
            async with conn.transaction():
                for name, count in topics.items():
                    await conn.execute(self.sql.create_topic, name, count)
                    found = await conn.fetchval(
                        f"select partitions from {self.sql.schema}.topic where name = $1", name
                    )
                    if found != count:
                        raise Refused("CP504", f"topic {name} has {found} partitions, {count} were asked for")

        await self.pool.write(work)

    async def drop_topic(self, name: str) -> None:
        """Delete a user's topic with its records; created again it has another id."""
        t, _ = await self._number(name)

        async def work(conn: Connection) -> None:
            async with conn.transaction():
                for table in ("topic", "topic_part", "lane_topic", "position"):
                    await conn.execute(f"delete from {self.sql.schema}.{table} where t = $1", t)

        await self.pool.write(work)
        self.forget_topics()

    # ---- reading

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        lane = self.name_of(lane)
        t = await self._spot(lane, partition)

        async def work(conn: Connection) -> asyncpg.Record | None:
            if t < 0:
                return await conn.fetchrow(self.sql.bounds_log, partition)
            return await conn.fetchrow(self.sql.bounds_topic, partition, t)

        row = await self.pool.read(work)
        if row is None:
            raise self._deleted(lane, partition)
        return row[0], row[1]

    def _deleted(self, lane: Lane, partition: int) -> LogError:
        self.forget_topics()
        return LogError("CP505", f"topic {lane} was deleted", place=f"{lane}/{partition}")

    async def read(
        self,
        lane: Lane,
        partition: int,
        offset: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 4 << 20,
        wait_ms: int = 0,
    ) -> tuple[Sequence[Record], int]:
        lane = self.name_of(lane)
        t = await self._spot(lane, partition)
        records, after = await self._read(lane, t, partition, offset, max_records, max_bytes)
        if records or wait_ms <= 0:
            return records, after
        if await self._more((t, partition), after, wait_ms):
            return await self._read(lane, t, partition, after, max_records, max_bytes)
        return records, after

    async def _read(
        self, lane: Lane, t: int, partition: int, offset: int, limit: int, max_bytes: int
    ) -> tuple[list[Record], int]:
        async def work(conn: Connection) -> list[asyncpg.Record]:
            if t < 0:
                return await conn.fetch(self.sql.read_log, partition, offset, limit, max_bytes)
            return await conn.fetch(self.sql.read_topic, partition, offset, limit, max_bytes, t)

        rows = await self.pool.read(work, deadline_s=30)
        if not rows:
            raise self._deleted(lane, partition)
        end, start = rows[0][0], rows[0][1]
        check_position(self.namespace, lane, partition, offset, start, end)
        if rows[0][2] is None:
            return [], end
        records = [self._record(lane, partition, row[2:]) for row in map(tuple, rows)]
        return records, records[-1].offset + 1

    def _record(self, lane: Lane, partition: int, row: tuple[int, bytes, bytes | None, bytes, int]) -> Record:
        offset, key, value, headers, ts = row
        try:
            return Record(partition, offset, key, value, unpack_headers(headers), ts)
        except ValueError as bad:
            name = f"{self.namespace}.{lane}" if lane in ("in", "log") else lane
            text = f"a record's headers are damaged: {bad}"
            raise Damaged("CP520", text, got=str(bad), place=f"{name}/{partition}@{offset}") from None

    async def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        await self._spot("log", partition)
        end = (await self.bounds("log", partition))[1] if upto is None else upto
        found = await self.pool.read(
            lambda c: c.fetch(self.sql.latest, partition, after, end), deadline_s=WHOLE_S
        )
        wanted = [row[0] for row in found]
        for at in range(0, len(wanted), 1000):
            some = wanted[at : at + 1000]
            rows = await self.pool.read(partial(self._picked, partition, some), deadline_s=60)
            batch = [self._record("log", partition, row) for row in map(tuple, rows)]
            if after <= 0:
                batch = [record for record in batch if record.value is not None]
            if batch:
                yield batch

    async def _picked(self, partition: int, some: list[int], conn: Connection) -> list[asyncpg.Record]:
        return await conn.fetch(self.sql.picked, partition, some)

    async def newest(self, partition: int, key: bytes) -> Record | None:
        """The newest record of one key on the log lane; None when there is none or it is a tombstone."""
        row = await self.pool.read(lambda c: c.fetchrow(self.sql.newest, partition, key))
        return None if row is None or row[2] is None else self._record("log", partition, tuple(row))

    async def history(self, partition: int, key: bytes) -> list[Record]:
        """Every record of a key that is still there, oldest first."""
        rows = await self.pool.read(lambda c: c.fetch(self.sql.history, partition, key), deadline_s=60)
        return [self._record("log", partition, row) for row in map(tuple, rows)]

    async def between(self, partition: int, low: bytes, high: bytes) -> list[Record]:
        """The newest records of the keys above `low` and below `high`, by key; tombstones left out."""
        rows = await self.pool.read(lambda c: c.fetch(self.sql.between, partition, low, high), deadline_s=60)
        return [self._record("log", partition, row) for row in map(tuple, rows) if row[2] is not None]

    async def parts(self) -> list[Part]:
        """Every partition's owner, epoch, ends and control."""
        held = {h.partition: h.silent_ms for h in await self.session.holders()}
        rows = await self.pool.read(lambda c: c.fetch(self.sql.parts))
        return [
            Part(
                partition=r["p"], epoch=r["epoch"], owner=r["owner"], log_end=r["log_head"], in_start=r["in_start"],
                in_end=r["in_head"], horizon=r["horizon"], relayed=r["relayed"],
                control=decode_control(r["control"], place=f"{self.namespace}.part/{r['p']}"),
                silent_ms=held.get(r["p"]),
            )
            for r in rows
        ]  # fmt: skip

    async def lag(self, topic: Lane) -> dict[str, int]:
        """Groups with a stored position on a topic, and how many records they are behind."""
        rows = await self.pool.read(lambda c: c.fetch(self.sql.lag, topic))
        return {group: max(0, behind) for group, behind in map(tuple, rows)}

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """Bisection: timestamps never fall."""
        lane = self.name_of(lane)
        t = await self._spot(lane, partition)
        low, end = await self.bounds(lane, partition)

        async def work(conn: Connection) -> int:
            async def look(offset: int) -> asyncpg.Record | None:
                if t < 0:
                    return await conn.fetchrow(self.sql.look_log, partition, offset)
                return await conn.fetchrow(self.sql.look_topic, partition, offset, t)

            first, last = low, end
            while first < last:
                middle = (first + last) // 2
                row = await look(middle)
                if row is None or row[0] >= last or row[1] >= timestamp_ms:
                    last = middle
                else:
                    first = row[0] + 1
            row = await look(first)
            return end if row is None or row[0] >= end else int(row[0])

        return await self.pool.read(work, deadline_s=60)

    # ---- waiting for more

    async def _more(self, place: tuple[int, int], end: int, wait_ms: int) -> bool:
        """Whether a lane grew beyond `end` in time: told by this process, or seen by looking."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[bool] = loop.create_future()
        waiters = self._waiting.setdefault(place, {})
        waiters[came] = end
        timer = loop.call_later(wait_ms / 1000, _answer, came, False)
        if self._looking is None or self._looking.done():
            self._looking = loop.create_task(self._look())
        try:
            return await came
        finally:
            timer.cancel()
            del waiters[came]
            if not waiters and self._waiting.get(place) is waiters:
                del self._waiting[place]

    def wake(self, places: Iterable[tuple[int, int]]) -> None:
        """These lanes grew."""
        for place in places if self._waiting else ():
            for waiter in self._waiting.get(place, ()):
                _answer(waiter, True)

    async def _look(self) -> None:
        """Look for what other processes wrote, as long as somebody waits: soon after something came, else now and then."""
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while self._waiting and not self._closed:
            least, most = LOOK_S
            await asyncio.sleep(min(most, max(least, (loop.time() - moved) / 60)))
            places = list(self._waiting)
            try:
                rows = await self.pool.read(partial(self._ends, places))
            except ContrapasError:
                await asyncio.sleep(0.2)
                continue
            for t, p, head in map(tuple, rows):
                for waiter, end in self._waiting.get((t, p), {}).items():
                    if head > end:
                        moved = loop.time()
                        _answer(waiter, True)

    async def _ends(self, places: list[tuple[int, int]], conn: Connection) -> list[asyncpg.Record]:
        logs = [p for t, p in places if t < 0]
        others = [(t, p) for t, p in places if t >= 0]
        return await conn.fetch(self.sql.ends, logs, [t for t, _ in others], [p for _, p in others])

    # ---- writing

    async def outgoing(self, drafts: Sequence[Draft]) -> Outgoing:
        """Drafts with the places where they go; LogError CP505 for a topic that does not exist."""
        counts: dict[tuple[int, int], int] = {}
        at: list[tuple[int, int, int]] = []
        lanes: dict[str, tuple[int, int]] = {}
        for draft in drafts:
            if (found := lanes.get(draft.to)) is None:
                lane = self.name_of(draft.to)
                if lane in ("", "log"):
                    raise DataError("CP522", "the log lane takes records only through a lease")
                found = lanes[draft.to] = await self._number(lane)
            t, count = found
            p = draft.partition if draft.partition >= 0 else partition_of(draft.key, count)
            if p >= count:
                raise LogError("CP505", f"{draft.to} has no partition {p}", place=f"{draft.to}/{p}")
            n = counts.get((t, p), 0)
            counts[t, p] = n + 1
            at.append((t, p, n))
        return Outgoing(counts, at, Cells(drafts, CAPS.max_record_bytes))

    async def publish(self, drafts: Sequence[Draft]) -> None:
        for some in _batches(drafts):
            for again in (True, False):
                out = await self.outgoing(some)
                arguments = out.arguments()
                arguments.insert(3, self.now())
                count = await self.pool.write(partial(self._published, arguments))
                if count == len(out.counts):
                    self.wake(out.counts)
                    break
                self.forget_topics()  # one was deleted, and perhaps made again
                if not again:
                    raise Retriable("a topic was deleted", place=self.place)

    async def _published(self, arguments: list[object], conn: Connection) -> object:
        return await conn.fetchval(self.sql.publish, *arguments)

    async def positions(self, group: str) -> Mapping[Source, int]:
        rows = await self.pool.read(lambda c: c.fetch(self.sql.positions, group))
        return {(f"{name}@{self.id}-{t or 'in'}", p): o for name, t, p, o in map(tuple, rows)}

    async def save_positions(self, group: str, at: Mapping[Source, int]) -> None:
        rows: list[tuple[int, int, int]] = []
        for (source, partition), offset in at.items():
            name = source.rpartition("@")[0]
            check_source(source, await self.topic(name))
            rows.append((await self._spot(self.name_of(name), partition), partition, offset))
        columns = [[row[n] for row in rows] for n in range(3)]
        await self.pool.write(lambda c: c.execute(self.sql.save_positions, group, *columns))

    # ---- owning

    async def acquire(self, partition: int, owner: str, *, known: Known | None = None) -> PostgresLease:
        """As the seam says; a holder that is on its way out is waited for, at most `acquire_s`."""
        await self._spot("log", partition)
        loop = asyncio.get_running_loop()
        end = loop.time() + self.acquire_s
        epoch = [-1]
        while not await self.session.lock(partition, owner, lambda: epoch[0]):
            if loop.time() >= end:
                raise await self._held(partition)
            await asyncio.sleep(0.02)
        former = self._leases.get(partition)
        try:
            failpoint("postgres.acquire.locked")
            control = await self._fence(partition, owner)
            failpoint("postgres.acquire.fenced")
        except BaseException:
            await self.session.unlock(partition)
            raise
        finally:
            if former is not None:
                former.lose()
        epoch[0] = control.epoch
        lease = PostgresLease(self, partition, control)
        self._leases[partition] = lease
        if partition not in self.session.held.parts:  # lost while we fenced
            lease.lose()
            raise Fenced(f"the lock of partition {partition} was lost", place=self.place)
        return lease

    async def _fence(self, partition: int, owner: str) -> Control:
        """Raise the epoch and claim: from then on no earlier lease can add a record."""
        for _ in range(20):
            row = await self.pool.read(lambda c: c.fetchrow(self.sql.part, partition))
            if row is None:
                raise LogError("CP506", f"partition {partition} is missing", place=self.place)
            found = decode_control(row["control"], place=f"{self.namespace}.part/{partition}")
            if found.partitions != self.partitions:
                raise Refused("CP504", f"partition {partition} was made for {found.partitions} partitions")
            control = claimed(found, owner, row["epoch"] + 1, self.partitions)
            control = control._replace(horizon=max(found.horizon, row["horizon"]))
            if await self._claim(partition, row["epoch"], control):
                return control
        raise Retriable("others acquire the same partition", place=self.place)

    async def _claim(self, partition: int, epoch: int, control: Control) -> bool:
        data = encode_control(control)
        done = await self.pool.write(
            lambda c: c.fetchval(
                self.sql.fence, partition, epoch, control.epoch, control.owner, data, self.now()
            )
        )
        return done is not None

    async def _held(self, partition: int) -> Fenced:
        who = next((h for h in await self.session.holders() if h.partition == partition), None)
        name = f"{who.owner or 'a worker'} (pid {who.pid} on {who.host})" if who else "another worker"
        return Fenced(f"{name} holds partition {partition}", place=f"{self.namespace}.log/{partition}")

    async def epoch(self, partition: int) -> int:
        """The epoch in force."""
        row = await self.pool.read(lambda c: c.fetchrow(self.sql.part, partition))
        return -1 if row is None else int(row["epoch"])

    def _lost(self, partition: int) -> None:
        lease = self._leases.get(partition)
        if lease is not None:
            lease.lose()

    def forget(self, lease: PostgresLease) -> None:
        """A lease ended."""
        if self._leases.get(lease.partition) is lease:
            del self._leases[lease.partition]

    def read_only(self) -> None:
        """The server became a standby: nothing here is ours any more."""
        for lease in list(self._leases.values()):
            lease.lose()

    def membership(self, group: str, lanes: Sequence[Lane]) -> PostgresMembership:
        member = PostgresMembership(self.session, group, lanes, self._slots)
        self._members.append(member)
        return member

    async def _slots(self, lanes: Sequence[Lane]) -> list[Slot]:
        counts = [(lane, await self.topic(lane)) for lane in lanes]
        return [(lane, p) for lane, found in counts if found is not None for p in range(found.partitions)]

    def stalled(self) -> list[Holder]:
        """Owners that hold a partition and have been silent for 30 s, as last seen."""
        return list(self.session.stalled)

    async def break_lock(self, partition: int) -> Holder | None:
        """Take a stopped holder's lock away, so that another can acquire; gives who held it.

        Its epoch is raised first, which fences it, then the server ends its session.
        """
        who = next((h for h in await self.session.holders() if h.partition == partition), None)
        if who is None:
            return None
        await self.pool.write(lambda c: c.execute(self.sql.depose, partition))
        await self.pool.write(lambda c: c.fetchval("select pg_terminate_backend($1)", who.backend))
        loop = asyncio.get_running_loop()
        end = loop.time() + 10
        while loop.time() < end:
            held = await self.session.holders()
            if not any(h.partition == partition and h.backend == who.backend for h in held):
                return who
            await asyncio.sleep(0.01)
        raise Indeterminate(f"backend {who.backend} does not end", place=self.place)

    async def close(self) -> None:
        """Let go of everything. A partition that was not released is given up as by a crash."""
        if self._closed:
            return
        for member in self._members:
            await member.leave()
        for lease in list(self._leases.values()):
            lease.lose()
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await asyncio.gather(*self._besides, return_exceptions=True)
        await self.commits.close()
        await self.session.close()
        await self.pool.close()


def _batches(drafts: Sequence[Draft]) -> Iterable[Sequence[Draft]]:
    """What goes in one statement each."""
    first = size = 0
    for n, draft in enumerate(drafts):
        size += len(draft.value or b"") + len(draft.key)
        if n - first >= CAPS.max_commit_records or (size > BATCH_BYTES and n > first):
            yield drafts[first:n]
            first, size = n, len(draft.value or b"")
    if first < len(drafts):
        yield drafts[first:]


def _answer(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
