"""Sagas on a real Kafka: from the first event to the outcome, through restarts and kills of workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from contrapas import failpoints
from contrapas.core.envelope_avro import decode
from contrapas.core.fold import fold
from contrapas.log import Record
from contrapas.runtime.client import Client
from contrapas.runtime.definition import Definition
from contrapas.runtime.worker import setting_of
from contrapas_kafka import connector
from contrapas_kafka.log import KafkaLog
from sagas.order.saga import OrderPlaced
from tests.kafka import Broker, clear
from tests.runtime.restarted import goes_on
from tests.runtime.shop import SEEN, build, orchestrated

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, sys
from tests.connectors.test_kafka_end_to_end import shop
from contrapas.runtime.worker import Worker
from contrapas_kafka import connector
from tests.runtime.shop import build

async def main():
    definition = shop(sys.argv[2])
    log = await connector.open(sys.argv[1], sys.argv[2], dev=True)
    worker = Worker(log, definition, build(definition))
    running = asyncio.create_task(worker.run())
    asyncio.get_running_loop().add_signal_handler(15, lambda: asyncio.ensure_future(worker.stop(1000)))
    await worker.ready.wait()
    print("ready", flush=True)
    await running

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _calm(kafka: Broker) -> Iterator[None]:
    SEEN.clear()
    yield
    failpoints.disarm()
    for topic in ("payments", "stock", "shipping", "orders"):
        clear(kafka.address, f"{topic}.")


def shop(namespace: str) -> Definition:
    """The shop, in a namespace of the test's own."""
    return replace(orchestrated(), namespace=namespace)


def _order(key: str) -> OrderPlaced:
    return OrderPlaced(order_id=key, sku="mug", cents=4200)


@asynccontextmanager
async def opened(kafka: Broker, partitions: int = 4) -> AsyncGenerator[KafkaLog]:
    """The shop's log with the topics of its services."""
    definition = shop(kafka.name)
    named = {m.topic for m in build(definition).types.messages.values() if m.topic}
    wanted = {name: 2 for name in (*sorted(named), f"{kafka.name}.dlq")}
    plan = await connector.plan(kafka.url, kafka.name, partitions, wanted, dev=True)
    await connector.apply(plan)
    log = await connector.open(kafka.url, kafka.name, dev=True)
    try:
        yield log
    finally:
        await log.close()


@contextmanager
def process(kafka: Broker) -> Generator[subprocess.Popen[str]]:
    """A worker that is a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, kafka.url, kafka.name],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


async def orders(log: KafkaLog, numbers: range) -> Client:
    definition = shop(log.namespace)
    client = Client(log, setting_of(log, definition, build(definition), writer="test"))
    await client.start_many("place_order", [_order(f"o-{n}") for n in numbers])
    return client


async def whole(log: KafkaLog, count: int) -> None:
    """Every order is confirmed, by `latest` and by the fold of every record there is."""
    for number in range(log.partitions):
        records = [r async for batch in log.latest(number) for r in batch]
        end = (await log.bounds("log", number))[1]
        _, states = fold(records, floor=end)
        at = 0
        lane: list[Record] = []
        while at < end:
            some, at = await log.read("log", number, at)
            lane += some
        judge, everything = fold(lane)
        assert everything == states and not judge.owed and not judge.stale
        for key, record in states.items():
            if key.startswith(b"place_order/"):
                assert decode(record.value or b"").outcome == "OrderConfirmed"
                count -= 1
    assert not count


async def test_the_shop_runs_and_goes_on_after_a_restart(kafka: Broker) -> None:
    await goes_on(lambda: opened(kafka), shop(kafka.name), slow=4)


async def test_a_worker_of_its_own_does_what_a_client_elsewhere_asks_for(kafka: Broker) -> None:
    async with opened(kafka) as log:
        with process(kafka):
            client = await orders(log, range(20))
            for n in range(20):
                assert (await client.wait(f"place_order/o-{n}", timeout_ms=60_000)).status == "done"
            await client.close()
        await whole(log, 20)
