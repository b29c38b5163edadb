"""A saga whose step writes a row in a store's transaction, tells so in a file, and waits for another file before it ends."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

from asyncpg import Connection

from contrapas import SUPPLIED, App, Delivery, Depends, Event, Retry, Saga, StepFailed, saga, step
from contrapas_postgres import PostgresStore

store = PostgresStore(os.environ.get("LEDGER_DB", "postgresql:///ledger"), name="ledger")
Db = Annotated[Connection, Depends(store.session)]


class Asked(Event, topic="ledger.events", key="id"):
    id: str


class Booked(Event, topic="ledger.events", key="id"):
    id: str
    by: int


@step(undo=None, retry=Retry(50, backoff="50ms..500ms"), timeout="60s")
async def book(name: str, d: Delivery = Delivery(), db: Db = SUPPLIED) -> int:  # noqa: B008
    await db.execute("insert into business values ($1, $2)", d.idempotency_key, os.getpid())
    folder = Path(os.environ["MARKS"])
    (folder / f"begun-{os.getpid()}").touch()
    while not (folder / "go").exists():
        await asyncio.sleep(0.01)
    if (folder / f"refuse-{os.getpid()}").exists():
        raise StepFailed("refused")
    return os.getpid()


@saga
async def entry(s: Saga, asked: Asked) -> Booked:
    return Booked(id=asked.id, by=await s.step(book(asked.id)))


app = App("ledger")
app.orchestrate(entry)
