"""An app on a real broker for tests: topics made anew, workers in this process, plain clients beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from contrapas.core.world import World
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from contrapas.runtime.definition import Definition
from contrapas.runtime.worker import Worker
from contrapas_kafka import connector
from contrapas_kafka.log import KafkaLog
from tests.connectors.test_kafka_topics import client as admin_of
from tests.connectors.test_kafka_topics import delete, make
from tests.kafka import Broker


def fresh(broker: Broker, topics: Mapping[str, int], **settings: str) -> None:
    """Make topics anew: what an earlier test put there is gone."""
    there = [t for t in admin_of(broker).list_topics(timeout=10).topics if t in topics]
    if there:
        delete(broker, *there)
        gone(broker, there)
    for name, count in topics.items():
        for _ in range(50):
            try:
                make(broker, name, count, settings)
                break
            except KafkaException:  # it is still on its way out
                time.sleep(0.1)


def gone(broker: Broker, topics: Iterable[str]) -> None:
    """Until the broker has forgotten them."""
    for _ in range(100):
        if not {*topics} & {*admin_of(broker).list_topics(timeout=10).topics}:
            return
        time.sleep(0.05)
    raise AssertionError("the topics do not go")


async def opened(broker: Broker, namespace: str, partitions: int = 2, *, make: bool = True) -> KafkaLog:
    """The log of a namespace, made if need be."""
    return await connector.open(broker.url, namespace, partitions=partitions, make=make, dev=True)


class Running:
    """A worker at work."""

    def __init__(self, log: KafkaLog, worker: Worker, client: Client, task: asyncio.Task[None]) -> None:
        self.log = log
        self.worker = worker
        self.client = client
        self.task = task

    async def until(self, true: Callable[[], Any], seconds: float = 30) -> None:
        """Wait until something is so; what ended the worker is raised."""
        until = time.monotonic() + seconds
        while True:
            found = true()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            if self.task.done():
                self.task.result()
            if time.monotonic() > until:
                w: Any = self.worker
                letters = await self.letters()
                raise AssertionError(
                    f"it does not come about: {w.health()} {w.counts()} {w._assigned} {w.troubles} {letters}"
                )
            await asyncio.sleep(0.05)

    async def letters(self) -> list[tuple[bytes, bytes]]:
        """Why what became a dead letter: where it was, and the words."""
        topic = f"{self.log.namespace}.dlq"
        found: list[tuple[bytes, bytes]] = []
        if (made := await self.log.topic(topic)) is not None:
            for number in range(made.partitions):
                for record in (await self.log.read(topic, number, 0))[0]:
                    said = dict(record.headers)
                    found.append((said.get("cp-dlq-topic", b""), said.get("cp-dlq-error", b"")))
        return found

    async def status(self, instance: str) -> str:
        """Of an instance."""
        try:
            return (await self.client.state(instance, timeout_ms=5_000)).status
        except Exception:  # noqa: BLE001  it is not there yet
            return ""


@asynccontextmanager
async def running(
    broker: Broker,
    definition: Definition,
    *,
    namespace: str = "",
    world: World | None = None,
    partitions: int = 2,
    owner: str = "",
) -> AsyncGenerator[Running]:
    """A worker of an app on the broker, with its partitions taken over."""
    definition = replace(definition, namespace=namespace or broker.name)
    log = await opened(broker, definition.namespace, partitions)
    if await log.topic(f"{definition.namespace}.dlq") is None:
        make(broker, f"{definition.namespace}.dlq", 1, {})
    world = build(definition) if world is None else replace(world, namespace=definition.namespace)
    worker = Worker(log, definition, world, owner=owner)
    client = Client(log, worker.setting, worker=worker)
    task = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(60):
            ready = asyncio.create_task(worker.ready.wait())
            await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        yield Running(log, worker, client, task)
    finally:
        await client.close()
        await worker.stop(2_000)
        await asyncio.wait([task], timeout=20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.close()


def put(
    broker: Broker,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]] = (),
    **settings: Any,
) -> None:
    """Produce one record with the plain client and its own partitioner."""
    producer: Any = Producer({"bootstrap.servers": broker.address, "linger.ms": 0, **settings})
    producer.produce(topic, value, key, headers=[*headers])
    assert producer.flush(20) == 0


def plain(broker: Broker, topic: str, *, committed: bool = False, seconds: float = 20) -> list[Any]:
    """Every message of a topic with the plain client, by partition and offset."""
    consumer: Any = Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": "nobody",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
        }
    )
    try:
        count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, p, 0) for p in range(count)])
        ended: set[int] = set()
        found: list[Any] = []
        until = time.monotonic() + seconds
        while len(ended) < count:
            assert time.monotonic() < until, "the end does not come"
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error() is not None:
                ended.add(message.partition())
            else:
                found.append(message)
        return sorted(found, key=lambda m: (m.partition(), m.offset()))
    finally:
        consumer.close()


def heads(message: Any) -> dict[str, bytes]:
    """Headers by name."""
    return dict(message.headers() or [])
