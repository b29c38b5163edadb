"""Ingress from a user's topic: other keys, both modes of CloudEvents, nulls, deletions, and what is not taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contrapas.core.lane import NULL, Headers
from contrapas.log.memory_store import Shelf
from contrapas.runtime import ingress
from contrapas.runtime.definition import TopicMapping
from tests.catalogue.desk import TOPIC, desk

OPENED: dict[str, Any] = {"id": "k-1", "cents": 4200}
BODY = json.dumps(OPENED).encode()
STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)


def event(**more: Any) -> bytes:
    said = {"id": "e-1", "source": "/shop", "type": "Opened", "specversion": "1.0", "data": OPENED, **more}
    return json.dumps(said).encode()


async def test_a_structured_event_starts_its_instance() -> None:
    async with desk() as d:
        await d.put(event(), type="", headers=STRUCTURED)
        await d.settle()
        record = d.record("claim/k-1")
        assert record is not None and record.status == "waiting"
        assert json.loads(record.cause.value) == OPENED
        assert dict(record.cause.headers)["content-type"] == b"application/json"


@pytest.mark.parametrize("key", [b"customer-7", NULL, b"\x00\x00\x00\x00\x07\x02c", b"\xff" * 300])
@pytest.mark.parametrize("mode", ["binary", "structured", "plain"])
async def test_a_topic_keyed_otherwise_is_ingested_by_the_key_its_mapping_names(
    key: bytes, mode: str
) -> None:
    topics = (TopicMapping(topic=TOPIC, type="=Opened", key="/id"),)
    async with desk(topics=topics) as d:
        if mode == "binary":
            await d.put(BODY, key=key)
        elif mode == "structured":
            await d.put(event(), key=key, type="", headers=STRUCTURED)
        else:
            await d.put(BODY, key=key, type="")
        await d.settle()
        record = d.record("claim/k-1")
        assert record is not None and record.status == "waiting" and d.dead() == []


@pytest.mark.parametrize("key", [NULL, b"", b"\xff\xfe", b"k" * 10_000, b"a\0b"])
async def test_b28_a_key_that_is_none_is_a_dead_letter_under_that_very_key(key: bytes) -> None:
    async with desk() as d:
        await d.put(BODY, key=key, headers=(("x", NULL), ("x", b"")))
        letter = await d.one_dead()
        assert (letter.code, letter.key, letter.value) == ("CP413", key, BODY)
        assert [value is NULL for _, value in letter.headers[-2:]] == [True, False]
        assert (letter.key is NULL) == (key is NULL)


@pytest.mark.parametrize("value", [None, b""])
async def test_b27_a_deletion_on_a_user_s_topic_is_counted_and_no_event(value: bytes | None) -> None:
    async with desk() as d:
        await d.put(value)
        await d.settle()
        assert d.dead() == [] and d.worker.counts().skipped == 1


@pytest.mark.parametrize(
    ("value", "headers", "code"),
    [
        (json.dumps([OPENED]).encode(), (("content-type", b"application/cloudevents-batch+json"),), "CP419"),
        (event(specversion="0.3"), STRUCTURED, "CP419"),
        (event(source=""), STRUCTURED, "CP401"),
        (b"{", STRUCTURED, "CP401"),
        (b"\x00", STRUCTURED, "CP408"),
    ],
)
async def test_what_is_no_event_is_a_dead_letter_bit_for_bit_once(
    value: bytes, headers: Headers, code: str
) -> None:
    async with desk() as d:
        await d.put(value, type="", headers=headers)
        letter = await d.one_dead()
        assert (letter.code, letter.value, letter.headers) == (code, value, headers)
        assert letter.context["cp-dlq-topic"] == TOPIC


async def test_a_structured_event_cannot_speak_as_the_engine_does() -> None:
    async with desk() as d:
        await d.put(event(), type="", headers=(*STRUCTURED, ("cp-kind", b"operate")))
        assert (await d.one_dead()).code == "CP419"


async def test_a_structured_event_of_a_type_that_no_saga_mentions_is_counted() -> None:
    async with desk() as d:
        await d.put(event(type="Exploded"), type="", headers=STRUCTURED)
        await d.settle()
        assert d.dead() == [] and d.worker.counts().skipped == 1


async def test_what_lies_in_a_partition_that_a_topic_gained_is_read_from_its_first_message_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingress, "GROWN_MS", 200)
    async with desk() as d:
        lanes = d.rig.log.store.lanes[TOPIC]
        count = len(lanes)
        lanes.append(Shelf())
        await d.put(BODY, at=count)
        await d.rig.until(lambda: d.rig.status("claim/k-1") == "waiting")
        assert [s for w in d.worker.stations.values() for s in w.reading if s == (TOPIC, count)] == [
            (TOPIC, count)
        ]
