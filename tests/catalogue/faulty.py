"""Sagas whose steps misbehave, beside the claim that must not notice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from contrapas.author.event import Command, Event
from contrapas.author.retry import Retry
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.author.timeout import Timeout
from contrapas.errors import StepFailed
from tests.catalogue.desk import TOPIC, Closed, Opened

CALLS: list[str] = []
"""What ran, in order."""
SHARED: dict[str, int] = {}
"""A global that a step changes."""


class Paid(Event, topic="pay.events", key="id"):
    id: str
    ref: str


class Declined(Event, topic="pay.events", key="id"):
    id: str
    reason: str


class Refunded(Event, topic="pay.events", key="id"):
    id: str


class Pay(Command[Paid, Declined], topic="pay.commands", key="id"):
    id: str


class Refund(Command[Refunded], topic="pay.commands", key="id"):
    id: str
    ref: str


# ---- raises


@step(undo=None, retry=Retry(3, backoff="1s..4s"))
async def breaks(id: str) -> str:
    CALLS.append("breaks")
    raise ValueError(f"no luck with {id}")


@step(undo=None, retry=Retry(2, backoff="1s"))
async def take_back(id: str) -> None:
    CALLS.append("take_back")
    raise OSError("the other side is closed")


@step(undo=lambda id: take_back(id))
async def book(id: str) -> str:
    CALLS.append("book")
    return id


@saga
async def survives(s: Saga, e: Opened) -> Closed:
    try:
        await breaks(e.id)
    except StepFailed as why:
        return Closed(id=e.id, by=f"{why.unknown} {why.reason}")
    return Closed(id=e.id, by="nobody")


@saga
async def unwinds_badly(s: Saga, e: Opened) -> Closed:
    booked = await book(e.id)
    await s.step(Pay(id=booked), within="1m", undo=None)
    return Closed(id=e.id, by=booked)


@saga
async def has_a_bug(s: Saga, e: Opened) -> Closed:
    await book(e.id)
    paid = await s.step(Pay(id=e.id), within="1m", undo=None)
    return Closed(id=e.id, by={"known": "ann"}[paid.ref])


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


@step(undo=None, retry=Retry(1))
async def breaks_at_length(id: str) -> str:
    raise ValueError("too long " * 500_000)


@step(undo=None, retry=Retry(1))
async def breaks_without_words(id: str) -> str:
    raise Mute()


@step(undo=None, retry=Retry(1))
async def breaks_as_if_cancelled(id: str) -> str:
    raise asyncio.CancelledError()


@saga
async def raises_much(s: Saga, e: Opened) -> Closed:
    try:
        by = await breaks_at_length(e.id)
    except StepFailed as why:
        by = why.reason[:40]
    return Closed(id=e.id, by=by)


@saga
async def raises_without_words(s: Saga, e: Opened) -> Closed:
    try:
        by = await breaks_without_words(e.id)
    except StepFailed as why:
        by = why.reason
    return Closed(id=e.id, by=by)


@saga
async def raises_cancelled(s: Saga, e: Opened) -> Closed:
    try:
        by = await breaks_as_if_cancelled(e.id)
    except StepFailed as why:
        by = why.reason
    return Closed(id=e.id, by=by)


# ---- does not return


@step(undo=None, timeout="10s", retry=Retry(2, backoff="1s"))
async def sleeps(id: str) -> str:
    CALLS.append("sleeps")
    await asyncio.Event().wait()
    return id


@step(undo=None)
async def blocks(seconds: float) -> int:
    time.sleep(seconds)  # noqa: ASYNC251  the mistake: a plain sleep inside of an async step
    return 1


@saga
async def waits_in_vain(s: Saga, e: Opened) -> Closed:
    try:
        await sleeps(e.id)
    except StepFailed as why:
        return Closed(id=e.id, by=f"{why.unknown} {why.reason}")
    return Closed(id=e.id, by="nobody")


@saga
async def holds_the_loop(s: Saga, e: Opened) -> Closed:
    await blocks(e.cents / 100)
    return Closed(id=e.id, by="it")


# ---- returns what cannot be kept


@step(undo=None)
async def returns_ten_megabytes(id: str) -> str:
    return "x" * 10_000_000


@step(undo=None)
async def returns_a_generator(id: str) -> list[int]:
    def numbers() -> Iterator[int]:
        yield 1

    return cast("list[int]", numbers())


@step(undo=None)
def returns_an_open_file(id: str) -> str:
    return cast("str", cast(Any, Path(__file__).open()))


@saga
async def takes_too_much(s: Saga, e: Opened) -> Closed:
    return Closed(id=e.id, by=await returns_ten_megabytes(e.id))


@saga
async def takes_a_generator(s: Saga, e: Opened) -> Closed:
    return Closed(id=e.id, by=str(await returns_a_generator(e.id)))


@saga
async def takes_a_file(s: Saga, e: Opened) -> Closed:
    return Closed(id=e.id, by=await returns_an_open_file(e.id))


@saga
async def grows(s: Saga, e: Opened) -> Closed:
    parts: list[str] = []
    for n in range(40):
        parts.append(str(n) * 50_000)
        await quietly(n)
    return Closed(id=e.id, by=str(len(parts)))


@saga
async def emits_too_much(s: Saga, e: Opened) -> Closed:
    await quietly(1)
    s.emit(Closed(id=e.id, by="x" * 950_000))
    return Closed(id=e.id, by="")


# ---- changes what it was given


@step(undo=None)
async def quietly(n: int) -> int:
    return n


@step(undo=None, retry=Retry(3, backoff="1s"))
async def spoils(items: list[str]) -> int:
    CALLS.append(f"spoils {items}")
    items.append("spoiled")
    SHARED["n"] = SHARED.get("n", 0) + 1
    if SHARED["n"] < 2:
        raise ValueError("once more")
    return len(items)


@saga
async def keeps_its_own(s: Saga, e: Opened) -> Closed:
    items = ["a"]
    count = await spoils(items)
    return Closed(id=e.id, by=f"{items} {count}")


# ---- another result when computed again


@step(undo=None)
async def says(number: int) -> int:
    CALLS.append(f"says {number}")
    return number


@saga
async def rolls_dice(s: Saga, e: Opened) -> Closed:
    number: int = random.choice(range(1 << 62))
    heard = await says(number)
    return Closed(id=e.id, by=str(heard == number))


# ---- times


class Planned(Event, topic=TOPIC, key="id"):
    id: str
    at: datetime


@saga
async def sleeps_until(s: Saga, e: Planned) -> Closed:
    await s.sleep(until=e.at)
    return Closed(id=e.id, by="it")


@saga
async def has_a_deadline_at(s: Saga, e: Planned) -> Closed:
    s.deadline(until=e.at)
    await s.sleep("1h")
    return Closed(id=e.id, by="it")


# ---- late replies


@saga(late_replies="1h")
async def gives_up_waiting(s: Saga, e: Opened) -> Closed:
    by = "paid"
    try:
        await s.step(Pay(id=e.id), within="30s", undo=lambda r: Refund(id=e.id, ref=r.ref))
    except StepFailed as why:
        by = f"{why.unknown}"
        await s.compensate()
    answer = await s.ask(Pay(id=e.id), within="30s", undo=None)
    return Closed(id=e.id, by=f"{by} {type(answer).__name__ if not isinstance(answer, Timeout) else 'again'}")
