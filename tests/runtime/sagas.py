"""Sagas of the runtime's tests, compiled: a wait on a foreign key, a slow step, an unwinding in several steps."""

from __future__ import annotations

import asyncio
from typing import cast

from contrapas.app import App
from contrapas.author.event import Event
from contrapas.author.retry import Retry
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.errors import StepFailed
from contrapas.runtime.definition import Definition


class Asked(Event, topic="ask.events", key="id"):
    id: str
    ref: str


class Approved(Event, topic="approval.events", key="ref"):
    ref: str
    by: str


class Granted(Event, topic="ask.events", key="id"):
    id: str
    by: str


@saga
async def approval(s: Saga, asked: Asked) -> Granted:
    answer = await s.wait(Approved, correlate=asked.ref, within="1h")
    if isinstance(answer, Approved):
        return Granted(id=asked.id, by=answer.by)
    return Granted(id=asked.id, by="nobody")


RAN: list[str] = []
GATE: list[asyncio.Event] = []


@step(undo=None)
async def slow(name: str) -> str:
    RAN.append(f"slow {name}")
    await GATE[0].wait()
    return name


@step(undo=None)
def blocking(name: str) -> str:
    RAN.append(f"blocking {name}")
    return name


@step(undo=None, retry=Retry(3, backoff="1s..4s"))
async def shaky(name: str) -> str:
    RAN.append(f"shaky {name}")
    raise ValueError("not yet")


@step(undo=None)
async def unstorable(name: str) -> list[int]:
    RAN.append("unstorable")
    return cast("list[int]", iter(()))


async def _take_back(name: str) -> None:
    RAN.append(f"undo {name}")


take_back = step(undo=None)(_take_back)


@step(undo=lambda r: take_back(r))
async def book(name: str) -> str:
    RAN.append(f"book {name}")
    return name


@step(undo=None)
async def refuse() -> None:
    RAN.append("refuse")
    raise StepFailed("no")


@saga
async def patient(s: Saga, asked: Asked) -> Granted:
    by = await slow(asked.ref)
    return Granted(id=asked.id, by=by)


@saga
async def threaded(s: Saga, asked: Asked) -> Granted:
    by = await blocking(asked.ref)
    return Granted(id=asked.id, by=by)


@saga
async def stubborn(s: Saga, asked: Asked) -> Granted:
    by = await shaky(asked.ref)
    return Granted(id=asked.id, by=by)


@saga
async def generous(s: Saga, asked: Asked) -> Granted:
    await unstorable(asked.ref)
    return Granted(id=asked.id, by="")


@saga
async def trip(s: Saga, asked: Asked) -> Granted:
    await book("train")
    await book("hotel")
    await book("car")
    await refuse()
    return Granted(id=asked.id, by="")


def definition_of(*sagas: object) -> Definition:
    """An app with these sagas."""
    app = App("t")
    app.orchestrate(*sagas)  # type: ignore[arg-type]
    return app.definition()
