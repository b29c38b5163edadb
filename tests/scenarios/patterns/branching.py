"""WCP-6 to WCP-9, WCP-33: several threads of one case, and how they come together again."""

from __future__ import annotations

from contrapas import Event, Saga, saga
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    AskQuote,
    CheckCredit,
    CreditGranted,
    Inspect,
    Inspected,
    OrderClosed,
    OrderPlaced,
    Packed,
    PackGoods,
    Quoted,
    ShipGoods,
    Shipped,
    WrapGift,
    Wrapped,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


@saga(deadline="30d")
async def multi_choice(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Whatever an order needs, all of it at the same time: wrapping, a credit check, both or neither."""
    if e.gift:
        s.begin(WrapGift(order=e.order), undo=None)
    if e.cents > 500_00:
        s.begin(CheckCredit(order=e.order), undo=None)
    await s.step(PackGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@pattern(6, "Multi-Choice", "an `if` around each `s.begin(op)`")
async def wcp06_multi_choice(sagas: Sagas) -> None:
    both = await sagas.start(multi_choice, OrderPlaced(order="o-1", gift=True, cents=900_00))
    await answer(both, CheckCredit, CreditGranted(order="o-1"))
    await answer(both, PackGoods, Packed(order="o-1"))
    await answer(both, WrapGift, Wrapped(order="o-1"))
    none = await sagas.start(multi_choice, OrderPlaced(order="o-2"))
    await answer(none, PackGoods, Packed(order="o-2"))
    traced(
        both,
        """
        OrderPlaced → PackGoods, begin(WrapGift), begin(CheckCredit)
        CreditGranted → PackGoods, begin(WrapGift)
        Packed → join, begin(WrapGift)
        Wrapped → done OrderClosed
        """,
    )
    traced(
        none,
        """
        OrderPlaced → PackGoods
        Packed → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def structured_synchronizing_merge(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Shipped when everything that was chosen has been done: one task, or two."""
    chosen = [s.begin(PackGoods(order=e.order), undo=None)]
    wrapped = s.begin(WrapGift(order=e.order), undo=None) if e.gift else None
    for task in chosen:
        await task
    if wrapped is not None:
        await wrapped
    await s.step(ShipGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@pattern(7, "Structured Synchronizing Merge", "`await` each handle that was begun")
async def wcp07_structured_synchronizing_merge(sagas: Sagas) -> None:
    gift = await sagas.start(structured_synchronizing_merge, OrderPlaced(order="o-1", gift=True))
    await answer(gift, PackGoods, Packed(order="o-1"))
    await answer(gift, WrapGift, Wrapped(order="o-1"))
    await answer(gift, ShipGoods, Shipped(order="o-1"))
    plain = await sagas.start(structured_synchronizing_merge, OrderPlaced(order="o-2"))
    await answer(plain, PackGoods, Packed(order="o-2"))
    await answer(plain, ShipGoods, Shipped(order="o-2"))
    traced(
        gift,
        """
        OrderPlaced → result, begin(PackGoods), begin(WrapGift)
        Packed → result#2, begin(WrapGift)
        Wrapped → ShipGoods
        Shipped → done OrderClosed
        """,
    )
    traced(
        plain,
        """
        OrderPlaced → result, begin(PackGoods)
        Packed → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga
async def after_each(s: Saga, order: str) -> None:
    """What follows the merge: once for every branch that gets there."""
    await s.step(Inspect(order=order))


@saga
async def wrapping(s: Saga, order: str) -> None:
    await s.step(WrapGift(order=order))
    await after_each(s, order)


@saga
async def packing(s: Saga, order: str) -> None:
    await s.step(PackGoods(order=order))
    await after_each(s, order)


@saga(deadline="30d")
async def multi_merge(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Each of two branches is inspected when it arrives, without a look at the other."""
    await s.all(wrapping(s, e.order), packing(s, e.order))
    return OrderClosed(order=e.order)


@pattern(8, "Multi-Merge", "the branches call the same saga: `await after_each(s, …)`")
async def wcp08_multi_merge(sagas: Sagas) -> None:
    run = await sagas.start(multi_merge, OrderPlaced())
    await answer(run, PackGoods, Packed())
    await answer(run, Inspect, Inspected())
    await answer(run, WrapGift, Wrapped())
    await answer(run, Inspect, Inspected())
    traced(
        run,
        """
        OrderPlaced → WrapGift, PackGoods
        Packed → WrapGift, Inspect
        Inspected → WrapGift
        Wrapped → Inspect
        Inspected → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def structured_discriminator(s: Saga, e: OrderPlaced) -> OrderClosed:
    """The first quote is taken and goods are shipped; the other one still comes, and moves nothing."""
    asked = [s.step(AskQuote(order=e.order, carrier=c), undo=None) for c in ("bear", "wolf")]
    [(_, quote)] = await s.some(1, *asked, rest="ignore")
    await s.step(ShipGoods(order=e.order, by=quote.carrier))
    return OrderClosed(order=e.order, word=quote.carrier)


@pattern(9, "Structured Discriminator", '`await s.some(1, a, b, rest="ignore")`')
async def wcp09_structured_discriminator(sagas: Sagas) -> None:
    run = await sagas.start(structured_discriminator, OrderPlaced())
    bear, wolf = await run.expect(AskQuote), await run.expect(AskQuote)
    await wolf.reply(Quoted(carrier="wolf"))
    await bear.reply(Quoted(carrier="bear"))
    await answer(run, ShipGoods, Shipped())
    assert run.outcome.word == "wolf"
    traced(
        run,
        """
        OrderPlaced → AskQuote ×2
        Quoted → ShipGoods, AskQuote
        Quoted → ShipGoods
        Shipped → done OrderClosed
        """,
    )


class FrameCame(Event, topic="desk.parts", key="order"):
    order: str = "o-1"


class WheelsCame(Event, topic="desk.parts", key="order"):
    order: str = "o-1"


@saga(deadline="30d")
async def generalised_and_join(s: Saga, e: OrderPlaced) -> OrderClosed:
    """A bicycle is put together from a frame and wheels; what arrives ahead of its counterpart is kept."""
    for _ in range(2):
        await s.all(s.wait(FrameCame), s.wait(WheelsCame))
        await s.step(PackGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@pattern(
    33,
    "Generalised AND-Join",
    "`await s.all(s.wait(A), s.wait(B))` in a loop: early events are kept, one counts once",
)
async def wcp33_generalised_and_join(sagas: Sagas) -> None:
    run = await sagas.start(generalised_and_join, OrderPlaced())
    await run.send(FrameCame())
    await run.send(FrameCame())
    await run.send(WheelsCame())
    await answer(run, PackGoods, Packed())
    await run.send(WheelsCame())
    await answer(run, PackGoods, Packed())
    traced(
        run,
        """
        OrderPlaced → wait(FrameCame), wait(WheelsCame)
        FrameCame → wait(WheelsCame)
        FrameCame (kept) → wait(WheelsCame)
        WheelsCame → PackGoods
        Packed → wait(WheelsCame)
        WheelsCame → PackGoods
        Packed → done OrderClosed
        """,
    )
