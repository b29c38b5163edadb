"""Conformance of stores: an undo wins over the step that it takes back, whichever comes first."""

from __future__ import annotations

import asyncio
from typing import Any

from contrapas.participant import Tx
from contrapas.testing.conformance_store import (
    Broke,
    StoreBench,
    case,
    deliver,
    puts,
    raises,
    receipt,
    waits,
)

GROUP = "undo"
STEP, UNDO = receipt("place_order/o-9/r1/Charge/1"), receipt("place_order/o-9/r1/Refund/1", b"undo")


class Asked:
    """A handler of an undo that asks whether the step happened."""

    def __init__(self, bench: StoreBench) -> None:
        self.bench = bench
        self.happened: bool | None = None

    async def __call__(self, tx: Tx[Any]) -> None:
        self.happened = await tx.happened(UNDO, STEP.id)
        await self.bench.put(tx.session, "refund", str(self.happened))


@case(GROUP)
async def an_undo_that_overtakes_its_step_wins(bench: StoreBench) -> None:
    store, other, asked = await bench.open(), await bench.open(), Asked(bench)
    assert await deliver(store, UNDO, asked, undoes=STEP.id) is None
    assert asked.happened is False
    known = await deliver(other, STEP, puts(bench, "charge", "1"))
    assert known is not None and known.outcome == "undone" and known.reply is None and not known.digest, known
    assert await bench.get("charge") is None
    known = await deliver(store, UNDO, asked, undoes=STEP.id)
    assert known is not None and known.outcome == "done" and known.reply == b'{"ok":1}'


@case(GROUP)
async def an_undo_after_its_step_is_told_that_it_happened(bench: StoreBench) -> None:
    store, asked = await bench.open(), Asked(bench)
    await deliver(store, STEP, puts(bench, "charge", "1"), reply=b'{"charge":1}')
    assert await deliver(store, UNDO, asked, undoes=STEP.id) is None
    assert asked.happened is True
    known = await deliver(store, STEP, puts(bench, "charge", "2"))
    assert known is not None and (known.outcome, known.reply) == ("done", b'{"charge":1}')
    assert (await bench.get("charge"), await bench.get("refund")) == ("1", "True")


@case(GROUP)
async def a_step_in_its_transaction_makes_the_undo_wait(bench: StoreBench) -> None:
    for breaks in (False, True):
        store, other, asked = await bench.open(), await bench.open(), Asked(bench)
        step, undo = STEP._replace(source=f"/{breaks}"), UNDO._replace(source=f"/{breaks}")
        taken = asyncio.Event()

        async def ask(tx: Tx[Any], asked: Asked = asked, source: str = step.source) -> None:
            asked.happened = await tx.happened(UNDO._replace(source=source), STEP.id)

        async def takes_back(
            taken: asyncio.Event = taken, other: Any = other, undo: Any = undo, ask: Any = ask
        ) -> None:
            await taken.wait()
            await deliver(other, undo, ask, undoes=STEP.id)

        task = asyncio.ensure_future(takes_back())

        async def slow(
            tx: Tx[Any], taken: asyncio.Event = taken, task: Any = task, breaks: bool = breaks
        ) -> None:
            await bench.put(tx.session, "charge", "1")
            taken.set()
            await waits(task)
            if breaks:
                raise Broke

        if breaks:
            await raises(Broke, deliver(store, step, slow))
        else:
            await deliver(store, step, slow)
        await asyncio.wait_for(task, 10)
        assert asked.happened is not breaks
        known = await deliver(store, step)
        assert known is not None and known.outcome == ("undone" if breaks else "done")


@case(GROUP, "parallel")
async def a_step_waits_for_the_undo_that_is_in_its_transaction(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    taken = asyncio.Event()

    async def steps() -> object:
        await taken.wait()
        return await deliver(other, STEP, puts(bench, "charge", "1"))

    task = asyncio.ensure_future(steps())

    async def slow(tx: Tx[Any]) -> None:
        taken.set()
        await waits(task)

    await deliver(store, UNDO, slow, undoes=STEP.id)
    known: Any = await asyncio.wait_for(task, 10)
    assert known is not None and known.outcome == "undone" and await bench.get("charge") is None


@case(GROUP)
async def an_undo_that_fails_takes_its_mark_back(bench: StoreBench) -> None:
    store = await bench.open()

    async def breaks(tx: Tx[Any]) -> None:
        raise Broke

    await raises(Broke, deliver(store, UNDO, breaks, undoes=STEP.id))
    assert await deliver(store, STEP, puts(bench, "charge", "1")) is None
    assert await bench.get("charge") == "1"


@case(GROUP)
async def an_undo_marks_steps_of_its_own_source_only(bench: StoreBench) -> None:
    store = await bench.open()
    await deliver(store, UNDO, undoes=STEP.id)
    for other in (STEP._replace(source="/other"), STEP._replace(ns="bank"), STEP._replace(consumer="stock")):
        assert await deliver(store, other) is None, other
