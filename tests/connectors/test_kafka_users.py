"""Users' topics on a real broker: transactions of others (R-16), dead letters bit for bit, destinations that refuse, a topic
made anew, positions by time."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from confluent_kafka import Producer

from contrapas.core.deadletter import restore
from contrapas.core.lane import NULL
from contrapas.errors import LogError
from contrapas.log import partition
from contrapas.runtime.build import build
from contrapas.runtime.definition import TopicMapping
from tests.connectors.kafka_running import Running, fresh, gone, heads, plain, put, running
from tests.connectors.kafka_shop import TOPICS, definition
from tests.connectors.test_kafka_topics import delete, make
from tests.kafka import Broker

DEFINITION = definition()
WORLD = build(DEFINITION)


@pytest.fixture
def shop(kafka: Broker) -> Broker:
    """The broker, with the users' topics made anew."""
    fresh(kafka, TOPICS)
    return kafka


def body(key: str, cents: int = 1) -> bytes:
    return json.dumps({"id": key, "cents": cents, "parcel": "", "nr": f"nr-{key}"}).encode()


def begun(broker: Broker, topic: str, key: str, at: int, value: bytes) -> Any:
    """A stranger's transaction, open, with a record on a partition."""
    stranger: Any = Producer(
        {
            "bootstrap.servers": broker.address,
            "transactional.id": f"{broker.name}-{topic}-{at}",
            "transaction.timeout.ms": 120_000,
        }
    )
    stranger.init_transactions(20)
    stranger.begin_transaction()
    stranger.produce(topic, value, key.encode(), partition=at)
    assert stranger.flush(20) == 0
    return stranger


async def there(r: Running, *keys: str) -> None:
    async def all_there() -> bool:
        return all([await r.status(f"buy/{key}") == "waiting" for key in keys])

    await r.until(all_there, 60)


async def test_r16_a_strangers_open_transaction_is_named_with_its_producer_and_age_and_others_go_on(
    shop: Broker,
) -> None:
    async with running(shop, DEFINITION, world=WORLD) as r:
        producer: Any = Producer({"bootstrap.servers": shop.address})
        stranger = begun(shop, "plain.orders", "c", 0, body("o-hidden"))
        producer.produce("plain.orders", body("o-behind"), b"c", partition=0)
        producer.produce("plain.orders", body("o-beside"), b"c", partition=1)
        assert producer.flush(20) == 0
        began = time.monotonic()
        await there(r, "o-beside")
        await r.until(lambda: any("CP511" in why for why in r.worker.health().reasons), 60)
        assert time.monotonic() - began < 60
        said = next(why for why in r.worker.health().reasons if "CP511" in why)
        assert r.worker.health().colour == "amber" and "plain.orders/0@0" in said
        assert (
            " a transaction of producer " in said
            and " s old" in said
            and "abort --topic plain.orders" in said
        )
        assert await r.status("buy/o-behind") == ""
        stranger.abort_transaction(20)
        await there(r, "o-behind")
        assert await r.status("buy/o-hidden") == "", "what was aborted is not seen"
        await r.until(lambda: r.worker.health().colour == "green", 60)


async def test_r16_on_the_inbound_lane_and_junk_on_the_log_lane(shop: Broker) -> None:
    async with running(shop, DEFINITION, world=WORLD) as r:
        r.log.stuck.look_s = 0.5
        keys: list[str] = []
        for n in range(100):
            if partition(f"o-{n}".encode(), 2) == len(keys):
                keys.append(f"o-{n}")
        stuck, free = keys[:2]
        stranger = begun(shop, f"{shop.name}.in", stuck, 0, b"junk")
        on_log = begun(shop, f"{shop.name}.log", "buy/x", 1, b"junk")
        put(shop, "plain.orders", b"c", body(stuck))
        put(shop, "plain.orders", b"c", body(free))
        await there(r, free)
        await r.until(lambda: any(f"CP511 {shop.name}.in/0@" in why for why in r.worker.health().reasons), 60)
        on_log.abort_transaction(20)
        stranger.commit_transaction(20)
        await there(r, stuck)
        put(shop, "plain.orders", b"c", body("o-after"))
        await there(r, "o-after")
        letters = plain(shop, f"{shop.name}.dlq")
        assert [(m.key(), m.value()) for m in letters] == [(stuck.encode(), b"junk")]


async def test_an_aborted_order_is_never_seen_and_a_committed_one_is_once(shop: Broker) -> None:
    async with running(shop, DEFINITION, world=WORLD) as r:
        one = begun(shop, "plain.orders", "c", 0, body("o-no"))
        one.abort_transaction(20)
        one.begin_transaction()
        one.produce("plain.orders", body("o-yes"), b"c", partition=0)
        one.commit_transaction(20)
        await there(r, "o-yes")
        assert await r.status("buy/o-no") == "" and r.worker.counts().applied == 1


async def test_dead_letters_of_a_users_topic_are_bit_for_bit_nulls_included(shop: Broker) -> None:
    topics = (TopicMapping(topic="plain.orders", type="=Placed"),)
    headers = [
        ("a", b"1"),
        ("a", None),
        ("b", b""),
        ("c", bytes(range(256)).replace(b"\n", b"").replace(b"\r", b"")),
    ]
    sent: list[tuple[bytes | None, bytes | None]] = [
        (None, body("o-1")),
        (b"", body("o-2")),
        (b"\xff\x00", body("o-3")),
        (b"o-4", b"\x00\xff{"),
        (b"o-5", b"not json"),
        (b"o-6", os.urandom(950_000)),
        (b"o-7", None),
    ]
    made = definition(*topics)
    async with running(shop, made, world=WORLD) as r:
        for key, value in sent:
            put(shop, "plain.orders", key, value, headers)
        await r.until(lambda: r.worker.counts().dead == 6 and r.worker.counts().skipped == 1, 60)
        await r.until(lambda: all(not s.outgoing for s in r.worker.stations.values()))
    letters = plain(shop, f"{shop.name}.dlq")
    assert len(letters) == 6
    left = {(m.key(), m.value()): m for m in letters}
    originals = {(m.key(), m.value()): m for m in plain(shop, "plain.orders") if m.value() is not None}
    assert set(left) == set(originals)
    for place, m in left.items():
        h = m.headers()
        assert h[:4] == headers, "order, repeats, null and empty as they came"
        context = {name: value.decode() for name, value in h[4:]}
        original = originals[place]
        assert context["cp-dlq-topic"] == "plain.orders" and context["cp-dlq-partition"] == str(
            original.partition()
        )
        assert context["cp-dlq-offset"] == str(original.offset()) and context["cp-dlq-reason"].startswith(
            "CP4"
        )


async def test_a_destination_that_is_not_there_or_refuses_parks_its_sender_and_nobody_waits(
    shop: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unseen(*_: object) -> None:
        """The topic went right after the worker had looked for it."""

    made = definition()
    delete(shop, "plain.commands")
    gone(shop, ["plain.commands"])
    monkeypatch.setattr("contrapas.runtime.worker.create_topics", unseen)
    async with running(shop, made, world=WORLD) as r:
        put(shop, "plain.orders", b"c", body("o-1"))

        async def parked() -> bool:
            return await r.status("buy/o-1") == "parked"

        await r.until(parked, 60)
        told = await r.client.state("buy/o-1")
        assert told.status == "parked" and r.worker.health().colour == "green"
        make(shop, "plain.commands", 2, {"max.message.bytes": "300"})
        await r.client.operate("buy/o-1", "retry")
        await r.until(parked, 60)  # too large for it now
        fresh(shop, {"plain.commands": 2})
        put(shop, "plain.orders", b"c", body("o-2"))
        await r.client.operate("buy/o-1", "retry")
        await there(r, "o-1", "o-2")
        await r.until(lambda: len(plain(shop, "plain.commands")) >= 2, 60)
    ids = [heads(m)["ce_id"] for m in plain(shop, "plain.commands")]
    assert len(set(ids)) == 2 and {m.key() for m in plain(shop, "plain.commands")} == {b"o-1", b"o-2"}


async def test_after_a_topic_was_made_anew_nothing_looks_like_a_duplicate(shop: Broker) -> None:
    plainly = definition(TopicMapping(topic="plain.orders", type="=Placed", key="id"))
    async with running(shop, plainly, world=WORLD) as r:
        put(shop, "plain.orders", b"c", body("o-1"), partitioner="consistent")
        await there(r, "o-1")
    fresh(shop, {"plain.orders": 3})
    async with running(shop, plainly, world=WORLD) as r:
        put(shop, "plain.orders", b"c", body("o-2"), partitioner="consistent")
        await there(r, "o-1", "o-2")
        assert r.worker.counts().duplicates == 0 and r.worker.counts().dead == 0


async def test_a_users_topic_is_read_from_a_moment_or_a_place_and_never_jumps(shop: Broker) -> None:
    async with running(shop, DEFINITION, world=WORLD) as r:
        producer: Any = Producer({"bootstrap.servers": shop.address})
        base = time.time_ns() // 1_000_000 - 100_000
        for n in range(20):
            producer.produce("plain.ends", b"%d" % n, b"k", partition=0, timestamp=base + 10 * n)
        assert producer.flush(20) == 0
        assert await r.log.offset_at("plain.ends", 0, base + 55) == 6
        assert await r.log.offset_at("plain.ends", 0, base + 9_000) == 20
        records, after = await r.log.read("plain.ends", 0, 6, max_records=3)
        assert [record.value for record in records] == [b"6", b"7", b"8"] and after == 9
        with pytest.raises(LogError) as why:
            await r.log.read("plain.ends", 0, 21)
        assert why.value.code == "CP506"


def test_a_letter_with_a_null_key_goes_back_as_it_was() -> None:
    from contrapas.core.deadletter import dead_letter
    from contrapas.core.lane import Record

    letter = dead_letter(
        Record(0, 1, NULL, b"x", (("n", NULL),), 1),
        namespace="t",
        code="CP413",
        error="",
        at=2,
        lane="orders",
    )
    topic, again = restore(Record(0, 0, letter.key, letter.value, letter.headers, 3), delivery="d-1")
    assert topic == "orders" and again.key is NULL and again.headers == (("n", NULL), ("cp-delivery", b"d-1"))
