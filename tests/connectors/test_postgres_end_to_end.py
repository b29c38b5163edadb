"""Sagas on PostgreSQL: from the first event to the outcome, through kills of workers and server, pauses and bad networks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from contrapas import failpoints
from contrapas.core.envelope_avro import decode
from contrapas.core.fold import fold
from contrapas.errors import Fenced
from contrapas.log import Record
from contrapas.runtime.client import Client
from contrapas.runtime.worker import Worker, setting_of
from contrapas_postgres import connector
from contrapas_postgres.log import PostgresLog
from sagas.order.saga import OrderPlaced
from tests.postgres import Database, StartServer
from tests.proxy import proxied
from tests.runtime.restarted import goes_on
from tests.runtime.shop import SEEN, build, orchestrated

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, sys
from contrapas.runtime.worker import Worker
from contrapas_postgres import connector, session
from tests.runtime.shop import build, orchestrated

async def main():
    session.IDLE = session.IDLE.replace("30s", sys.argv[2])
    definition = orchestrated()
    log = await connector.open(sys.argv[1], "shop", partitions=4, make=True)
    worker = Worker(log, definition, build(definition))
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    print("ready", flush=True)
    await running

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    SEEN.clear()
    yield
    failpoints.disarm()


def _order(key: str) -> OrderPlaced:
    return OrderPlaced(order_id=key, sku="mug", cents=4200)


@asynccontextmanager
async def opened(url: str, partitions: int = 4) -> AsyncGenerator[PostgresLog]:
    log = await connector.open(url, "shop", partitions=partitions, make=True)
    try:
        yield log
    finally:
        await log.close()


@contextmanager
def process(url: str, *, silent: str = "30s") -> Generator[subprocess.Popen[str]]:
    """A worker that is a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, url, silent], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def killed(url: str, place: str) -> None:
    """Run a worker until it dies at a named place."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CONTRAPAS_FAILPOINTS": place}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, url, "30s"], cwd=ROOT, env=env, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL


async def orders(log: PostgresLog, numbers: range) -> Client:
    definition = orchestrated()
    client = Client(log, setting_of(log, definition, build(definition), writer="test"))
    await client.start_many("place_order", [_order(f"o-{n}") for n in numbers])
    return client


async def whole(log: PostgresLog, count: int) -> None:
    """Every order is confirmed, and no record of a former owner counts or stands below another's."""
    confirmed = 0
    for number in range(log.partitions):
        records = [r async for batch in log.latest(number) for r in batch]
        _, states = fold(records, floor=1 << 60)
        for key, record in states.items():
            if key.startswith(b"place_order/"):
                assert decode(record.value or b"").outcome == "OrderConfirmed"
                confirmed += 1
        at, end = await log.bounds("log", number)
        lane: list[Record] = []
        while at < end:
            some, at = await log.read("log", number, at)
            lane += some
        judge, _ = fold(lane)
        assert (judge.losers, judge.stale) == (0, 0)
    assert confirmed == count


async def test_the_shop_runs_and_goes_on_after_a_restart(postgres: Database) -> None:
    await goes_on(lambda: opened(postgres.url), orchestrated(), slow=2)


async def test_it_runs_on_the_oldest_postgresql(postgres_oldest: Database) -> None:
    async with opened(postgres_oldest.url) as log:
        with process(postgres_oldest.url):
            client = await orders(log, range(20))
            for n in range(20):
                assert (await client.wait(f"place_order/o-{n}", timeout_ms=30_000)).status == "done"
            await client.close()
        await whole(log, 20)


async def test_what_a_killed_worker_held_the_other_one_ends(postgres: Database) -> None:
    async with opened(postgres.url) as log:
        with process(postgres.url) as first, process(postgres.url):
            client = await orders(log, range(40))
            await asyncio.sleep(0.15)
            first.send_signal(signal.SIGKILL)
            first.wait()
            await (await orders(log, range(40, 60))).close()
            for n in range(60):
                told = await client.wait(f"place_order/o-{n}", timeout_ms=30_000)
                assert told.status == "done", told
            await client.close()
        await whole(log, 60)


@pytest.mark.parametrize(
    "place",
    [
        "commit.undispatched=kill@2",
        "postgres.commit.accepted=kill@9",
        "postgres.commit.before=kill@9",
        "postgres.acquire.fenced=kill@3",
        "postgres.acquire.locked=kill@3",
        "service.published=kill@2",
    ],
)
async def test_a_worker_killed_at_a_named_place_is_taken_over(postgres: Database, place: str) -> None:
    assert place.partition("=")[0] in failpoints.NAMES
    async with opened(postgres.url) as log:
        client = await orders(log, range(10))
        await asyncio.to_thread(killed, postgres.url, place)
        with process(postgres.url):
            for n in range(10):
                assert (await client.wait(f"place_order/o-{n}", timeout_ms=30_000)).status == "done"
        await client.close()
        await whole(log, 10)


async def test_a_server_killed_and_started_again_is_found_by_its_workers(own_postgres: StartServer) -> None:
    server = own_postgres()
    async with opened(server.url()) as log:
        with process(server.url()) as child:
            client = await orders(log, range(30))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
            await (await orders(log, range(30, 40))).close()
            for n in range(40):
                assert (await client.wait(f"place_order/o-{n}", timeout_ms=40_000)).status == "done"
            assert child.poll() is None
            await client.close()
        await whole(log, 40)


async def test_a_stopped_worker_s_partitions_can_be_taken_and_it_writes_no_more(postgres: Database) -> None:
    async with opened(postgres.url) as log:
        with process(postgres.url) as stopped:
            client = await orders(log, range(8))
            stopped.send_signal(signal.SIGSTOP)
            log.acquire_s = 0.2
            with pytest.raises(Fenced, match=f"pid {stopped.pid}"):
                await log.acquire(0, "other")
            for number in range(4):
                held = await log.break_lock(number)
                assert held is None or held.pid == stopped.pid
            with process(postgres.url):
                stopped.send_signal(signal.SIGCONT)
                await (await orders(log, range(8, 16))).close()
                for n in range(16):
                    assert (await client.wait(f"place_order/o-{n}", timeout_ms=40_000)).status == "done"
            await client.close()
        await whole(log, 16)


async def test_a_worker_that_stays_silent_loses_its_partitions_to_another(postgres: Database) -> None:
    """14 and later: the server ends its session, 30 s after its last beat; here 3."""
    async with opened(postgres.url) as log:
        with process(postgres.url, silent="3s") as stopped:
            client = await orders(log, range(6))
            stopped.send_signal(signal.SIGSTOP)
            with process(postgres.url):
                await (await orders(log, range(6, 12))).close()
                for n in range(12):
                    assert (await client.wait(f"place_order/o-{n}", timeout_ms=40_000)).status == "done"
                stopped.send_signal(signal.SIGCONT)
                await (await orders(log, range(12, 18))).close()
                for n in range(12, 18):
                    assert (await client.wait(f"place_order/o-{n}", timeout_ms=40_000)).status == "done"
            await client.close()
        await whole(log, 18)


async def test_orders_pass_through_a_bad_network(own_postgres: StartServer) -> None:
    server = own_postgres(tcp=True)
    chance = random.Random(7)
    definition = orchestrated()
    world = build(definition)
    async with opened(server.tcp_url()) as straight, proxied(server.port) as proxy:
        log = await connector.open(server.tcp_url(port=proxy.port), "shop")
        log.pool.call_s = log.server.connect_s = 1.0
        worker = Worker(log, definition, world)
        running = asyncio.create_task(worker.run())
        await asyncio.wait_for(worker.ready.wait(), 30)
        client = await orders(straight, range(30))
        try:
            for _ in range(12):
                await asyncio.sleep(0.2)
                match chance.randrange(4):
                    case 0:
                        proxy.reset()
                    case 1:
                        proxy.links[-1].cut.add("down")
                    case 2:
                        for link in proxy.links[-2:]:
                            link.hold("up")
                            asyncio.get_running_loop().call_later(1.5, link.release)
                    case _:
                        proxy.delay_s = chance.choice([0.0, 0.01, 0.05])
            proxy.delay_s = 0.0
            for n in range(30):
                assert (await client.wait(f"place_order/o-{n}", timeout_ms=60_000)).status == "done"
            await client.close()
            await worker.stop()
            await running
        finally:
            await log.close()
        await whole(straight, 30)
