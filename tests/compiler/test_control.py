"""Control flow with awaits inside: conditions, loops, their `else`, jumps, `match` (tricky cases 1 to 10, 47, 48)."""

# The sagas here do on purpose what type checkers warn of: names perhaps unbound, types left open.
# mypy: disable-error-code="has-type, used-before-def, no-any-return, type-var"
# pyright: reportPossiblyUnboundVariable=false, reportUndefinedVariable=false, reportUnnecessaryComparison=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from tests.compiler.driver import echo, every, log, numbers, refusals_of, same


@step
def num(x: int = 0) -> int:
    return x


@step
def yes(x: bool) -> bool:
    return x


@saga
async def while_condition(s: Saga, n: int) -> int:
    i = total = 0
    while await num(i) < n:
        i += 1
        if i == 2:
            continue
        total += await num(i * 10)
        if total > 500:
            break
    else:
        log("else", total)
    return total


@pytest.mark.parametrize("n", [0, 1, 3, 5])
@pytest.mark.case(1, "awaiting `while` condition, `continue` first, `else`")
def test_an_awaiting_while_condition_is_asked_again_after_continue(n: int) -> None:
    run = same(while_condition, echo(), n)
    assert run.states.count("num") == n + 1


@saga
async def for_else(s: Saga, rows: list[list[int]]) -> str:
    said = ""
    for row in rows:
        for cell in row:
            if cell < 0:
                said += "b"
                break
            said += str(await num(cell))
        else:
            said += "e"
            continue
        said += "|"
    else:
        said += "."
    return said


@pytest.mark.parametrize("rows", [[], [[]], [[1, 2], [3, -1, 4], []], [[-1], [5]]])
@pytest.mark.case(2, "`for … else`, inner break, outer continue")
def test_for_else_runs_unless_broken_and_outer_continue_skips(rows: list[list[int]]) -> None:
    same(for_else, echo(), rows)


@saga
async def loop_variable(s: Saga, n: int) -> int:
    for i in range(n):
        await num(i)
    try:
        return i
    except UnboundLocalError:
        return -1


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.case(3, "loop variable after a loop, after an empty one")
def test_the_loop_variable_stays_after_a_loop_and_is_unbound_after_an_empty_one(n: int) -> None:
    assert same(loop_variable, echo(), n).result == n - 1


@saga
async def appended(s: Saga, todo: list[int]) -> list[int]:
    for item in todo:
        got = await num(item)
        if got < 3:
            todo.append(got + 1)
    return todo


@pytest.mark.case(4, "list appended to while iterated")
def test_what_is_appended_while_iterating_is_met() -> None:
    assert same(appended, echo(), [0, 5]).result == [0, 5, 1, 2, 3]


@saga
async def over_dict(s: Saga, table: dict[str, int]) -> list[str]:
    seen: list[str] = []
    for key in table:
        seen.append(f"{key}{await num(1)}")
    for key, value in table.items():
        seen.append(f"{key}{await num(value)}")
    for value in table.values():
        seen.append(str(value))
    return seen


@pytest.mark.case(5, "dict likewise, with and without awaits")
def test_a_dict_and_its_views_are_walked_in_order() -> None:
    same(over_dict, echo(), {"a": 1, "b": 2})


@saga
async def composed(s: Saga, xs: list[int], word: str) -> list[str]:
    seen: list[str] = []
    for i, (x, c) in enumerate(zip(xs, word, strict=False), 1):
        seen.append(f"{i}{x}{c}{await num(x)}")
    for x in reversed(xs):
        seen.append(str(await num(x)))
    for c in word:
        seen.append(c * await num(2))
    for x in sorted({1}):
        seen.append(str(await num(x)))
    for x in range(5, 0, -2):
        seen.append(str(await num(x)))
    for pair in zip(enumerate(xs), reversed(word)):
        seen.append(f"{pair}{await num(1)}")
    return seen


@pytest.mark.case(6, "nested `enumerate(zip(…))`, `reversed`, items, string, set; started iterator")
def test_enumerate_zip_reversed_and_range_keep_their_place() -> None:
    same(composed, echo(), [3, 4, 5], "ab")


@saga
async def started(s: Saga, xs: list[int]) -> int:
    total = 0
    walk = iter(xs)
    for x in walk:
        total += await num(x)
    return total


@pytest.mark.case(6, "nested `enumerate(zip(…))`, `reversed`, items, string, set; started iterator")
def test_a_started_iterator_is_refused() -> None:
    assert "CP125" in {r.code for r in refusals_of(started)}


@saga
async def nested_targets(s: Saga, pairs: list[tuple[int, list[int]]]) -> list[str]:
    seen: list[str] = []
    slots: dict[int, int] = {}
    for a, [b, *rest] in pairs:
        seen.append(f"{a}{b}{rest}{await num(b)}")
    for slots[await num(7)] in [1, 2]:
        seen.append(str(sorted(slots.items())))
    return seen


@pytest.mark.case(7, "nested, starred, awaiting loop targets")
def test_loop_targets_may_be_nested_starred_and_awaiting() -> None:
    same(nested_targets, echo(), [(1, [2, 3, 4]), (5, [6])])


@contextmanager
def opened(name: str) -> Generator[None]:
    log("enter", name)
    try:
        yield
    finally:
        log("leave", name)


@saga
async def out_of_with(s: Saga, n: int) -> int:
    total = 0
    for i in range(5):
        total += await num(i)
        with opened("w"):
            if i == n:
                break
            if i == 1:
                continue
            log("in", i)
        log("behind", i)
    return total


@pytest.mark.parametrize("n", [0, 1, 3, 9])
@pytest.mark.case(8, "`break` out of a native `with` in an exploded loop")
def test_break_leaves_a_native_with_in_an_exploded_loop(n: int) -> None:
    same(out_of_with, echo(), n)


@saga
async def return_from_native(s: Saga, n: int) -> int:
    await num(0)
    for i in range(10):
        for j in range(3):
            if i * 3 + j == n:
                return i
        else:
            log("else", i)
    return -1


@saga
async def return_through(s: Saga, n: int) -> int:
    try:
        for i in range(4):
            with opened(str(i)):
                for j in range(3):
                    if i * 3 + j == n:
                        return i * 100 + j
                else:
                    log("else", i)
        log("all")
    finally:
        log("fin", await num(5))
    return -1


@pytest.mark.parametrize("n", [0, 4, 11, 99])
@pytest.mark.case(9, "`return` from a native loop, suspending `finally` outside or not")
def test_return_leaves_native_loops_with_and_without_a_suspending_finally(n: int) -> None:
    same(return_from_native, echo(), n)
    same(return_through, echo(), n)


@saga
async def unreachable(s: Saga, n: int) -> int:
    await num(n)
    try:
        return later  # noqa: F821
    except UnboundLocalError:
        return 1
    later = 2  # noqa: F841


@pytest.mark.case(10, "only assignment unreachable")
def test_a_name_that_only_unreachable_code_binds_is_a_local() -> None:
    assert same(unreachable, echo(), 1).result == 1


class Got(Event, key="k"):
    k: str
    size: int


class Lost(Event, key="k"):
    k: str


@step
def fetch(x: int) -> Got | Lost | None:
    return None


@saga
async def matched(s: Saga, n: int) -> str:
    match await fetch(n):
        case Got(k=name, size=size) if size > 5:
            more = await num(size)
            return f"big {name} {more}"
        case Got(k=name):
            log("small", name, await num(1))
        case Lost():
            return f"lost {await num(3)}"
        case None:
            pass
        case other:
            log("other", other)
    try:
        return f"{name} {size}"
    except UnboundLocalError:
        return "unbound"


@pytest.mark.parametrize("value", [Got(k="a", size=9), Got(k="b", size=1), Lost(k="c"), None])
@pytest.mark.case(47, "captures bound though the case fails, alive across an await")
def test_bodies_of_a_match_may_await_and_captures_stay(value: object) -> None:
    same(matched, lambda op, n: value if n == 1 else n, 0)


@saga
async def patterns(s: Saga, data: dict[str, int], xs: list[int]) -> list[str]:
    seen: list[str] = []
    match log("subject", data):
        case {"a": a, **rest}:
            seen.append(f"{a}{sorted(rest)}{await num(a)}")
        case _:
            seen.append(f"none{await num(0)}")
    match xs:
        case [1, *middle, 9]:
            seen.append(f"{middle}{await num(1)}")
        case [first, second] | [first, _, second]:
            seen.append(f"{first}{second}{await num(2)}")
        case anything:
            seen.append(f"{anything}{await num(3)}")
    return seen


@pytest.mark.parametrize("xs", [[1, 5, 6, 9], [4, 5], [4, 5, 6], [], [1]])
@pytest.mark.case(48, "mapping rest, star, class pattern with effects; subject once; irrefutable case")
def test_mapping_rest_star_and_alternatives_bind(xs: list[int]) -> None:
    same(patterns, echo(), {"a": 1, "b": 2}, xs)
    same(patterns, echo(), {"b": 2}, xs)


@saga
async def empty(s: Saga, n: int) -> int:
    while True:
        n += 1
        if n > 3:
            return n
        if await yes(n > 2):
            break
    return n * 100


@pytest.mark.parametrize("n", [0, 2, 7])
def test_a_loop_without_end_ends_by_return_or_break(n: int) -> None:
    same(empty, echo(), n)


@saga
async def nothing(s: Saga, n: int) -> None:
    if n:
        await num(n)


def test_a_saga_may_end_without_a_value() -> None:
    assert same(nothing, numbers, 0).result is None
    assert same(nothing, numbers, 1).result is None


@saga
async def flags(s: Saga, n: int) -> str:
    said = ""
    for i in range(n):
        if await yes(i % 2 == 0) and (await yes(i > 2) or not await yes(i == 0)):
            said += "x"
        elif await yes(i == 1):
            said += "y"
        else:
            said += "z"
    return said


def test_conditions_are_cut_short_as_in_python() -> None:
    for fails in every(6):
        same(flags, echo(*fails), 5)
