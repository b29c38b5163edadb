"""Compaction of the SQLite log by the owner: superseded records below the horizon, a chunk per transaction."""

from __future__ import annotations

from contrapas.errors import Fenced
from contrapas.failpoints import NAMES, failpoint
from contrapas.log.sqlite_jobs import Transaction
from contrapas.log.sqlite_rows import SHIFT
from contrapas.log.sqlite_store import SqliteStore

NAMES.update(
    {"sqlite.compact.begun": "log/sqlite: superseded records are deleted in the transaction, not committed"}
)

CHUNK = 2000
"""Records looked at under the lock at a time."""
TOMBSTONE_MS = 3 * 86_400_000
"""A tombstone stays so long, longer than the slowest restore."""
INPUT_MS = 86_400_000
"""Input that was read stays so long."""


class Sweep:
    """Goes over one partition from its start to the horizon, again and again, as `compact` gives it time."""

    def __init__(self, store: SqliteStore, partition: int, epoch: int) -> None:
        self.store = store
        self.partition = partition
        self.epoch = epoch
        self.reached = 0
        """The horizon: nothing at or above it was ever removed."""
        self._at = 0
        self._target = 0

    def step(self, tx: Transaction, horizon: int, cursor: int) -> bool:
        """One chunk; True when there is more to do below the horizon."""
        p = self.partition
        head = tx.head(p)
        if head.epoch != self.epoch:
            raise Fenced("another owner compacts now", mine=self.epoch, theirs=head.epoch)
        if self._at >= self._target:
            self._at, self._target = 0, max(head.horizon, min(horizon, head.relayed))
        base, target = p << SHIFT, self._target
        if target > head.horizon:
            head.horizon = target
            head.changed = True
        row = tx.conn.execute(
            "select i from lane_log where i>=? and i<? order by i limit 1 offset ?",
            (base + self._at, base + target, CHUNK),
        ).fetchone()
        upto = target if row is None else row[0] - base
        span = (base + self._at, base + upto)
        tx.conn.execute(
            "delete from lane_log where i>=? and i<? and not exists "
            "(select 1 from latest where p=? and key=lane_log.key and i=lane_log.i)",
            (*span, p),
        )
        old = tx.conn.execute(
            "select i, key from lane_log where i>=? and i<? and value is null and ts<?",
            (*span, tx.now_ms - TOMBSTONE_MS),
        ).fetchall()
        if old:
            tx.conn.executemany("delete from lane_log where i=?", [(i,) for i, _ in old])
            tx.conn.executemany("delete from latest where p=? and key=?", [(p, key) for _, key in old])
        trimmed = self._trim(tx, cursor)
        failpoint("sqlite.compact.begun")
        self._at = upto
        self.reached = max(self.reached, target)
        return upto < target or trimmed

    def _trim(self, tx: Transaction, cursor: int) -> bool:
        """Remove input below the cursor that is a day old."""
        base = self.partition << SHIFT
        rows = tx.conn.execute(
            "select i, ts from lane_in where i>=? and i<? order by i limit ?", (base, base + cursor, CHUNK)
        ).fetchall()
        old = [i for i, ts in rows if ts < tx.now_ms - INPUT_MS]
        if not old:
            return False
        tx.conn.execute("delete from lane_in where i>=? and i<=?", (base, old[-1]))
        tx.conn.execute("update part set in_start=? where p=?", (old[-1] - base + 1, self.partition))
        return len(old) == CHUNK
