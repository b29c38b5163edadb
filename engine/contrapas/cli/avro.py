"""Instance records from their Avro bytes, read by hand after `instance.avsc`, for commands that must begin at once.

The Avro library takes longer to import than a list may take to appear. What is read here is what
`core.envelope_avro.decode` reads; a test compares the two, and the fingerprint below, on every shape of record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import contrapas_schemas
from contrapas.errors import Damaged

if TYPE_CHECKING:
    from contrapas.core.envelope import InstanceRecord

MAGIC = b"\xc3\x01" + bytes.fromhex("cb79424c19c572fe")
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
    if value[:10] != MAGIC:
        raise Damaged(
            "CP520", "an instance record is not framed as one", expected=MAGIC.hex(), got=value[:10].hex()
        )
    source = _Bytes(value)
    try:
        record = _reader(classes)(source)
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


_made: dict[Callable[[str], Callable[..., Any]], Reader] = {}


def _reader(classes: Callable[[str], Callable[..., Any]]) -> Reader:
    if classes not in _made:
        path = os.path.join(os.path.dirname(contrapas_schemas.__file__), "avro", "instance.avsc")
        with open(path, encoding="utf-8") as file:
            _made[classes] = _compile(json.load(file), {}, classes)
    return _made[classes]


def _compile(schema: Any, named: dict[str, Reader], classes: Callable[[str], Callable[..., Any]]) -> Reader:
    if isinstance(schema, list):
        readers = [_compile(one, named, classes) for one in cast("list[Any]", schema)]
        return lambda b: readers[b.long()](b)
    kind = schema if isinstance(schema, str) else schema["type"]
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
            return _array(_compile(schema["items"], named, classes))
        case "map":
            return _map(_compile(schema["values"], named, classes))
        case "record":
            return _record(schema, named, classes)
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
