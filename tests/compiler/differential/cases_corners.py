"""Hand-written sagas for the differential runner: corners of section 15 that the others leave out, numbers in their names."""
# mypy: ignore-errors
# pyright: basic, reportPossiblyUnboundVariable=false, reportUnhashable=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.errors import Cancelled, StepFailed
from contrapas.testing.differential_prelude import (
    Approved,
    Charge,
    Charged,
    Declined,
    Done,
    Go,
    Guard,
    Odd,
    Odder,
    Refund,
    Rejected,
    again,
    boom,
    both,
    flag,
    num,
    nums,
    paid,
    total,
    word,
)
from contrapas.testing.native import log

T = TypeVar("T")


@saga
async def case_09_return_out_of_a_loop_in_a_with(s: Saga, go: Go) -> int:
    xs = await nums(1)
    try:
        with Guard(1, swallow=go.n % 2 == 0):
            for x in xs:
                for y in range(3):
                    if x == y:
                        return x
                    if x > 5:
                        break
                else:
                    continue
                boom(len(xs))
                break
            else:
                log("through", xs)
    finally:
        log("finally", await num(2))
    return -1


@saga
async def case_12_jumps_inside_a_finally(s: Saga, go: Go) -> int:
    for i in range(3):
        try:
            if await flag(i):
                continue
            boom(await num(i))
        except Odd:
            log("odd", i)
            break
        finally:
            for j in range(3):
                if j == 1:
                    continue
                if await flag(i, j):
                    break
                log("inner", i, j)
    return 1


@saga
async def case_21_raise_after_an_await(s: Saga, go: Go) -> int:  # pyright: ignore[reportReturnType]
    try:
        try:
            boom(await num(1) * 3)
        except Odd as why:
            n = await num(2)
            if n % 3 == 0:
                raise Odder(n)
            if n % 3 == 1:
                raise ValueError(n) from None
            raise KeyError(n) from why
    except (Odder, ValueError, KeyError) as why:
        log("out", why, why.__cause__, why.__suppress_context__)
        log("then", await num(3))
        raise


@saga
async def case_25_one_exception_raised_again(s: Saga, go: Go) -> int:
    one = Odd(await num(1), tag="one")
    for i in range(3):
        try:
            try:
                raise one
            except Odd:
                if await flag(i):
                    raise ValueError(i)
                raise one
        except (Odd, ValueError) as why:
            log("caught", why is one, why, await num(i))
    raise one


@saga
async def case_26_native_try_in_a_handler(s: Saga, go: Go) -> int:
    for i in range(4):
        try:
            boom(await num(i) * 3)
        except Odd:
            try:
                try:
                    if i == go.n % 4:
                        return i
                    again(i)
                finally:
                    log("finally", boom(i))
            except Odd as why:
                log("inner", why, await num(i, i))
            try:
                raise
            except Odd as same:
                log("same", same)
    return 4


@saga
async def case_27_notes_attributes_groups(s: Saga, go: Go) -> int:
    try:
        one = Odd(3, tag="x")
        one.add_note("first")
        one.extra = [1, 2]  # pyright: ignore[reportAttributeAccessIssue]
        inner = ExceptionGroup("inner", [ValueError(await num(1)), one])
        raise ExceptionGroup("outer", [inner, one, Odder(2)])
    except ExceptionGroup as group:
        group.add_note("group")
        await num(2)
        log(
            "group",
            group,
            group.exceptions[1] is group.exceptions[0].exceptions[1],  # pyright: ignore[reportAttributeAccessIssue]
            sorted(group.exceptions[1].extra),  # pyright: ignore[reportAttributeAccessIssue]
        )
        raise


@saga
async def case_34_stars(s: Saga, go: Go) -> int:
    xs, d = [1, 2], {"q": 1}
    a = both(*xs, await num(log(1, 1)), k=log(2, 2), **d, z=await num(log(3, 3)))
    b = both(*await nums(4), *xs, await num(5), w=await num(6), **d)
    try:
        b += both(1, 2, q=await num(7), **d)
    except TypeError as why:
        log("twice", str(why)[-30:])
    return await total(xs, a, *xs, b, **d)


class Watched:
    """A class pattern reads its attributes in the open."""

    __match_args__ = ("left", "right")

    def __init__(self, left: int, right: int) -> None:
        self._sides = (left, right)

    @property
    def left(self) -> int:
        return log("left", self._sides[0])

    @property
    def right(self) -> int:
        return log("right", self._sides[1])


def watched(n: int) -> Watched:
    log("subject", n)
    return Watched(n, n + 1)


@saga
async def case_48_patterns(s: Saga, go: Go) -> int:
    n = await num(1)
    match watched(n):
        case Watched(1 | 2 as a, right=b) if b > 2:
            log("first", a, b, await num(2))
        case Watched(left=a, right=b):
            log("second", a, b, await num(a, b))
    match {"k": n, "more": a, "x": b}:
        case {"k": 0, **rest}:
            log("zero", sorted(rest), await num(3))
        case {"k": int(k), "x": x, **rest} if k != x:
            log("rest", k, x, rest, await num(4))
        case _:
            rest = {}
    match await nums(5):
        case [*start, last] if await_free(start):
            log("star", start, last, await num(6))
        case everything:
            log("all", everything, await num(7))
    log("after", a, b, rest)
    return n


def await_free(xs: list[int]) -> bool:
    return len(log("guard", xs)) > 1


class Colour(enum.Enum):
    RED = "r"
    BLUE = 2


@dataclass(frozen=True)
class Price:
    amount: Decimal
    when: datetime


@dataclass
class Held(Generic[T]):
    item: T
    more: list[T]


class Point(NamedTuple):
    x: int
    y: str = "y"


class Doc(TypedDict, total=False):
    name: str
    size: int


class Bag(dict[str, int]):
    pass


class Row(list[int]):
    pass


@saga
async def case_52_53_values(s: Saga, go: Go) -> int:
    price = Price(Decimal("1.50"), datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    raw, colour, big, nan = b"\x00\xff", Colour.BLUE, 10**40, math.nan
    keyed: dict[tuple[int, str], int] = {(1, "a"): 1}
    numbered: dict[int, str] = {1: "a", -2: "b"}
    marks = {"$type": "x", "$": 1, "$$ref": 2}
    held: Held[int] = Held(1, [2])
    point, doc = Point(1), Doc(name="n")
    mixed: int | str | None | Point = point
    for i in range(3):
        log(i, price, raw, colour, big, math.isnan(nan), keyed, numbered, marks, held, point, doc, mixed)
        mixed = (None, "text", Point(2, "z"))[i]
        held.more.append(await num(i))
        numbered[i] = await word(i)
        keyed[i, "k"] = len(keyed)
    return len(held.more)


@saga
async def case_57_callee(
    s: Saga, a: int, /, b: int, c: list[int] | None = None, *rest: int, d: int = 4, **more: int
) -> list[int]:
    xs: list[int] = [] if c is None else c
    xs.append(await num(a))
    log("parameters", a, b, c, rest, d, sorted(more.items()))
    return [*xs, await num(b), d]


@saga
async def case_57_parameters(s: Saga, go: Go) -> int:
    mine = [7]
    out = await case_57_callee(s, 1, 2)
    out += await case_57_callee(s, 1, c=mine, b=await num(1), e=5, d=6)
    out += await case_57_callee(s, 1, *[2, mine, 3, 4], z=await num(2))
    log("mine", mine)
    for wrong in range(3):
        try:
            match wrong:
                case 0:
                    await case_57_callee(s, 1)
                case 1:
                    await case_57_callee(s, a=1, b=2)
                case _:
                    await case_57_callee(s, 1, 2, b=await num(3))
        except TypeError as why:
            log("case 61", str(why).split("(")[0])
    return len(out)


@saga
async def case_60_inner(s: Saga, n: int) -> int:
    try:
        return boom(await num(n))
    finally:
        log("inner", n, await num(n, n))


@saga
async def case_60_middle(s: Saga, n: int) -> int:
    try:
        return await case_60_inner(s, n)
    except ValueError:
        return -1
    finally:
        log("middle", await num(n, 0))


@saga
async def case_60_raise_through_two_frames(s: Saga, go: Go) -> int:
    for i in range(2):
        try:
            log("got", await case_60_middle(s, i))
        except (Odd, StepFailed) as why:
            log("through", why, await num(i))
    return 1


@saga
async def case_62_to_64_joins(s: Saga, go: Go) -> int:
    try:
        log("all", await s.all(num(1), s.all(), s.all(num(2), *[num(i) for i in range(go.n % 3)])))
        log("first", await s.first(s.all(num(3), num(4)), num(5)))
        log("listed", await s.all(*[s.first(num(i), num(i, i)) for i in range(3)]))
    except StepFailed as why:
        log("failed", why, await num(6))
    try:
        return len(await s.all(num(7), paid(8), num(9), fail_fast=go.n % 2 == 0))
    except StepFailed as why:
        log("position", why.reason)
        await s.compensate()
        raise


@saga
async def case_70_71_scopes(s: Saga, go: Go) -> int:
    for i in range(3):
        try:
            async with s.scope():
                n = await s.step(paid(i), undo=lambda ok: Refund(k="k", cents=ok + i))  # noqa: B023
                try:
                    async with s.scope():
                        await s.step(Charge(k="k", cents=n), undo=Refund(k="k", cents=n))
                        if i == go.n % 4:
                            return n
                        if n % 4 == 1:
                            break
                        if n % 4 == 2:
                            continue
                except StepFailed as why:
                    log("inner failed", why, await num(i))
                await num(i, i)
        except (StepFailed, Cancelled) as why:
            log("outer failed", why)
            if isinstance(why, Cancelled):
                raise
    return -1


@saga
async def case_73_arguments_mutated_after_issue(s: Saga, go: Go) -> int:
    xs = [1]
    command = Charge(k="k", cents=1)
    for i in range(3):
        xs.append(await s.step(total(xs, i), undo=lambda ok: Refund(k=str(xs), cents=ok)))  # noqa: B023
        command = Charge(k="k", cents=command.cents + len(xs))
        await s.step(command, undo=Refund(k="k", cents=command.cents))
        xs[0] += 1
    await s.compensate()
    return sum(xs)


@saga
async def case_83_84_effects(s: Saga, go: Go) -> int:
    s.emit(Done(k="k", n=1))
    try:
        async with s.scope():
            await paid(1)
            s.emit(Done(k="k", n=await num(2)))
            if await flag(3):
                s.point_of_no_return()
            s.emit(Done(k="k", n=boom(await num(4))))
    except Odd:
        s.emit(Done(k="k", n=3))
    return await num(5)


@saga
async def case_86_match_without_timeout(s: Saga, go: Go) -> int:
    n = 0
    match await s.wait(Approved, Rejected, within="1h"):
        case Approved(by=by):
            n = len(by)
        case Rejected(why=n):
            pass
    match await s.ask(Charge(k="k", cents=n)):
        case Charged(cents=n):
            log("charged", n)
        case Declined(reason=reason):
            log(reason, await num(1))
    return n


# fmt: off
CORNERS: tuple[tuple[SagaDef[..., Any], tuple[SagaDef[..., Any], ...]], ...] = (
    *((one, ()) for one in (
        case_09_return_out_of_a_loop_in_a_with, case_12_jumps_inside_a_finally, case_21_raise_after_an_await,
        case_25_one_exception_raised_again, case_26_native_try_in_a_handler, case_27_notes_attributes_groups, case_34_stars,
        case_48_patterns, case_52_53_values, case_62_to_64_joins, case_70_71_scopes,
        case_73_arguments_mutated_after_issue, case_83_84_effects, case_86_match_without_timeout,
    )),
    (case_57_parameters, (case_57_callee,)),
    (case_60_raise_through_two_frames, (case_60_middle, case_60_inner)),
)
# fmt: on
