"""Lines of the generated function are the author's: coverage, breakpoints, tracebacks (G4, G5, cases 78 and 79)."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest

from contrapas.author.saga import Activation, Saga, SagaDef, saga
from contrapas.author.step import step
from contrapas.errors import StepFailed
from tests.compiler import test_control, test_expressions, test_tries
from tests.compiler.driver import compiled, echo, every, machines_of, native


@step
def num(x: int = 0) -> int:
    return x


def lines_of(codes: set[CodeType], run: Callable[[], Any]) -> set[int]:
    """Lines that `run` executes in some code objects, those of the `def` left out."""
    seen: set[int] = set()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code in codes:
            if event == "line":
                seen.add(frame.f_lineno)
            return trace
        return None

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(None)
    return seen


CASES: list[tuple[SagaDef[..., Any], Any]] = [
    (test_control.while_condition, 3),
    (test_control.for_else, [[1, 2], [3, -1, 4], []]),
    (test_control.return_through, 4),
    (test_control.matched, 0),
    (test_tries.three_exits, 4),
    (test_tries.nested, 2),
    (test_tries.handler_types, "tuple"),
    (test_tries.name_unbound, 4),
    (test_tries.bare_raise, 2),
    (test_tries.deep, 2),
    (test_tries.seen_exceptions, 1),
    (test_expressions.targets, 4),
    (test_expressions.augmented, 1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0].name)
@pytest.mark.case(79, "line coverage equal to native; rewritten asserts")
def test_the_lines_that_run_are_those_that_run_natively(case: tuple[SagaDef[..., Any], Any]) -> None:
    sg, argument = case
    if sg is test_tries.nested and sys.version_info < (3, 12):
        pytest.skip("3.11 counts the raise that ends a finally as run whenever an exception leaves it")
    machine = machines_of(sg)[sg.name]
    first = machine.line
    for fails in every(4):
        script = echo(*fails)
        left = lines_of({sg.fn.__code__}, lambda: native(sg, (argument,), script, {}))  # noqa: B023
        right = lines_of(
            {machine.function.__code__},  # type: ignore[union-attr]
            lambda: compiled({sg.name: machine}, sg.name, (argument,), script),  # noqa: B023
        )
        assert {n for n in right if n > first} == {n for n in left if n > first}, fails


@saga
async def fails_late(s: Saga, n: int) -> int:
    total = n
    await num(1)
    return 1 // (total - n)


@pytest.mark.case(
    78, "breakpoints on an await, in a loop, in a handler hit once; line of an error from before an await"
)
def test_a_traceback_shows_the_authors_lines() -> None:
    machine = machines_of(fails_late)["fails_late"]
    assert machine.function is not None
    s = Saga(Activation("k", "x/k"))
    _, index, _, slots = machine.function(0, None, None, {"n": 1}, s)
    with pytest.raises(ZeroDivisionError) as caught:
        machine.function(index, 1, None, slots, s)
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.name, last.line) == ("fails_late", "return 1 // (total - n)")
    assert last.filename == __file__


def test_a_failure_thrown_in_carries_the_line_of_its_await() -> None:
    machine = machines_of(fails_late)["fails_late"]
    assert machine.function is not None
    s = Saga(Activation("k", "x/k"))
    _, index, _, slots = machine.function(0, None, None, {"n": 1}, s)
    with pytest.raises(StepFailed) as caught:
        machine.function(index, None, StepFailed("no"), slots, s)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].line == "await num(1)"


@pytest.mark.case(
    78, "breakpoints on an await, in a loop, in a handler hit once; line of an error from before an await"
)
def test_a_line_in_a_loop_is_met_once_in_each_turn() -> None:
    sg = test_control.while_condition
    machine = machines_of(sg)[sg.name]
    function = machine.function
    assert function is not None
    hits: list[int] = []
    awaited = machine.states["num#2"].line

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code is function.__code__ and event == "line" and frame.f_lineno == awaited:
            hits.append(frame.f_lineno)
        return trace

    sys.settrace(trace)
    try:
        run = compiled({sg.name: machine}, sg.name, (3,), echo())
    finally:
        sys.settrace(None)
    assert run.states.count("num#2") == 2
    assert len(hits) == 4  # once to issue, once to bind the result
