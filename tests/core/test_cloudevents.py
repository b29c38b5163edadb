"""CloudEvents on a record: what counts as one, in both modes, and what is refused. Rows of the wire format."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from contrapas.core.cloudevents import present
from contrapas.core.deadletter import dead_letter
from contrapas.core.decode import Arrival, Doors, Rejected, TopicMapping, decode, told_headers
from contrapas.core.lane import NULL, Headers, Record
from contrapas.core.partition import partition
from tests.runtime.machines import world_of

DOORS = Doors(
    types=world_of().types,
    partitions=8,
    mappings={"mapped": TopicMapping(topic="mapped", type="=Began", id="/nr")},
    by_topic={"seq.events": ("Began", "Ended", "Go")},
)
CE: Headers = (("ce_id", b"1"), ("ce_source", b"/x"), ("ce_type", b"Began"), ("ce_specversion", b"1.0"))
BODY = b'{"id":"a","n":1}'
EVENT: dict[str, Any] = {
    "id": "1", "source": "/x", "type": "Began", "specversion": "1.0", "data": {"id": "a", "n": 1},
}  # fmt: skip
JSON_EVENT: Headers = (("content-type", b"application/cloudevents+json"),)


def record(value: bytes | None, headers: Headers, key: bytes = b"a") -> Record:
    return Record(partition(key, 8), 5, key, value, headers, 1_700_000_000_000)


def good(value: bytes, headers: Headers) -> Arrival:
    found = decode(record(value, headers), DOORS)
    assert isinstance(found, Arrival), found
    return found


def bad(value: bytes | None, headers: Headers) -> tuple[str, str]:
    found = decode(record(value, headers), DOORS)
    assert isinstance(found, Rejected), found
    return found.code, found.text


def structured(**more: Any) -> bytes:
    return json.dumps({**EVENT, **more}).encode()


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type", "ce_specversion"])
def test_a_message_counts_as_a_cloudevent_only_with_all_four_attributes(name: str) -> None:
    rest = tuple(h for h in CE if h[0] != name)
    for headers in (rest, (*rest, (name, b"")), (*rest, (name, NULL))):
        code, text = bad(BODY, headers)
        assert code == "CP419" and name in text, text


def test_without_one_of_the_four_the_mapping_of_its_topic_names_id_and_type() -> None:
    headers: Headers = (*CE[:3], ("cp-source", b"mapped@7/2@9"))
    a = good(b'{"id":"a","n":1,"nr":17}', headers)
    assert (a.type, a.id, a.event_source) == ("Began", "17", "/topics/mapped")


@pytest.mark.parametrize("version", [b"0.3", b"1", b"1.1", b"2.0", b"\xff"])
def test_another_version_of_cloudevents_is_refused(version: bytes) -> None:
    assert bad(BODY, (*CE[:3], ("ce_specversion", version)))[0] == "CP419"
    said = version.decode(errors="replace")
    assert bad(structured(specversion=said), JSON_EVENT)[0] == "CP419"


@pytest.mark.parametrize(
    "kind",
    [
        b"application/cloudevents+json",
        b"application/cloudevents",
        b"Application/CloudEvents+JSON; charset=utf-8",
        b" application/cloudevents+json",
    ],
)
@pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE"])
def test_structured_mode_is_known_by_its_media_type_without_case(kind: bytes, name: str) -> None:
    a = good(structured(), ((name, kind),))
    assert (a.type, a.id, a.event_source, a.value) == ("Began", "1", "/x", BODY)


@pytest.mark.parametrize(
    "kind",
    [
        b"application/cloudevents-batch+json",
        b"application/cloudevents-batch",
        b"application/cloudevents+avro",
    ],
)
def test_a_batch_and_other_forms_of_structured_mode_are_refused(kind: bytes) -> None:
    code, text = bad(json.dumps([EVENT]).encode(), (("content-type", kind),))
    assert code == "CP419" and "is not taken" in text


def test_the_attributes_of_a_structured_event_count_like_headers() -> None:
    value = structured(
        correlationid="seq/a",
        partitionkey="a",
        traceparent="00-1",
        size=7,
        good=True,
        data={"id": "a", "n": 2},
    )
    a = good(value, (*JSON_EVENT, ("x-own", b"kept"), ("cp-in-reply-to", b"c-1"), ("cp-kind", b"reply")))
    assert a.headers["ce_correlationid"] == b"seq/a" and a.in_reply_to == "c-1"
    assert (a.headers["ce_size"], a.headers["ce_good"], a.headers["x-own"]) == (b"7", b"true", b"kept")
    assert dict(told_headers(a))["content-type"] == b"application/json"
    assert a.value == b'{"id":"a","n":2}' and a.record.value == value


def test_data_of_a_structured_event_may_be_base64() -> None:
    event = {**EVENT, "data_base64": base64.b64encode(BODY).decode()}
    del event["data"]
    assert good(json.dumps(event).encode(), JSON_EVENT).value == BODY


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": ""}, "CP401"),
        ({"id": 7}, "CP401"),
        ({"source": None}, "CP401"),
        ({"specversion": None}, "CP401"),
        ({"data_base64": "eyJ9", "data": {}}, "CP401"),
        ({"data_base64": "!", "data": None}, "CP401"),
        ({"subject": "a\nb"}, "CP416"),
        ({"subject": {"x": 1}}, "CP401"),
        ({"subject": "x" * 10_000}, "CP401"),
        ({"time": "yesterday"}, "CP415"),
        ({"data": None}, "CP403"),
        ({"data": "text"}, "CP403"),
        ({"dataref": "https://elsewhere/1"}, "CP419"),
    ],
)
def test_what_is_wrong_in_a_structured_event_is_named(change: dict[str, Any], code: str) -> None:
    assert bad(structured(**change), JSON_EVENT)[0] == code


@pytest.mark.parametrize("value", [b"[]", b"7", b"{", b"", None, b'{"id":NaN}', b"[" * 10_000])
def test_what_is_no_structured_event_is_a_dead_letter(value: bytes | None) -> None:
    assert bad(value, JSON_EVENT)[0] in ("CP401", "CP403", "CP405", "CP406", "CP411")


def test_an_event_whose_data_lies_elsewhere_is_refused() -> None:
    assert bad(b"{}", (*CE, ("ce_dataref", b"s3://x")))[0] == "CP419"


def test_null_headers_are_absent_and_the_last_of_a_name_counts() -> None:
    headers: Headers = (("a", b"1"), ("a", NULL), ("b", b"1"), ("b", b"2"), ("c", NULL), ("d", b""))
    assert present(headers) == {"a": b"1", "b": b"2", "d": b""}
    a = good(BODY, (*CE, ("traceparent", NULL), ("cp-in-reply-to", NULL), ("ce_time", NULL)))
    assert (a.kind, a.time_ms, a.in_reply_to) == ("event", None, "")
    assert "traceparent" not in dict(told_headers(a))


def test_a_dead_letter_keeps_nulls_as_they_were() -> None:
    it = Record(0, 5, NULL, b"x", (("n", NULL), ("e", b"")), 1)
    letter = dead_letter(it, namespace="t", code="CP413", error="", at=2)
    assert letter.key is NULL and letter.headers[0][1] is NULL and letter.headers[1] == ("e", b"")
