"""A topic that is deleted under a running worker: who sends there stands still, visibly, within a bound, and nobody else waits."""

from __future__ import annotations

import json

import pytest

from contrapas.runtime.build import build
from tests.connectors.kafka_running import Running, fresh, gone, heads, plain, put, running
from tests.connectors.kafka_shop import TOPICS, definition
from tests.connectors.test_kafka_topics import delete
from tests.kafka import Broker

DEFINITION = definition()
WORLD = build(DEFINITION)


@pytest.fixture
def shop(kafka: Broker) -> Broker:
    """The broker, with the users' topics made anew."""
    fresh(kafka, TOPICS)
    return kafka


def order(broker: Broker, key: str) -> None:
    body = json.dumps({"id": key, "cents": 1, "parcel": "", "nr": f"nr-{key}"}).encode()
    put(broker, "plain.orders", b"c", body)


async def status(r: Running, key: str, wanted: str) -> None:
    async def so() -> bool:
        return await r.status(f"buy/{key}") == wanted

    await r.until(so, 120)


@pytest.mark.parametrize("client_waits_ms", [600_000, 1_000], ids=["client silent", "client refuses"])
async def test_who_sends_to_a_topic_that_was_deleted_under_the_worker_is_parked_and_sends_when_it_is_back(
    shop: Broker, client_waits_ms: int
) -> None:
    async with running(shop, DEFINITION, world=WORLD) as r:
        await r.log.out.close()  # the next one has this setting
        r.log.out.settings["topic.metadata.propagation.max.ms"] = client_waits_ms
        r.log.commit_s = 3.0
        order(shop, "o-before")
        await status(r, "o-before", "waiting")
        await r.until(lambda: len(plain(shop, "plain.commands")) == 1, 60)
        delete(shop, "plain.commands")
        gone(shop, ["plain.commands"])
        order(shop, "o-after")
        await status(r, "o-after", "parked")
        told = await r.client.state("buy/o-after")
        assert told.code == "CP505", told
        assert r.worker.health().colour == "green", "nobody else waits"
        fresh(shop, {"plain.commands": 2})
        await r.client.operate("buy/o-after", "retry")
        await r.until(lambda: b"o-after" in {m.key() for m in plain(shop, "plain.commands")}, 120)
        await status(r, "o-after", "waiting")  # what the client still believes parks nobody
    letters = [m for m in plain(shop, "plain.commands") if m.key() == b"o-after"]
    assert len({heads(m)["ce_id"] for m in letters}) == 1, "once or again, under one id"


async def test_a_topic_that_was_made_anew_under_the_worker_is_sent_to_and_nobody_parks(shop: Broker) -> None:
    async with running(shop, DEFINITION, world=WORLD) as r:
        order(shop, "o-before")
        await status(r, "o-before", "waiting")
        await r.until(lambda: len(plain(shop, "plain.commands")) == 1, 60)
        fresh(shop, {"plain.commands": 4})
        order(shop, "o-after")
        await r.until(lambda: b"o-after" in {m.key() for m in plain(shop, "plain.commands")}, 120)
        await status(r, "o-after", "waiting")
