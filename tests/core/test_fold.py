"""The fold's table, row by row, and control records as bytes."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import fastavro.schema
import pytest

import contrapas_schemas
from contrapas.core.control import (
    FINGERPRINT,
    decode_control,
    encode_control,
    is_control,
    merge_cursor,
    new_control,
    record_headers,
)
from contrapas.core.fold import Fold, Verdict, damage, fold
from contrapas.core.lane import Control, Headers, Record
from contrapas.errors import Damaged

FLOOR = 100


def rec(
    offset: int,
    version: int,
    epoch: int,
    value: bytes | None = b"v",
    *,
    key: bytes = b"k",
    cause: bytes = b"local",
) -> Record:
    headers: Headers = (("cp-version", b"%d" % version), ("cp-epoch", b"%d" % epoch), ("cp-cause", cause))
    return Record(0, offset, key, value, headers, 0)


def judged(*records: Record, floor: int = FLOOR) -> tuple[list[Verdict], Fold]:
    judge = Fold(floor=floor)
    return [judge.judge(record) for record in records], judge


def test_versions_that_follow_each_other_apply() -> None:
    verdicts, judge = judged(rec(200, 1, 5), rec(201, 2, 5), rec(202, 3, 6))
    assert verdicts == [Verdict.APPLIED] * 3
    assert judge.known == {b"k": 3} and judge.epoch == 6


def test_a_lower_epoch_loses_and_its_key_is_owed_a_heal_above_both() -> None:
    verdicts, judge = judged(rec(200, 1, 5), rec(201, 1, 6, key=b"l"), rec(202, 7, 5))
    assert verdicts[-1] is Verdict.LOSER
    assert judge.known[b"k"] == 1 and judge.owed == {b"k": 7} and judge.losers == 1
    assert judge.judge(rec(203, 2, 6)) is Verdict.APPLIED
    assert judge.owed == {b"k": 7}, "not above the loser's version: still owed"
    assert judge.judge(rec(204, 8, 6, cause=b"heal")) is Verdict.APPLIED
    assert judge.owed == {} and judge.known[b"k"] == 8


def test_while_a_heal_is_owed_versions_may_jump() -> None:
    verdicts, judge = judged(rec(200, 1, 6), rec(201, 4, 5), rec(202, 5, 6))
    assert verdicts == [Verdict.APPLIED, Verdict.LOSER, Verdict.APPLIED] and not judge.owed


@pytest.mark.parametrize("headers", [(), (("cp-version", b"2"),), (("cp-version", b"2"), ("cp-epoch", b"x"))])
def test_a_tombstone_or_record_without_a_readable_epoch_loses(headers: Headers) -> None:
    judge = Fold(floor=FLOOR)
    judge.judge(rec(200, 1, 5))
    for value in (None, b"v"):
        assert judge.judge(Record(0, 201, b"k", value, headers, 0)) is Verdict.LOSER
    assert judge.known == {b"k": 1} and b"k" in judge.owed


def test_the_owner_s_tombstone_removes_and_heals_and_the_next_run_begins_at_one() -> None:
    verdicts, judge = judged(rec(200, 1, 6), rec(201, 9, 5), rec(202, 0, 6, None), rec(203, 1, 6))
    assert verdicts == [Verdict.APPLIED, Verdict.LOSER, Verdict.REMOVED, Verdict.APPLIED]
    assert judge.owed == {} and judge.known == {b"k": 1}


def test_below_the_floor_versions_jump_up_and_never_down() -> None:
    verdicts, judge = judged(rec(10, 4, 5), rec(11, 9, 5), rec(12, 9, 5), rec(13, 3, 5), rec(200, 10, 5))
    assert verdicts == [Verdict.APPLIED, Verdict.APPLIED, Verdict.STALE, Verdict.STALE, Verdict.APPLIED]
    assert judge.stale == 2 and judge.error is None


@pytest.mark.parametrize("version", [1, 3, 9])
def test_a_gap_or_a_repeat_younger_than_the_floor_stops_the_partition(version: int) -> None:
    verdicts, judge = judged(rec(200, 1, 5), rec(201, version, 5))
    assert verdicts[-1] is Verdict.STOP
    assert judge.error is not None and judge.error.code == "CP509" and judge.error.place == "log/0@201"
    with pytest.raises(Damaged, match="CP509"):
        fold([rec(200, 1, 5), rec(201, version, 5)], floor=FLOOR)


def test_an_unknown_instance_younger_than_the_floor_begins_at_one() -> None:
    assert judged(rec(200, 2, 5))[0] == [Verdict.STOP]
    assert judged(rec(99, 2, 5))[0] == [Verdict.APPLIED]


def test_records_without_a_version_are_judged_by_epoch_alone() -> None:
    judge = Fold(floor=0)
    graph = Record(0, 1, b"$graph/x", b"{}", (("cp-epoch", b"3"), ("cp-kind", b"graph")), 0)
    assert judge.judge(graph) is Verdict.APPLIED
    assert judge.judge(graph._replace(offset=2)) is Verdict.APPLIED
    assert judge.judge(graph._replace(offset=3, headers=(("cp-epoch", b"2"),))) is Verdict.LOSER


def test_claims_raise_the_epoch_and_void_ones_do_not() -> None:
    judge = Fold(floor=0)

    def control(epoch: int, at: int) -> Record:
        value = encode_control(
            new_control(8)._replace(epoch=epoch, cursor={("in@1", 0): at}, owner=f"w{epoch}")
        )
        return Record(0, at, b"$claim/%d" % at, value, record_headers("claim", epoch, value), 0)

    assert judge.judge(control(5, 9)) is Verdict.CONTROL
    assert judge.judge(control(7, 4)) is Verdict.CONTROL
    assert judge.judge(control(6, 20)) is Verdict.VOID
    assert judge.epoch == 7 and judge.control is not None
    assert judge.control.owner == "w7" and judge.control.cursor == {("in@1", 0): 9}, "the larger per source"
    assert judge.owed == {}


def test_a_checksum_that_differs_is_named_with_its_place() -> None:
    good = Record(3, 7, b"k", b"value", record_headers("instance", 1, b"value"), 0)
    assert damage(good) is None and damage(good._replace(value=None)) is None
    bad = damage(good._replace(value=b"valuE"), "shop.log")
    assert bad is not None
    assert (bad.code, bad.place, bad.expected) == ("CP520", "shop.log/3@7", "1d775834")
    assert damage(good._replace(headers=())) is not None


CONTROL = Control(
    1 << 40, "wörker", 24, 2, 9, {("in@1", 0): 0, ("orders@x", 23): 1 << 47}, 77, 3, '{"a":1}', 5
)


@pytest.mark.parametrize(
    "control", [new_control(8), CONTROL, CONTROL._replace(cursor={("t", n): n for n in range(500)})]
)
def test_a_control_record_reads_back_and_any_avro_reader_reads_it(control: Control) -> None:
    data = encode_control(control)
    assert decode_control(data) == control
    schema = json.loads((Path(contrapas_schemas.__file__).parent / "avro" / "control.avsc").read_text())
    assert (
        fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
        == FINGERPRINT.hex()
    )
    reader: Any = vars(fastavro)["schemaless_reader"]
    read: dict[str, Any] = reader(BytesIO(data[10:]), schema, None)
    assert {(s["source"], s["partition"]): s["offset"] for s in read.pop("cursor")} == control.cursor
    assert read == {k: v for k, v in control._asdict().items() if k != "cursor"}


def test_every_cut_or_lengthened_control_record_is_damage() -> None:
    data = encode_control(CONTROL)
    for cut in range(len(data)):
        with pytest.raises(Damaged, match="CP520"):
            decode_control(data[:cut], place="shop.log/1@2")
    with pytest.raises(Damaged, match="CP520"):
        decode_control(data + b"\0")


def test_a_cursor_is_only_ever_moved_forward() -> None:
    found = CONTROL._replace(cursor={("a", 0): 5, ("b", 0): 7})
    new = CONTROL._replace(cursor={("a", 0): 9, ("b", 0): 6})
    assert merge_cursor(found, new).cursor == {("a", 0): 9, ("b", 0): 7}
    assert merge_cursor(new, new) is new


def test_control_keys_are_known_by_their_names() -> None:
    assert is_control(rec(0, 0, 0, key=b"$part")) and is_control(rec(0, 0, 0, key=b"$claim/ab"))
    assert not is_control(rec(0, 0, 0, key=b"$graph/x"))
