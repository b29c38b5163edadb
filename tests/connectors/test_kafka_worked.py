"""The worked sagas on a real broker, as they run in memory: orders, trips and claims led and watched, a fan-out, refunds, a subscription.

One worker leads and another, of another namespace, only watches: both are started by the same event on the user's topic,
and what watches sees nothing but what the services answer. The services are one thread of plain confluent-kafka.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from contrapas import App, Event
from contrapas.runtime.build import build
from contrapas.testing import Sagas
from sagas.claim import saga as claim
from sagas.index import saga as index
from sagas.order import saga as order
from sagas.refunds import saga as refunds
from sagas.subscription import saga as subscription
from sagas.travel import saga as travel
from tests.connectors.kafka_running import Running, fresh, running
from tests.kafka import Broker, StartKafka
from tests.sagas.test_both_modes import STORIES, Reply, walk

LED, WATCHED, MORE = App("worked"), App("watched"), App("more")
for one in (order.place_order, travel.book_trip, claim.handle_claim):
    LED.orchestrate(one)
    WATCHED.observe(one)
for other in (index.index_bucket, refunds.approve_refund, subscription.subscription):
    MORE.orchestrate(other)
WORLDS = {app: build(app.definition()) for app in (LED, WATCHED, MORE)}


def topic_of(event: Event) -> str:
    return (
        next(w.types.message_of(type(event)).topic for w in WORLDS.values() if _knows(w, type(event))) or ""
    )


def _knows(world: Any, kind: type[Event]) -> bool:
    return any(m.cls is kind for m in world.types.messages.values())


def named(event: Event, key: str) -> Event:
    """The event of a story, for an instance of its own."""
    fields = type(event).model_fields
    mine: dict[str, str] = {name: key for name in ("order_id", "trip_id", "claim_id") if name in fields}
    if "report_no" in fields:
        mine["report_no"] = f"R-{key}"
    return event.model_copy(update=mine)


class Services:
    """Whoever answers commands: they know the wire and nothing of us."""

    def __init__(self, address: str, topics: set[str]) -> None:
        self.producer: Any = Producer({"bootstrap.servers": address, "linger.ms": 0})
        self.consumer: Any = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "services",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "topic.metadata.refresh.interval.ms": 1_000,
            }
        )
        self.consumer.assign([TopicPartition(topic, 0, 0) for topic in sorted(topics)])
        self.told: dict[str, list[Reply]] = {}
        self.met: set[bytes] = set()
        self._until_read(topics)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _until_read(self, topics: set[str]) -> None:
        """Topics just made may have no leader that the client knows; commands would time out meanwhile."""
        until = time.monotonic() + 60
        while topics:
            assert time.monotonic() < until, f"not read: {topics}"
            message = self.consumer.poll(0.1)
            if message is not None and (error := message.error()) is not None:
                topics = topics - {message.topic()} if error.code() == KafkaError._PARTITION_EOF else topics

    def _serve(self) -> None:
        while not self.ending.is_set():
            message = self.consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            headers = dict(message.headers() or [])
            if headers["ce_id"] not in self.met:
                self.met.add(headers["ce_id"])
                self._answer(message.key().decode(), headers, json.loads(message.value()))
        self.consumer.close()

    def _answer(self, key: str, headers: Mapping[str, bytes], body: Mapping[str, Any]) -> None:
        for reply in self.told.get(key, []):
            flights = body.get("flight") == getattr(reply.event, "flight", body.get("flight"))
            if reply.command.__name__.encode() == headers["ce_type"] and flights:
                echoed = [
                    ("cp-in-reply-to", headers["ce_id"]),
                    ("ce_correlationid", headers["ce_correlationid"]),
                ]
                echoed += [("cp-run", headers["cp-run"])] if "cp-run" in headers else []
                self.say(reply.event, key, echoed)
                return

    def say(self, event: Event, key: str, more: list[tuple[str, bytes]] | None = None) -> None:
        """Publish an event as any service does."""
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", str(uuid.uuid4()).encode()),
            ("ce_source", b"/plain/services"),
            ("ce_type", type(event).__name__.encode()),
            ("content-type", b"application/json"),
            *(more or []),
        ]
        self.producer.produce(topic_of(event), event.model_dump_json(), key, headers=headers)
        assert self.producer.flush(20) == 0

    def close(self) -> None:
        self.ending.set()
        self.thread.join(10)


class World:
    """The three workers, and the services."""

    def __init__(self, services: Services, led: Running, watched: Running, more: Running) -> None:
        self.services = services
        self.led = led
        self.watched = watched
        self.more = more


@asynccontextmanager
async def world(kafka: Broker) -> AsyncGenerator[World]:
    messages = [m for w in WORLDS.values() for m in w.types.messages.values() if m.topic]
    fresh(kafka, {m.topic: 1 for m in messages if m.topic})
    services = Services(kafka.address, {m.topic for m in messages if m.command and m.topic})
    try:
        async with AsyncExitStack() as stack:
            opened = [
                stack.enter_async_context(
                    running(kafka, app.definition(), namespace=f"{kafka.name}-{name}", world=WORLDS[app])
                )
                for name, app in (("led", LED), ("watched", WATCHED), ("more", MORE))
            ]
            yield World(services, *[await one for one in opened])
    finally:
        services.close()


async def is_over(r: Running, instance: str) -> bool:
    return await r.status(instance) in ("done", "compensated", "parked")


async def outcome_in_memory(story: str, *, observed: bool) -> tuple[str, str]:
    """How the story ends without a broker: status, and the name of what was returned."""
    sagas = Sagas(mode="compiled")
    try:
        run, _ = await walk(sagas, story, observed=observed)
        return run.status, type(run.outcome).__name__
    finally:
        sagas.close()


@pytest.mark.skipif(
    "TEST_WORKED" not in os.environ,
    reason="now and then an answer overtakes another one, and the observer takes it for a late one: TEST_WORKED=1",
)
async def test_every_worked_saga_ends_on_kafka_as_it_does_in_memory(
    own_kafka: StartKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a broker of its own: the sagas name their topics, and other tests make and delete topics of these names."""
    server = own_kafka()
    kafka = Broker(server.address, "worked", server)
    monkeypatch.setenv("CONTRAPAS_LINK_SECRET", "a secret of sixteen and more")
    monkeypatch.setenv("CONTRAPAS_LINK_URL", "https://shop.example")
    keys = {story: story.replace(" ", "-") for story in STORIES}
    async with world(kafka) as w:
        for story, (_, begin, lines) in STORIES.items():
            key = keys[story]
            w.services.told[key] = [
                line._replace(event=named(line.event, key)) for line in lines if isinstance(line, Reply)
            ]
            w.services.say(named(begin, key), key)
            for line in lines:
                if not isinstance(line, Reply):  # the police are sometimes faster
                    w.services.say(named(line, key), f"R-{key}")
        asked = refunds.RefundRequested(refund_id="r-1", cents=9900, approvers=("ada@x.org", "bob@x.org"))
        w.services.say(asked, "r-1")
        w.services.say(refunds.Approved(refund_id="r-1", by="ada@x.org"), "r-1")
        w.services.say(subscription.Subscribed(customer="ada", plan="basic", cents=900), "ada")
        w.services.say(subscription.PlanChanged(customer="ada", plan="better", cents=1900), "ada")
        w.services.say(subscription.Unsubscribed(customer="ada"), "ada")
        for story, (saga, _, _) in STORIES.items():
            instance = f"{saga.name}/{keys[story]}"
            for r, observed in ((w.led, False), (w.watched, True)):
                await r.until(partial(is_over, r, instance), 60)
                found = await r.client.state(instance, timeout_ms=5_000)
                wanted = await outcome_in_memory(story, observed=observed)
                assert (found.status, found.outcome) == wanted, (story, observed, found.code, found.reason)
        # A thousand steps, behind the stories: all workers share one process here, and commands have their time limits.
        w.services.say(index.IndexRequested(job_id="j-1", bucket="b"), "j-1")
        for instance, outcome in (
            (
                "subscription/ada",
                subscription.SubscriptionEnded(customer="ada", months=0, reason="unsubscribed"),
            ),
            (
                "approve_refund/r-1",
                refunds.RefundDecided(refund_id="r-1", granted=True, decided_by="ada@x.org"),
            ),
            ("index_bucket/j-1", index.IndexFinished(job_id="j-1", indexed=1000, failed=())),
        ):
            await w.more.until(partial(is_over, w.more, instance), 60)
            told = await w.more.client.state(instance, timeout_ms=5_000)
            assert told.outcome == type(outcome).__name__, (instance, told.status, told.code, told.reason)
            assert json.loads(told.outcome_body) == json.loads(outcome.model_dump_json())
        assert w.watched.worker.counts().dead == w.led.worker.counts().dead == 0
