"""A worker process of the scenario tests: runs one app on one log until SIGTERM; prints `ready` once it owns its share.

With `SCENARIO_HASTE` in the environment, what a worker does every minute or every few thousand pages it does all the time.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrapas.log import sqlite_store
from contrapas.runtime import sweep, worker
from contrapas.runtime.engine import Engine
from contrapas.runtime.find import find


def hasten() -> None:
    """Checkpoint every few pages, and remove what is superseded after a moment."""
    sqlite_store.WAL_PAGES = 50
    sweep.EVERY_MS = 200
    worker.__dict__["sweep"] = functools.partial(sweep.sweep, history_ms=200)


async def main(target: str, url: str) -> None:
    """Work until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Engine.opened(find(target).definition(), url) as engine, engine.working(5_000):
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    if os.environ.get("SCENARIO_HASTE"):
        hasten()
    asyncio.run(main(sys.argv[1], sys.argv[2]))
