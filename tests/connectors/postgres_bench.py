"""A bench for the conformance suite over a PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from contrapas.errors import Indeterminate, Retriable
from contrapas.log import Draft, Log, Record
from contrapas.log.memory import VirtualClock
from contrapas.testing.conformance import Bench, MakeBench
from contrapas_postgres import connector
from contrapas_postgres.connections import Pool
from contrapas_postgres.log import PostgresLog
from tests.postgres import execute

T = TypeVar("T")


class Scripted(Pool):
    """A pool whose next changes end as told."""

    def __init__(self, pool: Pool, script: deque[str], late: list[Coroutine[Any, Any, object]]) -> None:
        self.pool = pool
        self.script = script
        self.late = late

    async def write(self, work: Callable[[Any], Awaitable[T]], *, deadline_s: float = 0.0) -> T:
        kind = self.script.popleft() if self.script else ""
        if kind == "retriable":
            raise Retriable("as told")
        if kind in ("lost-before", "cut"):  # a statement is whole or absent
            raise Indeterminate("as told")
        if kind == "late":
            self.late.append(self.pool.write(work))
            raise Indeterminate("as told")
        done = await self.pool.write(work, deadline_s=deadline_s)
        if kind == "lost-after":
            raise Indeterminate("as told")
        return done

    async def read(self, work: Callable[[Any], Awaitable[T]], *, deadline_s: float = 0.0) -> T:
        return await self.pool.read(work, deadline_s=deadline_s)

    async def close(self) -> None:
        await self.pool.close()


class PostgresBench:
    """Clients of one namespace."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = VirtualClock()
        self.logs: list[PostgresLog] = []
        self.first: PostgresLog
        self.scripts: dict[str, deque[str]] = {"commit": deque(), "other": deque()}
        self.late: list[Coroutine[Any, Any, object]] = []
        self.tasks: list[asyncio.Task[object]] = []

    async def open(self) -> Log:
        log = await self._open()
        log.acquire_s = 5.0
        log.commits.pool = Scripted(log.pool, self.scripts["commit"], self.late)
        log.pool = Scripted(log.pool, self.scripts["other"], self.late)
        self.logs.append(log)
        return log

    async def _open(self) -> PostgresLog:
        return await connector.open(self.url, "shop", partitions=8, make=True, clock=self.clock)

    async def start(self) -> None:
        self.first = await self._open()

    async def close(self) -> None:
        self.land()
        await asyncio.gather(*self.tasks, return_exceptions=True)
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
        if call.startswith("trim"):
            partition, below = int(call.split()[-1]), int(kinds[0])
            execute(
                self.url,
                f"update contrapas_shop.topic_part set start = {below} where t = 0 and p = {partition}",
                f"delete from contrapas_shop.lane_topic where t = 0 and p = {partition} and o < {below}",
            )
        else:
            self.scripts["commit" if call == "commit" else "other"].extend(kinds)

    def land(self) -> None:
        self.tasks += [asyncio.get_running_loop().create_task(one) for one in self.late]
        self.late.clear()

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
