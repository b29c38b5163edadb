"""A rendezvous to Avro bytes and back: single-object framing, as every record of ours on the log lane."""

from __future__ import annotations

import io
import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastavro import schemaless_reader, schemaless_writer  # pyright: ignore[reportUnknownVariableType]
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from contrapas.core.envelope import Cause
from contrapas.core.rendezvous import Bind, Early, Rendezvous
from contrapas.errors import Damaged


@cache
def _schema() -> tuple[Any, bytes]:
    text = files("contrapas_schemas").joinpath("avro/rendezvous.avsc").read_text()
    parsed = parse_schema(json.loads(text))
    digest = fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO")
    return parsed, b"\xc3\x01" + bytes.fromhex(digest)


def encode(r: Rendezvous) -> bytes:
    """The record's value."""
    schema, magic = _schema()
    out = io.BytesIO()
    out.write(magic)
    schemaless_writer(
        out,
        schema,
        {
            "type": r.type,
            "value": r.value,
            "version": r.version,
            "epoch": r.epoch,
            "writer": r.writer,
            "at": r.at,
            "until": r.until,
            "binds": [
                {
                    "wait_id": b.wait_id,
                    "instance": b.instance,
                    "since": b.since,
                    "event": b.event,
                    "tries": b.tries,
                    "next": b.next,
                    "passed": b.passed,
                }
                for b in r.binds
            ],
            "early": [_early(e) for e in r.early],
            "positions": r.positions,
            "seen": r.seen,
        },
    )
    return out.getvalue()


def decode(value: bytes) -> Rendezvous:
    """Back from bytes. Damaged CP520 when they are not what `encode` wrote."""
    schema, magic = _schema()
    if value[:10] != magic:
        raise Damaged(
            "CP520", "a rendezvous record is not framed as one", expected=magic.hex(), got=value[:10].hex()
        )
    try:
        source = io.BytesIO(value[10:])
        body: Any = schemaless_reader(source, schema, None)
    except Exception as why:
        raise Damaged("CP520", f"a rendezvous record does not decode: {why}"[:500]) from why
    if (end := source.tell() + 10) != len(value):
        raise Damaged(
            "CP520", "a rendezvous record has another length", expected=str(end), got=str(len(value))
        )
    return Rendezvous(
        type=body["type"],
        value=body["value"],
        version=body["version"],
        epoch=body["epoch"],
        writer=body["writer"],
        at=body["at"],
        until=body["until"],
        binds=[Bind(**b) for b in body["binds"]],
        early=[
            Early(
                id=e["id"],
                until=e["until"],
                cause=Cause(
                    kind="event",
                    type=body["type"],
                    source=e["source"],
                    partition=e["partition"],
                    offset=e["offset"],
                    headers=tuple((h["name"], h["value"]) for h in e["headers"]),
                    value=e["payload"],
                    id=e["id"],
                ),
            )
            for e in body["early"]
        ],
        positions=body["positions"],
        seen=body["seen"],
    )


def _early(e: Early) -> dict[str, Any]:
    c = e.cause
    return {
        "id": e.id,
        "until": e.until,
        "source": c.source,
        "partition": c.partition,
        "offset": c.offset,
        "headers": [{"name": n, "value": v} for n, v in c.headers],
        "payload": c.value,
    }
