"""Instance records from their Avro bytes, read by hand after `instance.avsc`, for commands that must begin at once.

The Avro library takes longer to import than a list may take to appear. What is read here is what
`core.envelope_avro.decode` reads; a test compares the two, and the fingerprint below, on every shape of record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import contrapas_schemas
from contrapas.core.envelope import (
    Cause,
    Frame,
    InstanceRecord,
    Join,
    Message,
    Node,
    Parked,
    Pending,
    UndoEntry,
    Unwinding,
)
from contrapas.errors import Damaged

MAGIC = b"\xc3\x01" + bytes.fromhex("cb79424c19c572fe")
_CLASSES: dict[str, Callable[..., Any]] = {
    "Instance": InstanceRecord,
    "Node": Node,
    "Frame": Frame,
    "Pending": Pending,
    "UndoEntry": UndoEntry,
    "Unwinding": Unwinding,
    "Join": Join,
    "Cause": Cause,
    "Message": Message,
    "Parked": Parked,
    "Header": lambda name, value: (name, value),
}
_TUPLES = frozenset({"headers", "types"})
Reader = Callable[["_Bytes"], Any]


def decode(value: bytes) -> InstanceRecord:
    """The record. Damaged CP520 when the bytes are not one of this release."""
    if value[:10] != MAGIC:
        raise Damaged("CP520", "an instance record is not framed as one", expected=MAGIC.hex(), got=value[:10].hex())
    source = _Bytes(value)
    try:
        record: InstanceRecord = _reader()(source)
    except (IndexError, UnicodeDecodeError, MemoryError) as why:
        raise Damaged("CP520", f"an instance record does not decode: {why}"[:500]) from why
    if source.at != len(value):
        raise Damaged("CP520", "an instance record has bytes after its end", expected=str(source.at), got=str(len(value)))
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


_made: list[Reader] = []


def _reader() -> Reader:
    if not _made:
        path = os.path.join(os.path.dirname(contrapas_schemas.__file__), "avro", "instance.avsc")
        with open(path, encoding="utf-8") as file:
            _made.append(_compile(json.load(file), {}))
    return _made[0]


def _compile(schema: Any, named: dict[str, Reader]) -> Reader:
    if isinstance(schema, list):
        readers = [_compile(one, named) for one in schema]
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
            return _array(_compile(schema["items"], named))
        case "map":
            return _map(_compile(schema["values"], named))
        case "record":
            return _record(schema, named)
        case name:
            if isinstance(name, str):
                return lambda b: named[name.rpartition(".")[2]](b)
            return _compile(name, named)


def _record(schema: Any, named: dict[str, Reader]) -> Reader:
    make = _CLASSES[schema["name"]]
    parts: list[tuple[str, Reader, bool]] = []

    def read(b: _Bytes) -> Any:
        found = {name: tuple(reader(b)) if tuples else reader(b) for name, reader, tuples in parts}
        return make(**found)

    named[schema["name"]] = read
    for field in schema["fields"]:
        parts.append((field["name"], _compile(field["type"], named), field["name"] in _TUPLES))
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
