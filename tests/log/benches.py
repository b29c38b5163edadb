"""Benches for the conformance suite: the twin in memory with either fence, and a SQLite file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from contrapas.core.lane import Draft, Record
from contrapas.log import Log
from contrapas.log.memory import Faults, MemoryLog, VirtualClock
from contrapas.log.memory_store import Fence, MemoryStore
from contrapas.log.sqlite import SqliteLog
from contrapas.testing.conformance import Bench, MakeBench


class MemoryBench:
    def __init__(self, fence: Fence, gaps: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore("shop", 8, clock=self.clock, fence=fence, faults=Faults(3, gaps=gaps))

    async def open(self) -> Log:
        return MemoryLog(store=self.store)

    async def depose(self, partition: int) -> None:
        pass

    async def create(self, topics: Mapping[str, int]) -> None:
        self.store.create_topics(topics)

    async def drop(self, topic: str) -> None:
        self.store.drop_topic(topic)

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)

    def fault(self, call: str, *kinds: str) -> None:
        if call.startswith("trim"):
            _, lane, partition = call.split()
            self.store.trim(lane, int(partition), int(kinds[0]))
        else:
            self.store.faults.script(call, *kinds)

    def land(self) -> None:
        self.store.land()

    def stranger(self, partition: int, drafts: Sequence[Draft]) -> None:
        for d in drafts:
            self.store.append("log", partition, d.key, d.value, d.headers)

    def between(self, call: Callable[[int, int], None] | None) -> None:
        self.store.faults.on_between = call

    def clean(self, partition: int, below: int, choose: Callable[[Record], bool]) -> None:
        self.store.clean(partition, below, choose)


class SqliteBench:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = VirtualClock()
        self.logs: list[SqliteLog] = []

    async def open(self) -> Log:
        self.logs.append(log := SqliteLog(self.path, "shop", 8, clock=self.clock))
        log.acquire_s = 0.0
        return log

    async def close(self) -> None:
        for log in self.logs:
            await log.close()

    async def depose(self, partition: int) -> None:
        self.logs[0].break_lock(partition)

    async def create(self, topics: Mapping[str, int]) -> None:
        self.logs[0].store.create_topics(topics)

    async def drop(self, topic: str) -> None:
        self.logs[0].store.drop_topic(topic)

    def advance(self, ms: int) -> None:
        self.clock.advance(ms)

    def fault(self, call: str, *kinds: str) -> None:
        raise NotImplementedError

    def land(self) -> None:
        raise NotImplementedError

    def stranger(self, partition: int, drafts: Sequence[Draft]) -> None:
        raise NotImplementedError

    def between(self, call: Callable[[int, int], None] | None) -> None:
        raise NotImplementedError

    def clean(self, partition: int, below: int, choose: Callable[[Record], bool]) -> None:
        raise NotImplementedError


def memory(fence: Fence) -> MakeBench:
    @asynccontextmanager
    async def make() -> AsyncGenerator[Bench]:
        yield MemoryBench(fence)

    return make


def sqlite(folder: Callable[[], Path]) -> MakeBench:
    @asynccontextmanager
    async def make() -> AsyncGenerator[Bench]:
        bench = SqliteBench(folder() / "log.db")
        try:
            yield bench
        finally:
            await bench.close()

    return make
