"""Benches for the stores' conformance suite: the twin in memory, and a SQLite file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from contrapas.log.memory import VirtualClock
from contrapas.participant import Store
from contrapas.participant.memory import MemoryDatabase, MemoryStore
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
