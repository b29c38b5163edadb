"""Messages and steps of a small shop, and their registry, for the tests of the core."""

from __future__ import annotations

from contrapas.author.event import Command, Event
from contrapas.author.retry import Retry
from contrapas.author.step import step
from contrapas.codec.registry import Registry, build_registry
from contrapas.errors import StepFailed


class OrderPlaced(Event, topic="orders.events", key="order_id"):
    order_id: str
    cents: int = 0


class CardCharged(Event, topic="payments.events", key="order_id"):
    order_id: str
    charge_id: str


class CardDeclined(Event, topic="payments.events", key="order_id"):
    order_id: str
    reason: str


class ChargeCard(Command[CardCharged, CardDeclined], topic="payments.commands", key="order_id"):
    order_id: str
    cents: int = 0


class CardRefunded(Event, topic="payments.events", key="order_id"):
    order_id: str


class RefundRefused(Event, topic="payments.events", key="order_id"):
    order_id: str


class RefundCard(Command[CardRefunded, RefundRefused], topic="payments.commands", key="order_id"):
    order_id: str
    charge_id: str = ""


class StockReserved(Event, topic="stock.events", key="order_id"):
    order_id: str


class OutOfStock(Event, topic="stock.events", key="order_id"):
    order_id: str


class ReserveStock(Command[StockReserved, OutOfStock], topic="stock.commands", key="order_id"):
    order_id: str


class StockReleased(Event, topic="stock.events", key="order_id"):
    order_id: str


class ReleaseStock(Command[StockReleased], topic="stock.commands", key="order_id"):
    order_id: str


class Shipped(Event, key="order_id"):
    order_id: str


class ShipOrder(Command[Shipped, OutOfStock], key="order_id"):
    order_id: str


class Approved(Event, topic="people", key="order_id"):
    order_id: str
    by: str = ""


class Rejected(Event, topic="people", key="order_id"):
    order_id: str


class OrderConfirmed(Event, topic="orders.events", key="order_id"):
    order_id: str
    note: str = ""


class OrderRejected(Event, topic="orders.events", key="order_id"):
    order_id: str
    reason: str = ""


class Noticed(Event, topic="notices", key="order_id"):
    order_id: str
    text: str = ""


class SeatTaken(StepFailed):
    """A definite failure of a local step."""


@step(undo=None, retry=Retry(3, backoff="1s..10s"))
def price(order_id: str) -> int:
    """A local step without anything to take back."""
    return len(order_id)


@step(undo=None)
def free_seat(seat: str) -> None:
    """The undo of `take_seat`."""


@step(undo=lambda seat: free_seat(seat), retry=Retry(2, backoff="1s"))
def take_seat(order_id: str) -> str:
    """A local step with a default undo."""
    return f"seat-{order_id}"


@step(observe=True, undo=None)
def look(order_id: str) -> int:
    """Runs under observe too."""
    return 1


EVENTS = (
    OrderPlaced,
    ChargeCard,
    RefundCard,
    ReserveStock,
    ReleaseStock,
    ShipOrder,
    Approved,
    Rejected,
    OrderConfirmed,
    OrderRejected,
    Noticed,
)
REGISTRY: Registry = build_registry(
    steps=(price, take_seat, free_seat, look), events=EVENTS, exceptions=(SeatTaken, ValueError, KeyError)
)
