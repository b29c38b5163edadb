"""Decoders under bytes that nobody wrote: only documented errors, in time, in little memory, and back to the same."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastavro import schemaless_reader  # pyright: ignore[reportUnknownVariableType]
from hypothesis import strategies as st

from contrapas.core.deadletter import dead_letter, restore
from contrapas.core.envelope import Begun, Frame, InstanceRecord, Node
from contrapas.core.envelope_avro import decode, encode, schema
from contrapas.core.envelope_read import Reader
from contrapas.core.lane import Record
from contrapas.errors import Damaged
from tests.core.test_envelope import made, plain
from tests.fuzz.decoders import Decoder, coded, decoders
from tests.fuzz.fuzzing import BASE, TIMES, damaged, fuzz, in_time, peak_of

CORPUS = Path(__file__).parent / "corpus"
"""Inputs that once broke something: `<decoder>/<what it was>.hex`."""


def read(decoder: Decoder, data: bytes) -> Any:
    """What it reads, None where it refuses as it documents."""
    try:
        return decoder.read(data)
    except Exception as why:
        if coded(why) in decoder.codes or (not decoder.codes and type(why) is ValueError):
            return None
        raise


def holds(decoder: Decoder, data: bytes) -> None:
    """Everything that is promised of one input."""
    found = in_time(lambda: read(decoder, data))
    if found is not None and decoder.write is not None:
        written = decoder.write(found)
        assert decoder.read(written) == found
        assert decoder.write(decoder.read(written)) == written


def target(name: str) -> Callable[[], None]:
    """The fuzz test of one decoder."""
    decoder = decoders()[name]

    @fuzz(80, st.one_of(damaged(decoder.seeds), st.binary(max_size=400)))
    def run(data: bytes) -> None:
        holds(decoder, data)

    return run


@pytest.mark.parametrize("name", decoders())
def test_a_decoder_reads_or_refuses_as_it_documents(name: str) -> None:
    target(name)()


@pytest.mark.parametrize("name", decoders())
def test_what_was_written_is_read_back_equal(name: str) -> None:
    decoder = decoders()[name]
    for seed in decoder.seeds:
        assert (found := read(decoder, seed)) is not None
        if decoder.write is not None:
            assert decoder.read(decoder.write(found)) == found


@pytest.mark.parametrize("name", decoders())
def test_a_decoder_takes_little_memory(name: str) -> None:
    decoder = decoders()[name]

    @fuzz(12, damaged(decoder.seeds))
    def run(data: bytes) -> None:
        allowed = BASE + TIMES * len(data)
        assert peak_of(lambda: read(decoder, data)) < allowed

    run()


def nested(levels: int) -> bytes:
    """A record of operations in flight inside of operations in flight."""
    node = Node()
    for _ in range(levels):
        begun = Begun(label="b", visit="1", depth=0, node=node)
        node = Node(frames=[Frame(saga="s", graph="g", label="l", slots={}, begun=[begun])])
    record = made(InstanceRecord, random.Random(3))
    record.root = node
    return encode(record)


def test_a_record_nested_until_the_stack_ends_is_damaged() -> None:
    with pytest.raises(Damaged):
        decode(nested(190))


@pytest.mark.parametrize("number", [b"\xff" * 9 + b"\x7f", b"\x80" * 9 + b"\x02"])
def test_a_number_of_more_than_64_bits_is_damaged(number: bytes) -> None:
    for name in ("control", "instance"):
        decoder = decoders()[name]
        with pytest.raises(Damaged):
            decoder.read(decoder.seeds[0][:10] + number + decoder.seeds[0][11:])
    with pytest.raises(ValueError, match="64 bits"):
        Reader(number, 0).long()


def test_bytes_left_over_behind_a_rendezvous_are_damage() -> None:
    decoder = decoders()["rendezvous"]
    with pytest.raises(Damaged, match="length"):
        decoder.read(decoder.seeds[0] + b"\x00")


def test_a_dead_letter_that_was_one_before_keeps_what_it_said_then() -> None:
    first = Record(0, 1, b"k-1", b"{", (("x", b"1"),), 5)
    once = dead_letter(first, namespace="desk", code="CP401", error="no", at=1, lane="a.topic")
    letter = Record(0, 2, once.key, once.value, once.headers, 6)
    twice = dead_letter(letter, namespace="desk", code="CP402", error="no", at=2, lane="desk.dlq")
    _, again = restore(Record(0, 3, twice.key, twice.value, twice.headers, 7), delivery="d")
    assert again.headers[:-1] == once.headers
    topic, original = restore(again._replace(headers=again.headers[:-1]), delivery="d")
    assert (topic, original.headers[:-1]) == ("a.topic", first.headers)


STRICT = schema()[0]


@fuzz(120, damaged(decoders()["instance"].seeds))
def test_what_is_accepted_is_what_a_strict_reader_of_avro_reads(data: bytes) -> None:
    try:
        found = decode(data)
    except Damaged:
        return
    body: Any = schemaless_reader(io.BytesIO(data[10:]), STRICT, None)
    assert body == plain(found)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*.hex")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_what_once_broke_a_decoder_does_not_any_more(path: Path) -> None:
    holds(decoders()[path.parent.name], bytes.fromhex(path.read_text()))
