"""An app with stores: its relays run, are drained and end with the lifespan."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Annotated, Any

import pytest

from contrapas import App, Depends, Event, Service
from contrapas.errors import Refused
from contrapas.participant.memory import MemorySession, MemoryStore
from contrapas.participant.sqlite import SqliteStore
from contrapas.runtime.build import build
from contrapas.runtime.engine import Engine
from contrapas.runtime.stores import is_store, stores_of


class Ordered(Event, topic="orders", key="order_id"):
    order_id: str


def app_with(store: object) -> tuple[App, asyncio.Future[str]]:
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    desk, listener = Service("desk", store=store), Service("listener")

    @listener.on(Ordered)
    async def hear(e: Ordered) -> None:
        if not heard.done():
            heard.set_result(e.order_id)

    made = App("bureau")
    made.serve(desk, listener)
    return made, heard


async def test_what_business_code_publishes_in_its_transaction_arrives_while_the_lifespan_lasts(
    folder: Path,
) -> None:
    store = SqliteStore(folder / "desk.db")
    await store.prepare()
    app, heard = app_with(store)
    async with app.lifespan():
        async with store.transaction() as con:
            con.execute("create table orders (id text)")
            await store.publish(con, Ordered(order_id="o-1"))
        assert await asyncio.wait_for(heard, 10) == "o-1"
    await store.close()


async def test_what_was_committed_before_the_end_has_left_at_the_end_and_the_outbox_is_free(
    folder: Path,
) -> None:
    store = MemoryStore()
    await store.prepare()
    app, _ = app_with(store)
    async with Engine.opened(app.definition()) as engine, engine.working(5_000) as worker:
        [relay] = worker.relays
        async with asyncio.timeout(5):
            while not relay.state().holds:
                await asyncio.sleep(0.01)
        for n in range(500):
            async with store.transaction() as session:
                await store.publish(session, Ordered(order_id=f"o-{n}"))
    assert relay.sent == 500 and not relay.state().holds
    [claim] = (await store.status()).relays.values()
    assert claim.last == 500
    await store.outbox.claim(store.name, "somebody else")


async def test_health_tells_how_each_outbox_is(folder: Path) -> None:
    store = MemoryStore()
    await store.prepare()
    app, _ = app_with(store)
    async with Engine.opened(app.definition()) as engine, engine.working(5_000) as worker:
        async with asyncio.timeout(5):
            while not worker.health().relays[0].holds:
                await asyncio.sleep(0.01)
        [state] = worker.health().relays
        assert (state.store, state.colour, state.epoch, state.horizon.age_ms) == (store.name, "green", 1, 0)


async def test_a_worker_does_not_start_on_a_store_without_tables(folder: Path) -> None:
    store = MemoryStore()
    store.database.prepared = False
    app, _ = app_with(store)
    with pytest.raises(Refused, match="CP514"):
        async with app.lifespan():
            pass


async def test_a_worker_starts_while_a_database_is_away_and_says_so(folder: Path) -> None:
    store = MemoryStore()
    store.database.down = True
    app, heard = app_with(store)
    async with Engine.opened(app.definition()) as engine, engine.working(5_000) as worker:
        async with asyncio.timeout(5):
            while worker.health().colour != "amber":
                await asyncio.sleep(0.01)
        assert "does not answer" in worker.health().reasons[0]
        store.database.down = False
        async with store.transaction() as session:
            await store.publish(session, Ordered(order_id="o-1"))
        assert await asyncio.wait_for(heard, 10) == "o-1"
        assert worker.health().colour == "green"


def test_the_stores_of_an_app_are_those_of_its_services_and_of_whose_sessions_are_asked_for() -> None:
    first, second = MemoryStore(), MemoryStore()
    a, b = Service("a", store=first), Service("b", store=first)

    async def hear(e: Ordered, db: Any) -> None:
        """Nothing."""

    hear.__annotations__["db"] = Annotated[MemorySession, Depends(second.session)]
    b.on(Ordered)(hear)
    app = App("several")
    app.serve(a, b)
    definition = app.definition()
    assert stores_of(definition, build(definition)) == (first, second)
    assert is_store(first) and not is_store(MemoryStore) and not is_store(sqlite3)
