"""Sagas that begin others as instances of their own."""

from __future__ import annotations

import asyncio
from typing import Any

from contrapas.app import App
from contrapas.author.event import Command, Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.errors import StepFailed


class Trip(Event, topic="trip.events", key="id"):
    id: str
    hotel: str = "h"
    how: str = ""


class Booked(Event, topic="trip.events", key="id"):
    id: str
    what: str


class Stay(Event, topic="stay.events", key="hotel"):
    hotel: str
    how: str = ""


class Stayed(Event, topic="stay.events", key="hotel"):
    hotel: str
    nights: int


class Full(Event, topic="stay.events", key="hotel"):
    hotel: str


class Left(Event, topic="leave.events", key="hotel"):
    hotel: str


class Leave(Command[Left], topic="leave.commands", key="hotel"):
    hotel: str


class Open(Event, topic="stay.events", key="hotel"):
    hotel: str


UNDONE: list[str] = []
GATE: list[asyncio.Event] = []


@step(undo=None)
async def leave(hotel: str) -> None:
    UNDONE.append(hotel)


@step(undo=None)
async def unpack(what: str) -> None:
    UNDONE.append(what)


@step(undo=lambda name: unpack(name))
async def pack(name: str) -> str:
    return name


@saga
async def stay(s: Saga, e: Stay) -> Stayed | Full:
    await pack(f"bag of {e.hotel}")
    if e.how == "full":
        return Full(hotel=e.hotel)
    if e.how == "burns":
        raise StepFailed("it burns")
    if e.how == "waits":
        await s.wait(Open, within="1h")
    if e.how == "months":
        await s.wait(Open, within="100d")
    return Stayed(hotel=e.hotel, nights=3)


@saga
async def rest(s: Saga, e: Stay) -> None:
    await pack(f"bed of {e.hotel}")


@saga
async def trip(s: Saga, e: Trip) -> Booked:
    try:
        got = await s.child(stay, Stay(hotel=e.hotel, how=e.how), undo=lambda ok: leave(ok.hotel))
    except StepFailed as why:
        return Booked(id=e.id, what=f"{why.reason} {why.unknown}")
    if e.id.startswith("back"):
        raise StepFailed("back home")
    return Booked(id=e.id, what=f"{type(got).__name__}")


@saga
async def short(s: Saga, e: Trip) -> Booked:
    try:
        await s.child(stay, Stay(hotel=e.hotel, how="months"), within="10s", undo=leave(e.hotel))
    except StepFailed as why:
        return Booked(id=e.id, what=f"{why.reason} {why.unknown}")
    return Booked(id=e.id, what="in time")


@saga
async def twice(s: Saga, e: Trip) -> Booked:
    one = await s.child(stay, Stay(hotel=e.hotel))
    two = await s.child(stay, Stay(hotel=e.hotel))
    pair = await s.all(s.child(stay, Stay(hotel="x")), s.child(rest, Stay(hotel="y")))
    assert one == two and pair[1] is None
    return Booked(id=e.id, what=type(one).__name__)


ALL: list[Any] = [trip, stay, rest, short, twice]
app = App("kin")
app.orchestrate(*ALL)
