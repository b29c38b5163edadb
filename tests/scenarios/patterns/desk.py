"""The order desk of a mail-order house: what the sagas of the patterns hear and ask for."""

from __future__ import annotations

from contrapas import Command, Event


class OrderPlaced(Event, topic="desk.orders", key="order"):
    order: str = "o-1"
    items: tuple[str, ...] = ()
    cents: int = 1000
    express: bool = False
    gift: bool = False


class OrderClosed(Event, topic="desk.closed", key="order"):
    order: str
    word: str = ""


class CreditGranted(Event, topic="desk.credit", key="order"):
    order: str = "o-1"


class CreditRefused(Event, topic="desk.credit", key="order"):
    order: str = "o-1"


class CheckCredit(Command[CreditGranted, CreditRefused], topic="desk.credit.commands", key="order"):
    order: str


class Packed(Event, topic="desk.store", key="order"):
    order: str = "o-1"


class Missing(Event, topic="desk.store", key="order"):
    order: str = "o-1"
    reason: str = "out of stock"


class PackGoods(Command[Packed, Missing], topic="desk.store.commands", key="order"):
    order: str
    item: str = ""


class Unpacked(Event, topic="desk.store", key="order"):
    order: str = "o-1"


class UnpackGoods(Command[Unpacked], topic="desk.store.commands", key="order"):
    order: str


class Invoiced(Event, topic="desk.invoices", key="order"):
    order: str = "o-1"


class SendInvoice(Command[Invoiced], topic="desk.invoices.commands", key="order"):
    order: str


class Wrapped(Event, topic="desk.store", key="order"):
    order: str = "o-1"


class WrapGift(Command[Wrapped], topic="desk.store.commands", key="order"):
    order: str


class Shipped(Event, topic="desk.carriers", key="order"):
    order: str = "o-1"


class ShipGoods(Command[Shipped], topic="desk.carriers.commands", key="order"):
    order: str
    by: str = ""


class Quoted(Event, topic="desk.carriers", key="order"):
    order: str = "o-1"
    carrier: str
    cents: int = 500


class NoQuote(Event, topic="desk.carriers", key="order"):
    order: str = "o-1"
    reason: str = "does not go there"


class AskQuote(Command[Quoted, NoQuote], topic="desk.carriers.commands", key="order"):
    order: str
    carrier: str


class Inspected(Event, topic="desk.quality", key="order"):
    order: str = "o-1"
    fine: bool = True


class Inspect(Command[Inspected], topic="desk.quality.commands", key="order"):
    order: str
    item: str = ""


class Withdrawn(Event, topic="desk.customers", key="order"):
    """The customer does not want it any more."""

    order: str = "o-1"


class Confirmed(Event, topic="desk.customers", key="order"):
    order: str = "o-1"


class ItemAdded(Event, topic="desk.customers", key="order"):
    order: str = "o-1"
    item: str


class NoMore(Event, topic="desk.customers", key="order"):
    order: str = "o-1"
