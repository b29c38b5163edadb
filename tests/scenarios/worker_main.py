"""A worker process of the scenario tests: runs one app on one log until SIGTERM; prints `ready` once it owns its share.

With `SCENARIO_HASTE` in the environment, what a worker does every minute or every few thousand pages it does all the time.
`SCENARIO_BREAK`: a rule of the product is taken out, by its name (`broken.py`), for tests that must then fail.
`SCENARIO_CLOCK`: the file that says how far the wall clock is ahead (`skewed.py`).
`SCENARIO_SLOW`: seconds that a step on the bank's books takes at most.
`SCENARIO_RACES`: its records name their writer, and it can be greedy (`racing.py`).
`SCENARIO_COMMIT_S`: how long a commit on Kafka waits for its answer, for who is stopped meanwhile.
`SCENARIO_NAMESPACE`: another namespace than the app's. `SCENARIO_TELLS`: the file for what its leases see (`telling.py`).
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrapas.log import sqlite_store
from contrapas.runtime import sweep, worker
from contrapas.runtime.engine import Engine
from contrapas.runtime.find import find
from sagas.bank.ledger import Books
from tests.scenarios import racing
from tests.scenarios.broken import take_out
from tests.scenarios.skewed import skew
from tests.scenarios.telling import tell_census, tell_leases, tell_steps


def hasten() -> None:
    """Checkpoint every few pages, and remove what is superseded after a moment."""
    sqlite_store.WAL_PAGES = 50
    sweep.EVERY_MS = 200
    worker.__dict__["sweep"] = functools.partial(sweep.sweep, history_ms=200)


def dawdle(most_s: float) -> None:
    """Steps on the books take up to so long, a few of them nearly."""
    do = Books.do

    def slowly(self: Books, transfer: str, operation: str, account: str, cents: int) -> None:
        time.sleep(most_s * random.random() ** 4)
        do(self, transfer, operation, account, cents)

    setattr(Books, "do", slowly)  # noqa: B010 - over a method


def stacks() -> None:
    """Say what every task and thread waits for: somebody wonders why nothing happens."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=6)
    faulthandler.dump_traceback()


async def main(target: str, url: str) -> None:
    """Work until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, stacks)
    definition = find(target).definition()
    if name := os.environ.get("SCENARIO_NAMESPACE"):
        definition = replace(definition, namespace=name)
    tells = Path(os.environ.get("SCENARIO_TELLS", ""))
    async with Engine.opened(definition, url) as engine:
        if wait := os.environ.get("SCENARIO_COMMIT_S"):
            setattr(engine.log, "commit_s", float(wait))  # noqa: B010 - Kafka's alone has it
        if tells.name:
            tell_leases(engine.log, tells)
            tell_steps(engine.worker.runner, tells)
        async with engine.working(5_000):
            print("ready", flush=True)
            await stop.wait()
        if tells.name:
            tell_census(tells, engine.worker.counts())


if __name__ == "__main__":
    if os.environ.get("SCENARIO_HASTE"):
        hasten()
    if clock := os.environ.get("SCENARIO_CLOCK"):
        skew(clock)
    if slow := os.environ.get("SCENARIO_SLOW"):
        dawdle(float(slow))
    take_out(os.environ.get("SCENARIO_BREAK", ""))
    if os.environ.get("SCENARIO_RACES"):
        racing.join()
    asyncio.run(main(sys.argv[1], sys.argv[2]))
