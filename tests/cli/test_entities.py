"""Entities from the command line, against a worker in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contrapas.runtime.engine import Engine
from tests.runtime import entities


def test_an_entity_is_called_listed_read_and_cleared(here: Path, cli: Callable[..., Any]) -> None:
    entities.RAN.clear()
    url = f"sqlite:///{here}/e.db"

    async def off(*args: str) -> Any:
        """The command line of another process would wait while this loop runs."""
        import subprocess
        import sys

        def run() -> Any:
            return subprocess.run(
                [sys.executable, "-m", "contrapas", *args, "--log", url],
                capture_output=True,
                check=False,
                text=True,
                timeout=60,
            )

        return await asyncio.to_thread(run)

    async def play() -> None:
        async with Engine.opened(entities.app.definition(), url) as engine, engine.working(1000):
            await engine.worker.ready.wait()
            await asyncio.sleep(0.2)
            done = await off("entity", "call", "cart", "s-42", "add", "what=mug", "cents=5")
            assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
            done = await off("entity", "call", "Cart", "s-42", "total", "--body", '{"more":2}', "-o", "json")
            assert json.loads(done.stdout) == 7
            failed = await off("entity", "call", "Cart", "s-42", "checked", "what=mug")
            assert failed.returncode == 8 and "no such thing" in failed.stderr
            wrong = await off("entity", "call", "Cart", "s-42", "ad")
            assert wrong.returncode == 3 and "'add'" in wrong.stderr
            shown = cli("entity", "list", "--log", url)
            assert "s-42" in shown.out and "idle" in shown.out
            got = cli("entity", "get", "cart", "s-42", "-o", "json", "--log", url)
            assert json.loads(got.out)["lines"] == [{"what": "mug", "cents": 5}]
            assert "self" in cli("entity", "describe", "Cart/s-42", "--log", url).out
            assert cli("entity", "get", "nothing", "x", "--log", url).code == 3
            dry = cli("entity", "clear", "cart", "s-42", "--log", url)
            assert "nothing done" in dry.out
            done = await off("entity", "clear", "cart", "s-42", "--yes")
            assert done.returncode == 0, done.stderr
            assert cli("entity", "get", "cart", "s-42", "--log", url).code == 3

    asyncio.run(play())
