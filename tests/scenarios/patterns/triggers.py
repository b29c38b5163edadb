"""WCP-23, WCP-24: signals from outside that are lost, or kept, when nobody waits for them."""

from __future__ import annotations

from contrapas import Event, Saga, saga
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    Confirmed,
    OrderClosed,
    OrderPlaced,
    Packed,
    PackGoods,
    ShipGoods,
    Shipped,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


class CourierRings(Event, topic="desk.door", key="order", transient=True):
    """Who does not open the door now has missed it."""

    order: str = "o-1"


@saga(deadline="30d")
async def transient_trigger(s: Saga, e: OrderPlaced) -> OrderClosed:
    """The courier takes the parcel along if it stands ready when he rings."""
    await s.step(PackGoods(order=e.order))
    await s.wait(CourierRings)
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(
    23,
    "Transient Trigger",
    "`class CourierRings(Event, transient=True)`: applied if somebody waits, else a recorded no-op",
)
async def wcp23_transient_trigger(sagas: Sagas) -> None:
    run = await sagas.start(transient_trigger, OrderPlaced())
    await run.send(CourierRings())
    await answer(run, PackGoods, Packed())
    assert run.state == "wait(CourierRings)"
    await run.send(CourierRings())
    await answer(run, ShipGoods, Shipped())
    traced(
        run,
        """
        OrderPlaced → PackGoods
        CourierRings (no-op: nobody waits) → PackGoods
        Packed → wait(CourierRings)
        CourierRings → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def persistent_trigger(s: Saga, e: OrderPlaced) -> OrderClosed:
    """A confirmation counts whenever it comes, before the goods are packed or after."""
    await s.step(PackGoods(order=e.order))
    await s.wait(Confirmed)
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(24, "Persistent Trigger", "`await s.wait(Confirmed)`: an early event is kept until it is awaited")
async def wcp24_persistent_trigger(sagas: Sagas) -> None:
    run = await sagas.start(persistent_trigger, OrderPlaced())
    await run.send(Confirmed())
    await answer(run, PackGoods, Packed())
    await answer(run, ShipGoods, Shipped())
    traced(
        run,
        """
        OrderPlaced → PackGoods
        Confirmed (kept) → PackGoods
        Packed → ShipGoods
        Shipped → done OrderClosed
        """,
    )
