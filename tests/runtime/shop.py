"""The shop, with services that answer its commands: example (a) of the documentation, and example (b) beside it."""

from __future__ import annotations

from contrapas.app import App
from contrapas.author.service import Delivery, Service
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition
from sagas.order.saga import (
    CardCharged,
    CardDeclined,
    CardRefunded,
    ChargeCard,
    OrderPlaced,
    OutOfStock,
    RefundCard,
    ReleaseStock,
    ReserveStock,
    ShipOrder,
    Shipped,
    StockReleased,
    StockReserved,
    place_order,
)

SEEN: list[tuple[str, str]] = []
"""(handler, idempotency key) of every call."""


def answering() -> tuple[Service, ...]:
    """Participants that answer commands: `cents` above 500 is declined, the sku `none` is out of stock."""
    payments, stock, shipping = Service("payments"), Service("stock"), Service("shipping")

    @payments.on(ChargeCard)
    async def charge(c: ChargeCard, d: Delivery) -> CardCharged | CardDeclined:
        SEEN.append(("charge", d.idempotency_key))
        if c.cents > 500_00:
            return CardDeclined(order_id=c.order_id, reason="limit")
        return CardCharged(order_id=c.order_id, charge_id=f"ch_{c.order_id}")

    @payments.on(RefundCard)
    async def refund(c: RefundCard, d: Delivery) -> CardRefunded:
        SEEN.append(("refund", d.idempotency_key))
        return CardRefunded(order_id=c.order_id)

    @stock.on(ReserveStock)
    def reserve(c: ReserveStock, d: Delivery) -> StockReserved | OutOfStock:
        SEEN.append(("reserve", d.idempotency_key))
        if c.sku == "none":
            return OutOfStock(order_id=c.order_id, sku=c.sku)
        return StockReserved(order_id=c.order_id)

    @stock.on(ReleaseStock)
    async def release(c: ReleaseStock, d: Delivery) -> StockReleased:
        SEEN.append(("release", d.idempotency_key))
        return StockReleased(order_id=c.order_id)

    @shipping.on(ShipOrder)
    async def ship(c: ShipOrder, d: Delivery) -> Shipped:
        SEEN.append(("ship", d.idempotency_key))
        return Shipped(order_id=c.order_id, tracking=f"T-{c.order_id}")

    return payments, stock, shipping


def reacting() -> tuple[Service, ...]:
    """The same services, reacting to each other."""
    payments, stock, shipping = Service("payments"), Service("stock"), Service("shipping")

    @payments.on(OrderPlaced)
    async def charge(e: OrderPlaced) -> CardCharged | CardDeclined:
        if e.cents > 500_00:
            return CardDeclined(order_id=e.order_id, reason="limit")
        return CardCharged(order_id=e.order_id, charge_id=f"ch_{e.order_id}")

    @stock.on(CardCharged)
    async def reserve(e: CardCharged) -> StockReserved | OutOfStock:
        if e.order_id.startswith("none"):
            return OutOfStock(order_id=e.order_id, sku="none")
        return StockReserved(order_id=e.order_id)

    @shipping.on(StockReserved)
    async def ship(e: StockReserved) -> Shipped:
        return Shipped(order_id=e.order_id, tracking=f"T-{e.order_id}")

    @payments.on(RefundCard)
    async def refund(c: RefundCard) -> CardRefunded:
        return CardRefunded(order_id=c.order_id)

    @stock.on(ReleaseStock)
    async def release(c: ReleaseStock) -> StockReleased:
        return StockReleased(order_id=c.order_id)

    return payments, stock, shipping


def orchestrated() -> Definition:
    """`app.orchestrate(place_order)`, with participants."""
    app = App("shop")
    app.orchestrate(place_order)
    app.serve(*answering())
    return app.definition()


def alone() -> Definition:
    """`app.orchestrate(place_order)`; whoever answers is the test."""
    app = App("shop")
    app.orchestrate(place_order)
    return app.definition()


def observed() -> Definition:
    """`app.observe(place_order)`, over services that react."""
    app = App("shop")
    app.observe(place_order, on_late="compensate")
    app.serve(*reacting())
    return app.definition()


__all__ = ["SEEN", "alone", "build", "observed", "orchestrated"]
