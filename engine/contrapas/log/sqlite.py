"""`SqliteLog`: the seam over one SQLite file, the default log; it needs no server.

A commit that is quick runs on the event loop itself: two hops between threads would cost as much as the sync of the
disk. Where the disk is slow, or another process holds the lock, a writer thread takes over until it is quick again.
Commits that are asked for in one turn of the loop share a transaction.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from contrapas.core.lane import Commit, Control, Draft, Known, Lane, Record, Source, Topic
from contrapas.errors import Fenced, LogError
from contrapas.failpoints import NAMES, failpoint
from contrapas.log.beat import GRID_S, next_beat
from contrapas.log.checks import check_source
from contrapas.log.sharing import Slot
from contrapas.log.sqlite_jobs import CAPS, CallJob, Job, PublishJob, Transaction
from contrapas.log.sqlite_owners import Holder, PartitionLock, SqliteMembership, break_lock, holder, stalled
from contrapas.log.sqlite_read import SqliteReader
from contrapas.log.sqlite_store import SqliteStore, Writer
from contrapas.log.sqlite_sweep import Sweep
from contrapas.log.steady import Steady

__all__ = ["SqliteLease", "SqliteLog", "SqliteMembership", "SqliteReader"]

NAMES.update(
    {
        "sqlite.acquire.locked": "log/sqlite: the partition's lock file is ours, the epoch not raised",
        "sqlite.acquire.fenced": "log/sqlite: former owners are fenced, the tail unread",
        "sqlite.release.before": "log/sqlite: about to give a partition up",
    }
)

QUICK_S = 0.0015
"""A sync is worth a thread above this mean duration. Only the sync: what comes before it needs the interpreter, and two
threads that need it at the same time cost twice as much as one."""
TRY_AGAIN = 64
"""Every so many commits one is timed without the thread, where two threads in turn make it look slower than it is."""
ALONE = 16
"""After so many transactions with one job each the next ones are not held back for others to join."""
SHY_S = 0.05
"""... and for so long after another process was found with the lock."""
LOOK_S = (0.002, GRID_S)
"""How often another process's commits are looked for while somebody waits: just after one, and after three quiet seconds."""
BEAT_S = 1.0
ACQUIRE_S = 2.0
"""How long `acquire` waits for a holder that is on its way out."""


class SqliteLog:
    """One namespace's log in a SQLite file.

    path: of the file; made with its folder when `make`. partitions: recorded when it is made and compared later;
    None takes what is recorded. synchronous: `full`; `normal` survives kill -9 but not a power cut and is never called
    durable.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        namespace: str,
        partitions: int | None = 8,
        *,
        clock: Callable[[], int] | None = None,
        make: bool = True,
        synchronous: str = "full",
    ) -> None:
        self.path = os.fspath(path)
        self.namespace = namespace
        self.store = SqliteStore(
            self.path, namespace, partitions, clock=clock or Steady(), make=make, synchronous=synchronous
        )
        self._steady = self.store.clock if isinstance(self.store.clock, Steady) else None
        self.reader = SqliteReader(self.path, namespace)
        self.partitions = self.store.partitions
        self.caps = CAPS
        self.acquire_s = ACQUIRE_S
        self._leases: set[SqliteLease] = set()
        self._members: list[SqliteMembership] = []
        self._queue: list[tuple[Job, asyncio.Future[None]]] = []
        self._flushing = False
        self._mean_s = 0.0
        self._flushes = 0
        self._alone = 0
        """So many transactions in a row had one job."""
        self._shy_until = 0.0
        self._writer: Writer | None = None
        self._waiting: dict[tuple[Lane, int], dict[asyncio.Future[bool], int]] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._seen: int = 0
        self._moved_at = 0.0
        self._beating: asyncio.Task[None] | None = None
        self._closed = False

    # ---- transactions

    async def submit(self, job: Job) -> object:
        """Have a job done in the next transaction; its result, or what it raised."""
        if self._alone < ALONE or self._alone % 8 == 0 or not self._at_once(job):
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            self._queue.append((job, future))
            if not self._flushing:
                self._flushing = True
                loop.call_soon(self._flush, loop)
            await future
        if job.error is not None:
            raise job.error
        return job.result

    def _at_once(self, job: Job) -> bool:
        """A transaction of its own, in place: nobody else had anything to write lately, so there is nobody to wait for.
        Every eighth waits all the same, which lets others run, and shows whether there is company again."""
        if self._flushing or self._mean_s >= QUICK_S or time.perf_counter() < self._shy_until:
            return False
        if not self.store.run([job], wait=False):
            return False
        self._alone += 1
        self._mean_s += (self.store.synced_s - self._mean_s) / 16
        if self._waiting:
            for place, end in job.grown.items():
                self._wake(place, end)
        return True

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._queue = self._queue, []
        self._alone = self._alone + 1 if len(batch) == 1 else 0
        jobs = [job for job, _ in batch]
        tx: Transaction | bool = False
        if time.perf_counter() >= self._shy_until:
            tx = self.store.begin(jobs, wait=False)
            if not tx:
                self._shy_until = time.perf_counter() + SHY_S
        self._flushes += 1
        if isinstance(tx, Transaction) and (self._mean_s < QUICK_S or self._flushes % TRY_AGAIN == 0):
            tx = self.store.end(tx, jobs, wait=False)
        if tx is True:
            self._done(batch)
            return
        opened = tx
        self._in_thread(lambda: self._end(jobs, opened), lambda: self._done_in_thread(loop, batch))

    def _end(self, jobs: Sequence[Job], tx: Transaction | bool) -> None:
        """In the writer's thread: commit what is open, or all of it where the lock was not to be had."""
        if not isinstance(tx, Transaction) or not self.store.end(tx, jobs, wait=False):
            self.store.run(jobs)

    def _in_thread(self, work: Callable[[], object], then: Callable[[], None]) -> None:
        """Do something off the loop, then something on it."""
        loop = asyncio.get_running_loop()
        if self._writer is None:
            self._writer = Writer()
        self._writer.queue.put((work, lambda: loop.call_soon_threadsafe(then)))

    def _done_in_thread(
        self, loop: asyncio.AbstractEventLoop, batch: list[tuple[Job, asyncio.Future[None]]]
    ) -> None:
        self._done(batch)
        if self._queue and not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush, loop)

    def _done(self, batch: list[tuple[Job, asyncio.Future[None]]]) -> None:
        self._mean_s += (self.store.synced_s - self._mean_s) / 16
        self._flushing = False
        for job, future in batch:
            if self._waiting:
                for place, end in job.grown.items():
                    self._wake(place, end)
            if not future.done():
                future.set_result(None)

    def _wake(self, place: tuple[Lane, int], end: int) -> None:
        for waiter, at in self._waiting.get(place, {}).items():
            if at < end:
                _answer(waiter, True)

    # ---- reading

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        return self.reader.bounds(lane, partition)

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
        records, after = self.reader.read(lane, partition, offset, max_records, max_bytes)
        if records or wait_ms <= 0:
            return records, after
        if await self._more((self.reader.name_of(lane), partition), after, wait_ms):
            return self.reader.read(lane, partition, after, max_records, max_bytes)
        return records, after

    async def _more(self, place: tuple[Lane, int], end: int, wait_ms: int) -> bool:
        """Whether a lane grew beyond `end` in time: told by this process, or seen by looking."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[bool] = loop.create_future()
        waiters = self._waiting.setdefault(place, {})
        waiters[came] = end
        timer = loop.call_later(wait_ms / 1000, _answer, came, False)
        if self._looking is None:
            self._look(loop)
        try:
            return await came
        finally:
            timer.cancel()
            del waiters[came]
            if not waiters and self._waiting.get(place) is waiters:
                del self._waiting[place]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """See whether another process committed; look again soon if one did lately, else now and then."""
        self._looking = None
        if not self._waiting or self._closed:
            return
        version, now = self.reader.version(), loop.time()
        if version != self._seen:
            self._seen, self._moved_at = version, now
            for place, end in self.reader.ends(self._waiting).items():
                self._wake(place, end)
        least, most = LOOK_S
        pause = min(most, max(least, (now - self._moved_at) / 50))
        self._looking = loop.call_at(next_beat(loop, pause), self._look, loop)

    async def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        for batch in self.reader.latest(partition, after, upto):
            if batch:
                yield batch
            await asyncio.sleep(0)

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        return self.reader.offset_at(lane, partition, timestamp_ms)

    # ---- writing

    async def publish(self, drafts: Sequence[Draft]) -> None:
        if drafts:
            await self.submit(PublishJob(self.store.outgoing(drafts)))

    async def topic(self, lane: Lane) -> Topic | None:
        return self.reader.topic(lane)

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create what is missing; Refused CP504 when one exists with another count."""
        self.store.create_topics(topics)

    async def positions(self, group: str) -> Mapping[Source, int]:
        return self.reader.positions(group)

    async def save_positions(self, group: str, at: Mapping[Source, int]) -> None:
        rows: list[tuple[str, int, int, int]] = []
        for (source, partition), offset in at.items():
            name = source.rpartition("@")[0]
            check_source(source, self.reader.topic(name))
            rows.append((group, self.reader.number(self.reader.name_of(name), partition), partition, offset))

        def work(tx: Transaction) -> None:
            tx.conn.executemany("insert or replace into position values(?,?,?,?)", rows)

        await self.submit(CallJob(work))

    # ---- owning

    async def acquire(self, partition: int, owner: str, *, known: Known | None = None) -> SqliteLease:
        """As the seam says; a holder that is on its way out is waited for, at most `acquire_s`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.acquire_s
        while True:
            lock = PartitionLock(self.path, partition, self._steady)
            if lock.claim(owner):
                break
            lock.close()
            if loop.time() >= end:
                who = holder(self.path, partition)
                name = f"{who.owner} (pid {who.pid} on {who.host})" if who else "another worker"
                raise Fenced(f"{name} holds partition {partition}", place=f"{self.namespace}.log/{partition}")
            await asyncio.sleep(0.005)
        try:
            failpoint("sqlite.acquire.locked")
            control = await self.submit(self.store.fence_job(partition, owner))
            assert isinstance(control, Control)
            failpoint("sqlite.acquire.fenced")
        except BaseException:
            lock.close()
            raise
        lease = SqliteLease(self, lock, control)
        self._leases.add(lease)
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())
        return lease

    async def _beat(self) -> None:
        """Once a second: say that we live, and see whether we were fenced or our lock was broken."""
        while not self._closed:
            await _until(next_beat(asyncio.get_running_loop(), BEAT_S))
            if not self._leases:
                continue
            epochs = self.reader.epochs()
            for lease in list(self._leases):
                if not lease.lock.beat() or epochs[lease.partition] != lease.epoch:
                    lease.lose()

    def forget(self, lease: SqliteLease) -> None:
        """A lease ended."""
        self._leases.discard(lease)

    def membership(self, group: str, lanes: Sequence[Lane]) -> SqliteMembership:
        member = SqliteMembership(self.path, group, lanes, self._slots)
        self._members.append(member)
        return member

    def _slots(self, lanes: Sequence[Lane]) -> list[Slot]:
        counts = [(lane, self.reader.topic(lane)) for lane in lanes]
        return [(lane, p) for lane, found in counts if found is not None for p in range(found.partitions)]

    def stalled(self) -> list[Holder]:
        """Owners that hold a partition and have been silent for 30 s."""
        return stalled(self.path, self.partitions)

    def break_lock(self, partition: int) -> Holder | None:
        """Take a stopped holder's lock away, so that another can acquire; gives who held it."""
        return break_lock(self.path, partition)

    async def close(self) -> None:
        """Let go of everything; the last process to close leaves one whole file.

        A partition that was not released is given up as by a crash: who owns it next counts a takeover.
        """
        if self._closed:
            return
        for member in self._members:
            await member.leave()
        for lease in list(self._leases):
            lease.lose()
        self._closed = True
        if self._beating is not None:
            self._beating.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if self._writer is not None:
            self._writer.end()
        if self.store.broken is not None:
            # with a reader still there SQLite copies nothing on closing: a sync that failed is not repeated
            self.store.close()
        self.reader.close()
        self.store.close()


class SqliteLease:
    """Ownership of one partition of a `SqliteLog`."""

    def __init__(self, log: SqliteLog, lock: PartitionLock, control: Control) -> None:
        self.log = log
        self.lock = lock
        self.partition = lock.partition
        self.epoch = control.epoch
        self.control = control
        self.gone = False
        self._sweep = Sweep(log.store, self.partition, self.epoch)
        self._waiters: list[asyncio.Future[None]] = []

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As the seam says. Never Indeterminate: after an I/O error the log stops (CP516), and the next start re-reads."""
        if self.gone:
            raise Fenced("the lease was given up", mine=self.epoch)
        job = self.log.store.prepare(self.partition, self.control, log, out, control)
        try:
            done = await self.log.submit(job)
        except Fenced:
            self.lose()
            raise
        self.control = job.control
        assert isinstance(done, Commit)
        return done

    def commit_now(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """The same in this thread, without a loop; waiters of this process are not told."""
        job = self.log.store.prepare(self.partition, self.control, log, out, control)
        done = self.log.store.commit_now(job)
        self.control = job.control
        return done

    async def compact(self, horizon: int, *, budget_ms: int) -> int:
        """Remove superseded records below min(horizon, relayed), and read input a day old, a chunk at a time."""
        end = time.perf_counter() + budget_ms / 1000
        lane = ("in", f"{self.log.namespace}.in")
        cursor = max(
            (
                at
                for (s, p), at in self.control.cursor.items()
                if p == self.partition and s.partition("@")[0] in lane
            ),
            default=0,
        )
        more = True
        while more and not self.gone:
            more = bool(await self.log.submit(CallJob(lambda tx: self._sweep.step(tx, horizon, cursor))))
            if time.perf_counter() >= end:
                break
            await asyncio.sleep(0)
        self.control = self.control._replace(horizon=max(self.control.horizon, self._sweep.reached))
        return self.control.horizon

    async def look(self) -> Sequence[Record]:
        return ()  # a stale write is refused

    async def lost(self) -> None:
        if self.gone:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def lose(self) -> None:
        """Know that ownership is gone."""
        self.gone = True
        self.lock.close()
        self.log.forget(self)
        for waiter in self._waiters:
            _wake(waiter)
        self._waiters.clear()

    async def release(self) -> None:
        if self.gone:
            return
        failpoint("sqlite.release.before")
        job = self.log.store.prepare(self.partition, self.control._replace(owner=""), [], [], self.control)
        try:
            await self.log.submit(job)
        except LogError:
            pass
        finally:
            self.lose()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _until(at: float) -> None:
    """Sleep until a moment of the loop's clock."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[bool] = loop.create_future()
    timer = loop.call_at(at, _answer, came, True)
    try:
        await came
    finally:
        timer.cancel()


def _answer(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
