"""A bench of the store's conformance suite over a real PostgreSQL: one database for each, several stores on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from contrapas.participant import Store
from contrapas_postgres.sqlalchemy import SqlStore
from contrapas_postgres.store import PostgresStore
from tests.postgres import Database

Opened = tuple[Store[Any], Callable[[], Awaitable[None]]]


class PostgresBench:
    """PostgresStore; the one of SQLAlchemy overrides what a session is."""

    def __init__(self, database: Database) -> None:
        self.url = database.url
        self.stack = AsyncExitStack()
        self.plain: asyncpg.Pool[asyncpg.Record] | None = None
        self.pools: dict[int, Any] = {}

    async def start(self) -> None:
        """One pool beside the stores, for looking."""
        self.plain = await asyncpg.create_pool(self.url, min_size=1, max_size=4)
        self.stack.push_async_callback(self._close, self.plain)
        await self.sql("create table if not exists business (key text primary key, value text)")
        store = await self.open()
        await store.prepare()

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """Outside of everything."""
        assert self.plain is not None
        return list(await self.plain.fetch(statement, *values))

    async def _close(self, pool: Any) -> None:
        pool.terminate()

    async def open(self) -> Store[Any]:
        """A store with a pool of its own."""
        pool = await asyncpg.create_pool(self.url, min_size=0, max_size=16)
        store = PostgresStore(pool, deadline_s=5)
        self.pools[id(store)] = pool
        self.stack.push_async_callback(self._close, pool)
        self.stack.push_async_callback(store.close)
        return store

    @asynccontextmanager
    async def transaction(self, store: Store[Any]) -> AsyncGenerator[Any]:
        """As business code does it."""
        async with self.pools[id(store)].acquire() as con, con.transaction():
            yield con

    async def put(self, session: Any, key: str, value: str) -> None:
        """Upsert: the row lock is held to the end."""
        await session.execute(
            "insert into business values ($1, $2) on conflict (key) do update set value = excluded.value",
            key,
            value,
        )

    async def get(self, key: str) -> str | None:
        """As committed."""
        rows = await self.sql("select value from business where key = $1", key)
        return rows[0][0] if rows else None

    async def depose(self, store: Store[Any]) -> None:
        """End the session that holds the claim, as an operator may."""
        await self.sql(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objsubid = 1"
            " and database = (select oid from pg_database where datname = current_database())"
        )

    async def age(self, ms: int) -> None:
        """Everything that is stored becomes older."""
        await self.sql("update contrapas_inbox set received_at = received_at - $1 * interval '1 ms'", ms)
        await self.sql("update contrapas_outbox set created_at = created_at - $1 * interval '1 ms'", ms)
        await self.sql("update contrapas_relay set updated_at = updated_at - $1 * interval '1 ms'", ms)

    def fault(self, call: str, kind: str) -> None:
        """Not here: real faults are made with a server."""
        raise NotImplementedError

    async def kill(self, store: Store[Any]) -> None:
        """As the end of its process: sockets close, nothing is said."""
        self.pools[id(store)].terminate()

    async def bare(self) -> Store[Any]:
        """A store that looks where no tables are."""
        await self.sql("create schema if not exists empty")
        pool = await asyncpg.create_pool(self.url, max_size=2, min_size=0)
        self.stack.push_async_callback(self._close, pool)
        return PostgresStore(pool, schema="empty", deadline_s=5)


class SqlBench(PostgresBench):
    """SqlStore over asyncpg."""

    driver = "asyncpg"

    async def open(self) -> Store[Any]:
        """A store with an engine of its own."""
        engine = create_async_engine(alchemy(self.url, self.driver), pool_size=16)
        store = SqlStore(async_sessionmaker(engine), deadline_s=5)
        self.pools[id(store)] = engine
        self.stack.push_async_callback(engine.dispose)
        self.stack.push_async_callback(store.close)
        return store

    @asynccontextmanager
    async def transaction(self, store: Store[Any]) -> AsyncGenerator[Any]:
        """As business code does it."""
        async with async_sessionmaker(self.pools[id(store)]).begin() as session:
            yield session

    async def put(self, session: Any, key: str, value: str) -> None:
        """As the other bench."""
        await session.execute(
            text(
                "insert into business values (:k, :v) on conflict (key) do update set value = excluded.value"
            ),
            {"k": key, "v": value},
        )

    async def kill(self, store: Store[Any]) -> None:
        """Sessions of other processes end; here those of this engine do."""
        await self.pools[id(store)].dispose(close=False)

    async def bare(self) -> Store[Any]:
        """A store that looks where no tables are."""
        await self.sql("create schema if not exists empty")
        engine = create_async_engine(alchemy(self.url, self.driver))
        self.stack.push_async_callback(engine.dispose)
        return SqlStore(async_sessionmaker(engine), schema="empty", deadline_s=5)


def alchemy(url: str, driver: str = "asyncpg") -> str:
    """An address as SQLAlchemy wants it."""
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)


def make(
    kind: type[PostgresBench], database: Database
) -> Callable[[], AbstractAsyncContextManager[PostgresBench]]:
    """What `exercise_store` takes."""

    @asynccontextmanager
    async def bench() -> AsyncGenerator[PostgresBench]:
        found = kind(database)
        async with found.stack:
            await found.start()
            yield found

    return bench
