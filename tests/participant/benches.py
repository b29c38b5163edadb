"""Benches for the stores' conformance suite: the twin in memory, and a SQLite file."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

from contrapas.log.memory import VirtualClock
from contrapas.participant import Store
from contrapas.participant.memory import MemoryDatabase, MemoryStore
from contrapas.participant.sqlite import SqliteStore
from contrapas.testing.conformance_store import MakeStoreBench, StoreBench


class MemoryBench:
    """Several stores over one database in memory; `kind` may be one with a rule broken."""

    def __init__(self, kind: type[MemoryStore]) -> None:
        self.clock = VirtualClock()
        self.kind = kind
        self.database = MemoryDatabase(clock=self.clock)

    async def open(self) -> Store[Any]:
        return self.kind("shop", database=self.database)

    def transaction(self, store: Any) -> AbstractAsyncContextManager[Any]:
        return store.transaction()  # type: ignore[no-any-return]

    async def put(self, session: Any, key: str, value: str) -> None:
        await session.put("business", key, value)

    async def get(self, key: str) -> str | None:
        return self.database.tables.get("business", {}).get(key)

    async def depose(self, store: Any) -> None:
        self.clock.advance(60_000)

    async def age(self, ms: int) -> None:
        self.clock.advance(ms)

    def fault(self, call: str, kind: str) -> None:
        self.database.fault(call, kind)

    async def kill(self, store: Any) -> None:
        store.kill()

    async def bare(self) -> Store[Any]:
        self.database.prepared = False
        return await self.open()


def memory(kind: type[MemoryStore] = MemoryStore) -> MakeStoreBench:
    @asynccontextmanager
    async def make() -> AsyncGenerator[StoreBench]:
        yield MemoryBench(kind)

    return make


class SqliteBench:
    """Several stores over one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"
        self.clock = VirtualClock()
        self.stores: list[SqliteStore] = []

    def _new(self) -> SqliteStore:
        self.stores.append(store := SqliteStore(self.path, clock=self.clock))
        return store

    async def open(self) -> Store[Any]:
        store = self._new()
        if len(self.stores) == 1:
            await store.prepare()
            with closing(sqlite3.connect(self.path)) as con:
                con.execute("create table business(key text primary key, value text)")
        return store

    def transaction(self, store: Any) -> AbstractAsyncContextManager[Any]:
        return store.transaction()  # type: ignore[no-any-return]

    async def put(self, session: Any, key: str, value: str) -> None:
        session.execute("insert or replace into business values (?, ?)", (key, value))

    async def get(self, key: str) -> str | None:
        with closing(sqlite3.connect(self.path)) as con:
            row = con.execute("select value from business where key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    async def depose(self, store: Any) -> None:
        self.clock.advance(60_000)

    async def age(self, ms: int) -> None:
        self.clock.advance(ms)

    def fault(self, call: str, kind: str) -> None:
        raise NotImplementedError

    async def kill(self, store: Any) -> None:
        for con in list(store.open):
            con.close()

    async def bare(self) -> Store[Any]:
        with closing(sqlite3.connect(self.path)) as con:
            con.execute("create table business(key text primary key, value text)")
        return self._new()


@asynccontextmanager
async def sqlite() -> AsyncGenerator[StoreBench]:
    with tempfile.TemporaryDirectory() as folder:
        bench = SqliteBench(Path(folder))
        try:
            yield bench
        finally:
            for store in bench.stores:
                await store.close()
