"""Rows of the catalogue about events and payloads: where bad bytes go, with which code, and that nothing else stops."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from contrapas.core.lane import Draft, Headers
from contrapas.runtime.definition import TopicMapping
from tests.catalogue import faulty
from tests.catalogue.desk import TOPIC, Approved, desk, within

OPENED: dict[str, Any] = {"id": "k-1", "cents": 4200}


def text(**more: Any) -> bytes:
    return json.dumps({**OPENED, **more}).encode()


async def refused(value: bytes, code: str, *, key: bytes = b"k-1", headers: Headers = ()) -> str:
    """Put on the topic it becomes a dead letter with its bytes, its key and its headers; gives the words."""
    async with desk() as d:
        await d.put(value, key=key, headers=headers)
        letter = await d.one_dead()
        assert (letter.code, letter.key, letter.value, letter.reference) == (code, key, value, False)
        assert letter.headers[4:] == headers
        assert letter.context["cp-dlq-sha256"] == hashlib.sha256(value).hexdigest()
        assert (letter.context["cp-dlq-topic"], letter.context["cp-dlq-offset"]) == (TOPIC, "0")
        assert d.record("claim/k-1") is None
        return letter.error


async def at_the_door(value: bytes, status: int, code: str, **headers: str) -> dict[str, Any]:
    """The same body over HTTP is a problem document, and nothing is stored."""
    async with desk() as d, d.http() as http:
        answer = await within(d.rig, http.post("/sagas/claim", content=value, headers=headers))
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:contrapas:{code}")
        assert answer.headers["content-type"] == "application/problem+json"
        await d.settle()
        assert d.dead() == []
        assert d.record("claim/k-1") is None
        return dict(answer.json())


# ---- framing and types


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"hello", ()),
        (b"\x00\x01\x02\xff", ()),
        (b'{"id":"k-1","cents":1}', ()),
        (b"{}", (("cp-kind", b"shutdown"),)),
        (b"{}", (("cp-source", b"nowhere"),)),
        (b"{}", (("cp-source", b"a@b/x@y"),)),
        (b"{}", (("cp-source", "a@b/²@³".encode()),)),
        (b"{}", (("cp-source", b"a@b/1@" + b"9" * 5000),)),
        (b"{}", (("cp-source", b"a@b/1@" + b"9" * 30),)),
    ],
)
async def test_b13_what_is_not_in_our_framing_on_the_inbound_lane_is_a_dead_letter(
    value: bytes, headers: Headers
) -> None:
    async with desk() as d:
        await d.put(value, type="", headers=headers, to="in")
        letter = await d.one_dead()
        assert (letter.code, letter.key, letter.value) == ("CP419", b"k-1", value)


@pytest.mark.parametrize("kind", ["query", "operate", "bind", "bound", "unbind", "delivered"])
@pytest.mark.parametrize("value", [b"[]", b"7", b'"x"', b"{}", b'{"verb":1,"type":[],"wait_id":null}', b"{"])
async def test_b13_a_forged_message_of_the_engine_s_own_kinds_stops_nothing(kind: str, value: bytes) -> None:
    async with desk() as d:
        for number, to in enumerate((b"claim/n-1", b"claim/nobody", b"\xff", b"")):
            headers: Headers = (
                ("cp-kind", kind.encode()),
                ("cp-to", to),
                ("cp-reply-to", "desk.in/²".encode()),
                ("ce_id", b"forged-%d" % number),
            )
            await d.put(value, key=b"n-1", type="", headers=headers, to="in")
        await d.settle()
        assert {letter.code for letter in d.dead()} <= {"CP401", "CP403", "CP408", "CP413", "CP419"}


async def test_b15_an_unknown_type_on_the_inbound_lane_is_a_dead_letter() -> None:
    async with desk() as d:
        await d.put(text(), type="Exploded", to="in")
        letter = await d.one_dead()
        assert letter.code == "CP402"
        assert "'Exploded'" in letter.error


async def test_b15_an_unknown_type_on_a_user_s_topic_is_ignored_and_counted() -> None:
    async with desk() as d:
        await d.put(text(), type="Exploded")
        await d.settle()
        assert d.dead() == []
        assert d.worker.counts().skipped == 1


async def test_b15_a_subscription_that_wants_unknown_types_kept_has_them_as_dead_letters() -> None:
    async with desk(topics=(TopicMapping(topic=TOPIC, unknown="dead"),)) as d:
        await d.put(text(), type="Exploded")
        assert (await d.one_dead()).code == "CP402"
        assert d.worker.counts().skipped == 0


async def test_b15_a_start_of_an_unknown_type_over_http_is_422() -> None:
    await at_the_door(text(), 422, "CP402", **{"ce-type": "Exploded"})


# ---- bodies


@pytest.mark.parametrize(
    ("value", "code", "pointer"),
    [
        (b'{"id":"k-1"}', "CP403", "/cents"),
        (b'{"id":"k-1","cents":"42"}', "CP403", "/cents"),
        (b'{"id":"k-1","cents":4.5}', "CP403", "/cents"),
        (b'{"id":"k-1","cents":null}', "CP403", "/cents"),
        (b'{"id":7,"cents":1}', "CP403", "/id"),
        (b'["k-1",1]', "CP403", ""),
        (b"null", "CP403", ""),
        (b'{"id":"k-1","cents":1', "CP401", ""),
        (b"id=k-1&cents=1", "CP401", ""),
    ],
)
async def test_b17_a_body_that_does_not_fit_its_type_is_a_dead_letter_that_names_the_place(
    value: bytes, code: str, pointer: str
) -> None:
    assert pointer in await refused(value, code)
    problem = await at_the_door(value, 422, code)
    if pointer.startswith("/"):
        assert [e["at"] for e in problem["errors"]] == [pointer]


async def test_b18_an_unknown_field_is_ignored_and_kept_in_the_stored_event() -> None:
    value = b'{"id":"k-1", "cents":4200,  "colour":{"name":"red"}}'
    async with desk() as d:
        await d.put(value)
        await d.settle()
        record = d.record("claim/k-1")
        assert record is not None
        assert (record.status, record.cause.value) == ("waiting", value)
        assert d.dead() == []


async def test_b18_an_unknown_field_that_came_over_http_is_kept_too() -> None:
    value = b'{"id":"k-1", "cents":4200,  "colour":{"name":"red"}}'
    async with desk() as d, d.http() as http:
        answer = await within(d.rig, http.post("/sagas/claim", content=value))
        assert answer.status_code == 202
        record = d.record("claim/k-1")
        assert record is not None
        assert json.loads(record.cause.value)["colour"] == {"name": "red"}
        again = await within(d.rig, http.post("/sagas/claim", content=value))
        assert (again.status_code, again.json()["verdict"]) == (200, "duplicate")
        signal = b'{"id":"k-1","by":"bob","mood":"good"}'
        answer = await within(d.rig, http.post("/sagas/claim/k-1/Approved", content=signal))
        assert answer.status_code == 202
        record = d.record("claim/k-1")
        assert record is not None
        assert b'"mood":"good"' in record.cause.value


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"])
async def test_b19_a_number_that_is_none_is_refused_wherever_it_stands(number: bytes) -> None:
    for value in (b'{"id":"k-1","cents":%s}' % number, b'{"id":"k-1","cents":1,"x":[{"y":%s}]}' % number):
        await refused(value, "CP405")
        await at_the_door(value, 400, "CP405")


@pytest.mark.parametrize(
    "value",
    [
        b'{"id":"k-1","cents":1,"cents":2}',
        b'{"id":"k-1","cents":1,"x":{"a":1,"a":1}}',
        b'{"id":"k-1","\\u0069d":"k-2","cents":1}',
    ],
)
async def test_b20_an_object_with_one_key_twice_is_refused(value: bytes) -> None:
    await refused(value, "CP405")
    await at_the_door(value, 400, "CP405")


@pytest.mark.parametrize("value", [b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000])
async def test_b21_ten_thousand_levels_are_refused(value: bytes) -> None:
    deep = b'{"id":"k-1","cents":1,"x":%s}' % value
    await refused(deep, "CP406")
    await at_the_door(deep, 400, "CP406")


@pytest.mark.parametrize(
    "number", [b"9" * 5000, b"-" + b"9" * 5000, b"9223372036854775808", b"-9223372036854775809"]
)
async def test_b22_an_integer_beyond_64_bits_is_refused(number: bytes) -> None:
    value = b'{"id":"k-1","cents":%s}' % number
    await refused(value, "CP407")
    await at_the_door(value, 400, "CP407")


async def test_b22_an_integer_beyond_64_bits_is_taken_where_a_decimal_was_declared() -> None:
    async with desk() as d:
        await d.put(b'{"id":"k-1","cents":1,"rate":92233720368547758080}')
        await d.settle()
        record = d.record("claim/k-1")
        assert record is not None
        assert "92233720368547758080" in record.root.frames[0].slots["e"]
        assert d.dead() == []


@pytest.mark.parametrize(
    "value",
    [
        b'{"id":"k-1","cents":1,"x":"\\ud800"}',
        b'{"id":"k-1","cents":1,"\\udfff":1}',
        b'{"id":"k-1","cents":1,"x":"\xff"}',
        b'{"id":"k-1","cents":1,"x":"\xed\xa0\x80"}',
        '{"id":"k-1","cents":1}'.encode("utf-16"),
        '{"id":"k-1","cents":1}'.encode("utf-16-le"),
        b'\xef\xbb\xbf{"id":"k-1","cents":1}',
        b'{"id":"k-1","cents":1,"x":"a\\u0000b"}',
        b'{"id":"k-1","cents":1}\x00',
    ],
)
async def test_b23_text_that_is_no_unicode_or_holds_nul_is_refused(value: bytes) -> None:
    await refused(value, "CP408")
    await at_the_door(value, 400, "CP408")


async def test_b23_a_key_taken_from_a_field_that_is_no_unicode_is_refused_as_text_is() -> None:
    async with desk(topics=(TopicMapping(topic=TOPIC, type="=Opened", key="id"),)) as d:
        value = b'{"id":"\\ud800","cents":1}'
        await d.put(value, type="")
        letter = await d.one_dead()
        assert (letter.code, letter.key, letter.value) == ("CP408", b"k-1", value)


# ---- size


async def test_b24_a_payload_above_900_kb_is_refused_before_it_is_sent() -> None:
    from contrapas.errors import DataError

    async with desk() as d:
        with pytest.raises(DataError) as why:
            await d.client.send(Approved(id="k-1", by="x" * 900_000))
        assert why.value.code == "CP409"
        assert "900000" in why.value.text
        await d.settle()
        assert d.rig.records(TOPIC) == []
    await at_the_door(text(x="x" * 900_000), 413, "CP409")
    await at_the_door(text(x="x" * (1 << 20)), 413, "CP825")


async def test_b24_a_payload_above_900_kb_that_others_put_on_their_topic_is_a_dead_letter_byte_for_byte() -> (
    None
):
    value = text(x="x" * 910_000)
    async with desk() as d:
        await d.put(value)
        letter = await d.one_dead()
        assert (letter.code, letter.key, letter.reference, letter.value) == ("CP409", b"k-1", False, value)


async def test_b24_a_message_above_what_the_lane_takes_is_a_dead_letter_by_reference() -> None:
    value = text(x="x" * 1_050_000)
    async with desk() as d:
        await d.put(value)
        letter = await d.one_dead()
        assert (letter.code, letter.key, letter.reference, letter.value) == ("CP409", b"k-1", True, b"")
        assert letter.context["cp-dlq-sha256"] == hashlib.sha256(value).hexdigest()
        place = (letter.context["cp-dlq-topic"], letter.context["cp-dlq-offset"])
        assert place == (TOPIC, "0")
        assert d.rig.records(TOPIC)[0].value == value


# ---- empty values, keys, partitions


async def test_b27_an_empty_value_on_a_user_s_topic_is_counted() -> None:
    async with desk() as d:
        await d.put(None)
        await d.put(b"")
        await d.settle()
        assert d.dead() == []
        assert d.worker.counts().skipped == 2


@pytest.mark.parametrize("value", [b"", None], ids=["empty", "null"])
async def test_b27_an_empty_value_where_an_event_is_expected_on_the_inbound_lane_is_a_dead_letter(
    value: bytes | None,
) -> None:
    async with desk() as d:
        await d.put(value, to="in")
        letter = await d.one_dead()
        assert (letter.code, letter.value) == ("CP411", value)


@pytest.mark.parametrize("key", [b"", b"k" * 10_000, b"k\0", b"\xff\xfe"])
async def test_b28_a_key_that_is_none_is_refused(key: bytes) -> None:
    await refused(text(), "CP413", key=key)


@pytest.mark.parametrize("id", ["", "k" * 10_000, "k\0"])
async def test_b28_a_body_without_a_usable_key_is_400_over_http(id: str) -> None:
    code = "CP408" if "\0" in id else "CP413"
    await at_the_door(json.dumps({"id": id, "cents": 1}).encode(), 400, code)


async def test_b28_an_address_that_can_be_no_key_is_400_and_nothing_is_sent() -> None:
    async with desk() as d, d.http() as http:
        for path in ("k" * 10_000, "%00"):
            for call in (
                http.get(f"/sagas/claim/{path}", headers=d.allowed),
                http.post(f"/sagas/claim/{path}/Approved", content=b'{"by":"x"}'),
            ):
                answer = await within(d.rig, call)
                assert answer.status_code == 400, answer.text
                assert answer.json()["type"] in ("urn:contrapas:CP413", "urn:contrapas:CP408")
        await d.settle()
        assert d.dead() == []


async def test_b28_key_and_body_that_disagree_are_refused_and_over_http_400() -> None:
    assert "/id" not in await refused(text(id="k-2"), "CP413")
    async with desk() as d, d.http() as http:
        answer = await within(d.rig, http.post("/sagas/claim/n-1/Approved", content=b'{"id":"n-2","by":"x"}'))
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:contrapas:CP413")


async def test_b28_a_record_on_the_wrong_partition_of_the_inbound_lane_is_a_dead_letter() -> None:
    from contrapas.core.partition import partition

    async with desk() as d:
        wrong = 1 - partition(b"k-1", 2)
        await d.put(text(), to="in", at=wrong)
        letter = await d.one_dead()
        assert letter.code == "CP413"
        assert f"not {wrong}" in letter.error


# ---- repeats


async def test_b29_the_same_id_with_the_same_bytes_is_a_success_and_counted() -> None:
    async with desk() as d, d.http() as http:
        for _ in range(3):
            await d.put(text())
        await d.settle()
        assert d.worker.counts().duplicates == 2
        assert [r.key for r in d.rig.records() if r.key == b"claim/k-1"] == [b"claim/k-1"]
        assert d.dead() == []
        first = await within(
            d.rig, http.post("/sagas/claim", content=text(id="k-3"), headers={"idempotency-key": "a"})
        )
        again = await within(
            d.rig, http.post("/sagas/claim", content=text(id="k-3"), headers={"idempotency-key": "a"})
        )
        assert (first.status_code, again.status_code) == (202, 200)
        assert again.json() | {"verdict": ""} == first.json() | {"verdict": ""}


def hashes(*values: bytes) -> list[str]:
    return [hashlib.sha256(v).hexdigest()[:16] for v in values]


async def test_b30_the_same_id_with_other_bytes_is_a_dead_letter_with_both_hashes() -> None:
    one, other = b'{"id":"n-1","by":"ann"}', b'{"id":"n-1","by":"eve"}'
    async with desk(calm=False) as d:
        await d.put(one, key=b"n-1", type="Approved")
        await d.put(other, key=b"n-1", type="Approved")
        letter = await d.one_dead()
        assert (letter.code, letter.value) == ("CP412", other)
        assert all(h in letter.error for h in hashes(one, other)), letter.error
        record = d.record("claim/n-1")
        assert record is not None
        assert record.outcome_body == '{"id":"n-1","by":"ann"}'


async def test_b30_an_early_event_with_the_id_of_another_is_a_dead_letter_with_both_hashes() -> None:
    one, other = b'{"id":"k-9","by":"ann"}', b'{"id":"k-9","by":"eve"}'
    async with desk() as d:
        await d.put(one, key=b"k-9", type="Approved")
        await d.put(other, key=b"k-9", type="Approved")
        letter = await d.one_dead()
        assert (letter.code, letter.value) == ("CP412", other)
        assert all(h in letter.error for h in hashes(one, other)), letter.error


async def test_b30_a_start_of_a_taken_key_with_another_payload_is_409_and_a_dead_letter() -> None:
    one, other = text(), text(cents=1)
    async with desk() as d, d.http() as http:
        assert (await within(d.rig, http.post("/sagas/claim", content=one))).status_code == 202
        answer = await within(d.rig, http.post("/sagas/claim", content=other))
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:contrapas:CP412")
        letter = await d.one_dead()
        assert letter.code == "CP412"
        assert all(h in letter.error for h in hashes(letter.value or b"", one)), letter.error
        assert all(h in answer.json()["title"] for h in hashes(letter.value or b"", one))


# ---- nobody, and nobody any more


async def test_b31_an_event_for_nobody_is_parked_for_a_day_then_a_dead_letter() -> None:
    value = b'{"id":"k-9","by":"ann"}'
    async with desk() as d:
        await d.put(value, key=b"k-9", type="Approved")
        await d.settle()
        assert d.worker.counts().early == 1
        assert d.dead() == []
        await d.rig.turn(86_400_000 - 60_000)
        await d.settle()
        assert d.dead() == []
        await d.rig.turn(120_000)
        letter = await d.one_dead()
        assert (letter.code, letter.key, letter.value) == ("CP414", b"k-9", value)


async def test_b31_a_signal_for_nobody_is_kept_and_taken_by_the_instance_that_comes() -> None:
    async with desk() as d, d.http() as http:
        early = await within(d.rig, http.post("/sagas/claim/k-1/Approved", content=b'{"by":"ann"}'))
        assert (early.status_code, early.json()["verdict"]) == (202, "kept")
        await within(d.rig, http.post("/sagas/claim", content=text()))
        await d.settle()
        record = d.record("claim/k-1")
        assert record is not None
        assert (record.status, json.loads(record.outcome_body)["by"]) == ("done", "ann")


async def test_b31_what_may_not_be_parked_is_404() -> None:
    async with desk() as d, d.http() as http:
        state = await within(d.rig, http.get("/sagas/claim/nobody", headers=d.allowed))
        assert (state.status_code, state.json()["type"]) == (404, "urn:contrapas:CP414")
        signal = await within(d.rig, http.post("/sagas/claim/k-1/Closed", content=b'{"by":"ann"}'))
        assert (signal.status_code, signal.json()["type"]) == (404, "urn:contrapas:CP414")
        letter = await d.one_dead()
        assert letter.code == "CP414"


async def test_b32_an_event_for_a_finished_instance_is_a_recorded_no_op_and_409() -> None:
    async with desk() as d, d.http() as http:
        await d.put(text())
        await d.put(b'{"id":"k-1","by":"ann"}', type="Approved", id="e-2")
        await d.rig.until(lambda: d.rig.status("claim/k-1") == "done")
        await d.put(b'{"id":"k-1","by":"bob"}', type="Approved", id="e-3")
        await d.settle()
        record = d.record("claim/k-1")
        assert record is not None
        assert (record.cause.note, record.status) == ("no-op: finished", "done")
        assert record.cause.value == b'{"id":"k-1","by":"bob"}'
        assert d.worker.counts().noop == 1
        assert d.dead() == []
        answer = await within(d.rig, http.post("/sagas/claim/k-1/Approved", content=b'{"by":"eve"}'))
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:contrapas:CP815")


# ---- times and headers


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2023-11-16T22:13:21+00:00",
        "yesterday",
        "1700000000",
        "0001-01-01T00:00:00+14:00",
    ],
)
async def test_b33_a_time_that_cannot_be_one_is_refused_and_not_clamped(time: str) -> None:
    await refused(text(), "CP415", headers=(("ce_time", time.encode()),))


async def test_b33_a_time_less_than_a_day_ahead_is_taken() -> None:
    async with desk() as d:
        await d.put(text(), headers=(("ce_time", b"2023-11-15T21:00:00Z"),))
        await d.settle()
        assert d.rig.status("claim/k-1") == "waiting"


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("saga", [faulty.sleeps_until, faulty.has_a_deadline_at])
async def test_b33_a_time_that_cannot_be_one_sets_no_timer_and_parks(saga: Any, when: str) -> None:
    value = b'{"id":"k-1","at":"%s"}' % when.encode()
    async with desk(saga) as d:
        await d.put(value, type="Planned")
        await d.rig.until(lambda: d.rig.status(f"{saga.name}/k-1") == "parked")
        record = d.record(f"{saga.name}/k-1")
        assert record is not None
        assert record.parked is not None
        assert record.parked.input is not None
        assert (record.parked.code, record.parked.input.value) == ("CP415", value)


@pytest.mark.parametrize(
    "headers",
    [
        (("ce_subject", b"a\r\nx: y"),),
        (("ce_subject", b"\x1b[2J"),),
        (("cp-run", b"a\nb"),),
        (("traceparent", b"00-\r\nx"),),
        (("x-\r\nnote", b"a"),),
        (("x-\x1b[31m", b"a"),),
        tuple((f"x-{n}", b"v") for n in range(1000)),
        (("x-long", b"v" * 1_000_000),),
        (("x-long", b"v" * 70_000),),
    ],
)
async def test_b36_headers_with_control_characters_or_too_many_of_them_are_refused(headers: Headers) -> None:
    async with desk() as d:
        await d.put(text(), headers=headers)
        letter = await d.one_dead()
        small = sum(len(n) + len(v) for n, v in headers) < 900_000
        assert (letter.code, letter.key) == ("CP416" if small else "CP409", b"k-1")
        if small:
            assert (letter.value, letter.headers[4:]) == (text(), headers)
        else:
            assert (letter.reference, letter.value) == (True, b"")


async def test_b36_other_people_s_headers_may_hold_any_bytes() -> None:
    async with desk() as d:
        await d.put(text(), headers=(("x-schema", b"\x00\x0a\x0d\x1b\xff"),))
        await d.settle()
        assert d.rig.status("claim/k-1") == "waiting"


async def test_b36_a_thousand_headers_over_http_are_400() -> None:
    await at_the_door(text(), 400, "CP825", **{f"x-{n}": "v" for n in range(1000)})


# ---- serialisations that build types


@pytest.mark.parametrize(
    "value",
    [
        *(b"\x80%c}q\x00X\x02\x00\x00\x00idq\x01K\x01s." % n for n in (2, 3, 4, 5)),
        b"!!python/object/apply:os.system ['true']",
        b'!python/object:os.system ["true"]',
    ],
)
async def test_b37_what_would_build_types_is_refused_unread(value: bytes) -> None:
    await refused(value, "CP417")
    await at_the_door(value, 400, "CP417")


async def test_b37_a_class_name_in_the_data_is_data() -> None:
    value = b'{"id":"k-1","cents":1,"__class__":"os.system","py/object":"os.system","$type":"x","__reduce__":["os.system","true"]}'
    async with desk() as d:
        await d.put(value)
        await d.settle()
        record = d.record("claim/k-1")
        assert record is not None
        assert (record.status, record.cause.value) == ("waiting", value)
        assert "os.system" not in record.root.frames[0].slots["e"]


# ---- what the doors say is what the lane says


async def test_an_import_of_many_bad_and_good_messages_adds_up() -> None:
    good = [(b"g-%d" % n, b'{"id":"g-%d","cents":%d}' % (n, n)) for n in range(40)]
    bad = [b"", b"{", b"[]", b'{"id":"x"}', b"\x80\x04K\x01.", b'{"id":"b","cents":NaN}', b"\xff\xfe{"]
    async with desk() as d:
        drafts: list[Draft] = []
        for n in range(200):
            key, value = good[n % 40] if n % 3 else (b"b", bad[n % len(bad)])
            ce: Headers = (
                ("ce_id", b"m-%d" % n),
                ("ce_source", b"/x"),
                ("ce_specversion", b"1.0"),
                ("ce_type", b"Opened"),
            )
            drafts.append(Draft(TOPIC, -1, key, value, ce, f"m-{n}"))
        await d.rig.log.publish(drafts)
        await d.settle()
        c = d.worker.counts()
        assert c.skipped + (c.inputs - 1) == 200
        assert c.applied - 1 == 40
        assert c.duplicates == 200 - 67 - 40
        assert len(d.dead()) == 67 - c.skipped


async def test_one_event_that_starts_two_sagas_is_counted_for_both_and_adds_up() -> None:
    async with desk(faulty.survives) as d:
        await d.put(text())
        await d.settle()
        assert (d.rig.status("claim/k-1"), d.rig.status("survives/k-1")) == ("waiting", "retrying")
        assert d.worker.counts().more == 1
