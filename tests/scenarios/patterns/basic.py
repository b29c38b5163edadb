"""WCP-1 to WCP-5, basic control flow: plain Python, with an await for each task."""

from __future__ import annotations

from contrapas import Saga, saga
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    CheckCredit,
    CreditGranted,
    Invoiced,
    OrderClosed,
    OrderPlaced,
    Packed,
    PackGoods,
    SendInvoice,
    ShipGoods,
    Shipped,
    WrapGift,
    Wrapped,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


@saga(deadline="30d")
async def sequence(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Goods are packed, then shipped, then invoiced."""
    await s.step(PackGoods(order=e.order))
    await s.step(ShipGoods(order=e.order))
    await s.step(SendInvoice(order=e.order))
    return OrderClosed(order=e.order)


@pattern(1, "Sequence", "one `await` after another")
async def wcp01_sequence(sagas: Sagas) -> None:
    run = await sagas.start(sequence, OrderPlaced())
    await answer(run, PackGoods, Packed())
    await answer(run, ShipGoods, Shipped())
    await answer(run, SendInvoice, Invoiced())
    traced(
        run,
        """
        OrderPlaced → PackGoods
        Packed → ShipGoods
        Shipped → SendInvoice
        Invoiced → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def parallel_split(s: Saga, e: OrderPlaced) -> OrderClosed:
    """While the goods are packed and shipped, the invoice goes out; nobody waits for it here."""
    s.begin(SendInvoice(order=e.order), undo=None)
    await s.step(PackGoods(order=e.order))
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(2, "Parallel Split", "`s.begin(op)` for each thread, or the branches of `s.all(a, b)`")
async def wcp02_parallel_split(sagas: Sagas) -> None:
    run = await sagas.start(parallel_split, OrderPlaced())
    await answer(run, PackGoods, Packed())
    await answer(run, SendInvoice, Invoiced())
    await answer(run, ShipGoods, Shipped())
    traced(
        run,
        """
        OrderPlaced → PackGoods, begin(SendInvoice)
        Packed → ShipGoods, begin(SendInvoice)
        Invoiced → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def synchronization(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Shipped once packing and the credit check are both through."""
    await s.all(s.step(PackGoods(order=e.order), undo=None), s.step(CheckCredit(order=e.order), undo=None))
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(3, "Synchronization", "`await s.all(a, b)`; of operations begun, an `await` of each handle")
async def wcp03_synchronization(sagas: Sagas) -> None:
    run = await sagas.start(synchronization, OrderPlaced())
    await answer(run, CheckCredit, CreditGranted())
    await answer(run, PackGoods, Packed())
    await answer(run, ShipGoods, Shipped())
    traced(
        run,
        """
        OrderPlaced → PackGoods, CheckCredit
        CreditGranted → PackGoods
        Packed → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def exclusive_choice(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Large orders go through the credit check, small ones are invoiced at once."""
    if e.cents > 500_00:
        await s.step(CheckCredit(order=e.order))
        return OrderClosed(order=e.order, word="large")
    await s.step(SendInvoice(order=e.order))
    return OrderClosed(order=e.order, word="small")


@pattern(4, "Exclusive Choice", "`if`, `match`")
async def wcp04_exclusive_choice(sagas: Sagas) -> None:
    small = await sagas.start(exclusive_choice, OrderPlaced(order="o-1", cents=1000))
    await answer(small, SendInvoice, Invoiced(order="o-1"))
    large = await sagas.start(exclusive_choice, OrderPlaced(order="o-2", cents=900_00))
    await answer(large, CheckCredit, CreditGranted(order="o-2"))
    traced(
        small,
        """
        OrderPlaced → SendInvoice
        Invoiced → done OrderClosed
        """,
    )
    traced(
        large,
        """
        OrderPlaced → CheckCredit
        CreditGranted → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def simple_merge(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Wrapped or just packed, one of the two: it is shipped the same way."""
    if e.gift:
        await s.step(WrapGift(order=e.order))
    else:
        await s.step(PackGoods(order=e.order))
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(5, "Simple Merge", "the line after the `if`")
async def wcp05_simple_merge(sagas: Sagas) -> None:
    gift = await sagas.start(simple_merge, OrderPlaced(order="o-1", gift=True))
    await answer(gift, WrapGift, Wrapped(order="o-1"))
    await answer(gift, ShipGoods, Shipped(order="o-1"))
    plain = await sagas.start(simple_merge, OrderPlaced(order="o-2"))
    await answer(plain, PackGoods, Packed(order="o-2"))
    await answer(plain, ShipGoods, Shipped(order="o-2"))
    traced(
        gift,
        """
        OrderPlaced → WrapGift
        Wrapped → ShipGoods
        Shipped → done OrderClosed
        """,
    )
    traced(
        plain,
        """
        OrderPlaced → PackGoods
        Packed → ShipGoods
        Shipped → done OrderClosed
        """,
    )
