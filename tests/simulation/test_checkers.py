"""The checkers are tested too: each takes a good history, and rejects every recorded bad one."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.core.lane import Record
from contrapas.testing.simulation.checkers import (
    Copy,
    Operation,
    Transfer,
    canary,
    census,
    copies,
    folded,
    history,
    ledger,
)
from contrapas.testing.simulation.shadow import Shadow

ALL = frozenset({"hold", "debit", "credit", "confirm"})
WHOLE = Transfer("t1", dict.fromkeys(ALL, "done"))
BACK = Transfer("t2", {"hold": "undone", "debit": "undone", "credit": "barred"})
A, B, C = Copy("n@1", "a", b"0", 0), Copy("n@2", "a", b"1", 1), Copy("m@1", "b", b"0", 0)


def _op(kind: Any, version: int, at: int, *, result: Any = "ok", key: str = "k", lasts: int = 1) -> Operation:
    return Operation("p", at, at + lasts, key, kind, version, result)


def test_money_that_is_all_there_passes() -> None:
    assert ledger({"a": 70, "b": 30}, 100, [WHOLE, BACK], ALL) == []


@pytest.mark.parametrize(
    ("balances", "transfers"),
    [
        ({"a": 70, "b": 31}, [WHOLE]),
        ({"a": 70, "b": 30}, [Transfer("t3", {"hold": "done", "debit": "done"})]),
        ({"a": 70, "b": 30}, [Transfer("t4", {**dict.fromkeys(ALL, "done"), "debit": "undone"})]),
        ({"a": 70}, [BACK]),
    ],
)
def test_money_that_is_not_all_there_is_found(balances: dict[str, int], transfers: list[Transfer]) -> None:
    assert ledger(balances, 100, transfers, ALL)


def test_one_copy_of_each_in_order_passes_repeats_included() -> None:
    assert copies({"a": 2, "b": 1}, [A, C, A, B, C]) == []


@pytest.mark.parametrize(
    "output",
    [
        [A, C],
        [B, A, C],
        [A, B, C, Copy("n@7", "a", b"1", 1)],
        [A, B, C, A._replace(value=b"9")],
    ],
    ids=["lost", "out of order", "twice under two ids", "other bytes under one id"],
)
def test_a_bad_copy_topology_is_found(output: list[Copy]) -> None:
    assert copies({"a": 2, "b": 1}, output)


def test_a_good_history_passes_and_an_unknown_write_may_have_happened_or_not() -> None:
    ops = [_op("write", 1, 0), _op("write", 2, 2, result="unknown"), _op("read", 1, 4), _op("read", 1, 6)]
    assert history(ops) == []
    assert history([*ops[:2], _op("read", 2, 4)]) == []


@pytest.mark.parametrize(
    "ops",
    [
        [_op("write", 1, 0), _op("write", 2, 2), _op("read", 1, 4)],
        [_op("write", 1, 0), _op("write", 1, 2)],
        [_op("write", 1, 0), _op("read", 2, 4)],
        [_op("write", 1, 0), _op("write", 2, 2, result="fail"), _op("read", 2, 4)],
        [_op("write", 1, 0), _op("write", 2, 2, result="unknown"), _op("read", 2, 4), _op("read", 1, 6)],
    ],
    ids=["lost", "acknowledged twice", "phantom", "aborted", "an unknown write both ways"],
)
def test_a_bad_history_is_found(ops: list[Operation]) -> None:
    assert history(ops)


@pytest.mark.parametrize(
    "theirs", [{b"a": b"1"}, {b"a": b"1", b"b": b"3"}, {b"a": b"1", b"b": b"2", b"c": b""}]
)
def test_folds_that_differ_are_found(theirs: dict[bytes, bytes | None]) -> None:
    mine: dict[bytes, bytes | None] = {b"a": b"1", b"b": b"2"}
    assert folded(mine, mine) == []
    assert folded(mine, theirs)


@pytest.mark.parametrize("became", [{"applied": 3}, {"applied": 3, "dead": 2}, {"applied": 5, "dead": -1}])
def test_an_input_without_an_end_is_found(became: dict[str, int]) -> None:
    assert census(4, {"applied": 3, "dead": 1}) == []
    assert census(4, became)


@pytest.mark.parametrize("text", ["card s3cret-ü", '{"card": "s3cret-\\xfc"}', "s3cret-ü".encode()])
def test_a_secret_that_got_out_is_found(text: str | bytes) -> None:
    assert canary(["s3cret-ü"], {"log": "nothing", "page": b"nothing"}) == []
    assert canary(["s3cret-ü"], {"log": "nothing", "page": text})


def _record(offset: int, version: int, epoch: int, cause: bytes = b"local") -> Record:
    headers = (
        ("cp-kind", b"instance"),
        ("cp-version", b"%d" % version),
        ("cp-epoch", b"%d" % epoch),
        ("cp-status", b"waiting"),
        ("cp-cause", cause),
    )
    return Record(0, offset, b"s/a", b"v%d" % version, headers, 0)


@pytest.mark.parametrize("bad", [_record(2, 2, 5), _record(2, 4, 5), _record(2, 1, 5)])
def test_the_shadow_fold_finds_a_version_twice_a_gap_and_a_step_back(bad: Record) -> None:
    shadow = Shadow()
    assert not shadow.see(_record(0, 1, 5)).wrong and not shadow.see(_record(1, 2, 5)).wrong
    assert shadow.see(bad).wrong


def test_the_shadow_fold_passes_over_a_former_owner_and_takes_the_heal() -> None:
    shadow = Shadow()
    shadow.see(_record(0, 1, 5))
    assert not shadow.see(_record(1, 2, 4)).counts and set(shadow.topped) == {b"s/a"}
    assert not shadow.see(_record(2, 3, 5, b"heal")).wrong and not shadow.topped
