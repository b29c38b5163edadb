"""`PostgresStore`: a service's PostgreSQL through asyncpg; the session is a connection in a transaction.

Outside of a delivery: `async with pool.acquire() as con, con.transaction(): await store.publish(con, event)`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from contrapas.errors import Refused, Retriable
from contrapas.participant import Event, Finding, Receipt
from contrapas.participant.durations import Duration
from contrapas.participant.tables import Payload
from contrapas_postgres import examine
from contrapas_postgres.base import DEADLINE_S, Base, Sender
from contrapas_postgres.explain import ADDRESS_FIX
from contrapas_postgres.meaning import committing, exhausted, told
from contrapas_postgres.proxied import caches
from contrapas_postgres.statements import Statements
from contrapas_postgres.together import Framed, Together, Unfit
from contrapas_postgres.transaction import PostgresTx

if TYPE_CHECKING:
    from asyncpg.pool import Pool, PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record]
    Proxy = PoolConnectionProxy[asyncpg.Record]
    AnyPool = Pool[asyncpg.Record]

__all__ = ["PostgresStore"]


class AsyncpgLink:
    """A connection of asyncpg for our statements."""

    def __init__(self, con: Connection, deadline_s: float) -> None:
        self._con = con
        self._deadline_s = deadline_s

    async def rows(self, sql: str, *values: object) -> Sequence[Any]:
        """See `Link`."""
        return await self._con.fetch(sql, *values, timeout=self._deadline_s)

    def stands(self) -> bool:
        """See `Link`."""
        return _closed(self._con) or self._con.is_in_transaction()

    async def kept(self) -> tuple[int, bool]:
        """See `Link`."""
        return self._con.get_server_pid(), caches(self._con)

    async def pids(self) -> tuple[int, int]:
        """See `Held`."""
        return self._con.get_server_pid(), (await self.rows("select pg_backend_pid()"))[0][0]


class Watch:
    """Deadlines that end connections: what waits on one then fails. One timer looks after all of them, because a timer for
    each statement costs as much as a tenth of the statement."""

    def __init__(self) -> None:
        self._until: dict[Connection, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def limit(self, con: Connection, seconds: float) -> Limit:
        """A block that ends within so long, give or take a twentieth of a second."""
        return Limit(self, con, seconds)

    def begin(self, con: Connection, seconds: float) -> None:
        """From now on."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._until.clear()
            loop.call_later(_TICK_S, self._look)
        self._until[con] = loop.time() + seconds

    def end(self, con: Connection) -> None:
        """It was in time."""
        self._until.pop(con, None)

    def _look(self) -> None:
        loop = self._loop
        if loop is None or not self._until:
            self._loop = None
            return
        now = loop.time()
        for con in [con for con, until in self._until.items() if until <= now]:
            del self._until[con]
            con.terminate()
        loop.call_later(_TICK_S, self._look)


_TICK_S: Final = 0.05


class Limit:
    """A deadline of a `Watch`, as a block."""

    __slots__ = ("con", "seconds", "watch")

    def __init__(self, watch: Watch, con: Connection, seconds: float) -> None:
        self.watch = watch
        self.con = con
        self.seconds = seconds

    def __enter__(self) -> None:
        self.watch.begin(self.con, self.seconds)

    def __exit__(self, *_: object) -> None:
        self.watch.end(self.con)


class AsyncpgHeld(AsyncpgLink):
    """A connection of the pool that the outbox keeps."""

    def __init__(self, pool: AnyPool, con: Connection, deadline_s: float, watch: Watch) -> None:
        super().__init__(con, deadline_s)
        self._pool = pool
        self._watch = watch

    @property
    def closed(self) -> bool:
        """See `Held`."""
        return _closed(self._con)

    async def close(self) -> None:
        """See `Held`."""
        await _give_back(self._watch, self._pool, self._con)


class PostgresStore(Base["Connection"]):
    """Business rows, inbox and outbox in one transaction of the pool's database.

    pool: `await asyncpg.create_pool(…)`, closed by the user, or the database's address: then the store opens a pool of its
    own when it first needs one (`pool()` gives it) and closes it. While a relay runs on this store it keeps one of the
    connections. name: for people; the database's name unless told. schema: of our tables; the search path finds them
    unless told. inbox: how long duplicates are remembered. prune: how often who works with the store prunes it, `"off"` for
    never. keep_days: days of the outbox that stay although sent. sender: `"debezium"` where its connector sends the
    outbox and no relay of ours does; days then go by their age alone. idle: a delivery's transaction in which nothing
    happens for so long is ended by the server, `"off"` for as the server is set. payload: of tables that `prepare` creates.
    deadline_s: for each of our own statements.
    """

    def __init__(
        self,
        pool: AnyPool | str,
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
        super().__init__(
            name or _database(pool),
            schema=schema,
            payload=payload,
            inbox=inbox,
            prune=prune,
            keep_days=keep_days,
            sender=sender,
            idle=idle,
            deadline_s=deadline_s,
        )
        self._address = pool if isinstance(pool, str) else ""
        self._pool: AnyPool | None = None if isinstance(pool, str) else pool
        self._opening = asyncio.Lock()
        self._framed: Framed | None = None
        self._watch = Watch()

    async def pool(self) -> AnyPool:
        """The pool, opened where the store was given an address."""
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    with told(self.name):
                        self._pool = await asyncpg.create_pool(
                            self._address, min_size=0, timeout=self.deadline_s
                        )
        if not getattr(
            self._pool, "_initialized", True
        ):  # made at import, it belongs to no loop or to another one
            raise Refused(
                "CP850",
                f"the pool of store {self.name} was made, and never opened",
                fix='PostgresStore("postgresql://…"), or give it what `await asyncpg.create_pool(…)` gives',
            )
        return self._pool

    async def close(self) -> None:
        """Give back the connection of the claim; close the pool where the store opened it."""
        await super().close()
        if self._address and self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(self.deadline_s):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    async def _acquire(self) -> tuple[AnyPool, Connection]:
        pool = await self.pool()
        return pool, cast("Connection", await self._free(pool))

    @asynccontextmanager
    async def begin(
        self, receipt: Receipt | None = None, *, undoes: str = ""
    ) -> AsyncGenerator[PostgresTx[Connection]]:
        """A transaction for one delivery; `receipt` is taken in the same round trip."""
        sql = self._statements or await self.looked_up()
        with told(self.name):
            pool = self._pool or await self.pool()
            con = cast("Connection", await self._free(pool))
        try:
            with told(self.name):
                transaction, tx = await self._begun(con, sql, receipt, undoes)
            token = self._current.set(con)
            since = time.monotonic()
            try:
                yield tx
                tx.check()
            except Exception as why:
                if _closed(con) and (ended := self.idled(since)) is not None:
                    raise ended from why
                await _undo(self._watch, con, transaction)
                if (trouble := exhausted(why, self.name)) is not None:
                    raise trouble from why
                raise
            except BaseException:
                await _undo(self._watch, con, transaction)
                raise
            finally:
                self._current.reset(token)
            if _closed(con):
                with told(self.name):
                    raise self.idled(since) or ConnectionResetError("the connection was lost before COMMIT")
            with committing(self.name), self._watch.limit(con, self.deadline_s):
                try:
                    await transaction.commit()
                except asyncpg.PostgresError:
                    if not _closed(con) and con.is_in_transaction():  # refused is what went with COMMIT
                        await con.execute("rollback")
                    raise
            if tx.wrote:
                self._outbox.committed()
        finally:
            await _give_back(self._watch, pool, con)

    async def _begun(
        self, con: Connection, sql: Statements, receipt: Receipt | None, undoes: str
    ) -> tuple[Any, PostgresTx[Connection]]:
        """Together with the first statement where that is known, else BEGIN alone."""
        link = AsyncpgLink(con, self.deadline_s)
        if receipt is not None:
            if self._framed is None or self._framed.sql is not sql:
                self._framed = Framed(sql)
            own = await self._framed.known(con, self.deadline_s)
            if own is not None:
                together = Together(own, self._framed.names, self.deadline_s)
                values = (*receipt, undoes) if undoes else receipt
                try:
                    fresh = await together.start(sql.take_undo if undoes else sql.take, values)
                except Unfit:
                    pass
                except asyncpg.InvalidSQLStatementNameError as why:
                    if "cp_" not in str(why):  # not of these statements: somebody shares out sessions
                        raise
                    self._framed.forget(own)
                    raise Retriable(f"PostgreSQL {self.name}: the session forgot its statements") from why
                else:
                    tx = PostgresTx(con, link, sql, self.name, together if fresh is not None else None)
                    tx.taken = None if fresh is None else (receipt, undoes, fresh)
                    return together.transaction, tx
        transaction = con.transaction()
        with self._watch.limit(con, self.deadline_s):
            await transaction.start()
        return transaction, PostgresTx(con, link, sql, self.name)

    async def _free(self, pool: AnyPool) -> Proxy:
        if pool.get_idle_size():
            return await pool.acquire()
        async with asyncio.timeout(self.deadline_s):
            return await pool.acquire()

    async def publish(self, session: Connection | Proxy, *events: Event) -> None:
        """Write events as outbox rows in the caller's own transaction; sent once that has committed.

        Refused CP850 without a transaction; DataError as `written` says.
        """
        if not session.is_in_transaction():
            raise Refused(
                "CP850",
                "publish was given a connection without a transaction: event and rows would not be one commit",
                fix="async with con.transaction(): … await store.publish(con, event)",
            )
        await self._publish(AsyncpgLink(cast("Connection", session), self.deadline_s), events)

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[AsyncpgLink]:
        """A connection for a few statements, each its own transaction."""
        with told(self.name):
            pool, con = await self._acquire()
        try:
            yield AsyncpgLink(con, self.deadline_s)
        finally:
            await _give_back(self._watch, pool, con)

    async def hold(self) -> AsyncpgHeld:
        """A connection of the outbox's own."""
        pool, con = await self._acquire()
        if pool.get_max_size() < 2:
            await _give_back(self._watch, pool, con)
            raise Refused(
                "CP850",
                "the pool has one connection; the relay keeps one, deliveries need another",
                fix="asyncpg.create_pool(…, max_size=2) or more",
            )
        return AsyncpgHeld(pool, con, self.deadline_s, self._watch)

    async def examine(self) -> Sequence[Finding]:
        """What `doctor` says of the database and its tables."""
        found = list(await super().examine())
        async with self.lent() as link:
            proxy = examine.proxied(self.name, *await link.pids())
        return found if proxy is None else [*found, proxy]


def _closed(con: Connection) -> bool:
    """Whether it is gone; the pool takes one that was ended away from whoever holds it."""
    try:
        return con.is_closed()
    except asyncpg.InterfaceError:
        return True


async def _undo(watch: Watch, con: Connection, transaction: Any) -> None:
    """Roll back; a connection that does not answer is thrown away, which rolls back, too."""
    done = False
    try:
        with suppress(Exception):
            with watch.limit(con, 5):
                await transaction.rollback()
            done = True
    finally:
        if not done:
            with suppress(Exception):
                con.terminate()


async def _give_back(watch: Watch, pool: AnyPool, con: Connection) -> None:
    done = False
    try:
        with suppress(Exception):
            with watch.limit(con, 5):
                await pool.release(cast("Proxy", con))
            done = True
    finally:
        if not done:
            with suppress(Exception):
                con.terminate()


def _database(pool: AnyPool | str) -> str:
    """The database's name, as far as the pool was told it; never more of its address."""
    known: Any = getattr(pool, "_connect_kwargs", None) or {}
    args: Any = getattr(pool, "_connect_args", None) or ()
    address = pool if isinstance(pool, str) else str((args[0] if args else known.get("dsn")) or "")
    found = known.get("database") or _path(address).strip("/")
    return str(found or "postgres")


def _path(address: str) -> str:
    """Refused CP501 where a piece of the password stands in what should be the database's name."""
    try:
        parts = urlsplit(address)
        if parts.query:
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
        if "@" in parts.netloc or "@" not in parts.path + parts.fragment:
            return parts.path
    except ValueError:
        pass
    raise Refused("CP501", "the address of the store cannot be read", fix=ADDRESS_FIX)
