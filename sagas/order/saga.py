"""An order: charge the card, reserve the stock, ship; each step says how it is taken back."""

from contrapas import FOREVER, App, Command, Event, Saga, StepFailed, saga


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


app = App("shop")
app.orchestrate(place_order)
