"""WCP-19, 20, 25, 26, 27: one task, a whole case, a part of it, or one task for many things are called off."""

from __future__ import annotations

from contrapas import Pending, Saga, StepFailed, saga
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    Inspect,
    Inspected,
    Invoiced,
    NoMore,
    OrderClosed,
    OrderPlaced,
    Packed,
    PackGoods,
    SendInvoice,
    ShipGoods,
    Shipped,
    Unpacked,
    UnpackGoods,
    Withdrawn,
    WrapGift,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


@saga(deadline="30d")
async def cancel_task(s: Saga, e: OrderPlaced) -> OrderClosed:
    """The customer withdraws while the goods are being packed: what may have been packed is unpacked."""
    packing = s.begin(PackGoods(order=e.order), undo=UnpackGoods(order=e.order))
    withdrawn = s.begin(s.wait(Withdrawn))
    if await s.next(packing, withdrawn) == withdrawn:
        packing.cancel()
        return OrderClosed(order=e.order, word="withdrawn")
    await s.step(ShipGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order, word="shipped")


@pattern(19, "Cancel Task", "`handle.cancel()`; the losers of `s.first` alike")
async def wcp19_cancel_task(sagas: Sagas) -> None:
    run = await sagas.start(cancel_task, OrderPlaced())
    await run.send(Withdrawn())
    await answer(run, UnpackGoods, Unpacked())
    assert run.outcome.word == "withdrawn"
    traced(
        run,
        """
        OrderPlaced → next, begin(PackGoods), begin(wait(Withdrawn))
        Withdrawn → join, undo(begin(PackGoods))
        Unpacked → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def cancel_case(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Whoever may do so cancels the order wherever it stands: what was done is taken back."""
    await s.step(PackGoods(order=e.order), undo=UnpackGoods(order=e.order))
    await s.step(ShipGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@saga
async def change_of_mind(s: Saga, e: Withdrawn) -> OrderClosed:
    """Another saga cancels the order, and waits until it has been taken back."""
    status = await s.cancel(cancel_case, e.order, reason="withdrawn")
    return OrderClosed(order=e.order, word=status or "no such order")


@pattern(
    20,
    "Cancel Case",
    "`await s.cancel(other, key)`; people and programs: `contrapas instance cancel`, `run.cancel()`",
)
async def wcp20_cancel_case(sagas: Sagas) -> None:
    sagas.orchestrate(change_of_mind)
    run = await sagas.start(cancel_case, OrderPlaced())
    await answer(run, PackGoods, Packed())
    mind = await sagas.start(change_of_mind, Withdrawn())
    await answer(run, UnpackGoods, Unpacked())
    assert (run.status, mind.outcome.word) == ("compensated", "compensated")
    traced(
        run,
        """
        OrderPlaced → PackGoods
        Packed → ShipGoods
        operate → undo(PackGoods)
        Unpacked → compensated
        """,
    )
    traced(
        mind,
        """
        Withdrawn → cancel(cancel_case)
        reply → done OrderClosed
        """,
    )


@saga
async def parcel(s: Saga, order: str) -> None:
    """The region: packed, wrapped and inspected."""
    await s.step(PackGoods(order=order), undo=UnpackGoods(order=order))
    await s.all(s.step(WrapGift(order=order), undo=None), s.step(Inspect(order=order), undo=None))


@saga(deadline="30d")
async def cancel_region(s: Saga, e: OrderPlaced) -> OrderClosed:
    """The customer wants nothing but the invoice: everything about the parcel is called off, the invoice goes on."""
    invoice = s.begin(SendInvoice(order=e.order), undo=None)
    region, withdrawn = s.begin(parcel(s, e.order)), s.begin(s.wait(Withdrawn))
    if await s.next(region, withdrawn) == withdrawn:
        region.cancel()
    await invoice
    return OrderClosed(order=e.order)


@pattern(25, "Cancel Region", "the region is a saga: `region = s.begin(work(s, x))`, `region.cancel()`")
async def wcp25_cancel_region(sagas: Sagas) -> None:
    run = await sagas.start(cancel_region, OrderPlaced())
    await answer(run, PackGoods, Packed())
    await answer(run, Inspect, Inspected())
    await run.send(Withdrawn())
    await answer(run, UnpackGoods, Unpacked())
    await answer(run, SendInvoice, Invoiced())
    assert run.status == "done"
    traced(
        run,
        """
        OrderPlaced → next, begin(SendInvoice), PackGoods, begin(wait(Withdrawn))
        Packed → next, begin(SendInvoice), WrapGift, Inspect, begin(wait(Withdrawn))
        Inspected → next, begin(SendInvoice), WrapGift, begin(wait(Withdrawn))
        Withdrawn → result, begin(SendInvoice), undo(PackGoods)
        Unpacked → result, begin(SendInvoice)
        Invoiced → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def cancel_instances(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Every item is inspected, unless the customer withdraws: then no inspection counts any more."""
    try:
        async with s.scope():
            left: list[Pending[Inspected]] = [
                s.begin(Inspect(order=e.order, item=i), undo=None) for i in e.items
            ]
            withdrawn = s.begin(s.wait(Withdrawn))
            while left:
                done = await s.next(withdrawn, *left)
                if done == withdrawn:
                    raise StepFailed("withdrawn")
                left = [one for one in left if one != done]
    except StepFailed as why:
        return OrderClosed(order=e.order, word=why.reason)
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order, word="shipped")


@pattern(
    26,
    "Cancel Multiple Instance Activity",
    "begun in `async with s.scope()`, which is left by `raise StepFailed(…)`",
)
async def wcp26_cancel_multiple_instance_activity(sagas: Sagas) -> None:
    run = await sagas.start(cancel_instances, OrderPlaced(order="o-1", items=("lamp", "desk", "chair")))
    await answer(run, Inspect, Inspected(order="o-1"))
    await run.send(Withdrawn(order="o-1"))
    assert run.outcome.word == "withdrawn"
    other = await sagas.start(cancel_instances, OrderPlaced(order="o-2", items=("lamp",)))
    await answer(other, Inspect, Inspected(order="o-2"))
    await answer(other, ShipGoods, Shipped(order="o-2"))
    traced(
        run,
        """
        OrderPlaced → next, begin(Inspect) ×3, begin(wait(Withdrawn))
        Inspected → next, begin(Inspect) ×2, begin(wait(Withdrawn))
        Withdrawn → done OrderClosed
        """,
    )
    traced(
        other,
        """
        OrderPlaced → next, begin(Inspect), begin(wait(Withdrawn))
        Inspected → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def complete_instances(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Every item is inspected, until the foreman says enough: what has been found counts, the rest is called off."""
    inspections = [s.begin(Inspect(order=e.order, item=i), undo=None) for i in e.items]
    enough = s.begin(s.wait(NoMore))
    fine = 0
    while inspections:
        done = await s.next(enough, *inspections)
        if done == enough:
            for one in inspections:
                one.cancel()
            break
        for one in [one for one in inspections if one == done]:
            inspections.remove(one)
            fine += (await one).fine
    await s.step(SendInvoice(order=e.order))
    return OrderClosed(order=e.order, word=f"{fine} fine")


@pattern(
    27,
    "Complete Multiple Instance Activity",
    "`handle.cancel()` for what is left, and go on with the results that came",
)
async def wcp27_complete_multiple_instance_activity(sagas: Sagas) -> None:
    run = await sagas.start(complete_instances, OrderPlaced(items=("lamp", "desk", "chair")))
    await answer(run, Inspect, Inspected())
    await run.send(NoMore())
    await answer(run, SendInvoice, Invoiced())
    assert run.outcome.word == "1 fine"
    traced(
        run,
        """
        OrderPlaced → next, begin(Inspect) ×3, begin(wait(NoMore))
        Inspected → next, begin(Inspect) ×2, begin(wait(NoMore))
        NoMore → SendInvoice
        Invoiced → done OrderClosed
        """,
    )
