"""Sagas whose local steps write business rows in a store's transaction."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from contrapas import FOREVER, SUPPLIED, App, Delivery, Depends, Event, Retry, Saga, StepFailed, saga, step
from tests.runtime.stores import Effects, Held

STORE = Held()
Db = Annotated[Any, Depends(STORE.session)]
EFFECTS: list[Effects] = []
GATE: list[asyncio.Event] = []
FAILS: list[Exception] = []
KEYS: list[tuple[str, int, str]] = []


class Moved(Event, topic="moves.events", key="id"):
    id: str
    cents: int = 1


class Booked(Event, topic="moves.events", key="id"):
    id: str
    entries: tuple[str, ...] = ()
    why: str = ""


@step(undo=None, retry=Retry(5, backoff="10ms..20ms"))
async def book(name: str, cents: int, d: Delivery = Delivery(), db: Db = SUPPLIED) -> str:  # noqa: B008
    KEYS.append((d.idempotency_key, d.attempt, name))
    await EFFECTS[0].add(db, name)
    if GATE:
        await GATE[0].wait()
    if FAILS:
        raise FAILS.pop(0)
    return f"{name}:{cents}:{len(KEYS)}"


@step(undo=None)
def book_plainly(name: str, db: Db = SUPPLIED) -> str:
    if hasattr(db, "execute"):
        db.execute("insert or replace into business values (?, '1')", (f"{name}#1",))
    else:
        db.tables[("business", f"{name}#1")] = "1"
    EFFECTS[0].tried.append(name)
    return name


@step(undo=None)
async def unbook(name: str, db: Db = SUPPLIED) -> None:
    await EFFECTS[0].add(db, f"un{name}")


@step(undo=lambda entry: unbook("debit"))
async def debit(cents: int, db: Db = SUPPLIED) -> str:
    return await book.native("debit", cents, Delivery(), db)


@step(undo=None, retry=None)
async def refuses(db: Db = SUPPLIED) -> str:
    await EFFECTS[0].add(db, "refused")
    raise StepFailed("no money")


@saga
async def two_entries(s: Saga, e: Moved) -> Booked:
    one = await s.step(book("from", e.cents))
    two = await s.step(book("to", e.cents))
    return Booked(id=e.id, entries=(one, two))


@saga
async def stubborn(s: Saga, e: Moved) -> Booked:
    return Booked(id=e.id, entries=(await s.step(book("from", e.cents), retry=FOREVER),))


@saga
async def plain_entry(s: Saga, e: Moved) -> Booked:
    return Booked(id=e.id, entries=(await s.step(book_plainly("plain")),))


@saga
async def taken_back(s: Saga, e: Moved) -> Booked:
    try:
        await s.step(debit(e.cents))
        await s.step(refuses())
    except StepFailed as why:
        await s.compensate()
        return Booked(id=e.id, why=why.reason)
    return Booked(id=e.id)


def app() -> App:
    made = App("t")
    made.orchestrate(two_entries, stubborn, plain_entry, taken_back)
    return made
