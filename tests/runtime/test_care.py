"""Care of stores: who works with one prunes it about once an hour, unless told otherwise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contrapas.errors import DataError, Retriable
from contrapas.participant.memory import MemoryStore
from contrapas.participant.sqlite import SqliteStore
from contrapas.runtime.build import build
from contrapas.runtime.care import care
from contrapas.runtime.clock import JumpClock
from tests.runtime import ledger
from tests.runtime.ledger import STORE
from tests.runtime.rig import Rig, rig_of
from tests.runtime.stores import started

HOUR = 3_600_000


class Counted(MemoryStore):
    """A store that counts how often it is pruned."""

    pruned = 0
    fails: Sequence[Exception] = ()

    async def prune(self, *, budget_ms: int) -> tuple[int, int]:
        self.pruned += 1
        if self.fails:
            first, *self.fails = self.fails
            raise first
        return await super().prune(budget_ms=budget_ms)


async def passes(clock: JumpClock, ms: int) -> None:
    """So much time."""
    for _ in range(20):
        clock.advance(ms / 20)
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def cared(store: MemoryStore) -> AsyncGenerator[tuple[JumpClock, asyncio.Task[None]]]:
    clock = JumpClock()
    task = asyncio.create_task(care(store, clock, lambda: 0.5))
    try:
        await asyncio.sleep(0)
        yield clock, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_store_is_pruned_once_an_hour_at_first_after_a_part_of_one() -> None:
    store = Counted()
    async with cared(store) as (clock, _):
        await passes(clock, HOUR // 2 - 60_000)
        assert store.pruned == 0
        await passes(clock, 120_000)
        assert store.pruned == 1
        for hours in range(2, 6):
            await passes(clock, HOUR)
            assert store.pruned == hours


async def test_a_store_that_is_told_off_is_left_alone(tmp_path: Path) -> None:
    store = Counted()
    store.prune_ms = 0
    async with cared(store) as (clock, task):
        await passes(clock, 100 * HOUR)
        assert task.done() and store.pruned == 0
    assert SqliteStore(tmp_path / "a.db", prune="off").prune_ms == 0
    assert SqliteStore(tmp_path / "a.db", prune="10m").prune_ms == 600_000
    with pytest.raises(DataError, match="prune="):
        SqliteStore(tmp_path / "a.db", prune="never")


async def test_a_database_that_is_away_is_pruned_the_next_time(caplog: pytest.LogCaptureFixture) -> None:
    store = Counted()
    store.fails = [Retriable("gone"), Retriable("gone"), OSError("no disk")]
    with caplog.at_level(logging.WARNING, "contrapas.runtime"):
        async with cared(store) as (clock, task):
            await passes(clock, 5 * HOUR)
            assert store.pruned == 5 and not task.done()
    told = [r.getMessage() for r in caplog.records if "is not pruned" in r.getMessage()]
    assert len(told) == 2, "the same words twice"


async def running(store: MemoryStore, rig: Rig) -> list[str]:
    STORE.inner = store
    worker = await started(rig)
    return [relay.name for relay in worker.relays]


@pytest.mark.parametrize("sender", ["relay", "debezium"])
async def test_a_worker_prunes_its_stores_and_relays_those_that_nobody_else_sends(sender: str) -> None:
    store = Counted("shop")
    store.sender = "debezium" if sender == "debezium" else "relay"
    STORE.inner = store
    definition = ledger.app().definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        assert await running(store, rig) == (["shop"] if sender == "relay" else [])
        for _ in range(100):
            await rig.turn(2 * HOUR / 100, 1)
            await rig.turn(0, 3)
        assert store.pruned in (1, 2)
    STORE.inner = None
