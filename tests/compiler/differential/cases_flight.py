"""Hand-written sagas for the differential runner: operations in flight, some of many, blocks limited in time (91 to 96)."""
# mypy: ignore-errors
# pyright: basic, reportPossiblyUnboundVariable=false, reportUnhashable=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

from typing import Any

from contrapas.author.flight import Pending
from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.author.timeout import Timeout
from contrapas.errors import Cancelled, StepFailed
from contrapas.testing.differential_prelude import (
    Approved,
    Charge,
    Go,
    Odd,
    Refund,
    Rejected,
    boom,
    num,
    paid,
    word,
)
from contrapas.testing.native import log


@saga
async def leg(s: Saga, n: int, xs: list[int]) -> int:
    """A branch with locals of its own, a handler and a finally."""
    xs.append(n)
    try:
        log("leg", n, xs)
        a = await num(n)
        await s.sleep("1m")
        return a + len(xs)
    except Cancelled:
        log("leg cancelled", await num(n, n))
        raise
    finally:
        log("leg ends", n)


@saga
async def begun_twice(s: Saga, go: Go) -> int:
    """91: two in one stretch, by one line of code and by two; arguments are copied."""
    xs = [go.n]
    both = [s.begin(leg(s, n, xs)) for n in (1, 2)]
    xs.append(9)
    other, third = s.begin(num(7)), s.begin(num(8), undo=lambda n: Refund(k="k", cents=n + xs[0]))
    log(both[0] == both[1], other == third, other in {other, third}, xs)
    got = [await b for b in both]
    log(got, xs)
    try:
        await both[0]
    except RuntimeError as why:
        log("twice", why)
    return sum(got) + await third + await other


@saga
async def left(s: Saga, go: Go) -> int:
    """92: a scope left in every way, with a step, a frame, waits, an untaken failure."""
    n = 0
    for how in range(6):
        try:
            async with s.scope():
                s.begin(leg(s, how, [1]))
                s.begin(s.wait(Approved, Rejected))
                s.begin(s.sleep("1h"))
                last = s.begin(paid(how), undo=None)
                log("in", how, go.n)
                if how == 0 and go.n == 1:
                    return await num(0)
                if how == 1:
                    continue
                if how == 2 and go.n > 3:
                    break
                if how == 3:
                    n += boom(await num(5) * 3)
                if how == 4:
                    raise StepFailed("on purpose")
                n += await last
        except StepFailed as why:
            log("failed", why, await num(1))
        except Odd as why:
            log("bug", why.n)
    return n


@saga
async def function_ends(s: Saga, n: int) -> int:
    """A function left with operations in flight: its caller sees what nobody took."""
    job = s.begin(leg(s, n, [2]))
    if n % 3 == 0:
        return n
    if n % 3 == 1:
        raise Odd(n)
    await num(n)
    if n == 5:
        job.cancel()
    return n + 1


@saga
async def functions_end(s: Saga, go: Go) -> int:
    total = 0
    for n in range(6):
        try:
            total += await function_ends(s, n)
        except (Odd, StepFailed) as why:
            log("left by", type(why).__name__, await num(3))
        finally:
            log("on", n)
    return total


@saga
async def nexts(s: Saga, go: Go) -> int:
    """93: what ended, twice, taken, none; with and without a limit."""
    flying = [s.begin(num(n), undo=None) for n in range(4)]
    order: list[int] = []
    while flying:
        done = await s.next(*flying, *flying, within="1h")
        if isinstance(done, Timeout):
            log("late", len(flying))
            for q in flying:
                q.cancel()
            break
        order.append(flying.index(done))
        flying.remove(done)
        try:
            log("got", await done)
        except StepFailed as why:
            log("failed", why.reason)
            continue
        try:
            await s.next(done)
        except RuntimeError:
            log("taken")
    empty: list[Pending[int]] = []
    try:
        await s.next(*empty)
    except ValueError as why:
        log("none", why)
    return len(order)


@saga
async def cancels(s: Saga, go: Go) -> int:
    """94: unissued, running, ended, taken, in a handler; awaiting what was given up."""
    a = s.begin(num(1))
    a.cancel()
    b, c, d = s.begin(leg(s, 2, [1])), s.begin(num(3)), s.begin(paid(4))
    await num(5)
    b.cancel()
    c.cancel()
    c.cancel()
    for number, q in enumerate((a, b, c)):
        try:
            log("never", await q)
        except StepFailed as why:
            log(number, why.reason, why.__context__)
    try:
        n = await d
    except StepFailed:
        n = 0
    d.cancel()
    try:
        try:
            raise Odd(1)
        except Odd:
            e = s.begin(leg(s, 6, [6]))
            log("in a handler", await num(7))
            n += await e
    finally:
        log("over", n)
    return n


@saga
async def somes(s: Saga, go: Go) -> int:
    """95: enough, too few, 0, all, ignored failures, out of range."""
    n = 0
    for k in (0, 1, 2, 3):
        try:
            got = await s.some(k, num(k), leg(s, k, [k]), num(k, k), rest="ignore")
            log(k, sorted(got))
            n += len(got)
        except StepFailed as why:
            log("too few", k, why.reason)
    try:
        n += len(await s.some(2, num(1), leg(s, 2, [2]), word(3)))
        n += len(await s.some(0, num(9)))
    except StepFailed as why:
        log("too few", why.reason)
    try:
        await s.some(4, num(1), num(2))
    except ValueError as why:
        log(why)
    return n


@saga
async def limits(s: Saga, go: Go) -> int:
    """96: in a called frame, a handler, a finally, an unwind; swallowed; nested; cancelled."""
    n = 0
    for how in range(5):
        try:
            async with s.scope(within="10m"):
                try:
                    async with s.scope(within="5m"):
                        if how == 0:
                            n += await leg(s, how, [1])
                        elif how == 1:
                            await s.step(Charge(k="k", cents=1), undo=Refund(k="k", cents=1))
                            try:
                                await num(1)
                            finally:
                                log("finally", await num(2))
                        elif how == 2:
                            try:
                                await s.sleep("1h")
                                await s.sleep("2h")
                            except Cancelled as why:
                                log("swallowed", why.reason, await num(3))
                        elif how == 3:
                            s.begin(leg(s, 3, [3]))
                            n += sum(await s.all(num(4), leg(s, 4, [4])))
                        else:
                            await num(5)
                            await s.compensate()
                            await num(6)
                except StepFailed as why:
                    log("inner", how, why.reason, why.unknown, why.__context__)
                    await num(7)
        except StepFailed as why:
            log("outer", how, why.reason)
    return n


@saga
async def limited_calls(s: Saga, go: Go) -> int:
    """`within=` on called sagas and joins, awaited."""
    n = 0
    length = "1h"
    try:
        n += await s.step(leg(s, 1, [1]), within=length)
        n += sum(await s.step(s.all(num(1), leg(s, 2, [n])), within="2h"))
    except StepFailed as why:
        log(why.reason, n)
    return n + max(await num(1), await s.step(s.first(num(2), leg(s, 3, [3])), within="3h"))


@saga
async def nested_flights(s: Saga, go: Go) -> int:
    """A begun saga that begins, in a join, in a loop; handles in a dict and a tuple."""
    by_name: dict[str, Pending[int]] = {}
    for name in ("a", "b", "c"):
        by_name[name] = s.begin(function_ends(s, 2 + len(by_name)))
    pair = (s.begin(s.all(num(1), num(2))), s.begin(s.first(num(3), s.sleep("1m"))))
    log(sorted(by_name), await pair[0])
    total = 0
    try:
        for name, handle in by_name.items():
            log(name)
            total += await handle if name == "b" else await handle
    except Odd as why:
        log("odd", why.n)
    got = await pair[1]
    return total + (got or 0)


ALONE: tuple[SagaDef[..., Any], ...] = (nexts,)
FLIGHTS: tuple[tuple[SagaDef[..., Any], tuple[SagaDef[..., Any], ...]], ...] = (
    (nexts, ()),
    *((one, (leg,)) for one in (begun_twice, left, cancels, somes, limits, limited_calls)),
    (functions_end, (function_ends, leg)),
    (nested_flights, (function_ends, leg)),
)
