"""R-3 with whole workers: one is stopped, its partitions are taken from it, and it goes on as if it still owned them.

python -m tests.scenarios.former --rounds 20             # the long form
python -m tests.scenarios.former --rounds 3 --silent 31  # its silence waited for, not made up

A stopped process keeps its locks. Until they are broken its partitions wait and health names it; afterwards whatever it
still writes is refused, and the books are exact.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from contrapas.core.fold import header_number
from contrapas.log import Log
from contrapas.log.sqlite import SqliteLog
from contrapas.log.sqlite_file import FileLock
from contrapas.log.sqlite_owners import break_membership, holder
from sagas.bank.saga import TransferAsked
from tests.scenarios import bank
from tests.scenarios.proof import lane_of
from tests.scenarios.supervisor import Supervisor, Worker
from tests.scenarios.telling import told


@dataclass(slots=True)
class Verdict:
    """What became of the stopped ones."""

    books: bank.Verdict
    rounds: int = 0
    named: int = 0
    """Rounds in which the stopped one was named by those who looked."""
    fenced: int = 0
    """Refusals that processes met in their leases."""
    counted: list[str] = field(default_factory=list[str])
    """Records of a former owner behind those of the next."""


def members(under: Supervisor) -> set[str]:
    """Who lives, by the names of the files."""
    return {f.name.rpartition(".")[2] for f in under.folder.iterdir() if ".db.m." in f.name}


def stop(path: str, worker: Worker) -> None:
    """SIGSTOP, not while it holds the file's own lock: that cannot be broken, only killed."""
    while True:
        os.kill(worker.process.pid, signal.SIGSTOP)
        lock = FileLock(f"{path}.lock", make=False)
        free = lock.take(wait=False)
        lock.close()
        if free:
            return
        os.kill(worker.process.pid, signal.SIGCONT)
        time.sleep(0.001)


async def loop(folder: Path, *, rounds: int, seed: int, silent_s: float = 0, load: int = 30) -> Verdict:
    """Stop a random worker of two, take its partitions away, let it go on; again and again while transfers come.

    silent_s: wait so long for its silence to be noticed; 0: its last sign of life is made older."""
    chance = random.Random(seed)
    under, books = bank.supervisor(folder)
    path = str(folder / "scenario.db")
    under.env["SCENARIO_TELLS"] = str(folder / "tells")
    names: dict[Worker, str] = {}
    asked: list[TransferAsked] = []
    verdict = Verdict(bank.Verdict(0, 0, 0, []))
    try:
        for _ in range(2):
            before = members(under)
            worker = under.start()
            (names[worker],) = members(under) - before
        async with under.outside() as engine:
            log = engine.log
            assert isinstance(log, SqliteLog)
            for number in range(rounds):
                asked += (fresh := bank.transfers(chance, load, f"t{number}-"))
                await bank.ask(engine, fresh)
                await asyncio.sleep(chance.uniform(0.02, 0.2))
                victim = chance.choice(under.workers)
                await asyncio.to_thread(stop, path, victim)
                try:
                    await take_away(log, victim, names[victim], silent_s, verdict)
                    asked += (fresh := bank.transfers(chance, load, f"u{number}-"))
                    await bank.ask(engine, fresh)
                    await asyncio.sleep(chance.uniform(0.1, 0.4))
                finally:
                    os.kill(victim.process.pid, signal.SIGCONT)
                verdict.rounds += 1
                await asyncio.sleep(chance.uniform(0.2, 0.6))
            verdict.books = await bank.judge(engine, books, asked)
            verdict.counted = await behind(log)
    finally:
        under.close()
    verdict.fenced = sum(line.what == "fenced" for line in told(folder / "tells"))
    return verdict


async def take_away(log: SqliteLog, victim: Worker, member: str, silent_s: float, verdict: Verdict) -> None:
    """See that the stopped one is named, break its locks, and wait until the other one owns all of its partitions."""
    pid = victim.process.pid
    held = [p for p in range(log.partitions) if (h := holder(log.path, p)) is not None and h.pid == pid]
    if silent_s:
        await asyncio.sleep(silent_s)
    else:
        for p in held:
            os.utime(f"{log.path}.p{p}", (time.time() - 31, time.time() - 31))
    named = {h.partition for h in log.stalled() if h.pid == pid}
    verdict.named += named == set(held)
    assert break_membership(log.path, member)
    for p in held:
        log.break_lock(p)
    until = time.monotonic() + 60
    while any((h := holder(log.path, p)) is None or h.pid in (0, pid) for p in held):
        if time.monotonic() > until:
            raise TimeoutError(f"partitions {held} of the stopped worker found no owner")
        await asyncio.sleep(0.05)


async def behind(log: Log) -> list[str]:
    """Records under an older epoch than one before them."""
    found: list[str] = []
    for p in range(log.partitions):
        newest = 0
        for record in await lane_of(log, "log", p):
            epoch = header_number(record, "cp-epoch", dict(record.headers).get("cp-epoch"), "log") or 0
            if epoch < newest:
                found.append(f"{p}@{record.offset}: epoch {epoch} behind {newest}")
            newest = max(newest, epoch)
    return found


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--silent", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        verdict = asyncio.run(loop(Path(folder), rounds=args.rounds, seed=args.seed, silent_s=args.silent))
    print(verdict)
    right = verdict.books.exact and not verdict.counted and verdict.named == verdict.rounds
    return int(not right or verdict.fenced == 0)


if __name__ == "__main__":
    sys.exit(main())
