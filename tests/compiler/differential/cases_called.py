"""Hand-written sagas for the differential runner: called sagas, joins, scopes, what is cancelled in them."""
# mypy: ignore-errors
# pyright: basic, reportPossiblyUnboundVariable=false, reportUnhashable=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

from contrapas.author.saga import Saga, saga
from contrapas.errors import Cancelled, StepFailed
from contrapas.testing.differential_prelude import (
    Charge,
    Done,
    Go,
    Odd,
    Odder,
    Refund,
    boom,
    flag,
    num,
    paid,
    pair,
    total,
    word,
)
from contrapas.testing.native import log


@saga
async def callee(s: Saga, n: int, xs: list[int], /, *more: int, scale: int = 2, **options: int) -> int:
    xs.append(n)
    try:
        log("in", n, xs, more, scale, sorted(options))
        return boom(await num(n)) * scale
    except Odd:
        log("handled inside", await num(n, n))
        raise
    finally:
        await num(n, n, n)


@saga
async def calls(s: Saga, go: Go) -> int:
    xs = [1]
    try:
        a = await callee(s, 1, xs)
        log("cut", xs)
        a += await callee(s, 2, [2], 3, 4, scale=await num(1), z=1)
    except Odd as why:
        log("outside", why.n)
        try:
            return await callee(s, 3, xs)
        except Odd:
            raise Odder(await num(2)) from why
    try:
        await callee(s)
    except TypeError:
        log("wrong arguments")
    return a


@saga
async def depth(s: Saga, n: int) -> int:
    if n <= 0:
        return await num(0)
    try:
        return await depth(s, n - 1) + 1
    except StepFailed:
        log("at", n)
        if n == 2:
            return await num(n)
        raise
    finally:
        log("leave", n, await num(n, n))


@saga
async def recursion(s: Saga, go: Go) -> int:
    return await depth(s, 3)


@saga
async def joins(s: Saga, go: Go) -> int:
    a, b, c = await s.all(num(1), word(2), pair(3))
    log("all", a, b, c)
    each = await s.all(*[num(i) for i in range(go.n % 4)])
    log("each", each, await s.all())
    inner = await s.all(s.all(num(4), num(5)), depth(s, 1))
    log("inner", inner)
    try:
        log("first", await s.first(num(6), depth(s, 2), s.sleep("1h")))
        log("fast", await s.all(num(7), num(8), depth(s, 1), fail_fast=True))
    except StepFailed as why:
        log("failed", why.reason, await num(9))
    return a


@saga
async def failing_branch(s: Saga, n: int) -> int:
    try:
        return boom(await num(n))
    except Odd:
        return await num(n, n)


@saga
async def joined_in_a_handler(s: Saga, go: Go) -> int:
    for i in range(3):
        try:
            boom(3)
        except Odd as why:
            try:
                await s.all(failing_branch(s, 1), num(i))
            except (StepFailed, Odd) as failed:
                log("of the branch", failed, failed.__context__ is why, await num(i, i))
    return 0


@saga
async def scopes(s: Saga, go: Go) -> int:
    n = 0
    for i in range(3):
        async with s.scope():
            n += await s.step(paid(i), undo=lambda ok: Refund(k="k", cents=ok + n))  # noqa: B023
            if await flag(i):
                continue
            async with s.scope():
                if await flag(i, i):
                    break
                n += await paid(n)
                try:
                    await s.step(Charge(k="k", cents=n), undo=Refund(k="k", cents=n), within="1m")
                except StepFailed as why:
                    log("charge", why.reason)
                    if await flag(i, i, i):
                        raise
            if await flag(i, i, i, i):
                return n
    s.point_of_no_return()
    s.emit(Done(k="k", n=n))
    await s.compensate()
    return n


@saga
async def cancelled(s: Saga, go: Go) -> int:
    for i in range(4):
        try:
            try:
                await num(i)
            except Cancelled as why:
                log("cancelled", why.reason, await num(i, i))
                if i % 2:
                    raise
            finally:
                log("cleanup", await num(i, i, i))
        except BaseException as why:  # noqa: BLE001  whatever the author's code raises
            log("passed", type(why).__name__)
            await total([i], i)
    return 0
