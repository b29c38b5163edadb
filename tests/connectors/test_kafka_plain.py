"""Plain peers on a real broker: who reads and answers us without our library, by what the wire format says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from contrapas.core.envelope_avro import decode
from contrapas.core.fold import fold
from contrapas.log import Record, partition
from contrapas.runtime.build import build
from tests.connectors.kafka_running import Running, fresh, heads, opened, plain, put, running
from tests.connectors.kafka_shop import TOPICS, definition
from tests.kafka import Broker

ROOT = Path(__file__).parents[2]
SERVICE = Path(__file__).with_name("plain_service.py")
DEFINITION = definition()
WORLD = build(DEFINITION)
CONSOLE = "org.apache.kafka.tools.consumer.ConsoleConsumer"


@pytest.fixture
def shop(kafka: Broker) -> Broker:
    """The broker, with the users' topics made anew."""
    fresh(kafka, TOPICS)
    return kafka


@contextmanager
def plain_service(broker: Broker) -> Generator[subprocess.Popen[str]]:
    """The service, at work in its own process."""
    words = (broker.address, "plain.commands", "plain.events", f"{broker.name}-bank")
    process = subprocess.Popen([sys.executable, str(SERVICE), *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def order(broker: Broker, key: str, cents: int, parcel: str = "", customer: bytes | None = b"c-1") -> None:
    """As a shop writes it that never heard of us: keyed by customer, in plain JSON, on a partition of its own choice."""
    value = json.dumps({"id": key, "cents": cents, "parcel": parcel, "nr": f"nr-{key}", "more": [1]})
    put(broker, "plain.orders", customer, value.encode(), partitioner="random")


def parcel(broker: Broker, code: str, town: str, at: int) -> None:
    """A CloudEvent keyed by the parcel, put on a partition by hand."""
    event = {
        "id": f"p-{code}", "source": "/post", "type": "Arrived", "specversion": "1.0",
        "data": {"parcel": code, "town": town},
    }  # fmt: skip
    producer: Any = Producer({"bootstrap.servers": broker.address})
    headers = [("content-type", b"application/cloudevents+json; charset=UTF-8"), ("traceparent", None)]
    producer.produce(
        "plain.parcels", json.dumps(event).encode(), code.encode(), partition=at, headers=headers
    )
    assert producer.flush(20) == 0


async def ended(r: Running, *keys: str) -> None:
    async def all_done() -> bool:
        return all([await r.status(f"buy/{key}") in ("done", "compensated", "failed") for key in keys])

    await r.until(all_done, 60)


async def test_a_service_in_plain_python_answers_a_saga_that_foreign_topics_start_and_continue(
    shop: Broker,
) -> None:
    with plain_service(shop) as service:
        async with running(shop, DEFINITION, world=WORLD) as r:
            order(shop, "o-1", 4)
            order(shop, "o-2", 4000, customer=None)
            order(shop, "o-3", 5, "x-77", customer=b"\x00\x00\x00\x00\x07\x02c")
            parcel(shop, "x-77", "Vic", 2)
            await ended(r, "o-1", "o-2", "o-3")
            order(shop, "o-1", 4)  # the shop says it again, elsewhere on its topic
            await r.until(lambda: r.worker.counts().duplicates >= 1)
            assert r.worker.counts().dead == 0
        assert service.poll() is None
    ends = plain(shop, "plain.ends")
    assert {json.loads(m.value())["id"]: json.loads(m.value())["how"] for m in ends} == {
        "o-1": "paid",
        "o-2": "too much",
        "o-3": "Vic",
    }
    commands = plain(shop, "plain.commands")
    assert sorted((heads(m)["ce_type"].decode(), m.key().decode()) for m in commands) == [
        ("Charge", "o-1"), ("Charge", "o-2"), ("Charge", "o-3"),
    ]  # fmt: skip
    for m in commands:
        h = heads(m)
        assert h["ce_specversion"] == b"1.0" and h["content-type"] == b"application/json"
        assert (
            h["ce_id"].startswith(b"buy/" + m.key())
            and h["ce_source"] == f"/contrapas/{shop.name}/buy".encode()
        )
        assert h["cp-reply-to"] == b"plain.events" and h["ce_subject"] == m.key() == h["ce_partitionkey"]
        assert m.partition() == partition(m.key(), 2), "murmur2 of the key, as Java's clients compute it"


async def test_plain_consumers_read_log_commands_and_events_without_our_library(shop: Broker) -> None:
    if shop.server is None:
        pytest.skip("Kafka's own programs come with the broker that the tests start themselves")
    with plain_service(shop):
        async with running(shop, DEFINITION, world=WORLD) as r:
            for n in range(5):
                order(shop, f"o-{n}", n)
            await ended(r, *[f"o-{n}" for n in range(5)])
    log = f"{shop.name}.log"
    found = plain(shop, log)
    kinds = {heads(m).get("cp-kind") for m in found}
    assert {b"instance", b"part", b"claim"} <= kinds
    said = [
        (m.key(), heads(m)["cp-version"], heads(m)["cp-status"])
        for m in found
        if heads(m)["cp-kind"] == b"instance"
    ]
    for n in range(5):
        mine = [(int(v), s) for key, v, s in said if key == b"buy/o-%d" % n]
        assert [v for v, _ in mine] == list(range(1, len(mine) + 1)) and mine[-1][1] == b"done"
    for topic, word in (
        (log, "cp-status:done"),
        ("plain.commands", "ce_type:Charge"),
        ("plain.ends", "ce_type:Ended"),
    ):
        count = len(plain(shop, topic))
        lines = shop.server.tool(
            CONSOLE, "--bootstrap-server", shop.address, "--topic", topic, "--from-beginning", "--max-messages",
            str(count), "--timeout-ms", "60000", "--property", "print.key=true", "--property", "print.headers=true", seconds=120,
        )  # fmt: skip
        assert lines.count(word) >= 5, lines[:2000]


def states_of(messages: list[Any]) -> dict[str, tuple[str, str, int]]:
    """What a reader in any language does: keep the highest `cp-epoch` seen per partition, in every record; ignore a
    record below it. Of the rest the newest of a key is its state."""
    epochs: dict[int, int] = {}
    found: dict[str, tuple[str, str, int]] = {}
    for m in messages:
        h = heads(m)
        epoch = int(h.get("cp-epoch", b"-1")) if h.get("cp-epoch", b"").isdigit() else -1
        if epoch < epochs.get(m.partition(), 0):
            continue
        epochs[m.partition()] = epoch
        key = (m.key() or b"").decode(errors="replace")
        if h.get("cp-kind") == b"instance":
            if m.value() is None:
                found.pop(key, None)
            else:
                found[key] = (h["cp-status"].decode(), h["cp-state"].decode(), int(h["cp-version"]))
    return found


async def ours(broker: Broker) -> dict[str, tuple[str, str, int]]:
    """The same, by our own fold."""
    log = await opened(broker, broker.name)
    found: dict[str, tuple[str, str, int]] = {}
    try:
        for number in range(log.partitions):
            _, end = await log.bounds("log", number)
            records: list[Record] = []
            at = 0
            while at < end:
                some, at = await log.read("log", number, at)
                records += some
            for record in fold(records, floor=end)[1].values():
                if dict(record.headers).get("cp-kind") == b"instance" and record.value is not None:
                    body = decode(record.value)
                    found[body.instance] = (
                        body.status,
                        dict(record.headers)["cp-state"].decode(),
                        body.version,
                    )
    finally:
        await log.close()
    return found


async def test_a_plain_consumer_with_the_epoch_rule_sees_the_same_states_though_losers_lie_on_the_lane(
    shop: Broker,
) -> None:
    with plain_service(shop):
        async with running(shop, DEFINITION, world=WORLD, owner="first") as r:
            for n in range(6):
                order(shop, f"o-{n}", n, "x-1" if n % 2 else "")
            await ended(r, "o-0", "o-2", "o-4")
        old = [m for m in plain(shop, f"{shop.name}.log") if heads(m).get("cp-kind") == b"instance"]
        async with running(shop, DEFINITION, world=WORLD, owner="second") as r:
            producer: Any = Producer({"bootstrap.servers": shop.address})
            for m in old:  # a former owner's batch, late
                producer.produce(m.topic(), m.value(), m.key(), partition=m.partition(), headers=m.headers())
            producer.produce(
                f"{shop.name}.log", b"junk", b"buy/o-1", partition=0, headers=[("cp-epoch", b"0")]
            )
            assert producer.flush(20) == 0
            for n in range(6, 9):
                order(shop, f"o-{n}", n)
            await ended(r, "o-6", "o-7", "o-8")
            await r.until(lambda: r.worker.counts().losers >= len(old))
            await r.until(lambda: r.worker.counts().healed >= 1)
    lane = plain(shop, f"{shop.name}.log")
    seen, mine = states_of(lane), await ours(shop)
    assert seen == mine and len(seen) == 9
    naive = {
        m.key().decode(): int(heads(m)["cp-version"]) for m in lane if heads(m).get("cp-kind") == b"instance"
    }
    healed = sum(heads(m).get("cp-cause") == b"heal" for m in lane)
    assert healed >= 6 and naive == {key: version for key, (_, _, version) in seen.items()}
