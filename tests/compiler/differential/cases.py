"""Hand-written sagas for the differential runner: the corners where random programs seldom come.

They do on purpose what type checkers warn of: names perhaps unbound, handlers of no exception type, unhashable keys.
"""
# mypy: ignore-errors
# pyright: basic, reportPossiblyUnboundVariable=false, reportUnhashable=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

from typing import Any

from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.author.timeout import Timeout
from contrapas.errors import StepFailed
from contrapas.testing.differential_prelude import (
    Approved,
    Cell,
    Charge,
    Charged,
    Declined,
    Go,
    Guard,
    Odd,
    Odder,
    Rejected,
    Shown,
    again,
    apply,
    boom,
    both,
    flag,
    maybe,
    num,
    nums,
    pair,
    table,
    word,
)
from contrapas.testing.native import log
from tests.compiler.differential.cases_called import (
    callee,
    calls,
    cancelled,
    depth,
    failing_branch,
    joined_in_a_handler,
    joins,
    recursion,
    scopes,
)
from tests.compiler.differential.cases_corners import CORNERS
from tests.compiler.differential.cases_flight import FLIGHTS
from tests.compiler.differential.cases_many import MANY
from tests.compiler.differential.cases_talk import TALKS


@saga
async def operands(s: Saga, go: Go) -> int:
    a, xs = 1, [1]
    log(1, both(log(2, a), await num(log(3, a)), log(4, a)))
    a = a + (a := await num(a))
    row = [a, (a := 1), a, await num(5), a]
    log("row", row)
    xs.append(await num(len(xs)))
    log("method", xs)
    log("late", (await nums(1)).count(await num(2)))
    log("star", both(*xs, await num(3), 4, k=await num(5), d=1, z=await num(6)))
    return a


@saga
async def formatted(s: Saga, go: Go) -> str:
    a = Shown(1)
    b = Shown(2)
    width = 5
    text = f"{a}|{b!r}|{await num(1):{await num(2)}}|{a:>{width}}|{await word(3)!r:>12}|{b}"
    return text


@saga
async def conditions(s: Saga, go: Go) -> int:
    cell = Cell(go.n)
    a = 0
    if await flag(1) and cell or await flag(2):
        a += 1
    if 0 < await num(1) < await num(2) <= await num(3):
        a += 2
    a += (await num(4) if await flag(3) else await num(5)) if cell else await num(6)
    a += (await maybe(7)) or (await num(8))
    assert await flag(9), await word(10)
    assert not await flag(11) or cell, "plain"
    return a


@saga
async def targets(s: Saga, go: Go) -> int:
    cell = Cell(1, [1, 2, 3])
    d: dict[str, int] = {}
    d[await word(1)] = await num(2)
    d[log("key", "k")] = 1
    d[log("key", "k")] += await num(3)
    cell.n -= await num(4)
    xs = cell.xs
    xs += [await num(5)]
    log("same", xs is cell.xs, cell.xs)
    a, d[await word(6)], *rest = await num(7), await num(8), 9, 10
    b = c = await nums(9)
    b.append(1)
    log("shared", c, b is c)
    (p, q), [r, *more] = await pair(1), await nums(2) + [0]
    del xs[await num(0) % len(xs)]
    del d[log("gone", "k")], rest[:1]
    log("end", a, p, q, r, more, rest, sorted(d), xs, cell)
    return len(xs)


@saga
async def displays(s: Saga, go: Go) -> int:
    a = 1
    d = {"x": log(1, a), "y": 2, str(await num(1)): log(2, a), "z": await num(2)}
    log("d", list(d.values()))
    key = [1] if await flag(3) else 5
    try:
        log("e", {log("k", "a"): 1, "b": 2, key: 3, "c": await num(4)})
    except TypeError as why:
        log("unhashable", str(why)[:20])
    return len({*await nums(5), await num(6), a})


@saga
async def unbound(s: Saga, go: Go) -> int:
    if await flag(1):
        late = 1
    try:
        log("before", both(late, await num(2)))
    except UnboundLocalError as why:
        log("unbound", str(why))
    for item in await nums(3):
        pass
    try:
        log("after", item)
    except NameError:
        item = -1
    if await flag(4):
        del item
    await num(5)
    try:
        return item
    except UnboundLocalError:
        return -2


@saga
async def loops(s: Saga, go: Go) -> int:
    xs = [3, 2, 1]
    seen: list[int] = []
    for x in xs:
        if len(xs) < 6:
            xs.append(await num(x) % 4)
        seen.append(x)
        if x == 0:
            continue
        if x == 2 and await flag(x):
            break
    else:
        log("else", len(seen))
    start = await num(1)
    for i, (x, c) in enumerate(zip(xs, "abc"), start):
        log("zip", i, x, c, await num(2))
    for x in reversed(xs):
        for y in range(await num(x) % 3):
            if await flag(y):
                break
            seen.append(y)
        else:
            continue
        seen.append(-1)
    while (n := await num(len(seen))) > 2:
        if await flag(n):
            continue
        if n > 6:
            break
        seen.append(n)
        if len(seen) > 20:
            return n
    else:
        log("while else")
    for name in {"a": 1, "b": 2}:
        log(name, await num(1))
    for key, value in dict(await table(1, 2)).items():
        log(key, value, await num(value))
    log("last", x, seen)
    return len(seen)


@saga
async def comprehensions(s: Saga, go: Go) -> int:
    x = 9
    xs = [await num(x) for x in await nums(1) if await flag(x)]
    ys = [[await num(x, y) for y in range(2)] for x in xs[:2]]
    keys = {str(x): await num(x) for x in xs}
    some = {await num(y) for y in xs if y}
    z = [(last := await num(i)) for i in range(2)]
    log("end", x, xs, ys, sorted(keys), sorted(some), z, last, [q + x for q in xs])
    return x


@saga
async def returned(s: Saga, go: Go) -> int:
    value = await num(1)
    for i in range(3):
        try:
            if await flag(i):
                return value
            if await flag(i, i):
                break
            if await flag(i, i, i):
                continue
            if await flag(i, i, i, i):
                raise Odd(i)
            log("body", i)
        finally:
            value += await num(i)
            log("finally", i, value)
    return -value


@saga
async def nested(s: Saga, go: Go) -> int:
    out = 0
    try:
        try:
            try:
                out = boom(await num(1))
            finally:
                out += boom(await num(2))
        except Odd as why:
            log("inner", why.n)
            raise Odder(await num(3)) from why
        else:
            out += boom(await num(4))
        finally:
            log("middle", out)
            await num(5)
    except (Odder, ValueError) as why:
        log("outer", why.args, why.__cause__, why.__context__)
        return out
    finally:
        log("end", await num(6))
    return out + 1


@saga
async def handled(s: Saga, go: Go) -> int:
    why = "before"
    log(why)
    for i in range(3):
        try:
            boom(await num(i))
        except Odd as why:
            log("caught", why.args, await num(i, i))
            if await flag(i):
                continue
            try:
                again(1)
            except Odd:
                log("again", await num(i))
            if await flag(i, i):
                break
            del why
            why = "mine"
            log(why, await num(7))
        try:
            log("left", why)
        except NameError:
            log("gone")
            why = "x"
    try:
        return boom(await num(9))
    except Odd:
        await num(10)
        raise


@saga
async def else_raises(s: Saga, go: Go) -> int:
    for i in range(4):
        try:
            await num(i)
        except Odd as why:
            log("of the body", why.n)
        else:
            log("else", boom(await num(i, i)))
    return 1


@saga
async def chained(s: Saga, go: Go) -> int:
    try:
        boom(3)
    except Odd as first:
        try:
            await num(1)
        except StepFailed:
            log("failed while handling")
            raise
        try:
            raise ValueError(await num(2))
        except ValueError:
            try:
                await num(3)
                raise first
            except Odd:
                log("first again", await num(4))
                raise KeyError(5) from None
    return 0


KINDS = (Odd, StepFailed)
BAD: object = 5


@saga
async def caught_types(s: Saga, go: Go) -> int:
    for i in range(4):
        try:
            if i == 3:
                boom(await num(1) * 3)
            elif await flag(i):
                raise Odder(i)
            elif await flag(i, i):
                raise ValueError(i)
        except KINDS as why:
            log("kinds", type(why).__name__, await num(i))
        except BAD:
            log("never")
        except Exception as why:  # noqa: BLE001  whatever the author's code raises
            log("rest", type(why).__name__)
    return 0


@saga
async def odd_loop(s: Saga, go: Go) -> int:
    kept: Odd | None = None
    for i in range(3):
        try:
            if kept is not None and await flag(i):
                raise kept
            boom(await num(i) * 3)
        except Odd as why:
            why.tag += "!"
            kept = why
            log("kept", why.tag, why.n, why is kept)
            await num(i)
            log("same", why is kept)
    return 0 if kept is None else len(kept.tag)


@saga
async def natives(s: Saga, go: Go) -> int:
    n = await num(1)
    for i in range(4):
        with Guard(i, swallow=True):
            if i == n % 4:
                raise Odd(i)
            log("with", i)
        try:
            try:
                if i == 2 and n % 2:
                    return n
            finally:
                log("native finally", boom(i + n))
        except Odd:
            log("from finally", await num(i))
            for j in range(3):
                if j == 1 and n % 3 == 0:
                    return j
    return n


@saga
async def native_return(s: Saga, go: Go) -> int:
    n = await num(1)
    try:
        for i in range(3):
            for j in range(3):
                try:
                    if i * j == n % 4:
                        return i + j
                    if i == n % 3:
                        break
                finally:
                    log("inner", i, j)
            else:
                continue
            if n > 5:
                break
    finally:
        log("outer", await num(2))
    return -1


@saga
async def shared(s: Saga, go: Go) -> int:
    xs = [1]
    ys = xs
    grid = [xs, xs, [1]]
    cell = Cell(1, xs)
    await num(1)
    ys.append(2)
    log("one", xs, grid, cell, ys is xs, grid[0] is grid[1], cell.xs is xs)
    for item in xs:
        if len(xs) < 5:
            grid[0].append(await num(item))
    try:
        raise ValueError(xs)
    except ValueError as why:
        await num(2)
        xs.append(0)
        log("in the exception", why.args[0] is xs, len(why.args[0]) == len(xs))
    return len(cell.xs)


@saga
async def closures(s: Saga, go: Go) -> int:
    a = await num(1)

    def plus(v: int) -> int:
        return v + a

    b = apply(plus, await num(2))
    a = await num(3)
    twice = lambda v: v * 2 + a  # noqa: E731
    await num(4)
    return apply(plus, b) + apply(twice, b)


@saga
async def matched(s: Saga, go: Go) -> int:
    n = 0
    match await s.wait(Approved, Rejected, within="1h"):
        case Approved(by="a" | "mug" as who):
            n = len(who)
        case Approved(by=who) if who and await_free(who):
            log("guard", who, await num(1))
        case Rejected(why=n) if n > 4:
            log("captured", n)
        case Timeout():
            return -1
        case _:
            log("other", n)
    match await s.ask(Charge(k="k", cents=n)):
        case Charged(cents=c):
            n += c
        case Declined(reason=r):
            log("declined", r, await num(2))
    match await nums(3):
        case [first, *rest] if first > 0:
            log("rest", first, rest, await num(4))
        case [_, second, *_]:
            log("second", second, await num(5))
        case []:
            return n
    log("after", n)
    return n


def await_free(text: str) -> bool:
    log("free", text)
    return len(text) > 1


# fmt: off
_ALONE: tuple[SagaDef[..., Any], ...] = (
    operands, formatted, conditions, targets, displays, unbound, loops, comprehensions, returned, nested, handled,
    else_raises, chained, caught_types, odd_loop, natives, native_return, shared, closures, matched, scopes, cancelled,
)
# fmt: on
ALL: tuple[tuple[SagaDef[..., Any], tuple[SagaDef[..., Any], ...]], ...] = (
    *((one, ()) for one in _ALONE),
    (calls, (callee,)),
    (recursion, (depth,)),
    (joins, (depth,)),
    (joined_in_a_handler, (failing_branch,)),
    *MANY,
    *FLIGHTS,
    *CORNERS,
    *TALKS,
)
"""(saga, those that it calls)"""
