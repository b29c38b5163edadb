"""Standbys on a real broker: whoever of them the group chooses after a kill, it has what it takes over on its own disk."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contrapas.cli.kept import upto_of
from contrapas.log import Known
from contrapas.runtime.client import Client
from contrapas.runtime.worker import Worker
from contrapas_kafka import connector
from contrapas_kafka.lease import KafkaLease
from tests.connectors.test_kafka_end_to_end import ROOT, SCRIPT, shop
from tests.connectors.test_kafka_end_to_end import opened as made
from tests.kafka import Broker, clear
from tests.runtime.restarted import order
from tests.runtime.shop import build

PARTITIONS = 6


@pytest.fixture(autouse=True)
def _clean(kafka: Broker) -> Iterator[None]:
    yield
    for topic in ("payments", "stock", "shipping", "orders"):
        clear(kafka.address, f"{topic}.")


@dataclass
class Standby:
    """A worker with a folder of its own, and what it knew of each partition when it took it over."""

    worker: Worker
    folder: Path
    client: Client
    knew: dict[int, int] = field(default_factory=dict[int, int])

    def follows(self) -> bool:
        """It has a copy of everything that it does not own."""
        task = self.worker.keepers.tasks
        theirs = set(range(PARTITIONS)) - self.worker.stations.keys()
        return bool(theirs) and all(p in task and upto_of(self._copy(p)) for p in theirs)

    def _copy(self, partition: int) -> Path:
        return self.folder / f"{self.worker.setting.namespace}-{partition}.checkpoint"


@asynccontextmanager
async def standby(kafka: Broker, url: str, folder: Path) -> AsyncGenerator[Standby]:
    definition = shop(kafka.name)
    log = await connector.open(url, kafka.name, dev=True)
    worker = Worker(log, definition, build(definition), checkpoints=folder, standby=True)
    found = Standby(worker, folder, Client(log, worker.setting, worker=worker))
    acquire = log.acquire

    async def acquired(partition: int, owner: str, *, known: Known | None = None) -> KafkaLease:
        lease = await acquire(partition, owner, known=known)
        found.knew[partition] = 0 if known is None else known.upto
        return lease

    told: Any = log
    told.acquire = acquired
    task = asyncio.create_task(worker.run())
    try:
        yield found
    finally:
        await found.client.close()
        await worker.stop(1_000)
        await asyncio.wait([task], timeout=20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.close()


def started(url: str, namespace: str) -> subprocess.Popen[str]:
    """A worker that is a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", SCRIPT, url, namespace]
    return subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


async def until(true: Any, seconds: float, what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"it does not come about: {what}") from None


async def test_a_killed_owners_partitions_land_on_workers_that_have_a_copy_of_each(
    kafka: Broker, tmp_path: Path
) -> None:
    url = f"{kafka.url}?session.timeout.ms=4000&heartbeat.interval.ms=500"
    async with made(kafka, PARTITIONS):
        pass
    owner = started(url, kafka.name)
    try:
        assert owner.stdout is not None and await asyncio.to_thread(owner.stdout.readline) == "ready\n"
        async with AsyncExitStack() as stack:
            both = [
                await stack.enter_async_context(standby(kafka, url, tmp_path / name)) for name in ("a", "b")
            ]
            await until(lambda: all(len(s.worker.stations) == 2 for s in both), 60, "everybody has a share")
            keys = [f"o-{n}" for n in range(10)]
            await both[0].client.start_many("place_order", [order(key) for key in keys])
            for key in keys:
                found = await both[0].client.wait(f"place_order/{key}", timeout_ms=60_000)
                assert found.outcome == "OrderConfirmed"
            await until(lambda: all(s.follows() for s in both), 60, "everything is followed")
            before = {id(s): set(s.worker.stations) for s in both}
            owner.kill()
            await until(lambda: sum(len(s.worker.stations) for s in both) == PARTITIONS, 60, "the takeover")
            taken = {p: s.knew[p] for s in both for p in s.worker.stations.keys() - before[id(s)]}
            assert len(taken) >= 2 and all(taken.values()), taken
            for key in keys:
                assert (await both[1].client.state(f"place_order/{key}", timeout_ms=20_000)).status == "done"
    finally:
        owner.kill()
        owner.wait()
