"""A saga for plain peers: it starts from a user's topic that is keyed otherwise, commands a bank, and tells how it ended."""

from __future__ import annotations

from contrapas.app import App
from contrapas.author.event import Command, Event
from contrapas.author.saga import Saga, saga
from contrapas.author.timeout import Timeout
from contrapas.errors import StepFailed
from contrapas.runtime.definition import Definition, TopicMapping

TOPICS = {"plain.orders": 3, "plain.commands": 2, "plain.events": 4, "plain.ends": 1, "plain.parcels": 3}


class Placed(Event, topic="plain.orders", key="id"):
    id: str
    cents: int
    parcel: str = ""


class Charged(Event, topic="plain.events", key="id"):
    id: str
    charge: str


class Declined(Event, topic="plain.events", key="id"):
    id: str
    reason: str


class Refunded(Event, topic="plain.events", key="id"):
    id: str


class Charge(Command[Charged, Declined], topic="plain.commands", key="id"):
    id: str
    cents: int


class Refund(Command[Refunded], topic="plain.commands", key="id"):
    id: str


class Arrived(Event, topic="plain.parcels", key="parcel"):
    parcel: str
    town: str


class Ended(Event, topic="plain.ends", key="id"):
    id: str
    how: str


@saga
async def buy(s: Saga, order: Placed) -> Ended:
    try:
        await s.step(Charge(id=order.id, cents=order.cents), undo=Refund(id=order.id), within="1m")
    except StepFailed as why:
        await s.compensate()
        return Ended(id=order.id, how=why.reason)
    if order.parcel:
        where = await s.wait(Arrived, correlate=order.parcel, within="1m")
        if isinstance(where, Timeout):
            return Ended(id=order.id, how="lost")
        return Ended(id=order.id, how=where.town)
    return Ended(id=order.id, how="paid")


def definition(*topics: TopicMapping) -> Definition:
    """The app, reading its topics as they are keyed."""
    app = App("plain")
    app.orchestrate(buy)
    found = app.definition()
    return Definition(
        namespace=found.namespace,
        sagas=found.sagas,
        topics=topics or (TopicMapping(topic="plain.orders", type="=Placed", id="nr", key="id"),),
        file=found.file,
    )
