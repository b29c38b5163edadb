"""`SqlStore`: a service's PostgreSQL through SQLAlchemy 2; the session is an `AsyncSession` in a transaction.

Outside of a delivery: `async with sessions.begin() as db: … await store.publish(db, event)`. What the session has not
written yet is flushed before an outbox row takes its number, so that row locks make the order of a key.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from contrapas.errors import Refused, Retriable
from contrapas.participant import Event, Finding, Receipt
from contrapas.participant.durations import Duration
from contrapas.participant.tables import Payload
from contrapas_postgres import examine
from contrapas_postgres.base import DEADLINE_S, Base, Sender
from contrapas_postgres.meaning import committing, exhausted, told
from contrapas_postgres.proxied import caches
from contrapas_postgres.statements import Statements
from contrapas_postgres.together import Framed, Together, Unfit
from contrapas_postgres.transaction import PostgresTx, ended

__all__ = ["SqlStore"]


class SqlLink:
    """A connection of SQLAlchemy for our statements: by the driver's own SQL, without compiling."""

    def __init__(self, con: AsyncConnection, deadline_s: float) -> None:
        self.con = con
        self._deadline_s = deadline_s
        raw = con.sync_connection.connection.driver_connection if con.sync_connection else None
        self._raw: Any = raw if hasattr(raw, "is_in_transaction") else None
        """A connection of asyncpg."""
        self._begun = con.sync_connection.get_transaction() if con.sync_connection else None
        self._used = False
        """SQLAlchemy's asyncpg sends its BEGIN with the first statement."""

    def stands(self) -> bool:
        """See `Link`."""
        con = self.con.sync_connection
        if con is not None and con.invalidated:
            return True
        ours = con is not None and not con.closed and con.get_transaction() is self._begun
        raw = self._raw if self._used else None
        return ours and (raw is None or raw.is_closed() or raw.is_in_transaction())

    async def rows(self, sql: str, *values: object) -> Sequence[Any]:
        """See `Link`."""
        self._used = True
        if self._raw is not None and not self._raw.is_closed() and self._raw.is_in_transaction():
            # SQLAlchemy has begun on this very connection: its cursors would add nothing but their time.
            found: Sequence[Any] = await self._raw.fetch(sql, *values, timeout=self._deadline_s)
            return found
        if self.con.dialect.paramstyle != "numeric_dollar":
            sql, values = _by_place(sql, self.con.dialect.paramstyle, values)
        async with asyncio.timeout(self._deadline_s):
            result = await self.con.exec_driver_sql(sql, values or None)
        return result.fetchall() if result.returns_rows else []

    async def untouched(self, framed: Framed) -> tuple[Any, Any] | None:
        """SQLAlchemy's connection and asyncpg's, where no transaction has begun on them and our statements are known."""
        pooled: Any = self.con.sync_connection.connection if self.con.sync_connection else None
        adapter: Any = getattr(pooled, "dbapi_connection", None)
        parts = ("_transaction", "isolation_level", "readonly", "deferrable")
        if self._raw is None or self._raw.is_closed() or not all(hasattr(adapter, part) for part in parts):
            return None
        if adapter._transaction is not None or adapter.isolation_level == "autocommit":
            return None
        if getattr(adapter, "_prepared_statement_cache", None) is None or self._raw.is_in_transaction():
            return None
        known = await framed.known(self._raw, self._deadline_s)
        return None if known is None else (adapter, known)

    def begun(self, adapter: Any, transaction: Any) -> None:
        """SQLAlchemy is told that its transaction has begun: it ends it by itself."""
        self._used = True
        adapter._transaction = transaction
        if hasattr(adapter, "_started"):
            adapter._started = True

    async def rolled_back(self) -> None:
        """The server's transaction is over, too."""
        with suppress(Exception):
            if self._raw is not None and not self._raw.is_closed() and self._raw.is_in_transaction():
                await self._raw.execute("rollback", timeout=5)

    async def kept(self) -> tuple[int, bool]:
        """See `Link`."""
        own: Any = self.con.sync_connection.connection.dbapi_connection if self.con.sync_connection else None
        kept = getattr(own, "_prepared_statement_cache", None) is not None
        return await _said_pid(self.con), kept or caches(self._raw)


class SqlHeld(SqlLink):
    """A connection of the engine that the outbox keeps."""

    @property
    def closed(self) -> bool:
        """See `Held`."""
        return self.con.invalidated or self.con.closed

    async def pids(self) -> tuple[int, int]:
        """See `Held`."""
        here = int((await self.rows("select pg_backend_pid()"))[0][0])
        return await _said_pid(self.con) or here, here

    async def close(self) -> None:
        """See `Held`. Its session ends with it, and so do its locks, which a pool would not take back."""
        with suppress(Exception):
            async with asyncio.timeout(5):
                await self.con.invalidate()
        with suppress(Exception):
            await self.con.close()


class SqlStore(Base[AsyncSession]):
    """Business rows, inbox and outbox in one transaction of an `AsyncSession`.

    sessions: an `async_sessionmaker` bound to an engine of PostgreSQL (asyncpg or psycopg); while a relay runs on this
    store it keeps one of the engine's connections. The other parameters: see `PostgresStore`.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        name: str = "",
        schema: str = "",
        payload: Payload = "jsonb",
        inbox: Duration = "30d",
        prune: Duration = "1h",
        keep_days: int = 1,
        sender: Sender = "relay",
        idle: Duration = "60s",
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._sessions = sessions
        self._framed: Framed | None = None
        self._engine = _engine_of(sessions)
        if self._engine.dialect.name != "postgresql":
            raise Refused("CP850", f"SqlStore works with PostgreSQL, not with {self._engine.dialect.name}")
        super().__init__(
            name or self._engine.url.database or "postgres",
            schema=schema,
            payload=payload,
            inbox=inbox,
            prune=prune,
            keep_days=keep_days,
            sender=sender,
            idle=idle,
            deadline_s=deadline_s,
        )

    @asynccontextmanager
    async def begin(
        self, receipt: Receipt | None = None, *, undoes: str = ""
    ) -> AsyncGenerator[PostgresTx[AsyncSession]]:
        """A transaction for one delivery."""
        sql = self._statements or await self.looked_up()
        session = self._sessions()
        try:
            with told(self.name):
                async with asyncio.timeout(self.deadline_s):
                    con = await session.connection()
                if _autocommits(con):
                    raise _not_one_commit(
                        "deliveries were given sessions that commit each statement: their rows"
                    )
                link = SqlLink(con, self.deadline_s)
                tx = await self._begun(session, link, sql, receipt, undoes)
            token = self._current.set(session)
            event.listen(session.sync_session, "before_commit", _refuse)
            since = time.monotonic()
            try:
                yield tx
                tx.check()
                await _flush(session)  # what the handler wrote is the handler's: its errors pass unchanged
            except Exception as why:
                if _gone(con) and (ended := self.idled(since)) is not None:
                    raise ended from why
                if (trouble := exhausted(why, self.name)) is not None:
                    raise trouble from why
                raise
            finally:
                event.remove(session.sync_session, "before_commit", _refuse)
                self._current.reset(token)
            if _gone(con):
                with told(self.name):
                    raise self.idled(since) or ConnectionResetError("the connection was lost before COMMIT")
            with committing(self.name):
                try:
                    async with asyncio.timeout(self.deadline_s):
                        await session.commit()
                except Exception:
                    await (
                        link.rolled_back()
                    )  # refused is what went with COMMIT, and SQLAlchemy takes it for over
                    raise
            if tx.wrote:
                self._outbox.committed()
        finally:
            await _leave(session)

    async def _begun(
        self, session: AsyncSession, link: SqlLink, sql: Statements, receipt: Receipt | None, undoes: str
    ) -> PostgresTx[AsyncSession]:
        """Together with the first statement, where the driver is asyncpg; else BEGIN goes with what is asked first."""
        own = None
        if receipt is not None:
            if self._framed is None or self._framed.sql is not sql:
                self._framed = Framed(sql)
            own = await link.untouched(self._framed)
        if receipt is None or own is None or self._framed is None:
            return _FlushingTx(session, link, sql, self.name)
        adapter, raw = own
        together = Together(
            raw,
            self._framed.names,
            self.deadline_s,
            adapter.isolation_level,
            adapter.readonly,
            adapter.deferrable,
        )
        values = (*receipt, undoes) if undoes else receipt
        try:
            fresh = await together.start(sql.take_undo if undoes else sql.take, values)
        except Unfit:
            return _FlushingTx(session, link, sql, self.name)
        except asyncpg.InvalidSQLStatementNameError as why:
            if "cp_" not in str(why):
                raise
            self._framed.forget(raw)
            raise Retriable(f"PostgreSQL {self.name}: the session forgot its statements") from why
        link.begun(adapter, together.transaction)
        tx = _FlushingTx(session, link, sql, self.name, together if fresh is not None else None)
        tx.taken = None if fresh is None else (receipt, undoes, fresh)
        return tx

    async def publish(self, session: AsyncSession, *events: Event) -> None:
        """Write events as outbox rows in the caller's own transaction; sent once that has committed."""
        await _flush(session)
        with told(self.name):
            con = await session.connection()
        if _autocommits(con):
            raise _not_one_commit("publish was given a session that commits each statement: event and rows")
        await self._publish(SqlLink(con, self.deadline_s), events)

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[SqlLink]:
        """A connection for a few statements, each its own transaction."""
        with told(self.name):
            con = await self._connect()
        try:
            yield SqlLink(con, self.deadline_s)
        finally:
            with suppress(Exception):
                async with asyncio.timeout(5):
                    await con.close()

    async def hold(self) -> SqlHeld:
        """A connection of the outbox's own."""
        pool = self._engine.pool
        if isinstance(pool, QueuePool) and (pool.size(), getattr(pool, "_max_overflow", -1)) == (1, 0):
            raise Refused(
                "CP850",
                "the engine has one connection; the relay keeps one, deliveries need another",
                fix="create_async_engine(…, pool_size=2) or more",
            )
        return SqlHeld(await self._connect(), self.deadline_s)

    async def _connect(self) -> AsyncConnection:
        async with asyncio.timeout(self.deadline_s):
            con = await self._engine.connect()
            try:
                return await con.execution_options(isolation_level="AUTOCOMMIT")
            except BaseException:
                with suppress(Exception):
                    await con.close()
                raise

    async def examine(self) -> Sequence[Finding]:
        """What `doctor` says of the database and its tables."""
        found = list(await super().examine())
        async with self.lent() as link:
            here = int((await link.rows("select pg_backend_pid()"))[0][0])
            proxy = examine.proxied(self.name, await _said_pid(link.con), here)
        return found if proxy is None else [*found, proxy]


class _FlushingTx(PostgresTx[AsyncSession]):
    """Writes what the session holds before outbox rows take their numbers."""

    async def finish(self, *args: Any, **named: Any) -> None:
        """See `PostgresTx`."""
        await _flush(self.session)
        await super().finish(*args, **named)


def _refuse(session: Session) -> None:
    """A commit of the handler's own: the inbox row would stand without its reply. Savepoints may end."""
    if not session.in_nested_transaction():
        raise ended()


def _gone(con: AsyncConnection) -> bool:
    """Whether the server or the network has ended the session, as far as the driver knows."""
    if con.invalidated or con.closed:
        return True
    raw: Any = con.sync_connection.connection.driver_connection if con.sync_connection else None
    if hasattr(raw, "is_closed"):
        return bool(raw.is_closed())
    return bool(getattr(raw, "closed", False))


def _not_one_commit(what: str) -> Refused:
    fix = "an engine without isolation_level='AUTOCOMMIT'"
    return Refused("CP850", f"{what} would not be one commit", fix=fix)


async def _flush(session: AsyncSession) -> None:
    """Write what the session holds; asking first is cheaper than a flush of nothing."""
    if session.new or session.deleted or session.dirty:
        await session.flush()


async def _leave(session: AsyncSession) -> None:
    """Roll back what is open and give the connection back; one that does not answer is thrown away."""
    done = False
    try:
        with suppress(Exception):
            async with asyncio.timeout(5):
                await session.close()
            done = True
    finally:
        if not done:
            with suppress(Exception):
                await session.invalidate()


def _autocommits(con: AsyncConnection) -> bool:
    """Whether each statement is its own transaction, as the session, the engine or its creator asked for."""
    options: dict[str, Any] = dict(con.sync_connection.get_execution_options()) if con.sync_connection else {}
    asked: Any = options.get("isolation_level") or getattr(con.dialect, "_on_connect_isolation_level", None)
    return bool(asked == "AUTOCOMMIT")


async def _said_pid(con: AsyncConnection) -> int:
    """What the server said at connecting; 0 where the driver does not tell."""
    raw: Any = (await con.get_raw_connection()).driver_connection
    if hasattr(raw, "get_server_pid"):
        return int(raw.get_server_pid())
    return int(getattr(getattr(raw, "info", None), "backend_pid", 0))


def _engine_of(sessions: async_sessionmaker[AsyncSession]) -> AsyncEngine:
    bind = sessions.kw.get("bind")
    if isinstance(bind, AsyncEngine):
        return bind
    if isinstance(bind, AsyncConnection):
        return bind.engine
    raise Refused(
        "CP850", "SqlStore needs sessions that are bound to an engine", fix="async_sessionmaker(engine)"
    )


def _by_place(sql: str, style: str, values: Sequence[object]) -> tuple[str, tuple[object, ...]]:
    """`$n` in a driver's own style."""
    if style not in ("pyformat", "format"):
        raise Refused(
            "CP850", f"SqlStore does not know drivers of the style {style}", fix="postgresql+asyncpg://"
        )
    text, order = _placed(sql)
    return text, tuple(values[n] for n in order)


@lru_cache(maxsize=256)
def _placed(sql: str) -> tuple[str, tuple[int, ...]]:
    order = tuple(int(n) - 1 for n in re.findall(r"\$(\d+)", sql))
    return re.sub(r"\$\d+", "%s", sql.replace("%", "%%")), order
