"""The bank under fire: transfers keep coming while workers are killed, and in the end the books must be exact.

python tests/scenarios/bank.py --kills 200             # the long form
python tests/scenarios/bank.py --at step.done --instances 1000   # kill -9 at a failpoint; at every one: `busy.py`
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrapas.errors import Indeterminate, Retriable
from contrapas.runtime.engine import Engine
from sagas.bank.ledger import Books
from sagas.bank.saga import TransferAsked
from tests.scenarios.supervisor import Supervisor, Worker, newest, unfinished

TARGET = "sagas/bank/saga.py:app"
ACCOUNTS, CENTS = 40, 10_000
QUIET_S = 240.0
LEAVING = frozenset({"revoke", "release.before"})
"""Places that a worker passes when it is asked to leave."""


@dataclass(slots=True)
class Verdict:
    """What the books and the log say in the end."""

    started: int
    done: int
    refused: int
    faults: list[str]
    kills: int = 0
    seconds: float = 0.0

    @property
    def exact(self) -> bool:
        """Nothing lost, nothing twice, nothing half."""
        return not self.faults and self.done + self.refused == self.started


def transfers(chance: random.Random, count: int, prefix: str) -> list[TransferAsked]:
    """Random transfers; some ask for too much, some go to closed accounts."""
    return [
        TransferAsked(
            transfer_id=f"{prefix}{number}",
            source=f"a{chance.randrange(ACCOUNTS)}",
            target=f"a{chance.randrange(ACCOUNTS)}",
            cents=chance.randrange(1, 3_000),
        )
        for number in range(count)
    ]


def supervisor(folder: Path, url: str = "") -> tuple[Supervisor, Books]:
    """A bank with money, and nobody at work. url: of a log elsewhere than in the folder."""
    books = Books(folder / "bank.db")
    books.open(ACCOUNTS, CENTS)
    under = Supervisor(TARGET, folder, {"BANK_DB": str(folder / "bank.db")})
    under.url = url or under.url
    return under, books


async def judge(engine: Engine, books: Books, asked: list[TransferAsked]) -> Verdict:
    """Wait until every acknowledged start has ended, then read books and log."""
    expected = {f"transfer/{t.transfer_id}" for t in asked}
    until = time.monotonic() + QUIET_S
    left = expected
    while left and time.monotonic() < until:
        left = await unfinished(engine.log, left)
        await asyncio.sleep(0.2 if left else 0)
    records = await newest(engine.log)
    faults = [
        f"{i} has not ended: {records[i].status if i in records else 'absent'}" for i in sorted(left)[:5]
    ]
    faults += books.faults()
    if (total := books.total()) != ACCOUNTS * CENTS:
        faults.append(f"the bank holds {total}, it began with {ACCOUNTS * CENTS}")
    said = {r.key for r in records.values() if r.outcome == "TransferDone"}
    if said != books.done():
        faults.append(f"log and books differ about {sorted(said ^ books.done())[:5]}")
    refused = sum(r.outcome == "TransferRefused" for r in records.values())
    return Verdict(started=len(expected), done=len(said), refused=refused, faults=faults)


async def ask(engine: Engine, fresh: list[TransferAsked]) -> None:
    """Start transfers, again as long as nobody says that they are on the log: a start that comes twice is one."""
    while True:
        try:
            await engine.client.start_many("transfer", fresh)
            return
        except (Retriable, Indeterminate):
            await asyncio.sleep(0.1)


async def kill_loop(
    folder: Path,
    *,
    kills: int,
    seed: int,
    pause: tuple[float, float] = (0.2, 1.0),
    url: str = "",
    strike: Callable[[int], Awaitable[None]] | None = None,
) -> Verdict:
    """Kill a random worker of two again and again while transfers keep coming. strike: what happens besides, each round."""
    chance = random.Random(seed)
    under, books = supervisor(folder, url)
    began = time.monotonic()
    asked: list[TransferAsked] = []
    try:
        under.start()
        under.start()
        async with under.outside() as engine:
            for number in range(kills):
                fresh = transfers(chance, 20, f"t{number}-")
                await ask(engine, fresh)
                asked += fresh
                if strike is not None:
                    await strike(number)
                await asyncio.sleep(chance.uniform(*pause))
                alive = [w for w in under.workers if w.process.poll() is None]
                for worker in [w for w in under.workers if w not in alive]:
                    worker.wait()  # it found no server when it started, and said so
                    under.workers.remove(worker)
                if alive:
                    victim = chance.choice(alive)
                    victim.kill()
                    under.workers.remove(victim)
                while len(under.workers) < 2:
                    under.start(wait=False)
            if not [w for w in under.workers if w.process.poll() is None]:
                under.start()
            verdict = await judge(engine, books, asked)
    finally:
        under.close()
    verdict.kills, verdict.seconds = kills, time.monotonic() - began
    return verdict


async def kill_at(folder: Path, point: str, *, instances: int, seed: int, nth: int = 1) -> Verdict:
    """Instances in flight, a worker that kills itself at a named place, and one that comes after it."""
    chance = random.Random(seed)
    under, books = supervisor(folder)
    began = time.monotonic()
    asked = transfers(chance, instances, "t")
    try:
        under.start()  # makes the topics
        async with under.outside() as engine:
            under.workers.pop().stop()
            if point.startswith("ingress"):
                for transfer in asked:
                    await engine.client.send(transfer)
            else:
                await engine.client.start_many("transfer", asked)
            doomed = under.start(failpoint=f"{point}=kill@{nth}", wait=point in LEAVING)
            if point in LEAVING:
                doomed.process.terminate()
            died = await asyncio.to_thread(_died, doomed)
            if not died:
                doomed.stop()
            under.workers.remove(doomed)
            under.start()
            verdict = await judge(engine, books, asked)
    finally:
        under.close()
    verdict.kills, verdict.seconds = int(died), time.monotonic() - began
    return verdict


def _died(worker: Worker, timeout: float = 20) -> bool:
    """Whether a worker killed itself within the time."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if worker.process.poll() is not None:
            worker.wait()
            return True
        time.sleep(0.02)
    return False


def main() -> int:
    """The long forms."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--at", default="", metavar="FAILPOINT")
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    bad = False
    if args.kills:
        with tempfile.TemporaryDirectory() as folder:
            verdict = asyncio.run(kill_loop(Path(folder), kills=args.kills, seed=args.seed))
        print(f"kill loop, seed {args.seed}: {verdict}")
        bad = not verdict.exact
    if args.at:
        with tempfile.TemporaryDirectory() as folder:
            verdict = asyncio.run(kill_at(Path(folder), args.at, instances=args.instances, seed=args.seed))
        print(f"kill at {args.at}: {verdict}", flush=True)
        bad = bad or not verdict.exact or not verdict.kills
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
