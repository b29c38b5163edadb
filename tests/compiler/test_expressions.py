"""Awaits inside expressions, assignments, comprehensions (tricky cases 30 to 46)."""

# The sagas here do on purpose what type checkers warn of: names perhaps unbound, types left open.
# mypy: disable-error-code="no-untyped-call"
# pyright: reportPossiblyUnboundVariable=false, reportUnnecessaryComparison=false, reportUnknownVariableType=false
# pyright: reportUnhashable=false
# ruff: noqa: PIE800, PIE804
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from tests.compiler.driver import echo, every, log, refusals_of, same


@step
def num(x: int = 0) -> int:
    return x


@step
def text(x: str) -> str:
    return x


@step
def many(x: list[int]) -> list[int]:
    return x


@step
def box(x: int) -> Box:
    return Box(n=x)


@dataclass
class Box:
    n: int
    items: list[int] = field(default_factory=list[int])

    def add(self, x: int, y: int = 0) -> int:
        self.items.append(x)
        return x + y + self.n


def three(a: Any = None, b: Any = None, c: Any = None, *rest: Any, **more: Any) -> str:
    return f"{a} {b} {c} {rest} {sorted(more.items())}"


def one(x: int) -> int:
    log("one", x)
    return x


@saga
async def argument_order(s: Saga, n: int) -> str:
    return three(one(1), await num(one(2)), one(3), k=await num(one(4)), j=one(5))


@saga
async def rebound_siblings(s: Saga, x: int) -> list[int]:
    a = x + (x := await num(10))
    b = [x, (x := 1), x, await num(20)]
    c = x + (x := await num(5)) * (x := x + 1)
    return [a, *b, c, x]


@saga
async def receiver(s: Saga, b: Box) -> list[int]:
    first = b
    b.items.append(await num(1))
    b.items.append((b := Box(n=5)).n + await num(2))
    return [*first.items, *b.items, b.n]


@saga
async def method_on_result(s: Saga, n: int) -> list[Any]:
    b = Box(n=1)
    got = [(await box(n)).add(await num(2)), b.add(await num(3), y=await num(4)), b.add(await num(n)) + b.n]
    return [*got, *b.items, math.floor(await num(7))]


@saga
async def unpacked(s: Saga, xs: list[int], d: dict[str, int]) -> list[str]:
    return [
        three(*xs, await num(1), k=one(2), **d, z=await num(3)),
        three(one(1), *xs, *await many([7, 8])),
        three(**d, c=await num(4)),
        three(*[await num(5)], **{"b": await num(6)}),
    ]


class Fancy:
    def __init__(self, x: int) -> None:
        self.x = x

    def __format__(self, spec: str) -> str:
        log("format", self.x, spec)
        return f"<{self.x}:{spec}>"


@saga
async def formatted(s: Saga, n: int) -> str:
    return f"{Fancy(1):a}{await num(n)!r:>{await num(5)}}|{n!s}{Fancy(2)}{await text('x')!r}{Fancy(3):{n}}"


@saga
async def compared(s: Saga, n: int) -> list[bool]:
    return [
        one(1) < await num(n) < one(5),
        await num(1) < n < await num(3) < one(9),
        0 < n <= await num(2),
        n in [1, await num(4)],
        await num(1) is not None,
        (not await num(0)) == True,  # noqa: E712
    ]


@dataclass
class Truth:
    """Its truth is asked for in the open."""

    name: str
    value: bool

    def __bool__(self) -> bool:
        if sys.version_info < (3, 12):  # later ones ask a nested `and` twice, the compiled saga never does
            log("bool", self.name)
        return self.value


@saga
async def short_circuit(s: Saga, n: int) -> list[Any]:
    a = Truth("a", n > 0) and await num(n) or await num(2)
    b = (await num(0) or await num(n)) and await num(5)
    if Truth("c", n > 1) and await num(n):
        b += 100
    c = await num(1) if Truth("d", n == 0) else await num(2) if await num(n) else 3
    return [a, b, c, (await num(n) if n else 9) + (1 if await num(n) else 2)]


@saga
async def augmented(s: Saga, n: int) -> list[Any]:
    d = {0: 1, 1: 2}
    d[one(n)] += await num(10)
    o = Box(n=3)
    o.n -= await num(1)
    items = [1]
    same_ = items
    items += [await num(4)]
    total = 1
    total *= await num(3)
    rows = [[1], [2]]
    rows[await num(n)] += [one(5)]
    rows[n][await num(0)] += await num(7)
    x = 5
    x += (x := await num(1)) + x
    return [d, o.n, items, same_ is items, total, rows, x]


@saga
async def targets(s: Saga, n: int) -> list[Any]:
    d: dict[int, int] = {}
    d[await num(1)] = await num(2)
    a, d[await num(3)], *r = await many([1, 2, 3, 4])
    x = y = await num(5)
    o = Box(n=0)
    o.n = z = await num(6)
    [p, (q, d[await num(9)])] = 1, (2, 3)
    w: int = await num(8)
    d[n], o.n = await num(7), a
    return [sorted(d.items()), a, r, x, y, o.n, z, p, q, w]


@saga
async def dict_display(s: Saga, n: int) -> Any:
    d = {1: one(1), **{5: 6}, await num(2): await num(3), n: one(4), **{1: await num(9)}, 7: one(8)}
    plain = {one(1): await num(2), await num(3): one(4)}
    try:
        return [d, plain, {[]: 1, **d, 2: await num(4)}]
    except TypeError as why:
        return [d, plain, str(why)]


@saga
async def subscripts(s: Saga, xs: list[int]) -> list[Any]:
    a = xs[one(1) : await num(3)]
    b = xs[await num(0)]
    c = xs[:: await num(2)]
    del xs[await num(1)]
    del xs[await num(0) : one(1)], a[await num(0)]
    xs[await num(0) : 1] = [await num(9), 8]
    return [a, b, c, xs]


@saga
async def unbound_first(s: Saga, n: int) -> str:
    if n:
        y = 1
    try:
        return three(y, await num(1))
    except UnboundLocalError:
        return "unbound"


@saga
async def comprehensions(s: Saga, n: int) -> list[Any]:
    x = 100
    a = [x + await num(x) for x in range(n)]
    b = {k: await num(v) for k, v in {"a": 1, "b": n}.items() if await num(v)}
    c = [[await num(i * j) for j in range(i)] for i in await many([1, 2, 3]) if i != n]
    d = sorted({await num(i % 2) for i in range(4)})
    e = [(last := await num(i)) for i in range(3)]
    f = [i * x for i in await many([1, 2])]
    g = sum(i for i in await many([3, 4]))
    h = {await num(i): one(i) for i in range(2)}
    i = [(p, q) for p in range(2) if p for q in range(await num(2)) if await num(q) == q]
    j = [await num(y) for y in [z + x for z in range(n)]]
    return [x, a, b, c, d, e, last, f, g, h, i, j]


@saga
async def closures(s: Saga, n: int) -> list[int]:
    base = n

    def plus(y: int, z: int = 2) -> int:
        return base + y + z

    twice = lambda y: plus(y) * 2  # noqa: E731
    a: int = plus(await num(1))
    base = 10
    await num(2)
    b: int = twice(1)
    count = 0

    def bump() -> int:
        nonlocal count
        count += 1
        return count

    before: int = bump()
    c = before + await num(bump()) + count
    bump()
    await num(3)
    d: int = count + bump()
    return [a, b, c, d, count]


@saga
async def touched(s: Saga, n: int) -> list[int]:
    f = Box(n=1).add
    return [f(1), (await num(2)) + n]


@saga
async def callee_slot(s: Saga, n: int) -> int:
    return (one if n else abs)(await num(n))


@saga
async def generator(s: Saga, xs: list[int]) -> list[int]:
    total = list(x * 2 for x in await many(xs))
    return [max(total, default=await num(0)), -await num(1), ~(await num(2)), *total]


@saga
async def tuples(s: Saga, n: int) -> Any:
    a = one(1), await num(2), *(await many([3, 4])), one(5)
    b = {one(1), await num(2)}
    c = [*a, *[one(6)], await num(7)]
    return [a, sorted(b), c, (await num(1),)[0]]


ALL: list[tuple[Any, ...]] = [
    (argument_order, 1),
    (rebound_siblings, 3),
    (receiver, Box(n=1)),
    (unpacked, [1, 2], {"b": 1, "y": 2}),
    (unpacked, [], {}),
    (formatted, 3),
    (compared, 0),
    (compared, 2),
    (compared, 9),
    (short_circuit, 0),
    (short_circuit, 1),
    (short_circuit, 2),
    (augmented, 0),
    (augmented, 1),
    (targets, 4),
    (dict_display, 3),
    (subscripts, [0, 1, 2, 3, 4, 5]),
    (unbound_first, 0),
    (unbound_first, 1),
    (comprehensions, 0),
    (comprehensions, 3),
    (closures, 3),
    (generator, [1, 2]),
    (tuples, 1),
]


@pytest.mark.parametrize("case", ALL, ids=lambda c: f"{c[0].name}-{c[1]}"[:40])
@pytest.mark.case(30, "`f(log(1), await a(log(2)), log(3))`")
@pytest.mark.case(31, "`x + (x := await f())`; `[x, (x := 1), x, await g()]`")
@pytest.mark.case(32, "`obj.items.append(await f())`, `obj` rebound in the argument")
@pytest.mark.case(34, "`f(*xs, await g(), k=h(), **d, z=await i())`")
@pytest.mark.case(35, "f-string: conversion, awaited width, `__format__` with effects")
@pytest.mark.case(36, "chained comparison cut short")
@pytest.mark.case(37, "`a and await b() or await c()`, counting `__bool__`")
@pytest.mark.case(38, "nested conditional expressions")
@pytest.mark.case(39, "`d[k()] += await v()`; `o.a -= await v()`; `l += [await v()]`")
@pytest.mark.case(40, "`d[await k()] = await v()`; `a, d[await k()], *r = await v()`; `a = b = await f()`")
@pytest.mark.case(41, "dict display, `**`, unhashable key")
@pytest.mark.case(42, "one awaited slice bound; `del l[await i()]`")
@pytest.mark.case(
    44,
    "comprehensions: shadowed name, nested, awaited condition or first iterable, walrus leak, native neighbour",
)
@pytest.mark.case(45, "lambda or `def` over a local changed after an await; `nonlocal` inside")
def test_an_expression_with_awaits_does_what_python_does(case: tuple[Any, ...]) -> None:
    sg, *args = case
    for fails in every(8 if sg is not comprehensions else 3):
        same(sg, echo(*fails), *args)


def boxes(op: Any, number: int) -> Any:
    return Box(n=op.value[0][0]) if op.name == "box" else op.value[0][0]


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.case(33, "`(await f()).m(await g())`; `(await f())(await g())`; conditional callee")
def test_methods_of_awaited_values_take_awaited_arguments(n: int) -> None:
    same(method_on_result, boxes, n)


@pytest.mark.case(33, "`(await f()).m(await g())`; `(await f())(await g())`; conditional callee")
@pytest.mark.case(55, "CP204 shows the expression")
def test_a_callee_that_must_be_kept_shows_its_expression() -> None:
    [found] = refusals_of(callee_slot)
    assert found.code == "CP204"
    assert "one if n else abs" in found.text


@pytest.mark.case(43, "unbound earlier argument: no step issued")
def test_an_unbound_earlier_argument_fails_before_a_step_is_issued() -> None:
    assert same(unbound_first, echo(), 0).operations == []


@pytest.mark.case(41, "dict display, `**`, unhashable key")
def test_an_unhashable_key_before_a_mapping_raises_before_the_step_is_issued() -> None:
    run = same(dict_display, echo(), 3)
    assert run.result[2] == "unhashable type: 'list'"
    assert "4" not in [o[2][2:3] for o in run.operations[5:]]
