"""R-21: rebalances and reconnects, thousands of them, in one process: descriptors, threads, tasks and memory stay as they are.

python -m tests.scenarios.leaks --rounds 10000           # the long form
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from contrapas.log import sqlite_owners
from contrapas.log.sqlite import SqliteLog
from contrapas.runtime.build import build
from contrapas.runtime.engine import Engine
from contrapas.runtime.worker import Worker
from tests.scenarios.clock_saga import NapAsked, app

MOST = 1.05
STEPS = "contrapas-step"
"""A worker's pool for steps is as large as it ever needed to be, and gone when the worker is."""


class Held(NamedTuple):
    """What this process holds."""

    fds: int
    threads: int
    tasks: int
    objects: int
    rss_kib: int


def held() -> Held:
    """Now, garbage not counted."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    rss = int(status.partition("VmRSS:")[2].split()[0])
    return Held(
        len(os.listdir("/proc/self/fd")),
        len(threads(STEPS)),
        len(asyncio.all_tasks()),
        len(gc.get_objects()),
        rss,
    )


def threads(*but: str) -> list[str]:
    """Their names, without those of the loop's own pool: it makes them as they are needed, up to a fixed number."""
    return sorted(t.name for t in threading.enumerate() if not t.name.startswith(("asyncio_", *but)))


@dataclass(slots=True)
class Verdict:
    """Before and after."""

    rounds: int
    before: Held
    after: Held
    takeovers: int = 0
    """Partitions that the one that stays gave up and took back."""
    threads: tuple[str, ...] = ()
    """The names of those that are there when all is closed."""

    def grown(self) -> list[str]:
        """What is more than a twentieth above what it was."""
        pairs = zip(Held._fields, self.before, self.after, strict=True)
        return [f"{name} {was} -> {now}" for name, was, now in pairs if now > was * MOST]


async def run(folder: Path, *, rounds: int, warm: int, load: int = 3) -> Verdict:
    """A worker stays; another one joins, and leaves, again and again, each time with a log of its own that is opened and
    closed. Beside them a door is opened, asked and closed. What is asked is known already: nothing new is kept."""
    url = f"sqlite:///{folder}/leaks.db"
    definition, lock = app.definition(), None
    build(definition)
    before: Held | None = None
    takeovers = 0
    async with Engine.opened(definition, url, lock=lock) as staying, staying.working(1_000) as worker:
        epochs = await seen(staying)
        await staying.client.start("nap", NapAsked(id="first", ms=1_000))
        await staying.client.wait(
            "nap/first", timeout_ms=20_000
        )  # a step has run: its pool and its watchdog are there
        for round_ in range(warm + rounds):
            if round_ == warm:
                before = held()
            async with Engine.opened(definition, url) as other, other.working(1_000) as guest:
                await owns(guest, 4)
                await owns(worker, 4)
                await staying.client.start_many("nap", [NapAsked(id=f"{n}", ms=1_000) for n in range(load)])
            await owns(worker, 8)
            async with Engine.opened(definition, url) as door:
                await door.client.state(f"nap/{load - 1}", timeout_ms=20_000)
        takeovers = await seen(staying) - epochs
        assert before is not None
        await calm(lambda: len(threads(STEPS)) <= before.threads)
        after = held()
    await calm(lambda: not any(name.startswith(STEPS) for name in threads()))
    return Verdict(rounds, before, after, takeovers, tuple(threads()))


async def calm(reached: Callable[[], bool], seconds: float = 20) -> None:
    """Wait a while: threads that end by themselves (a watchdog's, one that shortens the log's file) may do it a moment
    after their owner. One that leaks stays, and is found."""
    until = time.monotonic() + seconds
    while not reached() and time.monotonic() < until:
        await asyncio.sleep(0.02)


async def seen(engine: Engine) -> int:
    """How often the partitions changed hands."""
    log = engine.log
    assert isinstance(log, SqliteLog)
    return sum(log.reader.epochs().values())


async def owns(worker: Worker, count: int, seconds: float = 60) -> None:
    """Wait until a worker has so many partitions."""
    async with asyncio.timeout(seconds):
        while len(worker.stations) != count:
            await asyncio.sleep(0.005)


def hasten() -> None:
    """Look for members more often than a worker does."""
    made = sqlite_owners.SqliteMembership.__init__
    made.__defaults__ = (0.005,)


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--load", type=int, default=3)
    args = parser.parse_args()
    hasten()
    os.environ.setdefault("WOKE", os.devnull)
    with tempfile.TemporaryDirectory() as folder:
        verdict = asyncio.run(
            run(Path(folder), rounds=args.rounds, warm=max(10, args.rounds // 10), load=args.load)
        )
    print(verdict)
    print("grown:", ", ".join(verdict.grown()) or "nothing")
    return int(bool(verdict.grown()))


if __name__ == "__main__":
    sys.exit(main())
