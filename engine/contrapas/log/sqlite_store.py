"""The synchronous inside of the SQLite log: one writer connection, jobs that share a transaction, checkpoints.

Every commit and every checkpoint holds one `flock` on `<file>.lock`: fair between processes, and no two connections
ever write and checkpoint at the same moment. A job is prepared outside the lock and applied inside one transaction
with the others that are ready.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue

from contrapas.core.control import decode_control, merge_cursor
from contrapas.core.lane import Commit, Control, Draft, Lane, Topic
from contrapas.core.partition import partition as partition_of
from contrapas.errors import (
    ContrapasError,
    DataError,
    Indeterminate,
    LogError,
    Refused,
    Retriable,
    Unreachable,
)
from contrapas.failpoints import NAMES, Injected, failpoint
from contrapas.log.checks import claimed
from contrapas.log.sqlite_file import (
    BUSY_MS,
    ROTTEN,
    FileLock,
    check_disk,
    check_marks,
    check_wal,
    connect,
    create,
    explain,
    has_wal,
    marks,
    total,
)
from contrapas.log.sqlite_jobs import CAPS, CallJob, CommitJob, Job, Outgoing, Transaction, packed
from contrapas.log.steady import Steady

NAMES.update(
    {
        "sqlite.commit.before": "log/sqlite: a group of commits and publishes is about to begin its transaction",
        "sqlite.commit.begun": "log/sqlite: the records are in the transaction, which is not committed",
        "sqlite.commit.accepted": "log/sqlite: the transaction is committed, the answer not given",
        "sqlite.checkpoint.before": "log/sqlite: the WAL is about to be copied into the file",
        "sqlite.checkpoint.after": "log/sqlite: the WAL is copied into the file",
    }
)

WAL_PAGES = 4000
"""Checkpoint when the WAL is thought to hold this many pages (16 MiB)."""
WAL_ROOM = 17 << 20
"""A worker gives the WAL this size at once: a sync of a file that does not grow takes half the time."""
TURN_S = 0.004
"""Two processes that take turns wait so long for each other in place: a hand-over to a thread takes as long, and more CPU."""
WARM = 100
"""... after this many transactions, so that a short command does not pay for it."""


class SqliteStore:
    """One open file for writing, synchronous. Any thread may call it; one transaction runs at a time."""

    def __init__(
        self,
        path: str,
        namespace: str,
        partitions: int | None = 8,
        *,
        clock: Callable[[], int],
        make: bool = True,
        synchronous: str = "full",
    ) -> None:
        self.path = path
        self.namespace = namespace
        self.clock = clock
        self.broken: ContrapasError | None = None
        self.durable = synchronous == "full"
        self._mutex = threading.Lock()
        self._unsaved = 0
        self._runs = 0
        self.synced_s = 0.0
        """How long the last commit took to become durable, without what was written before it."""
        self._patient = True
        self._pages_per_record = 2.0
        self._topics: dict[Lane, tuple[int, int]] = {}
        check_disk(path)
        if not os.path.exists(path):
            if not make:
                raise LogError(
                    "CP505", f"{path} does not exist", fix="contrapas topic create --apply", place=path
                )
            os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
        self._open = FileLock(f"{path}.open")
        try:
            self._start(partitions, synchronous)
        except BaseException:
            self._open.close()
            raise

    def _start(self, partitions: int | None, synchronous: str) -> None:
        path = self.path
        first = self._open.take(wait=False)
        if not first:
            self._open.take(shared=True)
        had_wal = has_wal(path)
        if not os.path.exists(path) or os.path.getsize(path) == 0:
            self._open.take()
            create(path, self.namespace, 8 if partitions is None else partitions)
            first = True
        self.conn = connect(path)
        try:
            found = marks(self.conn, path)
            check_marks(found, path, self.namespace, partitions)
            if first:
                check_wal(self.conn, path, found, had_wal)
            self.partitions = int(found["partitions"])
            self.id = found["id"]
            if synchronous != "full":
                self.conn.execute(f"pragma synchronous={synchronous}")
            self._lock = FileLock(f"{path}.lock")
            if first:
                self._mark_wal("1")
        except ROTTEN as error:
            self.conn.close()
            raise explain(error, path) from error
        except BaseException:
            self.conn.close()
            raise
        self._open.take(shared=True)

    def _mark_wal(self, value: str) -> None:
        """Note in the file itself whether a WAL belongs to it, and how much it holds in `<file>.lock`."""
        self._lock.take()
        try:
            self._wait(True)
            self.conn.execute("update meta set value=? where name='wal'", (value,))
            mode = "truncate" if value == "0" else "passive"
            self.conn.execute(f"pragma wal_checkpoint({mode})").fetchall()
            os.pwrite(self._lock.fd, struct.pack("<q", total(self.conn)), 0)
        finally:
            self._lock.give()

    # ---- transactions

    def run(self, jobs: Sequence[Job], *, wait: bool = True) -> bool:
        """Apply jobs in one transaction; each gets its `result` or `error`. False, nothing done: busy and not `wait`,
        apart from the moment that another process's commit takes."""
        tx = self.begin(jobs, wait=wait)
        return self.end(tx, jobs, wait=wait) if isinstance(tx, Transaction) else tx

    def begin(self, jobs: Sequence[Job], *, wait: bool = True) -> Transaction | bool:
        """Open a transaction and apply jobs in it; `end` must follow, in any thread. True: it ended already, each job has
        its error. False: busy and not `wait`, nothing done."""
        if not self._mutex.acquire(blocking=wait):
            return False
        tx: Transaction | bool = True
        try:
            if self.broken is not None:
                for job in jobs:
                    job.error = self.broken
                return True
            if not (self._lock.take(wait=wait) or self._lock.take_soon(TURN_S)):
                tx = False
                return False
            try:
                tx = self._apply(jobs, wait)
            finally:
                if not isinstance(tx, Transaction):
                    self._lock.give()
            return tx
        finally:
            if not isinstance(tx, Transaction):
                self._mutex.release()

    def end(self, tx: Transaction, jobs: Sequence[Job], *, wait: bool = True) -> bool:
        """Commit what `begin` opened, the part that waits for the disk. False: SQLite was busy, nothing is done."""
        try:
            done = self._commit(tx, jobs, wait)
            if done and self._unsaved * self._pages_per_record > WAL_PAGES:
                self.checkpoint()
            return done
        finally:
            self._lock.give()
            self._mutex.release()

    def _apply(self, jobs: Sequence[Job], wait: bool) -> Transaction | bool:
        failpoint("sqlite.commit.before")
        tx = Transaction(self.conn, self.clock(), durable=self.durable)
        try:
            self._wait(wait)
            self.conn.execute("begin immediate")
            for job in jobs:
                try:
                    job.apply(tx)
                except ContrapasError as error:
                    job.error = error
            tx.finish()
            failpoint("sqlite.commit.begun")
        except Exception as error:  # noqa: BLE001  it belongs to whoever waits for a job of this transaction
            return self._failed(jobs, error, wait)
        return tx

    def _failed(self, jobs: Sequence[Job], error: Exception, wait: bool) -> bool:
        """Nothing of the transaction happened; each job is told, unless it can be tried again at once (False)."""
        self._undo()
        known: Exception = error
        if isinstance(error, ROTTEN):
            known = explain(error, self.path)
            if isinstance(known, Retriable) and not wait:
                return False
            if isinstance(known, Unreachable) and not known.again:
                self.broken = known
        for job in jobs:
            job.error = job.error or known
        return True

    def _commit(self, tx: Transaction, jobs: Sequence[Job], wait: bool) -> bool:
        try:
            began = time.perf_counter()
            self.conn.execute("commit")
            self.synced_s = time.perf_counter() - began
        except Exception as error:  # noqa: BLE001  it belongs to whoever waits for a job of this transaction
            return self._failed(jobs, error, wait)
        if tx.records or tx.epochs:
            noted = struct.unpack("<q", os.pread(self._lock.fd, 8, 0) or b"\0" * 8)[0]
            os.pwrite(self._lock.fd, struct.pack("<q", noted + tx.records + tx.epochs), 0)
        if isinstance(self.clock, Steady) and tx.heads:
            self.clock.saw(max([head.ts for head in tx.heads.values()]))
        self._unsaved += tx.records + 1
        self._runs += 1
        if self._runs == WARM:
            threading.Thread(target=self._make_room, name="contrapas-wal", daemon=True).start()
        try:
            failpoint("sqlite.commit.accepted")
        except Injected as lost:
            for job in jobs:
                job.error = job.error or Indeterminate(f"the answer was lost at {lost}")
        jobs[0].grown = tx.grown
        return True

    def _wait(self, patient: bool) -> None:
        """Have SQLite wait for other writers, who do not take our lock, or not."""
        if patient is not self._patient:
            self.conn.execute(f"pragma busy_timeout={BUSY_MS if patient else 0}")
            self._patient = patient

    def _undo(self) -> None:
        try:
            if self.conn.in_transaction:
                self.conn.execute("rollback")
        except sqlite3.Error:
            return

    def checkpoint(self) -> None:
        """Copy the WAL into the file as far as readers allow. The caller holds the lock."""
        failpoint("sqlite.checkpoint.before")
        try:
            _, pages, copied = self.conn.execute("pragma wal_checkpoint(passive)").fetchone()
        except sqlite3.Error as error:
            known = explain(error, self.path)
            if isinstance(known, Unreachable) and not known.again:
                self.broken = known
            return
        if self._unsaved:
            self._pages_per_record = min(64.0, max(0.1, pages / self._unsaved))
        self._unsaved = 0 if copied == pages else self._unsaved // 2
        failpoint("sqlite.checkpoint.after")

    def _make_room(self) -> None:
        """Append zeros to the WAL, a little at a time under the lock. A reader of frames stops at the first zero."""
        zeros = bytes(1 << 20)
        try:
            fd = os.open(f"{self.path}-wal", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            while True:
                with self._mutex:
                    if self._open.fd < 0 or not self._lock.take():
                        return
                    try:
                        size = os.fstat(fd).st_size
                        if size >= WAL_ROOM or size < 32:
                            return
                        os.pwrite(fd, zeros[: WAL_ROOM - size], size)
                    finally:
                        self._lock.give()
                os.fdatasync(fd)
        except OSError:
            return
        finally:
            os.close(fd)

    def call(self, work: Callable[[Transaction], object]) -> object:
        """Do one thing in a transaction of its own; raises what it raised."""
        job = CallJob(work)
        self.run([job])
        if job.error is not None:
            raise job.error
        return job.result

    # ---- preparing

    def name_of(self, lane: Lane) -> Lane:
        """`<ns>.in` and `<ns>.log` are `in` and `log`."""
        if lane == f"{self.namespace}.in":
            return "in"
        return "log" if lane == f"{self.namespace}.log" else lane

    def outgoing(self, drafts: Sequence[Draft]) -> Outgoing:
        """Drafts by where they go; LogError CP505 for a topic that does not exist."""
        out: Outgoing = {}
        for draft in drafts:
            lane = self.name_of(draft.to)
            if lane == "in":
                t, count = -1, self.partitions
                limit = CAPS.max_record_bytes
            else:
                t, count = self.topic_number(lane)
                limit = CAPS.max_record_bytes + 65_536
            at = draft.partition if draft.partition >= 0 else partition_of(draft.key, count)
            if at >= count:
                raise LogError("CP505", f"{lane} has no partition {at}", place=f"{lane}/{at}")
            out.setdefault((lane, t, at), []).append(packed(draft, limit))
        return out

    def topic_number(self, lane: Lane) -> tuple[int, int]:
        """Number and partition count of a topic."""
        if (found := self._topics.get(lane)) is None:
            if lane in ("", "log"):
                raise DataError("CP522", "the log lane takes records only through a lease")
            with self._mutex:
                row = self.conn.execute("select t, partitions from topic where name=?", (lane,)).fetchone()
            if row is None:
                raise LogError(
                    "CP505", f"topic {lane} does not exist", fix=f"contrapas topic create {lane}", place=lane
                )
            found = self._topics[lane] = (row[0], row[1])
        return found

    # ---- ownership

    def fence_job(self, partition: int, owner: str) -> Job:
        """Raise the epoch and claim: from then on no earlier lease can add a record. Its result is the control."""

        def work(tx: Transaction) -> Control:
            head = tx.head(partition)
            data = tx.conn.execute("select control from part where p=?", (partition,)).fetchone()[0]
            found = decode_control(data, place=f"{self.namespace}.part/{partition}")
            if found.partitions != self.partitions:
                raise Refused("CP504", f"partition {partition} was made for {found.partitions} partitions")
            head.epoch += 1
            tx.epochs += 1
            tx.stamp(head)
            head.control = claimed(found, owner, head.epoch, self.partitions)._replace(horizon=head.horizon)
            return head.control

        return CallJob(work)

    def prepare(
        self, partition: int, before: Control, log: Sequence[Draft], out: Sequence[Draft], control: Control
    ) -> CommitJob:
        """A commit, checked and packed. before: the control this lease knows; no source moves back below it."""
        if len(log) + len(out) + 1 > CAPS.max_commit_records:
            raise Retriable(f"a commit holds at most {CAPS.max_commit_records} records")
        control = control._replace(
            epoch=before.epoch,
            owner=before.owner,
            partitions=self.partitions,
            serial=before.serial + 1,
            horizon=before.horizon,
        )
        if control.cursor is not before.cursor:
            control = merge_cursor(before, control)
        return CommitJob(partition, before.epoch, log, self.outgoing(out) if out else {}, control)

    def commit_now(self, job: CommitJob) -> Commit:
        """Commit in this thread; for a runtime that wants no loop."""
        self.run([job])
        if job.error is not None:
            raise job.error
        assert isinstance(job.result, Commit)
        return job.result

    # ---- topics and positions

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create what is missing; Refused CP504 when one exists with another count."""

        def work(tx: Transaction) -> None:
            for name, count in topics.items():
                row = tx.conn.execute("select t, partitions from topic where name=?", (name,)).fetchone()
                if row is None:
                    t = tx.conn.execute(
                        "insert into topic(name, partitions) values(?, ?)", (name, count)
                    ).lastrowid
                    rows = [(t, p) for p in range(count)]
                    tx.conn.executemany("insert into topic_part values(?, ?, 0, 0, 0)", rows)
                elif row[1] != count:
                    raise Refused("CP504", f"topic {name} has {row[1]} partitions, {count} were asked for")

        for name in topics:
            if self.name_of(name) in ("in", "log", ""):
                raise Refused("CP504", f"{name} is a lane, not a topic")
        self.call(work)

    def drop_topic(self, name: str) -> None:
        """Delete a user's topic with its records; created again it has another id."""

        t, _ = self.topic_number(name)

        def work(tx: Transaction) -> None:
            tx.epochs -= tx.conn.execute(
                "select coalesce(sum(head), 0) from topic_part where t=?", (t,)
            ).fetchone()[0]
            for table in ("topic", "topic_part", "lane_topic", "position"):
                tx.conn.execute(f"delete from {table} where t=?", (t,))

        self.call(work)
        self._topics.pop(name, None)

    def topic(self, lane: Lane) -> Topic | None:
        """Id and count; None when it does not exist."""
        name = self.name_of(lane)
        if name in ("in", "log"):
            return Topic(f"{self.id}-{name}", self.partitions)
        with self._mutex:
            row = self.conn.execute("select t, partitions from topic where name=?", (name,)).fetchone()
        return None if row is None else Topic(f"{self.id}-{row[0]}", row[1])

    def close(self) -> None:
        """Close; the last process to do so leaves one whole file behind."""
        with self._mutex:
            if self._open.fd < 0:
                return
            last = self._open.take(wait=False)
            try:
                if last and self.broken is None:
                    self._mark_wal("0")
            except sqlite3.Error:
                pass
            finally:
                self.conn.close()
                self._lock.close()
                self._open.close()


class Writer(threading.Thread):
    """Does what waits off the event loop, one thing after the other; tells after each."""

    def __init__(self) -> None:
        super().__init__(name="contrapas-sqlite", daemon=True)
        self.queue: SimpleQueue[tuple[Callable[[], object], Callable[[], object]] | None] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while (item := self.queue.get()) is not None:
            work, tell = item
            work()
            tell()

    def end(self) -> None:
        """Finish what is queued and stop."""
        self.queue.put(None)
        self.join()
