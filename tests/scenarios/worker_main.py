"""A worker process of the scenario tests: runs one app on one log until SIGTERM; prints `ready` once it owns its share."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrapas.runtime.engine import Engine
from contrapas.runtime.find import find


async def main(target: str, url: str) -> None:
    """Work until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Engine.opened(find(target).definition(), url) as engine, engine.working(5_000):
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
