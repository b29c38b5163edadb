"""A database in memory for `MemoryStore`: rows with locks, transactions that see what is committed and what is theirs.

It does what a database with many writers does, so that what breaks there breaks here: sequence numbers are handed out
before the commit, a rolled back transaction leaves a hole, a row that another transaction holds makes one wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from contrapas.core.empty import empty
from contrapas.errors import Fenced, Indeterminate, Refused, Retriable
from contrapas.participant.rows import Outgoing, Row

RELAY_MS = 10_000
"""A relay that was silent for so long is no obstacle to the next."""
KINDS = ("retriable", "lost-before", "lost-after", "refused")
"""Nothing written; not written and not answered; written and not answered; read-only."""


class InboxRow(NamedTuple):
    """One delivery that was taken."""

    outcome: Literal["done", "undone"]
    digest: bytes
    reply: bytes | None
    reply_type: str
    received_ms: int


@dataclass(slots=True)
class RelayRow:
    """Who relays, and how far."""

    epoch: int = 0
    last: int = 0
    owner: str = ""
    seen_ms: int = 0


InboxKey = tuple[str, str, str, str]


class MemoryDatabase:
    """What all stores of one database share.

    clock: wall clock in ms. `fault("commit", "lost-after")` makes the next call of that name end so: calls are `begin`,
    `take`, `finish`, `commit`, `publish`, `claim`, `upto`, `page`, `advance`.
    """

    def __init__(self, *, clock: Callable[[], int] | None = None) -> None:
        self.clock = clock or (lambda: time.time_ns() // 1_000_000)
        self.tables: dict[str, dict[str, Any]] = {}
        self.inbox: dict[InboxKey, InboxRow] = {}
        self.outbox: dict[int, Row] = {}
        self.relays: dict[str, RelayRow] = {}
        self.seq = 0
        self.open: dict[MemorySession, None] = {}
        """Transactions in progress, oldest first."""
        self.held: dict[Any, MemorySession] = {}
        self.waits: dict[Any, deque[asyncio.Future[None]]] = {}
        self.faults: dict[str, deque[str]] = {}
        self.down = False
        """Nothing answers."""
        self.read_only = False
        self.prepared = True
        """The tables are there."""
        self._changed: set[asyncio.Future[None]] = set()

    def fault(self, call: str, *kinds: str) -> None:
        """Make the next calls end as told, kinds of `KINDS`; "" lets one pass."""
        self.faults.setdefault(call, deque()).extend(kinds)

    def meets(self, call: str) -> str:
        """What happens to this call: raises, or gives the kind that a commit must look at."""
        if self.down:
            raise Retriable("the database does not answer", code="CP501")
        queue = self.faults.get(call)
        kind = queue.popleft() if queue else ""
        if kind == "retriable":
            raise Retriable("the database does not answer", code="CP501")
        if not self.prepared and call not in ("begin", "commit"):
            raise Refused("CP514", "the tables of contrapas are missing", fix="await store.prepare()")
        if kind == "refused" or (
            self.read_only and call in ("take", "finish", "publish", "claim", "advance")
        ):
            raise Refused("CP514", "the database is read-only", fix="name the primary")
        if call != "commit" and kind:
            raise Indeterminate("the database did not answer")
        return kind

    async def lock(self, what: Any, session: MemorySession) -> None:
        """Hold a row until the transaction ends, first come first served."""
        while (holder := self.held.get(what)) is not None and holder is not session:
            came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue = self.waits.setdefault(what, deque())
            queue.append(came)
            try:
                await came
            except BaseException:
                if came in queue:
                    queue.remove(came)
                elif self.held.get(what) is None:
                    self._wake(what)
                raise
        self.held[what] = session
        session.locks.append(what)

    def unlock(self, what: Any) -> None:
        """Give a row to the next."""
        del self.held[what]
        self._wake(what)

    def _wake(self, what: Any) -> None:
        queue = self.waits.get(what)
        while queue:
            came = queue.popleft()
            if not came.done():
                came.set_result(None)
                return
        self.waits.pop(what, None)

    def numbered(self) -> int:
        """The next number of the outbox, whoever commits first."""
        self.seq += 1
        return self.seq

    def changed(self) -> None:
        """A transaction has ended: whoever waits for the outbox looks again."""
        waiting, self._changed = self._changed, set()
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def change(self, wait_ms: float) -> None:
        """Wait for that, at most so long."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[None] = loop.create_future()
        self._changed.add(came)
        timer = loop.call_later(wait_ms / 1000, lambda: None if came.done() else came.set_result(None))
        try:
            await came
        finally:
            timer.cancel()
            self._changed.discard(came)

    def relay(self, name: str, epoch: int) -> RelayRow:
        """The row of a relay that still owns it. Fenced otherwise."""
        row = self.relays.get(name)
        if row is None or row.epoch != epoch:
            raise Fenced(
                f"another relay owns the outbox {name!r}",
                mine=epoch,
                theirs=row.epoch if row else 0,
                place=name,
            )
        row.seen_ms = self.clock()
        return row


@dataclass(eq=False, slots=True)
class MemorySession:
    """One transaction, as the handler sees it: rows of named tables by key. What it reads is a copy."""

    database: MemoryDatabase
    began_ms: int = 0
    tables: dict[tuple[str, str], Any] = field(default_factory=empty(dict[tuple[str, str], Any]))
    inbox: dict[InboxKey, InboxRow] = field(default_factory=empty(dict[InboxKey, InboxRow]))
    outbox: dict[int, Row] = field(default_factory=empty(dict[int, Row]))
    locks: list[Any] = field(default_factory=empty(list[Any]))
    closed: bool = False

    def get(self, table: str, key: str, default: Any = None) -> Any:
        """A row."""
        if (table, key) in self.tables:
            found = self.tables[(table, key)]
        else:
            found = self.database.tables.get(table, {}).get(key)
        return default if found is None else deepcopy(found)

    def rows(self, table: str) -> Mapping[str, Any]:
        """All rows of a table."""
        found = dict(self.database.tables.get(table, {}))
        found.update({key: row for (name, key), row in self.tables.items() if name == table})
        return {key: deepcopy(row) for key, row in found.items() if row is not None}

    async def lock(self, table: str, key: str) -> None:
        """Hold a row until the end of the transaction, waiting for whoever holds it."""
        self._writes()
        await self.database.lock((table, key), self)

    async def put(self, table: str, key: str, row: Any) -> None:
        """Write a row, once nobody else holds it."""
        await self.lock(table, key)
        self._writes()
        self.tables[(table, key)] = deepcopy(row)

    async def delete(self, table: str, key: str) -> None:
        """Remove a row."""
        await self.put(table, key, None)

    def add(self, message: Outgoing) -> None:
        """A row of the outbox; its number is its own from here on."""
        self._writes()
        seq = self.database.numbered()
        self.outbox[seq] = Row(seq, message, self.database.clock())

    def _writes(self) -> None:
        if self.closed:
            raise Refused(
                "CP850", "this transaction has ended", fix="use the session within its delivery only"
            )

    def commit(self) -> None:
        """Make it true, and let go."""
        db = self.database
        for (table, key), row in self.tables.items():
            if row is None:
                db.tables.get(table, {}).pop(key, None)
            else:
                db.tables.setdefault(table, {})[key] = row
        db.inbox.update(self.inbox)
        db.outbox.update(self.outbox)
        self.end()

    def end(self) -> None:
        """Let go: what was not committed is gone."""
        if self.closed:
            return
        self.closed = True
        self.database.open.pop(self, None)
        for what in self.locks:
            if self.database.held.get(what) is self:
                self.database.unlock(what)
        self.database.changed()
