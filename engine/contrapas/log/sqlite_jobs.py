"""What is done inside one transaction of the SQLite log: commits and publishes, prepared outside the lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import count

from contrapas.core.control import encode_control
from contrapas.core.lane import Capabilities, Commit, Control, Draft, Lane
from contrapas.errors import Fenced, LogError
from contrapas.log.checks import check_size
from contrapas.log.sqlite_rows import SHIFT, Row, pack_with_deadline

CAPS = Capabilities(
    atomic_external=True,
    max_commit_records=5000,
    max_record_bytes=1_000_000,
    compaction="owner",
    joins_user_sql=False,
)


_NEWEST = "on conflict(p, key) do update set i=excluded.i, deadline=excluded.deadline"


class Head:
    """One row of `part` inside a transaction."""

    __slots__ = ("changed", "control", "epoch", "horizon", "in_head", "log_head", "relayed", "ts")

    def __init__(self, row: tuple[int, int, int, int, int, int]) -> None:
        self.epoch, self.log_head, self.in_head, self.horizon, self.relayed, self.ts = row
        self.control: Control | None = None
        self.changed = False


class Transaction:
    """What the jobs of one transaction share: the heads they moved, the log's time, the lanes that grew."""

    def __init__(self, conn: sqlite3.Connection, now_ms: int, *, durable: bool = True) -> None:
        self.conn = conn
        self.durable = durable
        self.now_ms = now_ms
        self.heads: dict[int, Head] = {}
        self.topics: dict[tuple[int, int], list[int]] = {}
        self.grown: dict[tuple[Lane, int], int] = {}
        self.records = 0
        self.epochs = 0

    def head(self, partition: int) -> Head:
        """The partition's row, read once per transaction."""
        if (head := self.heads.get(partition)) is None:
            row = self.conn.execute(
                "select epoch, log_head, in_head, horizon, relayed, ts from part where p=?", (partition,)
            ).fetchone()
            head = self.heads[partition] = Head(row)
        return head

    def stamp(self, head: Head) -> int:
        """Time of the log for this partition: never goes back."""
        head.ts = max(head.ts, self.now_ms)
        head.changed = True
        return head.ts

    def put_in(self, partition: int, rows: Sequence[Row]) -> None:
        """Append to the inbound lane."""
        head = self.head(partition)
        ts, base = self.stamp(head), partition << SHIFT | head.in_head
        self.conn.executemany(
            "insert into lane_in values(?,?,?,?,?)",
            [
                (i, key, value, headers, ts)
                for i, (key, value, headers, _) in zip(count(base), rows, strict=False)
            ],
        )
        head.in_head += len(rows)
        self.records += len(rows)
        self.grown[("in", partition)] = head.in_head

    def put_topic(self, name: Lane, t: int, partition: int, rows: Sequence[Row]) -> None:
        """Append to a topic."""
        place = (t, partition)
        if (at := self.topics.get(place)) is None:
            row = self.conn.execute("select head, ts from topic_part where t=? and p=?", place).fetchone()
            if row is None:
                raise LogError("CP505", f"topic {name} was deleted", place=f"{name}/{partition}")
            at = self.topics[place] = [row[0], row[1]]
        at[1] = ts = max(at[1], self.now_ms)
        base = at[0]
        self.conn.executemany(
            "insert into lane_topic values(?,?,?,?,?,?,?)",
            [
                (t, partition, i, key, value, headers, ts)
                for i, (key, value, headers, _) in zip(count(base), rows, strict=False)
            ],
        )
        at[0] = base + len(rows)
        self.records += len(rows)
        self.grown[(name, partition)] = at[0]

    def finish(self) -> None:
        """Write the heads that moved."""
        for partition, head in self.heads.items():
            if head.control is not None:
                self.conn.execute(
                    "update part set epoch=?, owner=?, log_head=?, in_head=?, horizon=?, relayed=?, ts=?, control=? where p=?",
                    (
                        head.epoch,
                        head.control.owner,
                        head.log_head,
                        head.in_head,
                        head.horizon,
                        head.relayed,
                        head.ts,
                        encode_control(head.control),
                        partition,
                    ),
                )
            elif head.changed:
                self.conn.execute(
                    "update part set in_head=?, ts=?, horizon=? where p=?",
                    (head.in_head, head.ts, head.horizon, partition),
                )
        if self.topics:
            rows = [(head, ts, t, p) for (t, p), (head, ts) in self.topics.items()]
            self.conn.executemany("update topic_part set head=?, ts=? where t=? and p=?", rows)


class Job:
    """Something to do inside a transaction. Afterwards `error` or `result` is set."""

    __slots__ = ("error", "grown", "result")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.result: object = None
        self.grown: dict[tuple[Lane, int], int] = {}
        """Lanes that the whole transaction let grow, with their new ends; told to its first job."""

    def apply(self, tx: Transaction) -> None:
        """Do it; raises a ContrapasError before anything was written, and then concerns this job alone."""
        raise NotImplementedError


Outgoing = dict[tuple[Lane, int, int], list[Row]]
"""(name, topic number or -1 for `in`, partition) -> rows."""


class CommitJob(Job):
    """One `Lease.commit`."""

    __slots__ = ("control", "epoch", "out", "partition", "rows")

    def __init__(
        self, partition: int, epoch: int, log: Sequence[Draft], out: Outgoing, control: Control
    ) -> None:
        super().__init__()
        self.partition = partition
        self.epoch = epoch
        self.rows = [packed(d, CAPS.max_record_bytes) for d in log]
        self.out = out
        self.control = control

    def apply(self, tx: Transaction) -> None:
        partition = self.partition
        head = tx.head(partition)
        if head.epoch != self.epoch:
            raise Fenced(
                f"epoch {head.epoch} owns partition {partition}, this is {self.epoch}",
                mine=self.epoch,
                theirs=head.epoch,
            )
        ts, first = tx.stamp(head), head.log_head
        if self.rows:
            base = partition << SHIFT | first
            tx.conn.executemany(
                "insert into lane_log values(?,?,?,?,?)",
                [
                    (i, key, value, headers, ts)
                    for i, (key, value, headers, _) in zip(count(base), self.rows, strict=False)
                ],
            )
            self._index(tx.conn, base)
            head.log_head = first + len(self.rows)
            tx.records += len(self.rows)
            tx.grown[("log", partition)] = head.log_head
        put(tx, self.out)
        head.control = self.control._replace(horizon=max(head.horizon, self.control.horizon))
        head.relayed = max(head.relayed, self.control.relayed)
        self.result = Commit(first, head.log_head - 1, ts, tx.durable)

    def _index(self, conn: sqlite3.Connection, base: int) -> None:
        """Note the newest record of each key. Without deadlines SQLite does it from the rows it just got: every value
        handed over from Python costs more than to look it up there."""
        if any(row[3] is not None for row in self.rows):
            conn.executemany(
                f"insert into latest values(?,?,?,?) {_NEWEST}",
                [(self.partition, row[0], i, row[3]) for i, row in zip(count(base), self.rows, strict=False)],
            )
        else:
            conn.execute(
                f"insert into latest select ?, key, i, null from lane_log where i>=? and i<? order by i {_NEWEST}",
                (self.partition, base, base + len(self.rows)),
            )


class PublishJob(Job):
    """One `Log.publish`."""

    __slots__ = ("out",)

    def __init__(self, out: Outgoing) -> None:
        super().__init__()
        self.out = out

    def apply(self, tx: Transaction) -> None:
        put(tx, self.out)


class CallJob(Job):
    """Any other change: `call` gets the transaction, its value is the result."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[Transaction], object]) -> None:
        super().__init__()
        self.call = call

    def apply(self, tx: Transaction) -> None:
        self.result = self.call(tx)


def packed(draft: Draft, limit: int) -> Row:
    """A row of any lane; DataError CP409 above the limit."""
    _, _, key, value, names, _ = draft
    headers, due = pack_with_deadline(names)
    if value is None:
        return bytearray(key), None, headers, None
    if len(key) + len(value) + len(headers) > limit:
        check_size(draft, limit)
    return bytearray(key), bytearray(value), headers, due


def put(tx: Transaction, out: Outgoing) -> None:
    """Append what goes to `in` and to topics."""
    for (name, t, partition), rows in out.items():
        if t < 0:
            tx.put_in(partition, rows)
        else:
            tx.put_topic(name, t, partition, rows)
