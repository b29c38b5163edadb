"""WCP-10, 11, 21, 22, 43: loops, recursion, and how a case ends."""

from __future__ import annotations

from contrapas import Saga, saga
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    CheckCredit,
    CreditGranted,
    Inspect,
    Inspected,
    Invoiced,
    OrderClosed,
    OrderPlaced,
    Packed,
    PackGoods,
    SendInvoice,
    ShipGoods,
    Shipped,
    Withdrawn,
    WrapGift,
    Wrapped,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


@saga(deadline="30d")
async def arbitrary_cycles(s: Saga, e: OrderPlaced) -> OrderClosed:
    """A loop with two ways in and two ways out: gifts enter at the wrapping, all else at the packing; a bad inspection
    leads back to the one or the other, too many of them out."""
    at, bad = ("wrap" if e.gift else "pack"), 0
    while True:
        match at:
            case "pack":
                await s.step(PackGoods(order=e.order), undo=None)
                at = "wrap" if e.gift else "inspect"
            case "wrap":
                await s.step(WrapGift(order=e.order), undo=None)
                at = "inspect"
            case "inspect":
                seen = await s.step(Inspect(order=e.order), undo=None)
                bad += not seen.fine
                at = "ship" if seen.fine else "wrap" if bad == 1 else "pack"
                if bad > 2:
                    return OrderClosed(order=e.order, word="given up")
            case _:
                await s.step(ShipGoods(order=e.order))
                return OrderClosed(order=e.order, word="shipped")


@pattern(10, "Arbitrary Cycles", "`while True: match at:`, where `at` names the place to go to")
async def wcp10_arbitrary_cycles(sagas: Sagas) -> None:
    run = await sagas.start(arbitrary_cycles, OrderPlaced(order="o-1", gift=True))
    await answer(run, WrapGift, Wrapped(order="o-1"))
    await answer(run, Inspect, Inspected(order="o-1", fine=False))
    await answer(run, WrapGift, Wrapped(order="o-1"))
    await answer(run, Inspect, Inspected(order="o-1", fine=False))
    await answer(run, PackGoods, Packed(order="o-1"))
    await answer(run, WrapGift, Wrapped(order="o-1"))
    await answer(run, Inspect, Inspected(order="o-1"))
    await answer(run, ShipGoods, Shipped(order="o-1"))
    assert run.outcome.word == "shipped"
    traced(
        run,
        """
        OrderPlaced → WrapGift
        Wrapped → Inspect
        Inspected → WrapGift
        Wrapped → Inspect
        Inspected → PackGoods
        Packed → WrapGift
        Wrapped → Inspect
        Inspected → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def implicit_termination(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Nobody says when it is over: it is when nothing is left to do, the invoice and the parcel in whatever order."""
    s.begin(SendInvoice(order=e.order), undo=None)
    s.begin(ShipGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@pattern(11, "Implicit Termination", "the end of the function waits for everything it has begun")
async def wcp11_implicit_termination(sagas: Sagas) -> None:
    run = await sagas.start(implicit_termination, OrderPlaced())
    await answer(run, ShipGoods, Shipped())
    assert run.status == "waiting"
    await answer(run, SendInvoice, Invoiced())
    traced(
        run,
        """
        OrderPlaced → join, begin(SendInvoice), begin(ShipGoods)
        Shipped → join, begin(SendInvoice)
        Invoiced → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def structured_loop(s: Saga, e: OrderPlaced) -> OrderClosed:
    """While there are items: pack one. Then until it is fine, but three times at most: inspect."""
    for item in e.items:
        await s.step(PackGoods(order=e.order, item=item), undo=None)
    rounds = 0
    while rounds < 3:
        rounds += 1
        if (await s.step(Inspect(order=e.order))).fine:
            break
    return OrderClosed(order=e.order, word=f"{rounds} inspections")


@pattern(21, "Structured Loop", "`for`, `while`, `break`, with awaits inside")
async def wcp21_structured_loop(sagas: Sagas) -> None:
    run = await sagas.start(structured_loop, OrderPlaced(items=("lamp", "desk")))
    await answer(run, PackGoods, Packed(), Packed())
    await answer(run, Inspect, Inspected(fine=False), Inspected())
    assert run.outcome.word == "2 inspections"
    traced(
        run,
        """
        OrderPlaced → PackGoods
        Packed → PackGoods
        Packed → Inspect
        Inspected → Inspect
        Inspected → done OrderClosed
        """,
    )


@saga
async def boxes(s: Saga, order: str, items: list[str]) -> int:
    """A box for one item; for more, half of them in each of two boxes, and a box around these."""
    if len(items) > 1:
        half = len(items) // 2
        inner = await boxes(s, order, items[:half]) + await boxes(s, order, items[half:])
        await s.step(PackGoods(order=order), undo=None, within="7d", label="around both")
        return inner + 1
    await s.step(PackGoods(order=order, item=items[-1]), undo=None, within="7d")
    return 1


@saga
async def recursion(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Boxes in boxes."""
    return OrderClosed(order=e.order, word=f"{await boxes(s, e.order, list(e.items))} boxes")


@pattern(22, "Recursion", "a saga that calls itself: `await boxes(s, …)`, a frame each")
async def wcp22_recursion(sagas: Sagas) -> None:
    run = await sagas.start(recursion, OrderPlaced(items=("lamp", "desk", "chair")))
    await answer(run, PackGoods, *[Packed() for _ in range(5)])
    assert run.outcome.word == "5 boxes"
    traced(
        run,
        """
        OrderPlaced → PackGoods
        Packed → PackGoods
        Packed → PackGoods
        Packed → around both
        Packed → around both
        Packed → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def explicit_termination(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Once the customer has withdrawn it is over, whatever else is under way."""
    work = s.begin(the_whole_order(s, e.order))
    withdrawn = s.begin(s.wait(Withdrawn))
    if await s.next(work, withdrawn) == withdrawn:
        work.cancel()
        return OrderClosed(order=e.order, word="withdrawn")
    return OrderClosed(order=e.order, word="shipped")


@saga
async def the_whole_order(s: Saga, order: str) -> None:
    await s.all(s.step(CheckCredit(order=order), undo=None), s.step(PackGoods(order=order), undo=None))
    await s.step(ShipGoods(order=order), undo=None)


@pattern(43, "Explicit Termination", "`handle.cancel()` for what is in flight, then `return`")
async def wcp43_explicit_termination(sagas: Sagas) -> None:
    run = await sagas.start(explicit_termination, OrderPlaced(order="o-1"))
    await answer(run, CheckCredit, CreditGranted(order="o-1"))
    await run.send(Withdrawn(order="o-1"))
    assert (run.status, run.outcome.word) == ("done", "withdrawn")
    traced(
        run,
        """
        OrderPlaced → next, CheckCredit, PackGoods, begin(wait(Withdrawn))
        CreditGranted → next, PackGoods, begin(wait(Withdrawn))
        Withdrawn → done OrderClosed
        """,
    )
