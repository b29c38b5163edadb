"""A user's topic that gains partitions under a running worker: what lies in the new ones is read from the first message on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from contrapas.runtime import ingress
from contrapas.runtime.build import build
from tests.connectors.kafka_running import fresh, running
from tests.connectors.kafka_shop import TOPICS, definition
from tests.kafka import Broker


async def test_a_saga_is_started_by_a_message_in_a_partition_that_was_added_while_the_worker_ran(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress, "GROWN_MS", 1_000)
    fresh(kafka, TOPICS)
    shop = definition()
    count = TOPICS["plain.orders"]
    async with running(kafka, shop, world=build(shop)) as r:
        admin: Any = AdminClient({"bootstrap.servers": kafka.address})
        admin.create_partitions([NewPartitions("plain.orders", count + 1)])["plain.orders"].result(10)
        producer: Any = Producer({"bootstrap.servers": kafka.address})
        for n in range(3):
            body = {"id": f"grown-{n}", "cents": 1, "parcel": "", "nr": f"nr-{n}"}
            producer.produce("plain.orders", json.dumps(body).encode(), b"c", count)
        assert producer.flush(20) == 0

        async def waiting() -> bool:
            return [await r.status(f"buy/grown-{n}") for n in range(3)] == ["waiting"] * 3

        await r.until(waiting, 60)
