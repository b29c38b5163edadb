"""A log lane that takes less than its settings said at the start: what is too large parks, with the code, and the others go on."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from contrapas import App, Command, Event, Saga, saga
from contrapas.errors import DataError
from contrapas.runtime.build import build
from contrapas_kafka.log import KafkaLog
from tests.connectors.kafka_running import Running, fresh, opened, running
from tests.connectors.test_kafka_doctor import rows
from tests.connectors.test_kafka_topics import dev, made, set_wrong
from tests.kafka import Broker


class Told(Event, topic="sizes.told", key="id"):
    id: str
    text: str


class Heard(Event, topic="sizes.heard", key="id"):
    id: str


class Hear(Command[Heard], topic="sizes.hear", key="id"):
    id: str


@saga
async def keep(s: Saga, told: Told) -> str:
    twice = told.text[::-1] + told.text
    await s.step(Hear(id=told.id), within="1h")
    return twice[:10]


app = App("sizes")
app.orchestrate(keep)
DEFINITION = app.definition()
WORLD = build(DEFINITION)
LIMIT = 60_000


@asynccontextmanager
async def worker(kafka: Broker) -> AsyncGenerator[Running]:
    fresh(kafka, {name: 1 for name in ("sizes.told", "sizes.heard", "sizes.hear")})
    async with running(kafka, DEFINITION, world=WORLD, partitions=1) as r:
        yield r


def told(key: str, size: int) -> Told:
    """As large as said, and nothing that a compression could make smaller."""
    return Told(id=key, text=secrets.token_urlsafe(size)[:size])


async def test_a_record_that_the_log_lane_takes_no_more_parks_its_instance_and_the_others_go_on(
    kafka: Broker,
) -> None:
    async with worker(kafka) as r:
        await r.client.start("keep", told("before", 10_000), timeout_ms=20_000)
        set_wrong(kafka, f"{kafka.name}.log", {"max.message.bytes": str(LIMIT)})
        await r.client.start_many("keep", [told(f"small-{n}", 10_000) for n in range(20)])
        await r.client.start_many("keep", [told("large", 20_000)])  # its record holds it four times
        await r.client.start_many("keep", [told("after", 10)])

        async def through() -> bool:
            return [await r.status(f"keep/{k}") for k in ("large", "after")] == ["parked", "waiting"]

        await r.until(through, 60)
        parked = await r.client.state("keep/large", timeout_ms=5_000)
        assert parked.code == "CP846" and "are allowed" in parked.reason
        for n in range(20):
            assert await r.status(f"keep/small-{n}") == "waiting"
        assert await r.status("keep/before") == "waiting"
        assert r.worker.health().colour == "green"
        assert await r.status("keep/large") == "parked"
        (one,) = await rows(kafka, "CP508")
        assert f"{kafka.name}.log: max.message.bytes={LIMIT}, required >= 1048588" in one.text
        assert f"contrapas topic create --log '{dev(kafka)}' --namespace {kafka.name} --apply" in one.fix
        await made(kafka, 1)  # the command
        assert await rows(kafka, "CP508") == []
    async with running(kafka, DEFINITION, world=WORLD, partitions=1) as r:
        await r.client.operate("keep/large", "retry")
        await r.until(lambda: _is(r, "keep/large", "waiting"), 60)


async def _is(r: Running, instance: str, status: str) -> bool:
    return await r.status(instance) == status


async def test_a_lane_that_takes_no_control_record_stops_its_partition_with_the_code(kafka: Broker) -> None:
    log: KafkaLog = await opened(kafka, kafka.name, 1)
    try:
        set_wrong(kafka, f"{kafka.name}.log", {"max.message.bytes": "90"})
        with pytest.raises(DataError) as why:
            await log.acquire(0, "me")
        assert why.value.code == "CP409" and why.value.place == f"{kafka.name}.log"
    finally:
        await log.close()
