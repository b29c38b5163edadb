"""Payloads in a schema: framings, vectors, derived forms, limits."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from contrapas.author.event import Event
from contrapas.codec.avro_forms import fingerprint_of, schema_of, text_of, write
from contrapas.codec.framing import Ref, confluent, framed, single
from contrapas.codec.schemas import Schemas, Text, Wanted, Writer
from contrapas.codec.strict import load_model
from contrapas.errors import DataError


class Size(str, Enum):
    S = "s"
    L = "l"


class Line(BaseModel):
    sku: str
    n: int = 1


class Ordered(Event, key="id"):
    id: str
    cents: int
    rate: float = 1.5
    note: str | None = None
    tag: str | int = "x"
    lines: list[Line] = []
    more: dict[str, Line] = {}
    at: datetime
    day: date
    clock: time
    price: Annotated[Decimal, Field(max_digits=12, decimal_places=2)]
    any: Decimal = Decimal("0.1")
    uid: UUID
    took: timedelta = timedelta(seconds=2)
    size: Size = Size.S
    kind: Literal["a", "b"] = "a"
    raw: bytes = b""
    good: bool = True


GOOD = Ordered(
    id="o-9",
    cents=4200,
    note="n",
    tag=7,
    lines=[Line(sku="a"), Line(sku="b", n=2)],
    more={"x": Line(sku="c")},
    at=datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC),
    day=date(2026, 1, 2),
    clock=time(1, 2, 3, 4),
    price=Decimal("12.50"),
    uid=UUID(int=7),
    raw="ä".encode(),
)


def avro(schema: Any, value: Any) -> bytes:
    made = io.BytesIO()
    fastavro.schemaless_writer(made, fastavro.parse_schema(schema), value)  # pyright: ignore
    return made.getvalue()


def record(*fields: Any, name: str = "shop.A") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]}


def writer(schema: Any) -> Writer:
    return Writer(Text(json.dumps(schema)))


def test_the_fingerprint_of_the_wire_format_s_vector() -> None:
    text = '{"name":"contrapas.log.T","type":"record","fields":[{"name":"a","type":"string"},{"name":"b","type":"long"}]}'
    assert fingerprint_of(text) == "d8b1d75cae49eaf4"
    assert single(fingerprint_of(text), b"").hex() == "c301d8b1d75cae49eaf4"


def test_a_message_in_its_derived_schema_comes_back_as_it_was() -> None:
    text = text_of(Ordered)
    fastavro.parse_schema(json.loads(text))  # pyright: ignore
    back = Writer(Text(text)).as_json(write(Ordered, GOOD))
    assert load_model(Ordered, back) == GOOD


def test_the_derived_schema_has_defaults_where_the_class_has_them() -> None:
    fields = {f["name"]: f for f in schema_of(Ordered)["fields"]}
    assert "default" not in fields["id"] and fields["cents"]["type"] == "long"
    assert fields["note"] == {"name": "note", "type": ["null", "string"], "default": None}
    assert fields["tag"] == {"name": "tag", "type": ["string", "long"], "default": "x"}
    assert fields["price"]["type"] == {
        "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2,
    }  # fmt: skip


def test_a_field_without_a_form_in_avro_is_named() -> None:
    class Odd(Event, key="id"):
        id: str
        z: dict[int, str]

    with pytest.raises(DataError, match=r"Odd\.z") as why:
        schema_of(Odd)
    assert why.value.code == "CP205"


def test_a_number_beyond_64_bits_is_refused_when_written() -> None:
    with pytest.raises(DataError) as why:
        write(Ordered, GOOD.model_copy(update={"cents": 2**70}))
    assert why.value.code == "CP403"


@pytest.mark.parametrize(
    ("headers", "value", "found"),
    [
        ({}, b'{"a":1}', None),
        ({}, b"\x00\x00\x00\x01\x02rest", (Ref("id", "258"), b"rest")),
        ({"content-type": b"application/avro"}, b"\x00\x00\x00\x00\x07", (Ref("id", "7"), b"")),
        ({"content-type": b"application/json"}, b"\x00\x00\x00\x00\x07", None),
        ({}, b"\xc3\x01" + bytes(8) + b"x", (Ref("fingerprint", "00" * 8), b"x")),
        ({}, b"\x00\x01", None),
        ({}, b"hello", None),
        (
            {"__value_schema_id": b"\x01" + bytes(range(16)), "content-type": b"application/avro"},
            b"\x00\x00\x00\x00\x07",
            (Ref("guid", "00010203-0405-0607-0809-0a0b0c0d0e0f"), b"\x00\x00\x00\x00\x07"),
        ),
    ],
)
def test_the_content_type_decides_without_it_the_first_bytes_and_the_header_before_the_prefix(
    headers: dict[str, bytes], value: bytes, found: Any
) -> None:
    assert framed(headers, value) == found


@pytest.mark.parametrize(
    ("headers", "value"),
    [({"content-type": b"application/avro"}, b"\x02a"), ({"__value_schema_id": b"\x01short"}, b"x")],
)
def test_avro_that_names_no_schema_is_refused(headers: dict[str, bytes], value: bytes) -> None:
    with pytest.raises(DataError) as why:
        framed(headers, value)
    assert why.value.code == "CP419"


def test_what_is_not_known_is_wanted_and_what_the_registry_does_not_know_is_an_error() -> None:
    known = Schemas(registry=True)
    with pytest.raises(Wanted) as wanted:
        known.writer(Ref("id", "7"))
    known.put(wanted.value.ref, None)
    with pytest.raises(DataError) as why:
        known.writer(Ref("id", "7"))
    assert why.value.code == "CP420" and "schema id 7" in why.value.text
    known.forget_unknown()
    with pytest.raises(Wanted):
        known.writer(Ref("id", "7"))
    with pytest.raises(DataError, match="no registry is configured"):
        Schemas().writer(Ref("id", "7"))
    with pytest.raises(DataError) as newer:
        known.writer(Ref("fingerprint", "00" * 8))
    assert newer.value.code == "CP404"


@pytest.mark.parametrize(("kind", "code"), [("PROTOBUF", "CP419"), ("AVRO", "CP403")])
def test_a_schema_that_cannot_be_read_is_an_error_that_names_it(kind: str, code: str) -> None:
    known = Schemas(registry=True)
    known.put(Ref("id", "7"), Text("syntax", kind))
    with pytest.raises(DataError, match="schema id 7") as why:
        known.writer(Ref("id", "7"))
    assert why.value.code == code


def test_a_schema_may_refer_to_others() -> None:
    main = record(("line", "shop.Line"), name="shop.Order")
    line = record(("sku", "string"), name="shop.Line")
    found = Writer(Text(json.dumps(main), references=(json.dumps(line),)))
    assert found.as_json(b"\x02a") == b'{"line":{"sku":"a"}}'


@pytest.mark.parametrize("payload", [b"", b"\x02", b"\x02a\x00", b"\x01", b"\xff" * 12, b"\x02\xff"])
def test_bytes_that_are_not_the_schema_s_are_refused(payload: bytes) -> None:
    with pytest.raises(DataError) as why:
        writer(record(("a", "string"))).as_json(payload)
    assert why.value.code == "CP403"


def test_bytes_that_are_no_text_need_base64() -> None:
    found = writer(record(("a", "bytes")))
    with pytest.raises(DataError):
        found.as_json(b"\x02\xff")
    assert found.as_json(b"\x02\xff", base64=True) == b'{"a":"_w=="}'


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_nan_and_infinity_are_refused_at_this_door_too(number: str) -> None:
    class F(Event, key="id"):
        id: str
        x: float

    value = writer(schema_of(F)).as_json(avro(schema_of(F), {"id": "a", "x": float(number)}))
    with pytest.raises(DataError) as why:
        load_model(F, value)
    assert why.value.code == "CP405"


TREE = record(("next", ["null", "shop.A"]))
BOMB = record(("a", {"type": "array", "items": "null"}))
WIDE = record(
    (
        "a",
        {
            "type": "array",
            "items": record(("b", "boolean"), *[(f"n{i}", "null") for i in range(500)], name="W"),
        },
    )
)


@pytest.mark.parametrize(
    ("schema", "payload", "code"),
    [
        (TREE, b"\x02" * 500_000 + b"\x00", "CP406"),
        (BOMB, b"\xfe\xff\xff\xff\xff\xff\x01\x00", "CP410"),
        (
            WIDE,
            b"\xd0\x0f"
            + b"\x01" * 1000
            + b"\xd0\x0f"
            + b"\x01" * 1000
            + b"\xd0\x0f"
            + b"\x01" * 1000
            + b"\x00",
            "CP410",
        ),
        (record(("a", {"type": "map", "values": "shop.A"})), b"\x02\x02k" * 5000, "CP406"),
        (TREE, b"\x02" * 10, "CP403"),
        (TREE, b"\x08", "CP403"),
    ],
)
def test_few_bytes_cannot_make_the_reader_fall(schema: Any, payload: bytes, code: str) -> None:
    with pytest.raises(DataError) as why:
        writer(schema).as_json(payload)
    assert why.value.code == code


def test_a_tree_within_the_limits_is_read() -> None:
    assert writer(TREE).as_json(b"\x02\x02\x00") == b'{"next":{"next":{"next":null}}}'


SCHEMAS = [schema_of(Ordered), TREE, BOMB, WIDE, record(("m", {"type": "map", "values": ["null", "long"]}), ("e", {"type": "enum", "name": "E", "symbols": ["A", "B"]}), ("f", {"type": "fixed", "name": "F", "size": 3}))]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(SCHEMAS) - 1), st.binary(max_size=300), st.booleans())
def test_any_bytes_give_json_or_an_error_of_ours(which: int, payload: bytes, true_start: bool) -> None:
    body = (write(Ordered, GOOD)[: len(payload)] if true_start and which == 0 else b"") + payload
    try:
        text = writer(SCHEMAS[which]).as_json(body)
    except DataError as why:
        assert why.code in ("CP403", "CP406", "CP410")
    else:
        json.loads(text)


@given(
    st.binary(max_size=40),
    st.dictionaries(st.sampled_from(["content-type", "__value_schema_id"]), st.binary(max_size=20)),
)
def test_any_framing_is_read_or_refused(value: bytes, headers: dict[str, bytes]) -> None:
    try:
        framed(headers, value)
    except DataError as why:
        assert why.code == "CP419"


def test_framings_are_written_as_they_are_read() -> None:
    assert framed({}, confluent(70_000, b"x")) == (Ref("id", "70000"), b"x")
    assert framed({}, single("00" * 8, b"x")) == (Ref("fingerprint", "00" * 8), b"x")


def test_fingerprints_that_somebody_makes_up_are_not_remembered() -> None:
    known = Schemas()
    for number in range(3):
        with pytest.raises(DataError, match="not one of this release"):
            known.writer(Ref("fingerprint", f"{number:016x}"))
        assert not known.knows(Ref("fingerprint", f"{number:016x}"))
