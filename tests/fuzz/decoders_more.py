"""Decoders of what authors and other systems write: payload framings, Avro, slots, exceptions, letters and task words."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, Literal, NamedTuple, cast
from uuid import UUID

from pydantic import BaseModel

from contrapas.codec.framing import Ref, confluent, framed, single
from contrapas.codec.registry import Codec, Registry
from contrapas.codec.schemas import Schemas, Text, Writer, unframed
from contrapas.core import deadletter
from contrapas.core.lane import Headers, Record
from contrapas.core.letter import Letter, letter_of
from contrapas.errors import StepFailed
from contrapas.log.sqlite_rows import pack_headers, unpack_headers


class Hue(enum.Enum):
    RED = "red"
    BLUE = 2


class Spot(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Tree:
    name: str
    left: Tree | None = None
    more: tuple[int, ...] = ()


class Order(BaseModel):
    id: str
    cents: int
    rate: Decimal | None = None
    due: datetime | None = None
    kind: Literal["a", "b"] = "a"
    lines: list[dict[str, float]] = []


class Odd(StepFailed):
    pass


@cache
def types() -> Registry:
    """What the slots of these tests may hold."""
    found = Registry()
    for tp in (Hue, Spot, Tree, Order):
        found.add(tp)
    found.add_exception(Odd)
    return found


SLOTS: tuple[tuple[Any, Any], ...] = (
    (Order, Order(id="ü", cents=5, rate=Decimal("1.50"), lines=[{"a": 1.5}, {}])),
    (Tree, Tree("a", Tree("b", None, (1, 2)), (3,))),
    (dict[str, list[Order | Spot | None]], {"k": [None, Spot(1, -0.5), Order(id="x", cents=1, kind="b")]}),
    (tuple[int, ...] | str | bytes, b"\x00\xff"),
    (set[int], {1, 2, 3}),
    (frozenset[str], frozenset({"a", "b"})),
    (Hue | Decimal | UUID | None, UUID(int=7)),
    (list[tuple[datetime, Hue]], [(datetime(2026, 1, 2, 3, 4, 5), Hue.BLUE)]),
    (float | complex, float("inf")),
    (dict[int, Tree], {1: Tree("t")}),
    (range | slice | None, range(2, 9, 3)),
)


@cache
def codecs() -> tuple[Codec, ...]:
    """Of each of them that can be stored."""
    found = types()
    return tuple(found.codec(tp) for tp, _ in SLOTS if not found.can_store(tp))


def _kept() -> tuple[tuple[Any, Any], ...]:
    return tuple((tp, value) for tp, value in SLOTS if not types().can_store(tp))


def slot(data: bytes) -> tuple[int, str]:
    """A slot's text as it would be written again: which type, and the text. The first byte chooses the type."""
    number = data[0] % len(codecs()) if data else 0
    codec = codecs()[number]
    text = data[1:].decode(errors="replace")
    return number, codec.dump(codec.load(text))


def of_slot(found: tuple[int, str]) -> bytes:
    """The inverse."""
    return bytes([found[0]]) + found[1].encode()


def slots() -> tuple[bytes, ...]:
    """Good ones."""
    return tuple(of_slot((n, codecs()[n].dump(value))) for n, (_, value) in enumerate(_kept()))


def thrown(data: bytes) -> str:
    """The text of an exception as it would be written again."""
    found = types()
    return found.dump_exception(found.load_exception(data.decode(errors="replace")))


def exceptions() -> tuple[bytes, ...]:
    """Good ones."""
    found: list[bytes] = []
    inner = ValueError("ü", 3)
    outer = KeyError("k")
    outer.__cause__ = inner
    group = ExceptionGroup("both", [inner, ExceptionGroup("deep", [OSError(2, "no")])])
    for why in (
        inner,
        outer,
        group,
        Odd("declined"),
        StepFailed("no"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "r"),
    ):
        found.append(types().dump_exception(why).encode())
    return tuple(found)


_RECURSIVE = {
    "type": "record", "name": "Node", "fields": [
        {"name": "v", "type": ["null", "long", "string", {"type": "enum", "name": "E", "symbols": ["A", "B"]}]},
        {"name": "next", "type": ["null", "Node"]},
        {"name": "bag", "type": {"type": "map", "values": {"type": "array", "items": "null"}}},
    ],
}  # fmt: skip
_FLAT = {
    "type": "record", "name": "Flat", "fields": [
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "u", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "f", "type": {"type": "fixed", "name": "F", "size": 4}},
        {"name": "x", "type": "double"}, {"name": "b", "type": "boolean"},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    ],
}  # fmt: skip
TEXTS: tuple[Any, ...] = (_RECURSIVE, _FLAT, {"type": "array", "items": ["null", "string"]}, "bytes", {"type": "map", "values": "float"})  # fmt: skip


@cache
def schemas() -> Schemas:
    """A registry's answers, one schema that it refused among them."""
    found = Schemas(registry=False)
    for number, text in enumerate(TEXTS):
        found.put(Ref("id", str(number)), Text(json.dumps(text)))
    found.put(Ref("id", str(len(TEXTS))), Text('{"type": "object"}', "JSON"))
    found.put(Ref("id", "99"), None)
    return found


def _headed(data: bytes) -> tuple[Mapping[str, bytes], Headers, bytes]:
    try:
        size = int.from_bytes(data[:2], "big")
        headers = unpack_headers(data[2 : 2 + size])
    except ValueError:
        headers, size = (), 0
    return dict(headers), headers, data[2 + size :]


def of_headed(headers: Mapping[str, bytes], value: bytes) -> bytes:
    """A length, headers as the log packs them, the value."""
    packed = pack_headers(tuple(headers.items()))
    return len(packed).to_bytes(2, "big") + packed + value


def payload(data: bytes) -> bytes | None:
    """A payload in a registry's schema, as JSON; None: it says nothing of a schema."""
    headers, _, value = _headed(data)
    found = unframed(headers, value, schemas())
    if found is None:
        return None
    writer, body = found
    text = writer.as_json(body, base64=True)
    if writer.kind == "AVRO":
        json.loads(text)
    return text


def payloads() -> tuple[bytes, ...]:
    """Good ones."""
    import io

    from fastavro import parse_schema
    from fastavro import schemaless_writer as untyped  # pyright: ignore[reportUnknownVariableType]

    put = cast("Callable[[Any, Any, Any], None]", untyped)

    node = {"v": "A", "next": {"v": 5, "next": None, "bag": {"k": [None, None]}}, "bag": {}}
    flat = {"d": Decimal("1.25"), "t": 5, "u": str(UUID(int=3)), "f": b"abcd", "x": 1.5, "b": True, "day": 9}
    values: tuple[Any, ...] = (node, flat, ["a", None, "ü"], b"xyz", {"k": 1.0})
    found: list[bytes] = []
    for number, (text, value) in enumerate(zip(TEXTS, values, strict=True)):
        out = io.BytesIO()
        put(out, parse_schema(json.loads(json.dumps(text))), value)
        found.append(of_headed({}, confluent(number, out.getvalue())))
    return tuple(found)


def frames() -> tuple[bytes, ...]:
    """Every kind of frame, of schemas known or not."""
    return (
        *payloads(),
        of_headed({"content-type": b"application/json"}, b"{}"),
        of_headed({"content-type": b"avro/binary"}, single("00" * 8, b"x")),
        of_headed({"__value_schema_id": b"\x01" + bytes(16)}, b"x"),
    )


def framing(data: bytes) -> bytes:
    """What a frame says, written again in the frame that it has."""
    headers, _, value = _headed(data)
    found = framed(headers, value)
    if found is None or found[0].kind == "guid":
        return data
    ref, body = found
    made = confluent(int(ref.value), body) if ref.kind == "id" else single(ref.value, body)
    if made != value:
        raise AssertionError(f"{ref} is written as something else")
    return data


def schema(data: bytes) -> str:
    """A schema as a registry might give it: ready to read, and a payload of zeros is read or refused."""
    from contrapas.errors import DataError

    writer = Writer(Text(data.decode(errors="replace")))
    try:
        writer.plain(bytes(40))
    except DataError as why:
        if why.code not in ("CP403", "CP406", "CP410"):
            raise
    return writer.name


def schema_texts() -> tuple[bytes, ...]:
    """Good ones."""
    return tuple(json.dumps(text).encode() for text in TEXTS)


def letter(data: bytes) -> tuple[Letter | None, str, Record]:
    """What a dead letter says, and what it was before; headers as `_headed` reads them."""
    _, headers, value = _headed(data)
    record = Record(0, 5, b"k", value, headers, 1)
    return letter_of(record), *deadletter.restore(record, delivery="d-1")


def letters() -> tuple[bytes, ...]:
    """Good ones."""
    first = Record(0, 7, b"k", b"\x00{", (("x", b"1"), ("x", b"2")), 5)
    one = deadletter.dead_letter(first, namespace="desk", code="CP401", error="ü", at=1, lane="a.topic")
    large = Record(0, 7, b"k", bytes(deadletter.COPY_MAX + 1), (), 5)
    other = deadletter.dead_letter(large, namespace="desk", code="CP409", error="", at=1)
    packed = [pack_headers(draft.headers) for draft in (one, other)]
    values = (one.value or b"", other.value or b"")
    return tuple(len(p).to_bytes(2, "big") + p + v for p, v in zip(packed, values, strict=True))
