"""The checkers themselves: each refuses bad histories, and passes good ones."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.core.envelope import Cause, InstanceRecord, Node, Pending
from tests.scenarios.busy import effects
from tests.scenarios.proof import Proof, Run, Written, doubled

KEY = "job/a/r1/book/1"


def written(
    version: int, at: int, *, pending: bool = False, settles: bool = False, run: str = "r1"
) -> Written:
    """A record of `job/a`."""
    operation = Pending(key=KEY, label="book", visit=1, kind="local", name="book") if pending else None
    cause = Cause(kind="result" if settles else "start", type="book", id=KEY if settles else "e1")
    more: dict[str, Any] = {"saga": "job", "key": "a", "epoch": 1, "writer": "w", "mode": "orchestrate"}
    record = InstanceRecord(
        instance="job/a",
        version=version,
        run=run,
        status="running",
        root=Node(pending=operation),
        cause=cause,
        at=at,
        started_at=0,
        **more,
    )
    return Written(0, at, record)


def proof(*records: Written) -> Proof:
    """What these records prove."""
    found = Proof()
    for one in records:
        found.take(one)
    return found


ISSUED, TRIED, SETTLED = (
    written(1, 1_000, pending=True),
    written(2, 1_500, pending=True, settles=True),
    written(3, 2_000, settles=True),
)


def ran(at: int, key: str = KEY) -> Run:
    """A run at this time."""
    return Run(at, "a", "book", key)


def test_runs_between_issue_and_result_are_right() -> None:
    assert proof(ISSUED, TRIED, SETTLED).faults([ran(1_000), ran(1_700), ran(2_000)]) == []
    assert proof(ISSUED).faults([ran(9_000)]) == []


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (ran(2_002), "ran 2 ms after its result was recorded"),
        (ran(990), "ran 10 ms before it was issued"),
        (ran(1_500, "job/a/r1/book/2"), "no record issued it"),
    ],
)
def test_a_run_outside_of_them_is_found(run: Run, words: str) -> None:
    (fault,) = proof(ISSUED, TRIED, SETTLED).faults([ran(1_001), run])
    assert words in fault


def test_a_result_that_is_tried_again_settles_nothing() -> None:
    assert proof(ISSUED, TRIED).faults([ran(5_000)]) == []


@pytest.mark.parametrize("versions", [(1, 1), (1, 3), (1, 2, 2, 3), (2, 1)])
def test_a_version_that_is_there_twice_or_not_at_all_is_found(versions: tuple[int, ...]) -> None:
    assert len(doubled([written(v, 0) for v in versions])) == 1
    assert doubled([written(1, 0), written(2, 0), written(1, 0, run="r2")]) == []


@pytest.mark.parametrize(
    "runs",
    [
        [("book", "1"), ("close", "2")],
        [("book", "1"), ("charge", "2"), ("close", "3"), ("unbook", "4")],
        [("book", "1"), ("charge", "2"), ("charge", "5"), ("close", "3")],
        [],
    ],
)
def test_an_effect_that_is_missing_left_over_or_doubled_is_found(runs: list[tuple[str, str]]) -> None:
    assert len(list(effects({"a": 1}, [], [Run(0, "a", what, key) for what, key in runs]))) == 1


def test_effects_repeated_under_one_key_are_one_effect() -> None:
    runs = [Run(0, "a", what, what) for what in ("book", "book", "charge", "charge", "close")]
    assert list(effects({"a": 1}, [], runs)) == []
