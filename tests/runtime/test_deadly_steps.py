"""B-41 with real processes: a step that ends its worker is found out, its instance parks, its neighbours go on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contrapas.core.envelope_avro import decode
from contrapas.log.sqlite import SqliteLog
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from contrapas.runtime.worker import setting_of
from tests.runtime.deadly import APP, Asked

ROOT = Path(__file__).parents[2]


async def _status(log: SqliteLog, key: bytes) -> bytes:
    found = [r async for batch in log.latest(0) for r in batch if r.key == key]
    return dict(found[-1].headers)["cp-status"] if found else b""


@pytest.mark.parametrize("how", ["os", "sys", "os-thread", "sys-thread"])
async def test_b41_a_step_that_ends_its_process_parks_its_instance_after_a_few_deaths(
    tmp_path: Path, how: str
) -> None:
    path = tmp_path / "deadly.db"
    log = SqliteLog(path, "deadly", 1)
    definition = APP.definition()
    client = Client(log, setting_of(log, definition, build(definition), writer="test"))
    await client.start("deadly", Asked(id="bad", how=how))
    await client.start("deadly", Asked(id="good", how="well"))
    deaths = 0
    while True:
        command = [sys.executable, "-m", "tests.runtime.deadly", str(path)]
        end = None
        process = subprocess.Popen(  # noqa: ASYNC220  it is waited for by polling
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 20
        try:
            while process.poll() is None and time.monotonic() < until:
                if await _status(log, b"deadly/bad") == b"parked":
                    break
                await asyncio.sleep(0.05)
            if process.poll() is None:
                break
        finally:
            if process.poll() is None:
                end = await client.wait("deadly/good", timeout_ms=20_000)
                process.kill()
                process.wait()
        assert process.returncode != 0
        deaths += 1
        assert deaths < 10
    assert end is not None and end.status == "done" and 3 <= deaths <= 8
    newest = [r async for batch in log.latest(0) for r in batch if r.key == b"deadly/bad"][-1]
    record = decode(newest.value or b"")
    assert record.parked is not None and record.parked.code == "CP844"
    await client.close()
    await log.close()
