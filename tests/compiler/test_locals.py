"""What lives across an await: maybe-bound names, shared objects, types, local functions, calls (tricky cases 45 to 63)."""

# The sagas here do on purpose what type checkers warn of: names perhaps unbound, types left open.
# mypy: disable-error-code="no-untyped-call, var-annotated"
# pyright: reportPossiblyUnboundVariable=false, reportConstantRedefinition=false, reportUnusedVariable=false
# pyright: reportUnknownVariableType=false
# ruff: noqa: B006, ASYNC230, SIM115

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypedDict

import pytest

from contrapas.author.op import Op
from contrapas.author.saga import Saga, saga
from contrapas.author.service import Depends
from contrapas.author.step import step
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_saga
from contrapas.machine import Machine
from tests.compiler.driver import compiled, echo, every, log, machines_of, refusals_of, same


@step
def num(x: int = 0) -> int:
    return x


@saga
async def maybe_unbound(s: Saga, n: int) -> str:
    if n > 1:
        x = n
    if n == 3:
        del x
    await num(1)
    said = ""
    try:
        said += str(x)
    except UnboundLocalError:
        said += "u"
    for i in range(2):
        if i == n:
            y = i
        await num(i)
        if n == 2 and i == 0:
            y = 7
    await num(2)
    try:
        del y
        said += "d"
    except UnboundLocalError:
        said += "U"
    return said


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
@pytest.mark.case(49, "maybe-unbound at an await; `del` on one path")
def test_a_name_that_is_perhaps_unbound_stays_as_it_was(n: int) -> None:
    same(maybe_unbound, echo(), n)


@saga
async def native_assignments(s: Saga, n: int) -> list[int]:
    total = 0
    if n:
        for i in range(n):
            total += i
            last = i
        with_ = [total := total + 1 for _ in range(2)]
    x = 5
    await num(1)
    if n:
        x -= total
        del total
        await num(2)
        return [x, last, *with_]
    return [x, await num(3), total]


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.case(50, "assigned only in a native compound; nested augmented")
def test_names_assigned_only_in_native_compounds_are_kept(n: int) -> None:
    same(native_assignments, echo(), n)


@dataclass
class Node:
    items: list[int]
    inner: dict[str, list[int]]


@saga
async def shared(s: Saga, n: int) -> list[Any]:
    a = [1]
    b = a
    d = {"x": a, "y": [2]}
    node = Node(items=a, inner=d)
    await num(1)
    a.append(await num(2))
    b.append(3)
    d["x"].append(4)
    for x in a:
        if x < 3:
            b.append(await num(9))
    return [a, b, d, node.items is a, node.inner is d, a is b, d["x"] is a]


@pytest.mark.case(51, "two locals, one list; list in dict and as local; cycle")
def test_two_locals_that_hold_one_list_still_do_after_an_await() -> None:
    same(shared, echo(), 1)


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


@dataclass(frozen=True)
class Price:
    amount: Decimal
    when: datetime
    tags: frozenset[str]


class Pair(NamedTuple):
    a: int
    b: str


class Doc(TypedDict):
    name: str
    sizes: list[int]


class Bag(dict[str, int]):
    pass


@saga
async def many_types(s: Saga, n: int) -> list[Any]:
    price = Price(Decimal("1.10"), datetime(2024, 1, 2, tzinfo=UTC), frozenset({"b", "a"}))
    colour = Colour.BLUE
    raw = b"\x00\xff"
    keyed = {(1, "a"): 1, (2, "b"): 2}
    by_int = {1: "x", 2: "y"}
    bad = math.nan
    huge = 2**80
    marks = {"$type": "x", "$ref": "y"}
    pair = Pair(1, "b")
    doc: Doc = {"name": "d", "sizes": [1]}
    ordered: OrderedDict[str, int] = OrderedDict(b=1, a=2)
    maybe: int | None = None
    later = timedelta(seconds=1.5)
    either: int | str | Pair = "s" if n else pair
    await num(1)
    return [
        price,
        colour,
        raw,
        keyed,
        by_int,
        math.isnan(bad),
        huge,
        marks,
        pair,
        doc,
        maybe,
        later,
        either,
        list(ordered),
    ]


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.case(
    52,
    "frozen dataclass, enum, Decimal, zoned datetime, bytes, tuple and int keys, NaN, big ints, keys like marks",
)
@pytest.mark.case(53, "dict and list subclass, NamedTuple, TypedDict, generics, unions")
def test_values_of_many_types_come_back_equal(n: int) -> None:
    same(many_types, echo(), n)


@saga
async def dead_values(s: Saga, n: int) -> int:
    stream = (i for i in range(n))
    total: int = sum(stream)
    f = lambda: total  # noqa: E731
    kind = type(total)
    log(f(), kind)
    return total + await num(1)


@pytest.mark.case(54, "live function, class, generator, file: exact CP202, no false one")
def test_values_that_are_dead_at_every_await_need_no_codec() -> None:
    same(dead_values, echo(), 3)


@saga
async def live_stream(s: Saga, n: int) -> int:
    stream = (i for i in range(n))
    await num(1)
    return sum(stream)


@saga
async def live_file(s: Saga, path: str) -> str:
    file = open(path)  # noqa: SIM115
    await num(1)
    return file.read()


@pytest.mark.parametrize("one", [live_stream, live_file])
@pytest.mark.case(54, "live function, class, generator, file: exact CP202, no false one")
def test_a_live_value_without_codec_is_refused_where_it_is_bound(one: Any) -> None:
    found = refusals_of(one)
    assert [r.code for r in found] in (["CP202"], ["CP201"])
    assert found[0].line == one.fn.__code__.co_firstlineno + 2


@saga
async def shadowing(s: Saga, x: int) -> list[int]:
    y = [x + await num(x) for x in range(3)]
    z = [x * 2 for x in y]
    return [x, *y, *z]


@pytest.mark.case(56, "comprehension variable named as a live local")
def test_a_comprehension_variable_leaves_a_local_of_its_name_alone() -> None:
    same(shadowing, echo(), 50)


@saga
async def every_parameter(
    s: Saga,
    a: int,
    /,
    b: int,
    c: list[int] = [1],
    *rest: int,
    d: int = 4,
    **more: int,  # noqa: B006
) -> list[Any]:
    c.append(await num(a))
    await num(b)
    return [a, b, list(c), rest, d, more]


@saga
async def calls(s: Saga, n: int) -> list[Any]:
    first = await every_parameter(s, 1, 2)
    second = await every_parameter(s, 1, b=n, c=[9], d=5, e=6)
    third = await every_parameter(s, 1, 2, [3], await num(4), 5, f=n)
    try:
        await every_parameter(s, 1)  # type: ignore[call-arg]
    except TypeError as why:
        return [first, second, third, str(why)]
    return []


@saga
async def recursive(s: Saga, n: int) -> int:
    if n == 0:
        return await num(1)
    left = await num(n)
    return left * await recursive(s, n - 1)


@pytest.mark.case(57, "every parameter kind, mutable default, in a called saga")
@pytest.mark.case(61, "wrong argument count")
def test_a_called_saga_takes_every_kind_of_parameter() -> None:
    machines = machines_of(calls, every_parameter)
    run = compiled(machines, "calls", (7,), echo())
    assert run.result[1:3] == [[1, 7, [9, 1], (), 5, {"e": 6}], [1, 2, [3, 1], (4, 5), 4, {"f": 7}]]
    assert "missing 1 required positional argument: 'b'" in run.result[3]


@pytest.mark.case(59, "recursion depth 3")
def test_a_saga_may_call_itself() -> None:
    for fails in every(5):
        same(recursive, echo(*fails), 3)


LIMIT = 7


def outside(factor: int) -> Any:
    offset = factor * 10

    @saga
    async def enclosed(s: Saga, n: int) -> int:
        return await num(n) * offset + LIMIT

    return enclosed


@pytest.mark.case(58, "closure and global access")
def test_closure_and_global_names_mean_what_they_mean_natively() -> None:
    same(outside(3), echo(), 2)


@saga
async def assigns_global(s: Saga, n: int) -> int:
    global LIMIT
    LIMIT = await num(n)
    return LIMIT


def test_a_global_is_read_and_never_assigned() -> None:
    assert [r.code for r in refusals_of(assigns_global)] == ["CP120"]


@saga
async def joined(s: Saga, n: int) -> list[Any]:
    a, b = await s.all(num(1), num(2))
    c = await s.all(*[num(i) for i in range(n)])
    ops = [num(7)]
    for i in range(n):
        ops.append(num(i))
    d = await s.all(*ops)
    e = await s.first(num(5), num(6))
    f = await s.all()
    g = await s.all(s.all(num(1), num(2)), num(3))
    return [a, b, c, d, e, f, g]


def joins(op: Op[Any], number: int) -> Any:
    return op.value[0][0] if op.kind == "local" else tuple(joins(c, number) for c in op.children)


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.case(46, "operations in a list for `all`, across an await, never awaited")
@pytest.mark.case(63, "nested, empty, starred `all`")
def test_joins_give_tuples_lists_and_the_first(n: int) -> None:
    run = same(joined, joins, n)
    assert run.result[2] == list(range(n))


@saga
async def kept_operation(s: Saga, n: int) -> int:
    op = num(1)
    await num(2)
    return n


@saga
async def forgotten(s: Saga, n: int) -> int:
    num(1)
    return await num(2)


@pytest.mark.case(46, "operations in a list for `all`, across an await, never awaited")
def test_an_operation_built_and_never_awaited_is_refused() -> None:
    assert [r.code for r in refusals_of(forgotten)] == ["CP117"]


class Client:
    def __init__(self, name: str) -> None:
        self.name = name


def make_client() -> Client:
    return Client("made")


@saga
async def with_ambients(s: Saga, n: int, http: Client, mail: Annotated[Client, Depends(make_client)]) -> str:
    client = http.name
    log_ = s.log
    await num(1)
    log_.debug("x")
    return f"{client} {http.name} {mail.name} {n}"


@pytest.mark.case(90, "ambient alias")
def test_ambient_values_are_supplied_anew_and_never_stored() -> None:
    machine = compile_saga(with_ambients, registry=Registry(), provided=frozenset({Client}))
    assert isinstance(machine, Machine)
    assert [name for name, _ in machine.ambients] == ["http", "mail"]
    assert machine.bind is not None and machine.function is not None
    assert machine.bind(3) == {"n": 3}
    from contrapas.author.saga import Activation

    s = Saga(Activation("k", "x/k"))
    first = machine.function(0, None, None, {"n": 3}, s, Client("a"), Client("b"))
    assert first[3] == {"n": 3}
    last = machine.function(1, 1, None, first[3], s, Client("c"), Client("d"))
    assert last == (0, "c c d 3")


def test_an_untouched_slot_goes_neither_in_nor_out() -> None:
    @saga
    async def long(s: Saga, big: str, n: int) -> str:
        total = 0
        for i in range(n):
            total += await num(i)
        await num(total)
        return big

    machine = machines_of(long)["long"]
    assert machine.states["num"].touches.isdisjoint({"big"})
    assert "big" in machine.states["num"].slots
    same(long, echo(), "text", 3)
