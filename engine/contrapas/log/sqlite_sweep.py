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
    """Goes over one partition from its start to the horizon, again and again, as `compact` gives it time.

    Of each key the newest record below the horizon stays, as a broker's cleaner leaves it: what is above the horizon
    must still follow it. Of one key the oldest goes first: without its tombstone an ended run must not be seen.
    """

    def __init__(self, store: SqliteStore, partition: int, epoch: int) -> None:
        self.store = store
        self.partition = partition
        self.epoch = epoch
        self.reached = 0
        """The horizon: nothing at or above it was ever removed."""
        self._at = 0
        self._target = 0
        self._last: dict[bytes, int] = {}
        """Of keys whose newest record lies above the horizon: the last one met below it."""

    def step(self, tx: Transaction, horizon: int, cursor: int) -> bool:
        """One chunk; True when there is more to do below the horizon."""
        p = self.partition
        head = tx.head(p)
        if head.epoch != self.epoch:
            raise Fenced("another owner compacts now", mine=self.epoch, theirs=head.epoch)
        if self._at >= self._target:
            self._at, self._target = 0, max(head.horizon, min(horizon, head.relayed))
            self._last.clear()
        base = p << SHIFT
        if self._target > head.horizon:
            head.horizon = self._target
            head.changed = True
        rows = tx.conn.execute(
            "select l.i, l.key, l.value is null, l.ts, a.i from lane_log l left join latest a on a.p=? and a.key=l.key "
            "where l.i>=? and l.i<? order by l.i limit ?",
            (p, base + self._at, base + self._target, CHUNK),
        ).fetchall()
        gone, ended = self._gone(rows, base + self._target, tx.now_ms - TOMBSTONE_MS)
        tx.conn.executemany("delete from lane_log where i=?", gone)
        tx.conn.executemany("delete from latest where p=? and key=?", ended)
        trimmed = self._trim(tx, cursor)
        failpoint("sqlite.compact.begun")
        self._at = rows[-1][0] - base + 1 if len(rows) == CHUNK else self._target
        self.reached = max(self.reached, self._target)
        return self._at < self._target or trimmed

    def _gone(
        self, rows: list[tuple[int, bytes, int, int, int | None]], top: int, old_ms: int
    ) -> tuple[list[tuple[int]], list[tuple[int, bytes]]]:
        """Which records go, and which keys have ended for so long that their tombstone goes too."""
        gone: list[tuple[int]] = []
        ended: list[tuple[int, bytes]] = []
        for i, key, tombstone, ts, newest in rows:
            if newest == i:
                if tombstone and ts < old_ms:
                    gone.append((i,))
                    ended.append((self.partition, key))
            elif newest is None or newest < top:
                gone.append((i,))
            else:
                if (before := self._last.get(key)) is not None:
                    gone.append((before,))
                self._last[key] = i
        return gone, ended

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
