"""Processes that come and go: replaced after every transition, and two on one file of which one is killed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from contrapas.log import Log
from tests.scenarios.long_saga import EXPECTED, Begun
from tests.scenarios.supervisor import Supervisor, newest, unfinished

INSTANCE = "winding/w-1"
TARGET = "tests/scenarios/long_saga.py:app"


@pytest.mark.slow
async def test_a_saga_goes_on_though_its_process_is_replaced_after_every_transition(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    under = Supervisor(TARGET, tmp_path, {"MARKS": str(marks)})
    try:
        async with under.outside() as engine:
            assert len(engine.world.machines["winding"].states) >= 20
            await engine.client.start("winding", Begun(id="w-1", rounds=3))
            processes, version = 0, 0
            while await unfinished(engine.log, {INSTANCE}):
                processes += 1
                assert processes < 120
                worker = under.start(wait=False)
                version = await _next_version(engine.log, version)
                worker.kill()
                under.workers.remove(worker)
            record = (await newest(engine.log))[INSTANCE]
    finally:
        under.close()
    assert record.status == "done", record.error
    assert [part for part in record.outcome_body.split('"') if part in EXPECTED] == EXPECTED
    assert processes >= len(EXPECTED)
    ran = [line.split()[1] for line in marks.read_text().splitlines()]
    assert set(ran) == {*EXPECTED, "refused"}
    assert len(ran) <= 2 * len(set(ran)), "a step with a recorded result ran again"


async def test_two_processes_share_a_file_and_a_killed_one_is_replaced_at_once(tmp_path: Path) -> None:
    under = Supervisor(TARGET, tmp_path, {"MARKS": str(tmp_path / "marks")})
    try:
        victim = under.start()
        under.start()
        async with under.outside() as engine:
            await _both_own(engine.log.partitions, tmp_path)
            ids = [f"w-{n}" for n in range(40)]
            await engine.client.start_many("winding", (Begun(id=i, rounds=1) for i in ids))
            victim.kill()
            began = time.monotonic()
            under.workers.remove(victim)
            left = {f"winding/{i}" for i in ids}
            while left and time.monotonic() - began < 20:
                left = await unfinished(engine.log, left)
                await asyncio.sleep(0.05)
            took = time.monotonic() - began
            records = await newest(engine.log)
    finally:
        under.close()
    assert not left
    assert all(records[f"winding/{i}"].status == "done" for i in ids)
    writers = {r.writer for r in records.values()}
    assert took < 15 and len(writers) >= 1


async def _next_version(log: Log, version: int, timeout: float = 60) -> int:
    """Wait until the instance has made a transition."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        record = (await newest(log)).get(INSTANCE)
        if record is not None and record.version > version:
            return record.version
        await asyncio.sleep(0.002)
    raise TimeoutError(f"nothing happened after version {version}")


async def _both_own(partitions: int, folder: Path) -> None:
    """Give the second worker the time to take its share."""
    assert partitions >= 2
    await asyncio.sleep(0.5)
