"""A debugger stops where the author's lines are (G4, case 78), and the error of a saga shows its line."""

from __future__ import annotations

import bdb
import traceback
from types import FrameType
from typing import Any

import pytest

from contrapas.author.saga import Activation, Saga, SagaDef, saga
from contrapas.author.step import step
from contrapas.errors import StepFailed
from contrapas.machine import Machine
from tests.compiler.driver import Script, compiled, echo, machines_of, native

WORDS = "breakpoints on an await, in a loop, in a handler hit once; line of an error from before an await"


@step
def num(x: int = 0) -> int:
    return x


def quiet(x: int) -> int:
    return x


@saga
async def stops(s: Saga, n: int) -> int:
    total = quiet(n)
    first = await num(1)  # await
    for i in range(3):
        total += quiet(i)  # native line of a loop
        got = await num(i)  # await in a loop
        total += got
    try:
        got = await num(  # await of several lines
            quiet(first),
        )
        raise ValueError(total + got)
    except ValueError as why:
        total += len(why.args)  # native line of a handler
        got = await num(2)  # await in a handler
        total += got
    finally:
        await num(3)  # await in a finally
    total += await num(4)  # await in an expression
    return total  # end


class Stops(bdb.Bdb):
    """Counts the stops at one line of one file."""

    def __init__(self, file: str, line: int) -> None:
        super().__init__()
        self.hits = 0
        self.values: list[int] = []
        self.line = line
        assert self.set_break(file, line) is None

    def user_line(self, frame: FrameType) -> None:
        if frame.f_lineno == self.line and self.break_here(frame):
            self.hits += 1
            self.values.append(frame.f_locals.get("total", -1))
        self.set_continue()


def line_of(sg: SagaDef[..., Any], mark: str) -> int:
    """The line that ends in `# mark`."""
    with open(__file__, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if number > sg.fn.__code__.co_firstlineno and line.rstrip().endswith(f"# {mark}"):
                return number
    raise AssertionError(mark)


def stopped(line: int, run: Any) -> tuple[int, list[int]]:
    """Hits of a breakpoint while `run` runs, and `total` at each."""
    debugger = Stops(__file__, line)
    try:
        debugger.runcall(run)
    finally:
        debugger.clear_all_breaks()
    return debugger.hits, debugger.values


@pytest.mark.case(78, WORDS)
@pytest.mark.parametrize(
    ("mark", "hits"),
    [
        ("await", 1),
        ("native line of a loop", 3),
        ("await in a loop", 3),
        ("await of several lines", 2),
        ("native line of a handler", 1),
        ("await in a handler", 1),
        ("await in a finally", 1),
        ("await in an expression", 2),
        ("end", 1),
    ],
)
def test_a_breakpoint_is_hit_as_often_as_natively_and_sees_the_locals(mark: str, hits: int) -> None:
    machines = machines_of(stops)
    script: Script = echo()
    line = line_of(stops, mark)
    ours = stopped(line, lambda: compiled(machines, "stops", (5,), script))
    theirs = stopped(line, lambda: native(stops, (5,), script, {}))
    assert ours[0] == hits
    if mark == "await in an expression":  # once to issue, once to go on with what may fail there
        assert theirs[0] == 1
    else:
        assert ours == theirs


@saga
async def fails_at_once(s: Saga, n: int) -> int:
    total = n
    total //= n - n  # before any await
    return await num(total)


@saga
async def fails_in_a_handler(s: Saga, n: int) -> int:
    try:
        await num(1)
    except StepFailed as why:
        raise KeyError(n) from why  # in a handler
    return n


def raised_at(machine: Machine, run: Any) -> str:
    """The source line of the innermost frame of what is raised."""
    try:
        run()
    except BaseException as why:  # noqa: BLE001  whatever it raises
        return str(traceback.extract_tb(why.__traceback__)[-1].line)
    raise AssertionError("nothing was raised")


@pytest.mark.case(78, WORDS)
def test_an_error_shows_the_line_of_the_author_before_an_await_and_in_a_handler() -> None:
    s = Saga(Activation("k", "x/k"))
    machine = machines_of(fails_at_once)["fails_at_once"]
    function: Any = machine.function
    assert (
        raised_at(machine, lambda: function(0, None, None, {"n": 1}, s))
        == "total //= n - n  # before any await"
    )
    handler = machines_of(fails_in_a_handler)["fails_in_a_handler"]
    other: Any = handler.function
    _, index, _, slots = other(0, None, None, {"n": 1}, s)
    assert (
        raised_at(handler, lambda: other(index, None, StepFailed("no"), slots, s))
        == "raise KeyError(n) from why  # in a handler"
    )
