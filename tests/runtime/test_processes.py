"""Two worker processes on one SQLite file: they share the partitions, and what a killed one held the other one goes on with."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from contrapas.core.envelope_avro import decode
from contrapas.core.fold import fold
from contrapas.log.sqlite import SqliteLog
from contrapas.runtime.client import Client
from contrapas.runtime.worker import setting_of
from sagas.order.saga import OrderPlaced
from tests.runtime.shop import build, orchestrated

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, sys
from contrapas.log.sqlite import SqliteLog
from contrapas.runtime.worker import Worker
from tests.runtime.shop import build, orchestrated

async def main():
    definition = orchestrated()
    log = SqliteLog(sys.argv[1], "shop", 4)
    worker = Worker(log, definition, build(definition))
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    print("ready", flush=True)
    await running

asyncio.run(main())
"""


@contextmanager
def _worker(path: Path, failpoint: str = "") -> Generator[subprocess.Popen[str]]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if failpoint:
        env["CONTRAPAS_FAILPOINTS"] = failpoint
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def _orders(log: SqliteLog, numbers: range) -> Client:
    definition = orchestrated()
    client = Client(log, setting_of(log, definition, build(definition), writer="test"))
    await client.start_many(
        "place_order", [OrderPlaced(order_id=f"o-{n}", sku="mug", cents=100) for n in numbers]
    )
    return client


async def test_what_a_killed_worker_held_the_other_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    log = SqliteLog(path, "shop", 4)
    with _worker(path) as first, _worker(path):
        client = await _orders(log, range(40))
        await asyncio.sleep(0.15)
        first.send_signal(signal.SIGKILL)
        first.wait()
        await _orders(log, range(40, 60))
        for n in range(60):
            told = await client.wait(f"place_order/o-{n}", timeout_ms=30_000)
            assert told.status == "done", told
    await client.close()
    for number in range(4):
        records = [r async for batch in log.latest(number) for r in batch]
        _, states = fold(records, floor=1 << 60)
        for key, record in states.items():
            if key.startswith(b"place_order/"):
                assert decode(record.value or b"").outcome == "OrderConfirmed"
        assert all(record.value is not None for record in states.values())
        lane, _ = await log.read("log", number, 0, max_records=10_000)
        judge, _ = fold(lane)
        assert (judge.losers, judge.stale) == (0, 0)
    await log.close()


async def test_a_worker_killed_between_commit_and_dispatch_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    log = SqliteLog(path, "shop", 4)
    with _worker(path, "commit.undispatched=kill@2") as first:
        client = await _orders(log, range(10))
        first.wait(timeout=20)
        with _worker(path):
            for n in range(10):
                assert (await client.wait(f"place_order/o-{n}", timeout_ms=20_000)).status == "done"
        await client.close()
    await log.close()
