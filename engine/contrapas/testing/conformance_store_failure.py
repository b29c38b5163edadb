"""Conformance of stores: the failure of a local step stays in the inbox, and gives way to one later attempt at a time."""

from __future__ import annotations

import asyncio
from typing import Any

from contrapas.participant import FAILED, Known, Store, Tx
from contrapas.testing.conformance_store import (
    Broke,
    Handler,
    StoreBench,
    case,
    deliver,
    puts,
    raises,
    receipt,
    waits,
)

GROUP = "failure"
WHY = b'{"attempt":1}'


async def _failed(store: Store[Any]) -> None:
    """Write the failure of a first attempt."""
    async with store.begin() as tx:
        assert await tx.take(receipt()) is None
        await tx.finish(receipt(), reply=WHY, reply_type=FAILED, rows=())


async def _again(store: Store[Any], handle: Handler) -> Known | None:
    """A later attempt."""
    async with store.begin() as tx:
        known = await tx.take(receipt())
        if known is not None and (known.reply, known.reply_type) == (WHY, FAILED):
            known = await tx.retake(receipt(), known)
        if known is None:
            await handle(tx)
            await tx.finish(receipt(), reply=b'"ok"', reply_type="Charged", rows=())
    return known


@case(GROUP)
async def a_failure_is_found_by_who_comes_later_and_gives_way_to_a_later_attempt(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    await _failed(store)
    known = await deliver(other, receipt(), puts(bench, "a", "0"))
    assert known is not None and (known.outcome, known.reply, known.reply_type) == ("done", WHY, FAILED)
    assert known.digest == receipt().digest
    assert await _again(other, puts(bench, "a", "1")) is None
    known = await _again(store, puts(bench, "a", "2"))
    assert known is not None and (known.reply, known.reply_type) == (b'"ok"', "Charged")
    assert await bench.get("a") == "1"


@case(GROUP)
async def of_two_attempts_at_once_one_takes_a_failed_key_and_the_other_waits(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    await _failed(store)
    gate = asyncio.Event()

    async def slow(tx: Tx[Any]) -> None:
        await bench.put(tx.session, "a", "1")
        gate.set()
        await waits(second)

    async def after() -> Known | None:
        await gate.wait()
        return await _again(other, puts(bench, "a", "2"))

    second = asyncio.ensure_future(after())
    assert await _again(store, slow) is None
    known = await asyncio.wait_for(second, 10)
    assert known is not None and known.reply == b'"ok"' and await bench.get("a") == "1"


@case(GROUP)
async def an_attempt_that_breaks_off_leaves_the_failure_as_it_was(bench: StoreBench) -> None:
    store = await bench.open()
    await _failed(store)

    async def breaks(tx: Tx[Any]) -> None:
        await bench.put(tx.session, "a", "1")
        raise Broke

    await raises(Broke, _again(store, breaks))
    known = await deliver(store, receipt())
    assert known is not None and (known.reply, known.reply_type) == (WHY, FAILED)
    assert await bench.get("a") is None and await _again(store, puts(bench, "a", "2")) is None
