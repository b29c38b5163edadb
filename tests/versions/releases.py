"""Releases of an app, one after the other, on one SQLite file: texts of modules, each under the lock file so far."""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from contrapas.author.saga import SagaDef
from contrapas.compiler.lock import LockFile
from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.lane import Record
from contrapas.draw.edges import program_of
from contrapas.log.sqlite import SqliteLog
from contrapas.runtime.build import compiled
from contrapas.runtime.client import Told
from contrapas.runtime.definition import Definition, SagaUse
from contrapas.runtime.engine import Engine

PRELUDE = """
from contrapas.author.event import Command, Event
from contrapas.author.saga import Saga, saga
from contrapas.author.service import Service
from contrapas.author.step import step
from contrapas.author.timeout import Timeout
from contrapas.errors import StepFailed

class Go(Event, key="k"):
    k: str
    n: int = 0

class Yes(Event, key="k"):
    k: str
    n: int = 0

class No(Event, key="k"):
    k: str
    n: int = 0

class Ended(Event, topic="ends", key="k"):
    k: str
    text: str

@step
async def num(n: int) -> int:
    return n

"""


class Release:
    """One version of the module."""

    def __init__(self, text: str, lock: LockFile | None = None, *, sources: bool = True) -> None:
        name = f"<release {hash(text)}>"
        self.namespace: dict[str, Any] = {"__name__": name}
        whole = PRELUDE + text
        if sources:
            linecache.cache[name] = (len(whole), None, whole.splitlines(keepends=True), name)
        exec(compile(whole, name, "exec", dont_inherit=True), self.namespace)  # noqa: S102  the test's own text
        found: list[Any] = [v for v in self.namespace.values() if isinstance(v, SagaDef)]
        self.definition = Definition(
            namespace="shop", sagas=tuple(SagaUse(saga=s, mode="orchestrate") for s in found)
        )
        built = compiled(self.definition, lock=lock)
        self.world: Any = built.world
        self.warnings = built.warnings
        machines, kept = self.world.machines.values(), self.world.kept.values()
        self.lock = (lock or LockFile()).updated(
            [(program_of(m), m) for m in machines], [(program_of(m), m) for m in kept]
        )

    def __getattr__(self, name: str) -> Any:
        return self.namespace[name]

    def graph(self, saga: str = "main") -> str:
        """Fingerprint of a saga."""
        return str(self.world.machines[saga].graph)

    @asynccontextmanager
    async def running(self, path: Path, partitions: int = 1) -> AsyncGenerator[Engine]:
        """A worker of this release on the file; a new process would do no other."""
        self.world.older.clear()
        log = SqliteLog(path, "shop", partitions)
        engine = Engine(self.definition, log, self.world)
        try:
            async with engine.working(100):
                yield engine
        finally:
            await engine.client.close()
            await log.close()


async def ended(engine: Engine, instance: str) -> Told:
    """Wait until an instance has ended; one that is parked is about to go on."""
    told = await engine.client.state(instance)
    for _ in range(500):
        if told.ended:
            return told
        await asyncio.sleep(0.01)
        told = await engine.client.state(instance)
    raise AssertionError(f"{instance} is {told.status}")


async def lane(path: Path, number: int = 0) -> list[Record]:
    """Every record of a partition."""
    log = SqliteLog(path, "shop", 1)
    try:
        records, _ = await log.read("log", number, 0, max_records=10_000)
        return list(records)
    finally:
        await log.close()


async def history(path: Path, instance: str) -> list[InstanceRecord]:
    """Every record of an instance, oldest first."""
    return [decode(r.value) for r in await lane(path) if r.key == instance.encode() and r.value is not None]
