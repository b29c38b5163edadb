"""A cancel, a kill and the deadline at every transition of every form, alone, on top of one another, and before a crash (X9, X10,
case 66, 98). The function itself runs beside the compiled form wherever no crash forgets it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.runtime.struck import FORMS, Act, End, walked

ENDS: Final = {
    # what became of it when something came after its first, second, … commit
    "begins": ("ccccccccdd",) * 3,
    "joins": ("cccccccd",) * 3,
    "blocks": ("ccccccd",) * 3,
    "maps": ("ccccccccd",) * 3,
    "parents": ("ccccccd",) * 3,
    "links": ("cccd",) * 3,
    "calls": ("ccccccccd",) * 3,
    "asks": ("cccd",) * 3,
    "answers": ("cccccd",) * 3,
    "delivers": ("cccd",) * 3,
    "restarts": ("dddccd",) * 3,  # the first run is taken back, and the kept start begins another
    "compensates": ("cccccccc",) * 3,
    "handles": ("cccccd",) * 3,
    "settles": ("cccccc",) * 3,
    "parks": ("cccd",) * 3,
    "pivots": ("ccddd",) * 3,  # refused behind the point of no return
}
ACTS: Final[tuple[Act, ...]] = ("cancel", "kill", "deadline")


def holds(end: End, plain: End) -> None:
    """What is true of every end."""
    record = end.record
    assert record.status in ("compensated", "done", "settling"), (record.status, record.parked)
    if record.status == "compensated":
        assert end.took <= end.back, "an effect stands though it is reported as taken back"
    elif record.status == "done":
        assert end.took - end.back >= plain.took - plain.back - {f"a{n}" for n in range(3)}
    else:
        labels = {entry.label for entry in record.owed}
        assert labels, "it settles, and owes nothing"
    versions = [r.version for r in end.history]
    assert versions == sorted(set(versions))
    assert set(end.others.values()) <= {"done", "compensated", "failed", "waiting", "settling"}


@pytest.mark.case(66, "cancel in body, handler, `finally`, undo, branch")
@pytest.mark.case(98, "restart: unwinding, settling, parked, past the pivot")
@pytest.mark.parametrize("one", FORMS, ids=lambda f: f.name)
async def test_whatever_comes_after_any_transition_ends_as_the_table_says(one: Any) -> None:
    plain = await walked(one)
    found: list[str] = []
    for act in ACTS:
        letters = ""
        for n in range(1, plain.commits + 1):
            end = await walked(one, (n, act))
            holds(end, plain)
            assert end.record.status != "settling"
            assert act != "kill" or not end.said or one.name == "blocks", "a kill ran a handler"
            letters += end.letter
        found.append(letters)
    assert tuple(found) == ENDS[one.name]


@pytest.mark.parametrize("one", FORMS, ids=lambda f: f.name)
async def test_a_kill_ends_what_a_cancel_or_the_deadline_began(one: Any) -> None:
    plain = await walked(one)
    pairs: tuple[tuple[Act, Act], ...] = (("cancel", "kill"), ("deadline", "cancel"))
    for act, second in pairs:
        for n in range(1, plain.commits + 1):
            holds(await walked(one, (n, act), (n + 1, second)), plain)


@pytest.mark.parametrize("one", FORMS, ids=lambda f: f.name)
async def test_a_crash_right_after_it_changes_nothing_but_what_nobody_can_know(one: Any) -> None:
    """The result of a step that was given up dies with the process: its undo is owed, and nobody reports it as done."""
    plain = await walked(one)
    several: tuple[tuple[Act, str], ...] = (("cancel", "after"), ("kill", "before"), ("deadline", "after"))
    for act, when in several:
        for n in range(1, plain.commits + 1):
            holds(await walked(one, (n, act), crash=(n + 1, when)), plain)


@pytest.mark.case(65, "duplicate, unknown, older reply")
@pytest.mark.parametrize("one", FORMS, ids=lambda f: f.name)
async def test_whatever_comes_twice_changes_nothing(one: Any) -> None:
    """After every transition all messages so far come once more, under their ids."""
    plain = await walked(one)
    for n in range(1, plain.commits + 1):
        end = await walked(one, (n, "again"))
        assert (end.record.status, end.record.outcome_body) == (
            plain.record.status,
            plain.record.outcome_body,
        )
        assert (end.took, end.back, end.others) == (plain.took, plain.back, plain.others)
