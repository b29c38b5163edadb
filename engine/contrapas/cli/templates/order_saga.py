"""An order as one function: charge the card, reserve the goods, ship. Below it three services that play their part.

Edit and save: the running demo reads this file again. `contrapas graph order_saga:app` draws it.
"""

import asyncio
from pathlib import Path

from contrapas import FOREVER, App, Command, Event, Saga, Service, StepFailed, saga


class CardCharged(Event, topic="payments.events", key="order_id"):
    order_id: str
    charge_id: str


class CardDeclined(Event, topic="payments.events", key="order_id"):
    order_id: str
    reason: str


class ChargeCard(Command[CardCharged, CardDeclined], topic="payments.commands", key="order_id"):
    order_id: str
    cents: int


class CardRefunded(Event, topic="payments.events", key="order_id"):
    order_id: str


class RefundCard(Command[CardRefunded], topic="payments.commands", key="order_id"):
    order_id: str
    charge_id: str


class StockReserved(Event, topic="stock.events", key="order_id"):
    order_id: str


class OutOfStock(Event, topic="stock.events", key="order_id"):
    order_id: str
    sku: str


class ReserveStock(Command[StockReserved, OutOfStock], topic="stock.commands", key="order_id"):
    order_id: str
    sku: str


class StockReleased(Event, topic="stock.events", key="order_id"):
    order_id: str


class ReleaseStock(Command[StockReleased], topic="stock.commands", key="order_id"):
    order_id: str


class Shipped(Event, topic="shipping.events", key="order_id"):
    order_id: str
    tracking: str


class ShipOrder(Command[Shipped], topic="shipping.commands", key="order_id"):
    order_id: str


class OrderPlaced(Event, topic="orders.events", key="order_id"):
    order_id: str
    sku: str
    cents: int


class OrderConfirmed(Event, topic="orders.events", key="order_id"):
    order_id: str
    tracking: str


class OrderRejected(Event, topic="orders.events", key="order_id"):
    order_id: str
    reason: str


@saga
async def place_order(s: Saga, order: OrderPlaced) -> OrderConfirmed | OrderRejected:
    try:
        await s.step(
            ChargeCard(order_id=order.order_id, cents=order.cents),
            undo=lambda ok: RefundCard(order_id=order.order_id, charge_id=ok.charge_id),
            within="30s",
        )
        await s.step(
            ReserveStock(order_id=order.order_id, sku=order.sku),
            undo=ReleaseStock(order_id=order.order_id),
            within="1m",
        )
        s.point_of_no_return()
        parcel = await s.step(ShipOrder(order_id=order.order_id), retry=FOREVER)
    except StepFailed as why:
        await s.compensate()
        return OrderRejected(order_id=order.order_id, reason=why.reason)
    return OrderConfirmed(order_id=order.order_id, tracking=parcel.tracking)


# The services: in real life they are elsewhere, and answer over the broker.

payments, stock, shipping = Service("payments"), Service("stock"), Service("shipping")
BROKEN = Path(".contrapas/card-service-broken")


@payments.on(ChargeCard)
async def charge(c: ChargeCard) -> CardCharged | CardDeclined:
    await asyncio.sleep(0.04)
    if BROKEN.exists():
        return CardDeclined(order_id=c.order_id, reason="card service is broken")
    return CardCharged(order_id=c.order_id, charge_id=f"ch_{c.order_id}")


@payments.on(RefundCard)
async def refund(c: RefundCard) -> CardRefunded:
    await asyncio.sleep(0.05)
    return CardRefunded(order_id=c.order_id)


@stock.on(ReserveStock)
async def reserve(c: ReserveStock) -> StockReserved | OutOfStock:
    await asyncio.sleep(2.0 if c.sku == "piano" else 0.04)  # somebody has to look for the piano
    if c.sku == "unicorn":
        return OutOfStock(order_id=c.order_id, sku=c.sku)
    return StockReserved(order_id=c.order_id)


@stock.on(ReleaseStock)
async def release(c: ReleaseStock) -> StockReleased:
    return StockReleased(order_id=c.order_id)


@shipping.on(ShipOrder)
async def ship(c: ShipOrder) -> Shipped:
    await asyncio.sleep(0.05)
    return Shipped(order_id=c.order_id, tracking=f"T-{c.order_id}")


app = App("shop")
app.orchestrate(place_order)
app.serve(payments, stock, shipping)
