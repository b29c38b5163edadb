"""Services whose PostgreSQL goes away, takes no writes, is silent or starts anew: deliveries wait for it, none is lost or dead."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from contrapas.author.service import Depends, Service
from contrapas.log.memory import MemoryLog
from contrapas.runtime.definition import Definition
from contrapas.runtime.worker import Worker
from deploy.postgres.server import NEWEST, Missing, Server
from tests.connectors.postgres_store_bench import PostgresBench, SqlBench, make
from tests.installed import missing
from tests.postgres import Database, execute
from tests.runtime.machines import Done, Pay, definition_of, world_of
from tests.runtime.rig import Rig, rig_of
from tests.runtime.stores import Effects, Held, command, heads, letters, quiet, started, until

STORE = Held()
Db = Annotated[Any, Depends(STORE.session)]
COUNT = 4


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that the tests here may kill; each finds it running."""
    try:
        with Server(NEWEST) as made:
            yield made.start()
    except Missing as why:
        missing(str(why))


@pytest.fixture(params=[PostgresBench, SqlBench], ids=["asyncpg", "sqlalchemy"])
async def bench(request: pytest.FixtureRequest, server: Server) -> AsyncGenerator[PostgresBench]:
    name = f"t_{secrets.token_hex(6)}"
    execute(server.url(), f"create database {name}")
    async with make(request.param, Database(server.url(name), name, server))() as made:
        STORE.inner = await made.open()
        yield made
    STORE.inner = None


def serving(effects: Effects, gate: asyncio.Event | None = None) -> Definition:
    """A service that pays, and waits in the middle of it where there is a gate."""
    service = Service("bank", store=STORE)

    @service.on(Pay)
    async def pay(c: Pay, db: Db) -> Done:
        await effects.add(db, c.id)
        if gate is not None:
            await gate.wait()
        return Done(id=c.id)

    return definition_of(services=(service,))


@asynccontextmanager
async def running(definition: Definition) -> AsyncGenerator[Rig]:
    async with rig_of(definition, world_of("wait"), partitions=1) as rig:
        await started(rig)
        yield rig


def commands(count: int = COUNT) -> list[Any]:
    return [command(f"c{n}", f"k{n}", b'{"id":"k%d"}' % n) for n in range(count)]


def answered(rig: Rig) -> set[bytes]:
    """The commands that were answered; a reply may come again."""
    return {h["cp-in-reply-to"] for h in heads(rig, "pay.events")}


def read_only(server: Server, on: bool) -> None:
    """Of every session, those that are open included."""
    value = "on" if on else "off"
    execute(
        server.url(), f"alter system set default_transaction_read_only = {value}", "select pg_reload_conf()"
    )


async def all_once(effects: Effects, count: int = COUNT) -> None:
    """One business row for each."""
    assert [await effects.count(f"k{n}") for n in range(count)] == [1] * count


AWAY: dict[str, tuple[str, Callable[[Server], None], Callable[[Server], object]]] = {
    "killed": ("CP501", Server.kill, Server.start),
    "read_only": ("CP514", lambda s: read_only(s, True), lambda s: read_only(s, False)),
}


@pytest.mark.parametrize("how", sorted(AWAY))
async def test_deliveries_wait_for_a_database_that_is_away_or_read_only_and_none_is_dead(
    server: Server, bench: PostgresBench, how: str
) -> None:
    code, away, back = AWAY[how]
    effects = Effects(bench)
    async with running(serving(effects)) as rig:
        worker = rig.workers[-1]
        await rig.log.publish([command("c-first", "k-first", b'{"id":"k-first"}')])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1)
        await asyncio.to_thread(away, server)
        try:
            await rig.log.publish(commands())
            await until(rig, lambda: len(worker.services[0].troubles) == COUNT)
            await quiet(rig, ms=30_000)
            health = worker.health()
            said = [r for r in health.reasons if r.startswith("service bank")]
            assert health.colour == "red" and code in said[0] and f"{COUNT} deliveries" in said[0], said
            assert letters(rig) == [] and len(heads(rig, "pay.events")) == 1
        finally:
            await asyncio.to_thread(back, server)
        await until(rig, lambda: len(answered(rig)) == 1 + COUNT or bool(letters(rig)), ms=5, seconds=30)
        assert [h["cp-dlq-error"] for h in letters(rig)] == []
        await until(rig, lambda: worker.health().colour == "green", ms=5)
        await all_once(effects)


async def test_a_database_restarted_in_mid_handler_has_each_effect_once(
    server: Server, bench: PostgresBench
) -> None:
    effects, gate = Effects(bench), asyncio.Event()
    async with running(serving(effects, gate)) as rig:
        await rig.log.publish(commands())
        await until(rig, lambda: len(effects.tried) == COUNT)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        gate.set()
        await until(rig, lambda: len(answered(rig)) == COUNT or bool(letters(rig)), ms=5, seconds=30)
        assert [h["cp-dlq-error"] for h in letters(rig)] == [] and len(effects.tried) == 2 * COUNT
        await all_once(effects)


@pytest.mark.parametrize("how", ["stopped", pytest.param("silent", marks=pytest.mark.slow)])
async def test_a_worker_ends_in_time_though_deliveries_wait_and_the_next_one_does_them(
    server: Server, bench: PostgresBench, how: str
) -> None:
    effects = Effects(bench)
    definition = serving(effects)
    log = MemoryLog("t", 1)
    first = Worker(log.peer(), definition, world_of("wait"), owner="first")
    work = asyncio.create_task(first.run())
    await asyncio.wait_for(first.ready.wait(), 20)
    before = asyncio.all_tasks()
    await asyncio.to_thread(server.stop if how == "stopped" else server.pause)
    try:
        await log.publish(commands())
        while not first.services[0].readers or not all(r.open for r in first.services[0].readers if r.next):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await first.stop(500)
        await work
        took = time.monotonic() - began
        assert took < 15, f"it took {took:.1f} s"
        left = [t for t in asyncio.all_tasks() - before if "contrapas/runtime" in str(t.get_coro())]
        assert left == []
        assert set(log.store.saved.get("t.service.bank", {}).values()) <= {0}
    finally:
        await asyncio.to_thread(server.start if how == "stopped" else server.go_on)
    await asyncio.sleep(0.5)
    assert [await effects.count(f"k{n}") for n in range(COUNT)] == [0] * COUNT, "handled after its end"
    STORE.inner = await bench.open()
    second = Worker(log.peer(), definition, world_of("wait"), owner="second")
    work = asyncio.create_task(second.run())
    try:
        until_s = time.monotonic() + 20
        while sum(len(shelf.records) for shelf in log.store.lanes.get("pay.events", [])) < COUNT:
            assert time.monotonic() < until_s
            await asyncio.sleep(0.02)
    finally:
        await second.stop(1_000)
        await work
    dead = [dict(r.headers) for shelf in log.store.lanes.get("t.dlq", []) for r in shelf.records]
    assert [h["cp-dlq-error"] for h in dead if h["cp-dlq-topic"] == b"pay.commands"] == []
    await all_once(effects)
