"""Small sagas for tests of the plugin: local steps, waits, time, chance, services, called sagas, ambient values."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from uuid import uuid4

from contrapas import App, Command, Event, Retry, Saga, Service, StepFailed, Timeout, saga, step


class Asked(Event, topic="desk.events", key="id"):
    id: str
    n: int = 0


class Answered(Event, topic="desk.events", key="id"):
    id: str
    word: str


class Nudge(Event, key="id"):
    id: str
    word: str


class Looked(Event, topic="desk.events", key="id"):
    id: str
    found: str


class Look(Command[Looked], topic="desk.commands", key="id"):
    id: str
    token: str


@step(retry=Retry(3, backoff="1s..1m"))
def weigh(n: int) -> int:
    return n * 2


@step(undo=None)
async def note(text: str) -> None:
    return None


@saga
async def weighs(s: Saga, e: Asked) -> Answered:
    try:
        grams = await weigh(e.n)
    except StepFailed as why:
        return Answered(id=e.id, word=f"no: {why.reason}")
    return Answered(id=e.id, word=str(grams))


@saga
async def by_chance(s: Saga, e: Asked) -> Answered:
    token = f"{uuid4()}-{random.random()}-{datetime.now(UTC).isoformat()}"
    found = await s.step(Look(id=e.id, token=token), undo=None, within="1m")
    return Answered(id=e.id, word=f"{token} {found.found}")


@saga
async def nine_hours(s: Saga, e: Asked) -> Answered:
    for person in ("first", "second"):
        await note(person)
        got = await s.wait(Nudge, within="9h")
        if not isinstance(got, Timeout):
            return Answered(id=e.id, word=f"{person} {got.word}")
    return Answered(id=e.id, word="nobody")


@saga
async def inner(s: Saga, n: int) -> int:
    return await weigh(n) + await weigh(n + 1)


@saga
async def outer(s: Saga, e: Asked) -> Answered:
    a, b = await s.all(inner(s, e.n), inner(s, e.n))
    return Answered(id=e.id, word=f"{a} {b}")


@saga
async def in_order(s: Saga, e: Asked) -> Answered:
    a, b = await s.all(inner(s, e.n), inner(s, e.n + 10))
    return Answered(id=e.id, word=f"{a} {b}")


@saga
async def by_link(s: Saga, e: Asked) -> Answered:
    yes = s.link(Nudge(id=e.id, word="yes"))
    await note(yes.url)
    got = await s.wait(Nudge)
    return Answered(id=e.id, word=got.word)


desk = Service("desk")


@desk.on(Look)
async def look(c: Look) -> Looked:
    return Looked(id=c.id, found="here")


app = App("desk")
app.orchestrate(by_chance)
app.serve(desk)
