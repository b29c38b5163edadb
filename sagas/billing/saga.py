"""Bills what an old shop sells and sends it: three existing services on Kafka, none of which knows contrapas."""

from __future__ import annotations

from pydantic import AliasChoices, AliasPath, Field

from contrapas import App, Command, Event, Saga, StepFailed, saga


class OrderCreated(Event, topic="legacy.orders", key="number", name="order_created"):
    """As the old shop writes it: `{"kind": "order_created", "eventId": …, "order": {"number": …, "total": …}}`."""

    number: str = Field(validation_alias=AliasChoices(AliasPath("order", "number"), "number"))
    cents: int = Field(validation_alias=AliasChoices(AliasPath("order", "total"), "cents"))


class Billed(Event, topic="billing.events", key="number"):
    number: str
    invoice: str


class BillRefused(Event, topic="billing.events", key="number"):
    number: str
    reason: str


class BillCancelled(Event, topic="billing.events", key="number"):
    number: str


class CancelBill(Command[BillCancelled], topic="billing.commands", key="number"):
    number: str
    invoice: str


class Bill(Command[Billed, BillRefused], topic="billing.commands", key="number"):
    number: str
    cents: int


class Delivered(Event, topic="delivery.events", key="number"):
    number: str


class AddressUnknown(Event, topic="delivery.events", key="number"):
    number: str


class Deliver(Command[Delivered, AddressUnknown], topic="delivery.commands", key="number"):
    number: str


class OrderFulfilled(Event, topic="billing.outcomes", key="number"):
    number: str
    invoice: str


class OrderGivenUp(Event, topic="billing.outcomes", key="number"):
    number: str
    reason: str


@saga
async def fulfil(s: Saga, order: OrderCreated) -> OrderFulfilled | OrderGivenUp:
    try:
        bill = await s.step(
            Bill(number=order.number, cents=order.cents),
            undo=lambda ok: CancelBill(number=order.number, invoice=ok.invoice),
            within="1m",
        )
        await s.step(Deliver(number=order.number), undo=None, within="2d")
    except StepFailed as why:
        await s.compensate()
        return OrderGivenUp(number=order.number, reason=why.reason)
    return OrderFulfilled(number=order.number, invoice=bill.invoice)


app = App("billing")
app.orchestrate(fulfil)
app.external("billing", takes=[Bill, CancelBill], emits=[Billed, BillRefused, BillCancelled])
app.external("delivery", takes=[Deliver], emits=[Delivered, AddressUnknown])
