"""`MemoryStore`: the seam over a `MemoryDatabase`; the reference twin of every store.

Its levers for tests: `database.fault(call, kind)`, `database.down`, `database.read_only`, the clock, `kill()` for the death
of the process, and any transaction of `begin` or `transaction` that is left open holds the outbox's barrier back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from contrapas.errors import DataError, Fenced, Indeterminate
from contrapas.participant import (
    PAGE_BYTES,
    Claim,
    Event,
    Finding,
    Horizon,
    Known,
    Receipt,
    StoreStatus,
    written,
)
from contrapas.participant.memory_database import (
    RELAY_MS,
    InboxRow,
    MemoryDatabase,
    MemorySession,
    RelayRow,
)
from contrapas.participant.rows import Outgoing, Row, paged
from contrapas.participant.session import Current

__all__ = ["MemoryDatabase", "MemoryOutbox", "MemorySession", "MemoryStore", "MemoryTx"]

INBOX_MS = 30 * 86_400_000
PRUNE_MS = 3_600_000


class MemoryTx:
    """One transaction of a delivery."""

    def __init__(self, session: MemorySession) -> None:
        self.session = session
        self.database = session.database

    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        await asyncio.sleep(0)
        self.database.meets("take")
        known = await self._insert(receipt, "done", receipt.digest)
        if known is None and undoes:
            await self._insert(receipt._replace(id=undoes), "undone", b"")
        return known

    async def _insert(
        self, receipt: Receipt, outcome: Literal["done", "undone"], digest: bytes
    ) -> Known | None:
        """`insert … on conflict do nothing`: waits for whoever inserts the same."""
        key = receipt[:4]
        await self.database.lock(("inbox", key), self.session)
        found = self.database.inbox.get(key)
        if found is not None:
            return Known(found.outcome, found.digest, found.reply, found.reply_type)
        self.session.inbox[key] = InboxRow(outcome, digest, None, "", self.database.clock())
        return None

    async def retake(self, receipt: Receipt, known: Known) -> Known | None:
        await asyncio.sleep(0)
        self.database.meets("take")
        key = receipt[:4]
        await self.database.lock(("inbox", key), self.session)
        found = self.database.inbox.get(key)
        if found is None:  # pruned in between
            return await self._insert(receipt, "done", receipt.digest)
        if (found.reply, found.reply_type) != (known.reply, known.reply_type):
            return Known(found.outcome, found.digest, found.reply, found.reply_type)
        self.session.inbox[key] = found._replace(reply=None, reply_type="")
        return None

    async def happened(self, receipt: Receipt, undoes: str) -> bool:
        found = self.database.inbox.get((*receipt[:3], undoes))
        return found is not None and found.outcome == "done"

    async def finish(
        self, receipt: Receipt, *, reply: bytes | None, reply_type: str, rows: Sequence[Outgoing]
    ) -> None:
        await asyncio.sleep(0)
        self.database.meets("finish")
        key = receipt[:4]
        if reply is not None or reply_type:
            self.session.inbox[key] = self.session.inbox[key]._replace(reply=reply, reply_type=reply_type)
        for row in rows:
            self.session.add(row)


class MemoryOutbox:
    """The relay's view."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.database = store.database
        self._barrier: tuple[int, set[MemorySession]] | None = None
        """What a wait that ran out waits for."""

    async def claim(self, name: str, owner: str) -> Claim:
        await asyncio.sleep(0)
        db = self.database
        db.meets("claim")
        row = db.relays.setdefault(name, RelayRow())
        if row.owner not in ("", owner) and db.clock() - row.seen_ms < RELAY_MS:
            raise Fenced(f"{row.owner} relays the outbox {name!r}", theirs=row.epoch, place=name)
        row.epoch += 1
        row.owner, row.seen_ms = owner, db.clock()
        self.store.claims[name] = row.epoch
        return Claim(row.epoch, row.last)

    async def upto(self, last: int, *, wait_ms: int) -> int:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_ms / 1000
        while True:
            self.database.meets("upto")
            self._seen()
            found = self._reached(last)
            left = (until - loop.time()) * 1000
            if found > last or left <= 0:
                return found
            await self.database.change(left)

    def _reached(self, last: int) -> int:
        """The number behind the barrier: everybody who was writing when it was looked up has ended."""
        db = self.database
        if self._barrier is None:
            if db.seq <= last:
                return last
            self._barrier = (db.seq, set(db.open))
        upto, writers = self._barrier
        if any(w in db.open for w in writers):
            return last
        self._barrier = None
        return max(upto, last)

    def _seen(self) -> None:
        for name, epoch in self.store.claims.items():
            row = self.database.relays.get(name)
            if row is not None and row.epoch == epoch:
                row.seen_ms = self.database.clock()

    async def page(self, after: int, upto: int, limit: int) -> Sequence[Row]:
        await asyncio.sleep(0)
        self.database.meets("page")
        found = sorted(seq for seq in self.database.outbox if after < seq <= upto)
        return paged((self.database.outbox[seq] for seq in found[:limit]), PAGE_BYTES)

    async def advance(self, name: str, epoch: int, seq: int) -> None:
        await asyncio.sleep(0)
        self.database.meets("advance")
        row = self.database.relay(name, epoch)
        row.last = max(row.last, seq)

    async def horizon(self) -> Horizon:
        oldest = next(iter(self.database.open), None)
        if oldest is None:
            return Horizon(0, 0, "")
        return Horizon(max(1, self.database.clock() - oldest.began_ms), 1, "a transaction in memory")

    async def release(self, name: str, epoch: int) -> None:
        await asyncio.sleep(0)
        row = self.database.relays.get(name)
        if row is not None and row.epoch == epoch:
            row.owner = ""
        self.store.claims.pop(name, None)


class MemoryStore:
    """A store in memory. Several share one database: `MemoryStore(database=first.database)` or `first.peer()`."""

    def __init__(
        self,
        name: str = "memory",
        *,
        database: MemoryDatabase | None = None,
        clock: Callable[[], int] | None = None,
        inbox_ms: int = INBOX_MS,
    ) -> None:
        self.name = name
        self.source = f"/services/{name}"
        self.inbox_ms = inbox_ms
        self.prune_ms = PRUNE_MS
        self.sender: Literal["relay", "debezium"] = "relay"
        self.database = database or MemoryDatabase(clock=clock)
        self.claims: dict[str, int] = {}
        self._mine: set[MemorySession] = set()
        self._current: Current[MemorySession] = Current(name)
        self._outbox = MemoryOutbox(self)

    def peer(self) -> MemoryStore:
        """Another store of the same database, as another process would have."""
        return type(self)(self.name, database=self.database, inbox_ms=self.inbox_ms)

    @asynccontextmanager
    async def begin(self, receipt: Receipt | None = None, *, undoes: str = "") -> AsyncGenerator[MemoryTx]:
        await asyncio.sleep(0)
        self.database.meets("begin")
        async with self.transaction() as session:
            token = self._current.set(session)
            try:
                yield self.tx(session)
            finally:
                self._current.reset(token)

    def tx(self, session: MemorySession) -> MemoryTx:
        """A delivery's view of a transaction."""
        return MemoryTx(session)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemorySession]:
        """A transaction of business code: `async with store.transaction() as s: …; await store.publish(s, event)`."""
        session = MemorySession(self.database, self.database.clock())
        self.database.open[session] = None
        self._mine.add(session)
        try:
            yield session
            await asyncio.sleep(0)
            kind = self.database.meets("commit")
            if session.closed:
                raise Indeterminate("the connection was lost before the commit was answered")
            if kind != "lost-before":
                session.commit()
            if kind:
                raise Indeterminate("the commit was not answered")
        finally:
            session.end()
            self._mine.discard(session)

    def session(self) -> MemorySession:
        return self._current.get()

    async def publish(self, session: MemorySession, *events: Event) -> None:
        if type(session) is not MemorySession:
            raise DataError(
                "CP850",
                f"publish({type(session).__name__}): the first argument is the transaction",
                fix="async with store.transaction() as session",
            )
        self.database.meets("publish")
        for row in [written(event, self.source, self.database.clock()) for event in events]:
            session.add(row)

    @property
    def outbox(self) -> MemoryOutbox:
        return self._outbox

    async def prepare(self) -> None:
        self.database.prepared = True

    async def examine(self) -> Sequence[Finding]:
        if self.database.prepared:
            return ()
        return (Finding(True, "CP514", f"{self.name} has no tables", "await store.prepare()"),)

    async def status(self) -> StoreStatus:
        db = self.database
        low = min((r.last for r in db.relays.values()), default=0)
        waiting = [row for seq, row in db.outbox.items() if seq > low]
        oldest = min((r.created_at_ms for r in waiting), default=0)
        known = min((r.received_ms for r in db.inbox.values()), default=0)
        now = db.clock()
        return StoreStatus(
            1 if db.prepared else 0,
            len(waiting),
            now - oldest if oldest else 0,
            len(db.inbox),
            now - known if known else 0,
            {name: Claim(row.epoch, row.last) for name, row in db.relays.items()},
        )

    async def prune(self, *, budget_ms: int) -> tuple[int, int]:
        db = self.database
        low = min((r.last for r in db.relays.values()), default=0)
        sent = [seq for seq in db.outbox if seq <= low]
        for seq in sent:
            del db.outbox[seq]
        old = [key for key, row in db.inbox.items() if row.received_ms < db.clock() - self.inbox_ms]
        for key in old:
            del db.inbox[key]
        return len(sent), len(old)

    async def close(self) -> None:
        for name, epoch in list(self.claims.items()):
            await self._outbox.release(name, epoch)

    def kill(self) -> None:
        """The process dies: its transactions are rolled back, what it owned is free after a while."""
        for session in list(self._mine):
            session.end()
