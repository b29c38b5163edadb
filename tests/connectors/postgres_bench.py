"""A bench for the conformance suite over a PostgreSQL database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from contrapas.log import Draft, Log, Record
from contrapas.log.memory import VirtualClock
from contrapas.testing.conformance import Bench, MakeBench
from contrapas_postgres import connector
from contrapas_postgres.log import PostgresLog


class PostgresBench:
    """Clients of one namespace."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = VirtualClock()
        self.logs: list[PostgresLog] = []
        self.first: PostgresLog

    async def open(self) -> Log:
        log = await self._open()
        log.acquire_s = 5.0
        self.logs.append(log)
        return log

    async def _open(self) -> PostgresLog:
        return await connector.open(self.url, "shop", partitions=8, make=True, clock=self.clock)

    async def start(self) -> None:
        self.first = await self._open()

    async def close(self) -> None:
        for log in (*self.logs, self.first):
            await log.close()

    async def depose(self, partition: int) -> None:
        await self.first.break_lock(partition)

    async def create(self, topics: Mapping[str, int]) -> None:
        await self.first.create_topics(topics)

    async def drop(self, topic: str) -> None:
        await self.first.drop_topic(topic)

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


def postgres(url: Callable[[], str]) -> MakeBench:
    """A bench over the database at an address that is known only when a test runs."""

    @asynccontextmanager
    async def make() -> AsyncGenerator[Bench]:
        bench = PostgresBench(url())
        await bench.start()
        try:
            yield bench
        finally:
            await bench.close()

    return make
