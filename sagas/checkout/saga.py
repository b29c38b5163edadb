"""What the shop's services say to each other, the saga over them, and a shipper without a database."""

from contrapas import App, Command, Event, Saga, Service, StepFailed, saga


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


class ParcelSent(Event, topic="shipping.events", key="order_id"):
    order_id: str
    tracking: str


class NothingLeft(Event, topic="shipping.events", key="order_id"):
    order_id: str
    reason: str


class SendParcel(Command[ParcelSent, NothingLeft], topic="shipping.commands", key="order_id"):
    order_id: str
    sku: str


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
            undo=RefundCard(order_id=order.order_id),
            within="30s",
        )
        # allow CP703: nothing of a parcel is taken back
        parcel = await s.step(SendParcel(order_id=order.order_id, sku=order.sku), undo=None, within="1h")
    except StepFailed as why:
        await s.compensate()
        return OrderRejected(order_id=order.order_id, reason=why.reason)
    return OrderConfirmed(order_id=order.order_id, tracking=parcel.tracking)


shipping = Service("shipping")


@shipping.on(SendParcel)
async def send(cmd: SendParcel) -> ParcelSent | NothingLeft:
    if cmd.sku == "unicorn":
        return NothingLeft(order_id=cmd.order_id, reason="sold out")
    return ParcelSent(order_id=cmd.order_id, tracking=f"T-{cmd.order_id}")


app = App("shop")
app.orchestrate(place_order)
app.serve(shipping)
