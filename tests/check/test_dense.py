"""Sagas with many ways through them are drawn and explored within bounds, and what is missing is said."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas import Saga, StepFailed, Timeout, saga, step
from contrapas.check.explore import explore
from contrapas.draw import edges
from contrapas.draw.edges import graph_of, program_of
from contrapas.draw.segment import Walker
from contrapas.draw.text import text
from tests.check.compiled import machines
from tests.check.wrong import Answered, Asked, BookSeat, UnbookSeat


@step
async def num(n: int) -> int:
    return n


@saga
async def scopes_in_a_loop(s: Saga, e: Asked) -> Answered:
    total = 0
    while total < 100:
        total += sum(await s.step(s.all(num(total), num(5)), within="2h"))
    return Answered(id=e.id)


@saga
async def flights_in_a_loop(s: Saga, e: Asked) -> Answered:
    total = 0
    for _ in e.id:
        flying = [s.begin(num(n)) for n in (1, 2, 3)]
        while flying:
            done = await s.next(*flying, within="1h")
            if isinstance(done, Timeout):
                for one in flying:
                    one.cancel()
                break
            flying.remove(done)
            try:
                total += await done
            except StepFailed:
                total -= 1
    return Answered(id=e.id)


@saga
async def steps_in_a_loop(s: Saga, e: Asked) -> Answered:
    total = 0
    while total < 9:
        if await num(1):
            await num(2)
        if await num(3):
            await s.step(BookSeat(id=e.id), within="1m", undo=UnbookSeat(id=e.id))
        if await num(4):
            total += sum(await s.all(num(5), num(6)))
        try:
            await num(7)
        except StepFailed:
            total += await num(8)
    return Answered(id=e.id)


@pytest.mark.parametrize("one", (scopes_in_a_loop, flights_in_a_loop, steps_in_a_loop), ids=lambda s: s.name)
def test_a_loop_round_scopes_flights_and_steps_stays_small(one: Any) -> None:
    made = machines(one)[one.name]
    walker = Walker(program_of(made))
    assert not graph_of(made, walker).partial
    found = explore(made.name, {made.name: walker}, limit=4_000)
    assert found.complete, len(found.parents)


def test_a_picture_that_would_need_too_much_has_every_arrow_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = machines(steps_in_a_loop)["steps_in_a_loop"]
    whole = graph_of(made)
    monkeypatch.setattr(edges, "LIMIT", 22)
    part = graph_of(made)
    assert {(e.source, e.target, e.cause) for e in part.edges} == {
        (e.source, e.target, e.cause) for e in whole.edges
    }
    assert "what is taken back may be more than is shown" in text(part)


def test_a_picture_that_cannot_even_have_every_arrow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "LIMIT", 5)
    assert "arrows may be missing" in text(graph_of(machines(steps_in_a_loop)["steps_in_a_loop"]))


@saga
async def undos_in_a_loop(s: Saga, e: Asked) -> Answered:
    for _ in range(5):
        luck = await num(1)
        try:
            if luck:
                await s.step(BookSeat(id=e.id), undo=UnbookSeat(id=e.id), within="1m", label="first")
            if luck > 1:
                await s.step(BookSeat(id=e.id), undo=UnbookSeat(id=e.id), within="1m", label="second")
            if luck > 2:
                await s.step(BookSeat(id=e.id), undo=UnbookSeat(id=e.id), within="1m", label="third")
        except StepFailed:
            continue
    return Answered(id=e.id)


def test_undos_of_a_loop_that_may_lie_in_any_order_are_explored_to_the_end() -> None:
    found = explore(
        "undos_in_a_loop", {n: Walker(program_of(m)) for n, m in machines(undos_in_a_loop).items()}
    )
    assert found.complete and len(found.parents) < 10_000
    stacks = {e.label for config in found.parents for e in config.stack if e.undo}
    assert stacks == {"first", "second", "third"}
