"""`SqliteStore`: a service's own SQLite file as its store. One transaction writes at a time, the others wait in order.

The session is a `sqlite3.Connection` in a transaction that the store begins and ends; a handler that ends it itself is
refused. Begin and commit may wait for a lock or the disk, so they run in a thread; what lies between has the lock.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal

from contrapas.errors import DataError, Refused, Retriable
from contrapas.participant import Event, Finding, Known, Receipt, StoreStatus, written
from contrapas.participant.durations import Duration, duration_ms, every_ms
from contrapas.participant.rows import Outgoing
from contrapas.participant.session import Current
from contrapas.participant.sqlite_base import (
    COMMIT,
    ROLLBACK,
    Guard,
    connect,
    create,
    exhausted,
    explain,
)
from contrapas.participant.sqlite_keeping import OLD_INBOX, OLD_OUTBOX, counted, examined
from contrapas.participant.sqlite_outbox import SqliteOutbox

__all__ = ["SqliteOutbox", "SqliteStore", "SqliteTx"]

PRUNE_CHUNK = 1_000
_TAKE = (
    "insert into contrapas_inbox(ns, consumer, source, id, digest, outcome, received_at) values (?, ?, ?, ?, ?, ?, ?) "
    "on conflict do nothing"
)
_KNOWN = (
    "select outcome, digest, reply, reply_type from contrapas_inbox "
    "where ns = ? and consumer = ? and source = ? and id = ?"
)
_REPLY = "update contrapas_inbox set reply = ?, reply_type = ? where ns = ? and consumer = ? and source = ? and id = ?"
_RETAKE = (
    "update contrapas_inbox set reply = null, reply_type = null "
    "where ns = ? and consumer = ? and source = ? and id = ? and reply = ? and reply_type = ?"
)
_ROW = (
    "insert into contrapas_outbox(id, aggregatetype, aggregateid, type, payload, source, content_type, traceparent, "
    "headers, created_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class SqliteTx:
    """One transaction of a delivery."""

    def __init__(self, store: SqliteStore, con: sqlite3.Connection) -> None:
        self.session = con
        self._store = store

    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        try:
            known = self._insert(receipt, receipt.id, receipt.digest, "done")
            if known is None and undoes:
                self._insert(receipt, undoes, b"", "undone")
        except sqlite3.Error as why:
            raise explain(why, self._store.path) from why
        return known

    def _insert(self, receipt: Receipt, ident: str, digest: bytes, outcome: str) -> Known | None:
        key = (*receipt[:3], ident)
        done = self.session.execute(_TAKE, (*key, digest, outcome, self._store.clock()))
        if done.rowcount:
            return None
        row = self.session.execute(_KNOWN, key).fetchone()
        return Known(row[0], row[1], row[2], row[3] or "")

    async def retake(self, receipt: Receipt, known: Known) -> Known | None:
        try:
            if self.session.execute(_RETAKE, (*receipt[:4], known.reply, known.reply_type)).rowcount:
                return None
            return self._insert(receipt, receipt.id, receipt.digest, "done")
        except sqlite3.Error as why:
            raise explain(why, self._store.path) from why

    async def happened(self, receipt: Receipt, undoes: str) -> bool:
        try:
            row = self.session.execute(_KNOWN, (*receipt[:3], undoes)).fetchone()
        except sqlite3.Error as why:
            raise explain(why, self._store.path) from why
        return row is not None and row[0] == "done"

    async def finish(
        self, receipt: Receipt, *, reply: bytes | None, reply_type: str, rows: Sequence[Outgoing]
    ) -> None:
        try:
            if reply is not None or reply_type:
                self.session.execute(_REPLY, (reply, reply_type, *receipt[:4]))
            insert(self.session, rows, self._store.clock())
        except sqlite3.Error as why:
            raise explain(why, self._store.path) from why


def insert(con: sqlite3.Connection, rows: Sequence[Outgoing], at_ms: int) -> None:
    """Rows of the outbox."""
    con.executemany(
        _ROW,
        [
            (
                *(r.id, r.topic, r.key, r.type, r.payload, r.source, r.content_type, r.traceparent or None),
                json.dumps(dict(r.headers), ensure_ascii=False),
                at_ms,
            )
            for r in rows
        ],
    )


class SqliteStore:
    """The file at `path`. inbox: how long duplicates are remembered. prune: how often what may go goes while the store is in
    use, `"off"` for never. clock: wall clock in ms."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        inbox: Duration = "30d",
        prune: Duration = "1h",
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.path: str = os.path.abspath(path)
        self.name = os.path.splitext(os.path.basename(self.path))[0] or "store"
        self.source = f"/services/{self.name}"
        self.inbox_ms = duration_ms(inbox, what="inbox=")
        self.prune_ms = every_ms(prune, what="prune=")
        self.sender: Literal["relay", "debezium"] = "relay"
        self.clock = clock or (lambda: time.time_ns() // 1_000_000)
        self.open: set[sqlite3.Connection] = set()
        """Those with a transaction in progress."""
        self._idle: list[tuple[sqlite3.Connection, Guard]] = []
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._current: Current[sqlite3.Connection] = Current(self.name)
        self._outbox = SqliteOutbox(self.path, self.clock)

    # ---- transactions

    @asynccontextmanager
    async def begin(self, receipt: Receipt | None = None, *, undoes: str = "") -> AsyncGenerator[SqliteTx]:
        async with self.transaction() as con:
            token = self._current.set(con)
            try:
                yield SqliteTx(self, con)
            finally:
                self._current.reset(token)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[sqlite3.Connection]:
        """A transaction of business code, committed at the end of its block, rolled back by an exception."""
        async with self._lock():
            con, guard = self._taken()
            try:
                await self._begun(con)
                self.open.add(con)
                guard.on, guard.denied = True, False
                try:
                    yield con
                except Exception as why:
                    if guard.denied:
                        raise _ended(self.path) from why
                    if (trouble := exhausted(why, self.path)) is not None:
                        raise trouble from why
                    raise
                guard.on = False
                await self._committed(con)
            finally:
                guard.on = False
                self.open.discard(con)
                with suppress(sqlite3.Error):
                    if con.in_transaction:
                        con.execute(ROLLBACK)
                    self._idle.append((con, guard))

    def _lock(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = (loop, asyncio.Lock())
        return self._turn[1]

    def _taken(self) -> tuple[sqlite3.Connection, Guard]:
        if self._idle:
            return self._idle.pop()
        con, guard = connect(self.path), Guard()
        con.set_authorizer(guard)
        return con, guard

    async def _begun(self, con: sqlite3.Connection) -> None:
        """Nobody else writes: at once, as a rule; else a thread waits for it."""
        try:
            con.execute("pragma busy_timeout=0")
            con.execute("begin immediate")
        except sqlite3.OperationalError as why:
            if getattr(why, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise explain(why, self.path) from why
        except sqlite3.Error as why:
            raise explain(why, self.path) from why
        else:
            return
        finally:
            with suppress(sqlite3.Error):
                con.execute("pragma busy_timeout=100")
        until = time.monotonic() + 10
        while True:  # in short waits: one that is cancelled must not leave a thread behind that begins later
            try:
                await _in_thread(con.execute, "begin immediate")
                return
            except sqlite3.Error as why:
                code = getattr(why, "sqlite_errorcode", 0) & 0xFF
                if code != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise explain(why, self.path) from why

    async def _committed(self, con: sqlite3.Connection) -> None:
        if not con.in_transaction:
            raise Retriable(f"{self.path}: the transaction was rolled back", place=self.path)
        try:
            await _in_thread(con.execute, COMMIT)
        except sqlite3.Error as why:
            raise explain(why, self.path, commit=True) from why

    def session(self) -> sqlite3.Connection:
        return self._current.get()

    async def publish(self, session: sqlite3.Connection, *events: Event) -> None:
        if not isinstance(session, sqlite3.Connection):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                "CP850",
                f"publish({type(session).__name__}): the first argument is the connection of your transaction",
                fix="async with store.transaction() as con: …; await store.publish(con, event)",
            )
        if session.isolation_level is None and not session.in_transaction:
            raise DataError(
                "CP850",
                "publish: the connection is in no transaction, the event would be sent whatever becomes of your rows",
                fix="begin a transaction first",
            )
        now = self.clock()
        rows = [written(event, self.source, now) for event in events]
        try:
            insert(session, rows, now)
        except sqlite3.Error as why:
            raise explain(why, self.path) from why

    # ---- the rest of the seam

    @property
    def outbox(self) -> SqliteOutbox:
        return self._outbox

    async def prepare(self) -> None:
        await asyncio.to_thread(create, self.path)

    async def examine(self) -> Sequence[Finding]:
        return examined(self.path)

    async def status(self) -> StoreStatus:
        return counted(self.path, self.clock())

    async def prune(self, *, budget_ms: int) -> tuple[int, int]:
        until = time.monotonic() + budget_ms / 1000
        now = self.clock()
        outbox = await self._drop(OLD_OUTBOX, now, until)
        return outbox, await self._drop(OLD_INBOX, now - self.inbox_ms, until)

    async def _drop(self, statement: str, before_ms: int, until: float) -> int:
        count = 0
        while time.monotonic() < until:
            async with self.transaction() as con:
                done = con.execute(statement, (before_ms, PRUNE_CHUNK)).rowcount
            count += done
            if done < PRUNE_CHUNK:
                break
        return count

    async def close(self) -> None:
        await self._outbox.close()
        for con, _ in self._idle:
            con.close()
        self._idle.clear()


async def _in_thread(call: Callable[[str], object], statement: str) -> None:
    """Run it to its end, whatever becomes of the task: the connection is nobody else's before."""
    work = asyncio.ensure_future(asyncio.to_thread(call, statement))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        with suppress(Exception):
            await work
        raise


def _ended(path: str) -> Refused:
    return Refused(
        "CP850",
        "the handler ended its transaction itself",
        fix="leave commit and rollback to the store: returning commits, raising rolls back",
        place=path,
    )
