"""The record's bytes: equal to what fastavro writes, readable by Apache avro, damaged ones told apart."""

from __future__ import annotations

import io
import json
import random
from dataclasses import fields, is_dataclass
from importlib.resources import files
from typing import Any, get_args, get_origin, get_type_hints

import avro.io
import avro.schema
import fastavro
import pytest

from contrapas.core import envelope
from contrapas.core.copies import copy_cause, copy_frame, copy_pending, copy_record, copy_undo
from contrapas.core.envelope import Cause, Frame, InstanceRecord, Node
from contrapas.core.envelope_avro import decode, encode, schema
from contrapas.core.headers import headers_of
from contrapas.core.timers import next_deadline, timers
from contrapas.errors import Damaged

WORDS = ["", "x", "ChargeCard", "ü∀", "a" * 130, "b" * 20_000]


def drawn(tp: Any, rng: random.Random, depth: int = 0) -> Any:
    """A value of an annotation."""
    origin = get_origin(tp)
    if origin in (list, tuple):
        inner = get_args(tp)
        if origin is tuple and inner[-1] is not Ellipsis:
            return tuple(drawn(t, rng, depth) for t in inner)
        items = [drawn(inner[0], rng, depth + 1) for _ in range(rng.choice([0, 0, 1, 2]) if depth < 4 else 0)]
        return items if origin is list else tuple(items)
    if origin is dict:
        inner = get_args(tp)
        return {
            drawn(inner[0], rng, depth): drawn(inner[1], rng, depth) for _ in range(rng.choice([0, 1, 3]))
        }
    if type(None) in get_args(tp):
        chosen = next(t for t in get_args(tp) if t is not type(None))
        return None if depth > 3 or rng.random() < 0.5 else drawn(chosen, rng, depth + 1)
    if is_dataclass(tp):
        return made(tp, rng, depth + 1)
    if tp is bool:
        return rng.random() < 0.5
    if tp is int:
        return rng.choice([0, 1, -1, 63, 64, 20_000, 1_700_000_000_000, 2**63 - 1, -(2**63)])
    if tp is bytes:
        return rng.randbytes(rng.choice([0, 3, 200]))
    assert tp is str, tp
    return rng.choice(WORDS)


def made(cls: Any, rng: random.Random, depth: int = 0) -> Any:
    hints = get_type_hints(cls, dict(vars(envelope)))
    values = {f.name: drawn(hints[f.name], rng, depth) for f in fields(cls) if f.compare}
    if cls is InstanceRecord:
        values["seen"] = [rng.randbytes(16) for _ in range(rng.choice([0, 1, 64]))]
    return cls(**values)


def plain(value: Any) -> Any:
    """As fastavro takes it."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.compare}
    if isinstance(value, dict):
        texts: dict[str, Any] = {**value}
        return {k: plain(v) for k, v in texts.items()}
    if isinstance(value, (list, tuple)):
        items: list[Any] = [*value]
        if items and isinstance(items[0], tuple):
            return [{"name": n, "value": v} for n, v in items]
        return [plain(v) for v in items]
    return value


@pytest.mark.parametrize("seed", range(60))
def test_bytes_are_those_of_fastavro_and_come_back_equal(seed: int) -> None:
    """R3: equal state, equal bytes; the hand-written codec and the schema file agree."""
    record: InstanceRecord = made(InstanceRecord, random.Random(seed))
    value = encode(record)
    out = io.BytesIO()
    write: Any = getattr(fastavro, "schemaless_writer")  # noqa: B009  its types are partly unknown
    write(out, schema()[0], plain(record))
    assert value == schema()[1] + out.getvalue()
    again = decode(value)
    assert again == record and encode(again) == value


@pytest.mark.parametrize("seed", range(5))
def test_apache_avro_reads_a_record(seed: int) -> None:
    """The schema is plain Avro: any consumer in any language can read it."""
    record: InstanceRecord = made(InstanceRecord, random.Random(seed))
    text = files("contrapas_schemas").joinpath("avro/instance.avsc").read_text()
    reader = avro.io.DatumReader(avro.schema.parse(text))
    body: Any = reader.read(avro.io.BinaryDecoder(io.BytesIO(encode(record)[10:])))
    assert body == plain(record)


def test_the_framing_is_avros_single_object() -> None:
    text = files("contrapas_schemas").joinpath("avro/instance.avsc").read_text()
    parsed = avro.schema.parse(text)
    assert encode(small())[:2] == b"\xc3\x01"
    assert encode(small())[2:10] == parsed.fingerprint("CRC-64-AVRO")
    assert json.loads(text)["namespace"] == "contrapas.log"


def small() -> InstanceRecord:
    return InstanceRecord(
        instance="place_order/o-9",
        saga="place_order",
        key="o-9",
        version=3,
        epoch=7,
        writer="w",
        run="0a0b0c0d",
        mode="orchestrate",
        status="waiting",
        root=Node(frames=[Frame(saga="place_order", graph="g", label="ChargeCard", slots={})]),
        cause=Cause(kind="event", type="X", source="orders.events@t", partition=3, offset=1871),
        at=1,
        started_at=1,
    )


def test_a_copy_has_every_field_and_shares_no_list() -> None:
    """The copies are written out by hand: none of their fields may be forgotten."""
    for seed in range(5):
        record: InstanceRecord = made(InstanceRecord, random.Random(seed))
        copy = copy_record(record)
        copy.out = list(record.out)
        assert copy == record
        assert (
            copy.root is not record.root
            and copy.root.undo is not record.root.undo
            and copy.kept is not record.kept
        )
        for one in (copy_pending, copy_undo, copy_frame, copy_cause):
            drawn_one = made(next(iter(get_type_hints(one).values())), random.Random(seed))
            made_one: Any = one(drawn_one)
            assert made_one == drawn_one and made_one is not drawn_one


def test_headers_are_an_index_of_the_body() -> None:
    record = small()
    record.deadline = 99
    value = encode(record)
    headers = dict(headers_of(record, value))
    assert headers["cp-kind"] == b"instance" and headers["cp-cause"] == b"orders.events@t/3@1871"
    assert (headers["cp-version"], headers["cp-epoch"]) == (b"3", b"7")
    assert (headers["cp-status"], headers["cp-state"], headers["cp-deadline"]) == (
        b"waiting",
        b"ChargeCard",
        b"99",
    )
    assert "cp-out" not in headers and len(headers["cp-sum"]) == 8


def test_cut_changed_and_foreign_bytes_are_damage_and_nothing_else() -> None:
    """B-14, R8: never another exception, never a record out of thin air."""
    value = encode(made(InstanceRecord, random.Random(1)))
    for end in (0, 5, 11, 40, len(value) // 2, len(value) - 1):
        with pytest.raises(Damaged):
            decode(value[:end])
    with pytest.raises(Damaged):
        decode(value + b"\x00")
    rng = random.Random(2)
    for _ in range(300):
        spoiled = bytearray(value)
        spoiled[rng.randrange(10, len(value))] ^= 1 << rng.randrange(8)
        try:
            decode(bytes(spoiled))
        except Damaged as why:
            assert why.code == "CP520"


@pytest.mark.parametrize("seed", range(300))
def test_the_next_deadline_is_the_earliest_timer(seed: int) -> None:
    """The shortcut for records without timers knows every kind of timer that there is."""
    rng = random.Random(seed)
    record: InstanceRecord = made(InstanceRecord, rng)
    if seed % 3:  # the usual shape, with one thing set
        plain = small()
        pending: envelope.Pending = made(envelope.Pending, rng)
        pending.deadline = pending.retry_at = pending.each_at = None
        plain.root.pending = pending
        one = ["talk", "deadline", "owed", "binds", "retain_until", "again", "cancelled_at"]
        for name in rng.sample(one, 2):
            setattr(plain, name, getattr(record, name))
        if rng.random() < 0.5:
            plain.root.limit = record.root.limit
            plain.root.frames = record.root.frames
        record = plain
    times = [timer.at for timer in timers(record)]
    assert next_deadline(record) == (min(times) if times else None)
