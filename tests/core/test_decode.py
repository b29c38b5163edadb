"""Bytes to events at the inbound lane: what is accepted in which form, and what is refused with which code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contrapas.core.decode import Arrival, Doors, Rejected, TopicMapping, decode, mapped
from contrapas.core.lane import Headers, Record
from contrapas.core.partition import partition
from tests.runtime.machines import world_of

TYPES = world_of().types
DOORS = Doors(
    types=TYPES,
    partitions=8,
    mappings={"plain.csv": TopicMapping(topic="plain.csv", type="kind", id="nr", time="when", key="case")},
    by_topic={"seq.events": ("Began", "Ended", "Go"), "go.only": ("Go",)},
)
CE: Headers = (("ce_id", b"1"), ("ce_specversion", b"1.0"), ("ce_source", b"/x"), ("ce_type", b"Began"))
BODY = b'{"id":"a","n":1}'


def _record(
    value: bytes | None = BODY, headers: Headers = CE, key: bytes = b"a", at: int | None = None
) -> Record:
    return Record(partition(key, 8) if at is None else at, 5, key, value, headers, 1_700_000_000_000)


def _good(record: Record) -> Arrival:
    found = decode(record, DOORS)
    assert isinstance(found, Arrival), found
    return found


def _bad(record: Record) -> str:
    found = decode(record, DOORS)
    assert isinstance(found, Rejected), found
    return found.code


def test_a_binary_cloudevent_is_an_event() -> None:
    a = _good(_record())
    assert (a.kind, a.type, a.id, a.event_source, a.body.n) == ("event", "Began", "1", "/x", 1)
    assert a.position == f"in/{partition(b'a', 8)}" and a.offset == 5


def test_a_structured_cloudevent_is_the_same_event() -> None:
    event = {"id": "1", "source": "/x", "type": "Began", "specversion": "1.0", "data": {"id": "a", "n": 1}}
    a = _good(
        _record(
            json.dumps(event).encode(), (("content-type", b"Application/CloudEvents+json; charset=utf-8"),)
        )
    )
    assert (a.type, a.id, a.value) == ("Began", "1", BODY)


def test_a_topic_that_carries_one_type_needs_no_mapping() -> None:
    a = _good(_record(b'{"id":"a"}', (("cp-source", b"go.only@7/2@9"),)))
    assert (a.type, a.source, a.partition, a.offset, a.id) == ("Go", "go.only@7", 2, 9, "go.only@7/2@9")


def test_a_mapping_says_where_type_id_and_time_are() -> None:
    body = b'{"kind":"Go","nr":17,"when":"2013-05-01T00:00:00+02:00","case":"a","id":"a"}'
    a = _good(_record(body, (("cp-source", b"plain.csv@7/0@3"),)))
    assert (a.type, a.id, a.time_ms) == ("Go", "17", 1367359200000)


def test_an_ingested_event_has_the_position_it_came_from() -> None:
    a = _good(_record(headers=(*CE, ("cp-source", b"seq.events@3/1@1871"))))
    assert (a.position, a.offset) == ("seq.events@3/1", 1871)


def test_a_redriven_event_is_judged_by_its_id_alone() -> None:
    assert _good(_record(headers=(*CE, ("cp-delivery", b"d1")))).position == ""


def test_unknown_fields_are_ignored_and_kept() -> None:
    a = _good(_record(b'{"id":"a","n":1,"more":true}'))
    assert a.body.n == 1 and b"more" in a.value


def test_an_answer_to_a_door_has_no_key_of_ours() -> None:
    assert _good(_record(b"{}", (("cp-kind", b"answer"),), b"anything", 0)).kind == "answer"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'{"id":"a","n":NaN}', "CP405"),
        (b'{"id":"a","n":1e400}', "CP405"),
        (b'{"id":"a","n":1,"n":2}', "CP405"),
        (b'{"id":"a","n":' + b"[" * 100 + b"]" * 100 + b"}", "CP406"),
        (b'{"id":"a","n":' + b"9" * 5000 + b"}", "CP407"),
        (b'{"id":"\\ud800","n":1}', "CP408"),
        (b'{"id":"\xff","n":1}', "CP408"),
        ('{"id":"a","n":1}'.encode("utf-16"), "CP408"),
        (b'{"id":"a"}', "CP403"),
        (b'{"id":"a","n":"x"}', "CP403"),
        (b"{", "CP401"),
        (b"\x80\x04\x95.", "CP417"),
        (b"", "CP411"),
        (None, "CP411"),
        (b"x" * 900_001, "CP409"),
    ],
)
def test_a_value_that_is_no_such_event_is_refused_with_its_code(value: bytes | None, code: str) -> None:
    assert _bad(_record(value)) == code


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ((), "CP419"),
        ((("cp-kind", b"nonsense"),), "CP419"),
        ((*CE[:3], ("ce_type", b"Unknown")), "CP402"),
        ((*CE, ("ce_time", b"0001-01-01T00:00:00Z")), "CP415"),
        ((*CE, ("ce_time", b"9999-01-01T00:00:00Z")), "CP415"),
        ((*CE, ("ce_time", b"2023-11-17T00:00:00Z")), "CP415"),
        ((*CE, ("ce_subject", b"a\r\nb")), "CP416"),
        (tuple((f"h{i}", b"") for i in range(1000)), "CP416"),
        ((*CE, ("big", b"x" * 1_000_000)), "CP416"),
        ((*CE, ("cp-source", b"nowhere")), "CP419"),
        ((("ce_id", b"\xff"), *CE[1:]), "CP408"),
    ],
)
def test_headers_that_cannot_be_trusted_are_refused(headers: Headers, code: str) -> None:
    assert _bad(_record(headers=headers)) == code


@pytest.mark.parametrize(
    "changes",
    [{"key": b""}, {"key": b"k" * 10_000}, {"key": b"\xff"}, {"key": b"a\0b"}, {"key": b"b"}, {"at": 0}],
)
def test_a_key_that_is_none_or_is_not_the_body_s_is_refused(changes: dict[str, Any]) -> None:
    assert _bad(_record(**changes)) == "CP413"


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("/meta/id", "7"),
        ("/meta/tags/1", "b"),
        ("/meta/a~1b", "slash"),
        ("/meta/m~0n", "tilde"),
        ("/meta/tags/9", ""),
        ("/meta/tags/x", ""),
        ("/meta/id/deeper", ""),
        ("/nothing", ""),
        ("plain", "as ever"),
        ("header:kind", "h"),
        ("", ""),
    ],
)
def test_a_mapping_names_its_fields_by_json_pointer(where: str, found: str) -> None:
    """RFC 6901."""
    body = {"meta": {"id": 7, "tags": ["a", "b"], "a/b": "slash", "m~n": "tilde"}, "plain": "as ever"}
    assert mapped(where, {"kind": b"h"}, body) == found


def test_an_answer_without_a_type_is_no_message_of_the_one_type_that_its_topic_carries() -> None:
    headers: Headers = (
        ("ce_id", b"c#gave-up-1"),
        ("ce_source", b"/services/t/go"),
        ("cp-kind", b"reply"),
        ("cp-in-reply-to", b"pay/a/1/charge/2"),
        ("cp-outcome", b"error"),
        ("cp-source", b"go.only@x/0@4"),
    )
    for topic in (b"go.only@x/0@4", b"seq.events@x/0@4"):
        a = _good(_record(b'{"reason":"away"}', (*headers[:-1], ("cp-source", topic))))
        assert (a.kind, a.type, a.outcome, a.body) == ("reply", "", "error", {"reason": "away"})
        assert (a.id, a.event_source) == ("c#gave-up-1", "/services/t/go")
