"""Processes that come and go: replaced after every transition, and two on one file of which one is killed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from contrapas.core.envelope import ENDED
from contrapas.log import Log
from contrapas.log.sqlite_owners import holder
from tests.scenarios.long_saga import EXPECTED, Begun
from tests.scenarios.proof import Written, doubled, history, proof_of, runs_of
from tests.scenarios.supervisor import Supervisor, Worker, newest, unfinished

INSTANCE = "winding/w-1"
TARGET = "tests/scenarios/long_saga.py:app"
AT_ONCE_MS = 5_000
"""A free machine needs a tenth of it."""


@pytest.mark.slow
async def test_a_saga_goes_on_though_its_process_is_replaced_after_every_transition(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    under = Supervisor(TARGET, tmp_path, {"MARKS": str(marks), "MARK_S": "0.1"})
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
            written = await history(engine.log)
            proof = await proof_of(engine.log)
    finally:
        under.close()
    record = written[-1].record
    assert record.status == "done", record.error
    assert [part for part in record.outcome_body.split('"') if part in EXPECTED] == EXPECTED
    assert processes >= len(EXPECTED)
    runs = runs_of(marks.read_text())
    assert proof.faults(runs) == []
    assert doubled(written) == []
    assert {run.what for run in runs} == {*EXPECTED, "refused"}
    keys = {run.key for run in runs}
    assert len(keys) == len(EXPECTED) + 1, "one key for each state and visit"
    assert keys == set(proof.issued) == set(proof.settled), "every step has one recorded result"
    writers = [w.record.writer for w in written]
    assert len(set(writers)) >= len(EXPECTED), "a transition or two of each process"


async def test_two_processes_share_a_file_and_a_killed_one_is_replaced_at_once(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    under = Supervisor(TARGET, tmp_path, {"MARKS": str(marks), "MARK_S": "0.05"})
    try:
        victim, heir = under.start(), under.start()
        async with under.outside() as engine:
            await _both_own(engine.log.partitions, tmp_path, {victim.process.pid, heir.process.pid})
            ids = {f"winding/w-{n}" for n in range(48)}
            await engine.client.start_many(
                "winding", (Begun(id=i.removeprefix("winding/"), rounds=3) for i in ids)
            )
            await _all_at_work(engine.log)
            killed_at = time.time_ns() // 1_000_000
            victim.kill()
            under.workers.remove(victim)
            left, until = ids, time.monotonic() + 60
            while left and time.monotonic() < until:
                left = await unfinished(engine.log, left)
                await asyncio.sleep(0.05)
            written = await history(engine.log)
            proof = await proof_of(engine.log)
            last = await newest(engine.log)
    finally:
        under.close()
    assert not left
    assert {i: last[i].status for i in ids} == dict.fromkeys(ids, "done")
    assert doubled(written) == []
    assert proof.faults(runs_of(marks.read_text())) == []

    dead, alive = _wrote(written, victim), _wrote(written, heir)
    before = {w.partition for w in alive if w.at <= killed_at}
    its_own = {w.partition for w in dead}
    assert its_own and before and not its_own & before, "both wrote, each its share"
    assert len(its_own | before) == engine.log.partitions
    assert len(dead) + len(alive) == len(written)
    for number in its_own:
        gone = max(w.at for w in dead if w.partition == number)
        again = min(w.at for w in alive if w.partition == number)
        assert gone <= again
        assert again - killed_at <= AT_ONCE_MS, f"partition {number} stood still for {again - killed_at} ms"


def _wrote(written: list[Written], worker: Worker) -> list[Written]:
    """What a process wrote."""
    return [w for w in written if w.record.writer.endswith(f":{worker.process.pid}")]


async def _next_version(log: Log, version: int, timeout: float = 60) -> int:
    """Wait until the instance has made a transition."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        record = (await newest(log)).get(INSTANCE)
        if record is not None and record.version > version:
            return record.version
        await asyncio.sleep(0.002)
    raise TimeoutError(f"nothing happened after version {version}")


async def _both_own(partitions: int, folder: Path, pids: set[int]) -> None:
    """Wait until each of the two holds its half of the partitions."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        held = [h.pid for n in range(partitions) if (h := holder(str(folder / "scenario.db"), n)) is not None]
        if len(held) == partitions and all(held.count(pid) == partitions // 2 for pid in pids):
            return
        await asyncio.sleep(0.02)
    raise TimeoutError("the two workers do not share the partitions")


async def _all_at_work(log: Log) -> None:
    """Wait until every partition has an instance that has begun and not ended."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        written = await history(log)
        live = {w.record.instance: w for w in written}
        if len({w.partition for w in live.values() if w.record.status not in ENDED}) == log.partitions:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("no partition is at work")
