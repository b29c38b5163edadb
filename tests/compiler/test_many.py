# mypy: ignore-errors
# type: ignore
"""`s.map` in the source: what it is called, what type it gives, and what is refused."""

# ruff: noqa
from __future__ import annotations

from typing import Any

import pytest

from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.author.timeout import Failed
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_all, compile_saga
from contrapas.machine import Machine
from tests.compiler.driver import refusals_of


@step
def num(x: int = 0) -> int:
    return x


@step
def two(x: int, y: int) -> int:
    return x + y


@step
def nothing() -> None: ...


@step(undo=lambda n: num(n))
def made(x: str) -> int:
    return 1


@saga
async def inner(s: Saga, x: int) -> int:
    return await num(x)


async def plain(x: int) -> int:
    return x


@saga
async def good(s: Saga, xs: list[int]) -> int:
    a = await s.map(num, xs)
    b = await s.map(num, xs, on_error="collect", concurrency=3, rate="5/s")
    c = await s.step(s.map(made, ["x"]), within="1m", undo=None)
    await s.sleep("1s")
    return len(a) + len(b) + len(c)


def test_a_map_is_a_state_of_its_own() -> None:
    machine = compile_saga(good, registry=Registry())
    assert isinstance(machine, Machine)
    assert list(machine.states) == ["map(num)", "map(num)#2", "map(made)", "sleep"]
    assert machine.states["map(num)"].operation == "map num"
    assert {n: s.type_text for n, s in machine.slots.items()} == {
        "xs": "list[int]", "a": "list[int]", "b": "list[int | Failed]", "c": "list[int]",
    }  # fmt: skip


class Told(Event, key="k"):
    k: str


@saga
async def pivoting(s: Saga, x: int) -> int:
    s.point_of_no_return()
    return await num(x)


@saga
async def waiting(s: Saga, x: int) -> int:
    await s.wait(Told, within="1d")
    return x


@saga
async def bare(s: Saga) -> int:
    return await num(1)


@saga
async def calling(s: Saga, x: int) -> int:
    await num(x)
    return await waiting(s, x)


@saga
async def over_pivot(s: Saga, xs: list[int]) -> None:
    await s.map(pivoting, xs)


@saga
async def over_waiting(s: Saga, xs: list[int]) -> None:
    await s.map(waiting, xs)


@saga
async def over_calling(s: Saga, xs: list[int]) -> None:
    await s.all(s.map(calling, xs), num(1))


@saga
async def over_bare(s: Saga, xs: list[int]) -> None:
    await s.map(bare, xs)


@saga
async def over_saga(s: Saga, xs: list[int]) -> int:
    a = await s.map(inner, xs)
    b = await s.step(s.map(inner, xs, on_error="collect"), within="1m")
    await s.sleep("1s")
    return len(a) + len(b)


def test_a_map_over_a_saga_is_a_state_and_its_saga_is_compiled_with_it() -> None:
    machines = compile_all([over_saga], registry=Registry()).machines
    machine = machines["over_saga"]
    assert list(machine.states) == ["map(inner)", "map(inner)#2", "join", "unwind", "sleep"]
    assert machine.states["map(inner)"].operation == "map saga inner"
    assert (
        machine.slots["a"].type_text == "list[int]" and machine.slots["b"].type_text == "list[int | Failed]"
    )
    assert "inner" in machines


@saga
async def over_plain(s: Saga, xs: list[int]) -> None:
    await s.map(plain, xs)


@saga
async def over_two(s: Saga, xs: list[int]) -> None:
    await s.map(two, xs)


@saga
async def over_none(s: Saga, xs: list[int]) -> None:
    await s.map(nothing, xs)


@saga
async def no_items(s: Saga, xs: list[int]) -> None:
    await s.map(num)


@saga
async def chosen(s: Saga, xs: list[int]) -> None:
    await s.map(num if xs else made, xs)


@saga
async def bad_rate(s: Saga, xs: list[int]) -> None:
    await s.map(num, xs, rate="often")


@saga
async def bad_concurrency(s: Saga, xs: list[int]) -> None:
    await s.map(num, xs, concurrency=0)


@saga
async def bad_error(s: Saga, xs: list[int]) -> None:
    await s.map(num, xs, on_error="ignore")


@saga
async def whole_undo(s: Saga, xs: list[int]) -> None:
    await s.step(s.map(num, xs), undo=lambda ok: num(len(ok)))


@saga
async def same_undo(s: Saga, xs: list[int]) -> None:
    await s.map(num, xs, undo=num(1))


@saga
async def blind_undo(s: Saga, xs: list[int]) -> None:
    await s.map(inner, xs, undo=lambda ok: num(1))


@saga
async def own_undos(s: Saga, xs: list[int]) -> None:
    await s.map(num, xs, undo=lambda ok: num(ok + len(xs)))
    await s.map(inner, xs, undo=lambda ok: num(ok), on_error="collect")
    await s.map(made, ["x"], undo=None)


def test_an_undo_of_a_map_is_compiled_over_the_result_of_one_item() -> None:
    machine = compile_all([own_undos], registry=Registry()).machines["own_undos"]
    assert {u.of: [c.name for c in u.captures] for u in machine.undos.values()} == {
        "map(num)": ["xs"], "map(inner)": [],
    }  # fmt: skip
    assert machine.states["map(num)"].undos == ("undo(map(num))",)


@saga
async def never_awaited(s: Saga, xs: list[int]) -> None:
    s.map(num, xs)


class Begin(Event, key="k"):
    k: str


class Other(Event, key="k"):
    k: str


@saga
async def child(s: Saga, e: Begin | int) -> Other | None:
    return None


@saga
async def begins(s: Saga, e: Begin) -> Other | None:
    made = e if e.k else Begin(k="x")
    await s.child(child, Begin(k="a"), undo=None)
    got = await s.child(child, e, within="1m", label="kid")
    await s.sleep("1s")
    return got


def test_a_child_is_a_state_of_its_own() -> None:
    machine = compile_saga(begins, registry=Registry())
    assert isinstance(machine, Machine)
    assert list(machine.states) == ["child(child)", "kid", "sleep"]
    assert machine.states["kid"].operation == "child child" and machine.states["kid"].within == "1m"
    assert machine.slots["got"].type_text == "Other | None"


@saga
async def child_of_step(s: Saga, e: Begin) -> None:
    await s.child(num, e)


@saga
async def child_of_nothing(s: Saga, e: Begin) -> None:
    await s.child(child)


@saga
async def child_of_another(s: Saga, e: Begin) -> None:
    await s.child(child, Other(k="a"))


@saga
async def child_of_what(s: Saga, e: Begin) -> None:
    await s.child(child, [e][0])


@saga
async def child_forgotten(s: Saga, e: Begin) -> None:
    s.child(child, e)


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (child_of_step, "CP101"), (child_of_nothing, "CP101"), (child_of_another, "CP207"), (child_of_what, "CP207"),
        (child_forgotten, "CP117"),
        (over_pivot, "CP119"), (over_waiting, "CP127"), (over_calling, "CP127"), (over_bare, "CP101"), (over_plain, "CP101"), (over_two, "CP101"), (over_none, "CP101"), (no_items, "CP101"),
        (chosen, "CP101"), (bad_rate, "CP850"), (bad_concurrency, "CP850"), (bad_error, "CP850"), (whole_undo, "CP118"), (same_undo, "CP118"), (blind_undo, "CP118"),
        (never_awaited, "CP117"),
    ],
)  # fmt: skip
def test_what_is_no_map_is_refused(one: Any, code: str) -> None:
    assert code in [r.code for r in refusals_of(one)]


@saga
async def only_the_good(s: Saga, n: int) -> int:
    found = await s.map(num, range(n), on_error="collect")
    good = [n for n in found if not isinstance(n, Failed) and n > 1]
    bad = {why.reason for why in found if isinstance(why, (Failed, ValueError))}
    some = [n for n in [None, *good] if n is not None]
    await s.sleep("1m")
    return len(good) + len(bad) + len(some)


def test_a_comprehension_that_asks_for_the_class_has_the_type_of_what_is_left() -> None:
    slots = compile_saga(only_the_good, registry=Registry()).slots
    assert slots["good"].type_text == "list[int]" == slots["some"].type_text
    assert slots["bad"].type_text == "set[str]"
