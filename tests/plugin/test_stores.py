"""Services and steps on a store under the `sagas` fixture: no server, no worker, the same transactions."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from contrapas import SUPPLIED, Command, Delivery, Depends, Event, Saga, Service, StepFailed, saga, step
from contrapas.participant.memory import MemorySession, MemoryStore
from contrapas.testing import Sagas


class Put(Event, topic="till.events", key="id"):
    id: str
    cents: int = 5


class Taken(Event, topic="till.events", key="id"):
    id: str


class GivenBack(Event, topic="till.events", key="id"):
    id: str


class GiveBack(Command[GivenBack], topic="till.commands", key="id"):
    id: str


class Take(Command[Taken], topic="till.commands", key="id"):
    id: str
    cents: int


class Closed(Event, topic="till.events", key="id"):
    id: str
    why: str = ""


STORE = MemoryStore("till")
Db = Annotated[MemorySession, Depends(STORE.session)]
UNDONE: list[tuple[str, bool | None]] = []


@step(undo=None)
async def note(id: str, db: Db = SUPPLIED) -> int:
    await db.put("notes", id, len(db.rows("notes")))
    return len(db.rows("notes"))


@step(undo=None, retry=None)
async def fails(id: str, db: Db = SUPPLIED) -> int:
    await db.put("notes", f"{id} failed", 1)
    raise StepFailed("full")


@saga
async def close_till(s: Saga, e: Put) -> Closed:
    try:
        await s.step(Take(id=e.id, cents=e.cents), undo=GiveBack(id=e.id), within="1m")
        await s.step(note(e.id))
        if e.cents > 100:
            await s.step(fails(e.id))
    except StepFailed as why:
        await s.compensate()
        return Closed(id=e.id, why=why.reason)
    return Closed(id=e.id)


@saga
async def note_all(s: Saga, e: Put) -> Closed:
    done = await s.map(note, [f"{e.id}{n}" for n in range(e.cents)], concurrency=2)
    return Closed(id=e.id, why=str(len(done)))


def _till() -> Service:
    till = Service("till", store=STORE)

    @till.on(Take)
    async def take(c: Take, db: Db) -> Taken:
        await db.put("coins", c.id, c.cents)
        return Taken(id=c.id)

    @till.on(GiveBack)
    async def give_back(c: GiveBack, db: Db, d: Delivery) -> GivenBack:
        UNDONE.append((d.undoes, d.happened))
        await db.delete("coins", c.id)
        return GivenBack(id=c.id)

    return till


@pytest.mark.crash_everywhere
async def test_a_service_and_a_step_write_their_rows_once(sagas: Sagas) -> None:
    sagas.serve(_till())
    run = await sagas.start(close_till, Put(id="a"))
    assert run.status == "done"
    tables: dict[str, Any] = STORE.database.tables
    assert tables["coins"]["a"] == 5 and tables["notes"]["a"] == 0


async def test_an_undo_is_told_that_its_command_happened_and_a_failed_step_leaves_nothing(
    sagas: Sagas,
) -> None:
    UNDONE.clear()
    sagas.serve(_till())
    run = await sagas.start(close_till, Put(id="b", cents=500))
    assert run.status == "compensated" and run.outcome.why == "full"
    ((undoes, happened),) = UNDONE
    assert "Take" in undoes and happened is True
    assert "b" not in STORE.database.tables["coins"] and "b failed" not in STORE.database.tables["notes"]


@pytest.mark.crash_everywhere
async def test_the_items_of_a_map_are_a_transaction_each(sagas: Sagas) -> None:
    before = (await STORE.status()).inbox
    run = await sagas.start(note_all, Put(id="m", cents=4))
    assert (run.status, run.outcome.why) == ("done", "4")
    assert {f"m{n}" for n in range(4)} <= set(STORE.database.tables["notes"])
    assert (await STORE.status()).inbox - before in (0, 4)
