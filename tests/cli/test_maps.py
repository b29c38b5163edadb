"""What people see of a map in progress."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contrapas.errors import StepFailed
from contrapas.runtime.engine import Engine
from tests.runtime import mapped


def test_a_list_says_how_many_items_of_a_map_are_done(here: Path, cli: Callable[..., Any]) -> None:
    mapped.reset()
    mapped.BROKEN[1] = [StepFailed("one")]

    async def look() -> None:
        url = f"sqlite:///{here}/m.db"
        async with Engine.opened(mapped.app.definition(), url) as engine, engine.working(1000):
            mapped.GATES[2] = asyncio.Event()
            await engine.client.start("collected", mapped.Wanted(id="a", items=[0, 1, 2, 3]))
            shown: Any = None
            for _ in range(500):
                shown = cli("ls", "--log", url)
                if "2/4 done" in shown.out:
                    break
                await asyncio.sleep(0.01)
            assert "map(work)" in shown.out and "2/4 done, 1 failed" in shown.out
            [row] = json.loads(cli("ls", "--log", url, "-o", "json").out)
            assert (row["status"], row["waits_for"]) == ("running", "2/4 done, 1 failed")
            assert "2/4 done, 1 failed" in cli("instance", "describe", "a", "--log", url).out
            assert cli("log", "verify", "--log", url).code == 0
            mapped.GATES[2].set()
            await engine.client.wait("collected/a", timeout_ms=10_000)

    asyncio.run(look())
