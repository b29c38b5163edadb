"""The same order, with nobody in charge: three services react to each other, and the saga watches."""

from contrapas import App, Service
from sagas.order.saga import (
    CardCharged,
    CardDeclined,
    CardRefunded,
    OrderPlaced,
    OutOfStock,
    RefundCard,
    ReleaseStock,
    Shipped,
    StockReleased,
    StockReserved,
    place_order,
)

payments, stock, shipping = Service("payments"), Service("stock"), Service("shipping")


@payments.on(OrderPlaced)
async def charge(e: OrderPlaced) -> CardCharged | CardDeclined:
    if e.cents > 500_00:
        return CardDeclined(order_id=e.order_id, reason="limit")
    return CardCharged(order_id=e.order_id, charge_id=f"ch_{e.order_id}")


@stock.on(CardCharged)
async def reserve(e: CardCharged) -> StockReserved | OutOfStock:
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


app = App("shop")
app.serve(payments, stock, shipping)  # three services, nobody in charge
app.observe(place_order, on_late="compensate")  # the same saga, now only watching
