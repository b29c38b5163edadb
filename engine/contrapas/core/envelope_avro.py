"""An instance record to Avro bytes and back: single-object framing, schema `contrapas_schemas/avro/instance.avsc`."""

from __future__ import annotations

import io
import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastavro import schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

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


@cache
def schema() -> tuple[Any, bytes]:
    """The parsed schema, and the ten bytes that every value begins with: `C3 01` and the CRC-64-AVRO fingerprint."""
    text = files("contrapas_schemas").joinpath("avro/instance.avsc").read_text()
    raw = json.loads(text)
    digest = fingerprint(to_parsing_canonical_form(parse_schema(raw)), "CRC-64-AVRO")
    return parse_schema(raw), b"\xc3\x01" + bytes.fromhex(digest)


def encode(record: InstanceRecord) -> bytes:
    """The record's value on the log lane."""
    parsed, magic = schema()
    out = io.BytesIO()
    out.write(magic)
    schemaless_writer(out, parsed, _record(record))
    return out.getvalue()


def decode(value: bytes) -> InstanceRecord:
    """Back from bytes. Damaged CP520 when they are not what `encode` wrote."""
    parsed, magic = schema()
    if value[:10] != magic:
        raise Damaged("CP520", "an instance record is not framed as one", expected=magic.hex(), got=value[:10].hex())
    source = io.BytesIO(value)
    source.seek(10)
    try:
        body: Any = schemaless_reader(source, parsed, None)
    except Exception as why:
        raise Damaged("CP520", f"an instance record does not decode: {why}"[:500]) from why
    if source.tell() != len(value):
        raise Damaged("CP520", "an instance record has bytes after its end", expected=str(source.tell()), got=str(len(value)))
    return _read(body)


_PLAIN_RECORD = tuple(
    n for n in InstanceRecord.__slots__ if n not in ("root", "cause", "kept", "out", "unsent", "owed", "binds", "parked")
)
_PENDING = tuple(Pending.__slots__)
_PLAIN_UNDO = tuple(n for n in UndoEntry.__slots__ if n not in ("pending", "branches"))


def _record(r: InstanceRecord) -> dict[str, Any]:
    made = {name: getattr(r, name) for name in _PLAIN_RECORD}
    made["root"] = _node(r.root)
    made["cause"] = _cause(r.cause)
    made["kept"] = [_cause(c) for c in r.kept]
    made["out"] = [_message(m) for m in r.out]
    made["unsent"] = [_message(m) for m in r.unsent]
    made["owed"] = [_undo(e) for e in r.owed]
    made["binds"] = [_pending(b) for b in r.binds]
    made["parked"] = None if r.parked is None else _parked(r.parked)
    return made


def _pending(p: Pending) -> dict[str, Any]:
    return {name: getattr(p, name) for name in _PENDING}


def _undo(e: UndoEntry) -> dict[str, Any]:
    made = {name: getattr(e, name) for name in _PLAIN_UNDO}
    made["pending"] = None if e.pending is None else _pending(e.pending)
    made["branches"] = [[_undo(inner) for inner in branch] for branch in e.branches]
    return made


def _node(n: Node) -> dict[str, Any]:
    return {
        "frames": [
            {"saga": f.saga, "graph": f.graph, "label": f.label, "slots": f.slots, "scopes": f.scopes, "undo": f.undo}
            for f in n.frames
        ],
        "pending": None if n.pending is None else _pending(n.pending),
        "undo": [_undo(e) for e in n.undo],
        "join": None if n.join is None else _join(n.join),
        "unwinding": None if n.unwinding is None else _unwinding(n.unwinding),
        "result": n.result,
        "error": n.error,
        "cancel": n.cancel,
    }


def _join(j: Join) -> dict[str, Any]:
    return {
        "kind": j.kind,
        "label": j.label,
        "visit": j.visit,
        "fail_fast": j.fail_fast,
        "children": [_node(child) for child in j.children],
        "done_order": j.done_order,
        "winner": j.winner,
        "thrown": j.thrown,
        "listed": j.listed,
    }


def _unwinding(u: Unwinding) -> dict[str, Any]:
    return {"floor": u.floor, "then": u.then, "cause": u.cause, "whole": u.whole}


def _cause(c: Cause) -> dict[str, Any]:
    return {
        "kind": c.kind,
        "type": c.type,
        "source": c.source,
        "id": c.id,
        "partition": c.partition,
        "offset": c.offset,
        "headers": [{"name": n, "value": v} for n, v in c.headers],
        "value": c.value,
        "note": c.note,
    }


def _message(m: Message) -> dict[str, Any]:
    return {
        "to": m.to,
        "key": m.key,
        "value": m.value,
        "headers": [{"name": n, "value": v} for n, v in m.headers],
        "id": m.id,
    }


def _parked(p: Parked) -> dict[str, Any]:
    return {
        "reason": p.reason,
        "code": p.code,
        "error": p.error,
        "trace": p.trace,
        "input": None if p.input is None else _cause(p.input),
        "status": p.status,
    }


def _read(body: dict[str, Any]) -> InstanceRecord:
    body["root"] = _read_node(body["root"])
    body["cause"] = _read_cause(body["cause"])
    body["kept"] = [_read_cause(c) for c in body["kept"]]
    body["out"] = [_read_message(m) for m in body["out"]]
    body["unsent"] = [_read_message(m) for m in body["unsent"]]
    body["owed"] = [_read_undo(e) for e in body["owed"]]
    body["binds"] = [_read_pending(b) for b in body["binds"]]
    parked = body["parked"]
    if parked is not None:
        parked["input"] = None if parked["input"] is None else _read_cause(parked["input"])
        body["parked"] = Parked(**parked)
    return InstanceRecord(**body)


def _read_pending(p: dict[str, Any]) -> Pending:
    p["types"] = tuple(p["types"])
    return Pending(**p)


def _read_undo(e: dict[str, Any]) -> UndoEntry:
    e["types"] = tuple(e["types"])
    e["pending"] = None if e["pending"] is None else _read_pending(e["pending"])
    e["branches"] = [[_read_undo(inner) for inner in branch] for branch in e["branches"]]
    return UndoEntry(**e)


def _read_node(n: dict[str, Any]) -> Node:
    n["frames"] = [Frame(**f) for f in n["frames"]]
    n["pending"] = None if n["pending"] is None else _read_pending(n["pending"])
    n["undo"] = [_read_undo(e) for e in n["undo"]]
    n["unwinding"] = None if n["unwinding"] is None else Unwinding(**n["unwinding"])
    join = n["join"]
    if join is not None:
        join["children"] = [_read_node(child) for child in join["children"]]
        n["join"] = Join(**join)
    return Node(**n)


def _headers(headers: list[dict[str, Any]]) -> tuple[tuple[str, bytes], ...]:
    return tuple([(h["name"], h["value"]) for h in headers])


def _read_cause(c: dict[str, Any]) -> Cause:
    c["headers"] = _headers(c["headers"])
    return Cause(**c)


def _read_message(m: dict[str, Any]) -> Message:
    m["headers"] = _headers(m["headers"])
    return Message(**m)
