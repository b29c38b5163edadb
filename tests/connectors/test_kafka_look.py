"""What commands that look find on a log in Kafka, where owners wrote what a look must not take for the newest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from confluent_kafka import Producer

from contrapas.core.control import record_headers
from contrapas.log import Control
from contrapas.log.control import encode_control, new_control
from contrapas_kafka import connector
from contrapas_kafka.look import KafkaLook
from tests.connectors.test_kafka_topics import made
from tests.kafka import Broker

SOURCE = ("in", 0)


@asynccontextmanager
async def looking(broker: Broker) -> AsyncGenerator[KafkaLook]:
    look = await connector.look(broker.url, broker.name)
    try:
        yield look
    finally:
        await look.close()


def control(epoch: int, at: int, owner: str) -> Control:
    return new_control(3)._replace(epoch=epoch, cursor={SOURCE: at}, owner=owner)


def write(broker: Broker, key: bytes, said: Control) -> None:
    """A control record, or a claim, as an owner writes it."""
    kind = "part" if key == b"$part" else "claim"
    value = encode_control(said)
    producer = Producer({"bootstrap.servers": broker.address})
    headers: list[tuple[str, str | bytes | None]] = [*record_headers(kind, said.epoch, value)]
    producer.produce(f"{broker.name}.log", value, key, partition=0, headers=headers)
    assert producer.flush(10) == 0


async def test_a_claim_that_carries_an_older_position_moves_none_back(kafka: Broker) -> None:
    await made(kafka)
    write(kafka, b"$part", control(5, 7, "former"))
    write(kafka, b"$claim/heir", control(8, 3, "heir"))  # it was read before the former owner's last commit
    async with looking(kafka) as look:
        part = (await look.parts())[0]
        assert (part.epoch, part.owner) == (8, "heir")
        assert dict(part.control.cursor) == {SOURCE: 7}


async def test_a_former_owners_late_control_record_is_nobodys(kafka: Broker) -> None:
    await made(kafka)
    write(kafka, b"$claim/heir", control(8, 3, "heir"))
    write(kafka, b"$part", control(5, 9, "former"))
    async with looking(kafka) as look:
        part = (await look.parts())[0]
        assert (part.epoch, part.owner, dict(part.control.cursor)) == (8, "heir", {SOURCE: 3})
        await asyncio.wait_for(look.catch_up([0]), 20)
        assert await look.newest(0, b"$part") is None
