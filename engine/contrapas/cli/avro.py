"""Instance records from their Avro bytes, read by hand after `instance.avsc`, for commands that must begin at once.

The Avro library takes longer to import than a list may take to appear. What is read here is what
`core.envelope_avro.decode` reads; a test compares the two, and the fingerprint below, on every shape of record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import contrapas_schemas
from contrapas.errors import Damaged

if TYPE_CHECKING:
    from contrapas.core.envelope import InstanceRecord

_TUPLES = frozenset({"headers", "types"})
Reader = Callable[["_Bytes"], Any]


class Loose:
    """A record, or a part of one, as attributes; for lists, which make thousands and change none."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def decode(value: bytes) -> InstanceRecord:
    """The record. Damaged CP520 when the bytes are not one of this release."""
    record: InstanceRecord = _decode(value, _strict)
    return record


def loose(value: bytes) -> Any:
    """The same fields without the classes, which take longer to import than to read a page of records."""
    return _decode(value, _plain)


def _plain(name: str) -> Callable[..., Any]:
    return _pair if name == "Header" else Loose


def _strict(name: str) -> Callable[..., Any]:
    from contrapas.core import envelope

    if name == "Header":
        return _pair
    made: Callable[..., Any] = getattr(envelope, "InstanceRecord" if name == "Instance" else name)
    return made


def _pair(name: str, value: bytes) -> tuple[str, bytes]:
    return name, value


def _decode(value: bytes, classes: Callable[[str], Callable[..., Any]]) -> Any:
    magic, schema = _schema()
    if value[:10] != magic:
        raise Damaged(
            "CP520", "an instance record is not framed as one", expected=magic.hex(), got=value[:10].hex()
        )
    source = _Bytes(value)
    try:
        record = _reader(classes, schema)(source)
    except (IndexError, UnicodeDecodeError, MemoryError) as why:
        raise Damaged("CP520", f"an instance record does not decode: {why}"[:500]) from why
    if source.at != len(value):
        raise Damaged(
            "CP520",
            "an instance record has bytes after its end",
            expected=str(source.at),
            got=str(len(value)),
        )
    return record


class _Bytes:
    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 10

    def long(self) -> int:
        data, at = self.data, self.at
        byte = data[at]
        at += 1
        number = byte & 0x7F
        shift = 7
        while byte & 0x80:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
        self.at = at
        return (number >> 1) ^ -(number & 1)

    def bytes(self) -> bytes:
        size = self.long()
        at = self.at
        self.at = end = at + size
        if size < 0 or end > len(self.data):
            raise IndexError("a length reaches beyond the end")
        return self.data[at:end]

    def text(self) -> str:
        return str(self.bytes(), "utf-8")

    def boolean(self) -> bool:
        self.at += 1
        return self.data[self.at - 1] != 0

    def null(self) -> None:
        return None


_read: list[tuple[bytes, Any]] = []
_made: dict[Callable[[str], Callable[..., Any]], Reader] = {}


def _schema() -> tuple[bytes, Any]:
    """The ten bytes before every record, and the schema they stand for."""
    if not _read:
        path = os.path.join(os.path.dirname(contrapas_schemas.__file__), "avro", "instance.avsc")
        with open(path, encoding="utf-8") as file:
            schema: Any = json.load(file)
        _read.append((b"\xc3\x01" + crc64(canonical(schema, "").encode()).to_bytes(8, "little"), schema))
    return _read[0]


def canonical(schema: Any, space: str) -> str:
    """The parsing canonical form of a schema (Avro 1.12): full names, no documentation, fixed order."""
    if isinstance(schema, list):
        branches: list[Any] = list(schema)  # pyright: ignore[reportUnknownArgumentType]
        return "[" + ",".join(canonical(one, space) for one in branches) + "]"
    if isinstance(schema, str):
        plain = (
            schema in ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
            or "." in schema
        )
        return f'"{schema}"' if plain or not space else f'"{space}.{schema}"'
    match schema["type"]:
        case "record":
            space = schema.get("namespace", space)
            fields = ",".join(
                f'{{"name":"{f["name"]}","type":{canonical(f["type"], space)}}}' for f in schema["fields"]
            )
            return f'{{"name":"{space}.{schema["name"]}","type":"record","fields":[{fields}]}}'
        case "array":
            return f'{{"type":"array","items":{canonical(schema["items"], space)}}}'
        case "map":
            return f'{{"type":"map","values":{canonical(schema["values"], space)}}}'
        case inner:
            return canonical(inner, space)


def crc64(data: bytes) -> int:
    """CRC-64-AVRO, the Rabin fingerprint of the specification."""
    empty = 0xC15D213AA4D7A795
    table: list[int] = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (empty if number & 1 else 0)
        table.append(number)
    found = empty
    for byte in data:
        found = found >> 8 ^ table[(found ^ byte) & 0xFF]
    return found


def _reader(classes: Callable[[str], Callable[..., Any]], schema: Any) -> Reader:
    if classes not in _made:
        _made[classes] = _compile(schema, {}, classes)
    return _made[classes]


def _compile(schema: Any, named: dict[str, Reader], classes: Callable[[str], Callable[..., Any]]) -> Reader:
    if isinstance(schema, list):
        branches: list[Any] = list(schema)  # pyright: ignore[reportUnknownArgumentType]
        readers = [_compile(one, named, classes) for one in branches]
        return lambda b: readers[b.long()](b)
    about: dict[str, Any] = {"type": schema} if isinstance(schema, str) else schema
    kind = about["type"]
    match kind:
        case "string":
            return _Bytes.text
        case "bytes":
            return _Bytes.bytes
        case "long" | "int":
            return _Bytes.long
        case "boolean":
            return _Bytes.boolean
        case "null":
            return _Bytes.null
        case "array":
            return _array(_compile(about["items"], named, classes))
        case "map":
            return _map(_compile(about["values"], named, classes))
        case "record":
            return _record(about, named, classes)
        case str(name):
            return lambda b: named[name.rpartition(".")[2]](b)
        case inner:
            return _compile(inner, named, classes)


def _record(schema: Any, named: dict[str, Reader], classes: Callable[[str], Callable[..., Any]]) -> Reader:
    make = classes(schema["name"])
    parts: list[tuple[str, Reader, bool]] = []

    def read(b: _Bytes) -> Any:
        found = {name: tuple(reader(b)) if tuples else reader(b) for name, reader, tuples in parts}
        return make(**found)

    named[schema["name"]] = read
    for field in schema["fields"]:
        parts.append((field["name"], _compile(field["type"], named, classes), field["name"] in _TUPLES))
    return read


def _blocks(b: _Bytes) -> int:
    count = b.long()
    if count < 0:
        b.long()
        count = -count
    if count > len(b.data):
        raise IndexError("a count reaches beyond the end")
    return count


def _array(item: Reader) -> Reader:
    def read(b: _Bytes) -> list[Any]:
        found: list[Any] = []
        while count := _blocks(b):
            for _ in range(count):
                found.append(item(b))
        return found

    return read


def _map(value: Reader) -> Reader:
    def read(b: _Bytes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while count := _blocks(b):
            for _ in range(count):
                name = b.text()
                found[name] = value(b)
        return found

    return read
