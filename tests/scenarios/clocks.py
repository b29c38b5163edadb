"""R-12: the wall clocks of worker processes jump while sagas sleep; no timer is early, none waits for a clock to catch up.

python -m tests.scenarios.clocks --rounds 40          # the long form

A worker reads its clock through `SCENARIO_CLOCK`, a file with the milliseconds it is put ahead (`skewed.py`). Early is meant
on the log's clock: no record of a timer is stamped before its deadline. Late is told by the monotonic clock, which all
processes of a machine share and nobody can set.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from contrapas.core.envelope import ENDED
from contrapas.core.envelope_avro import decode
from contrapas.log import Log
from tests.scenarios.clock_saga import NapAsked
from tests.scenarios.proof import lane_of
from tests.scenarios.supervisor import Supervisor, Worker, newest

TARGET = "tests/scenarios/clock_saga.py:app"
HOUR = 3_600_000
JUMPS = (HOUR, -HOUR, -5_000, 10_000, HOUR, -2 * HOUR)
"""An hour forth and back, five seconds back, one owner ten seconds ahead, summer and winter time."""


@dataclass(slots=True)
class Verdict:
    """When sagas woke."""

    naps: int = 0
    early: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])
    late_ms: list[int] = field(default_factory=list[int])
    jumps: int = 0
    kills: int = 0

    @property
    def latest_ms(self) -> int:
        """The worst."""
        return max(self.late_ms, default=0)


def now_ms() -> int:
    """By the clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


class Clocks:
    """Two workers, each with a clock of its own that can be set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.woke = folder / "woke"
        self.woke.touch()
        self.under = Supervisor(TARGET, folder, {"WOKE": str(self.woke)})
        self.ahead: dict[Worker, Path] = {}
        self.set: dict[Path, int] = {}

    def start(self, ahead: int = 0) -> Worker:
        """One more worker, its clock so far ahead."""
        path = self.folder / f"clock-{len(self.set)}"
        self.put(path, ahead)
        self.under.env["SCENARIO_CLOCK"] = str(path)
        worker = self.under.start()
        self.ahead[worker] = path
        return worker

    def put(self, path: Path, ahead: int) -> None:
        """Set a clock."""
        fresh = path.with_suffix(".new")
        fresh.write_text(str(ahead))
        fresh.replace(path)
        self.set[path] = ahead

    def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        worker.kill()
        self.under.workers.remove(worker)
        del self.ahead[worker]


async def run(folder: Path, *, rounds: int, seed: int, naps: int = 20) -> Verdict:
    """Let sagas sleep while clocks jump; in every other round a worker is killed, and one with a wrong clock follows."""
    chance, verdict = random.Random(seed), Verdict()
    clocks = Clocks(folder)
    asked: dict[str, tuple[int, int, int]] = {}
    try:
        clocks.start()
        clocks.start(10_000)
        async with clocks.under.outside() as engine:
            for number in range(rounds):
                before = now_ms()
                fresh = [NapAsked(id=f"{number}-{n}", ms=chance.choice((1_000, 2_000))) for n in range(naps)]
                await engine.client.start_many("nap", fresh)
                asked |= {e.id: (before, now_ms(), e.ms) for e in fresh}
                await asyncio.sleep(chance.uniform(0.1, 0.8))
                jump = JUMPS[number % len(JUMPS)]
                for path in list(clocks.ahead.values()):
                    clocks.put(path, clocks.set[path] + jump)
                verdict.jumps += 1
                if number % 2:
                    await asyncio.sleep(chance.uniform(0.1, 0.8))
                    victim = chance.choice(sorted(clocks.ahead, key=lambda w: w.process.pid))
                    ahead = clocks.set[clocks.ahead[victim]]
                    clocks.kill(victim)
                    verdict.kills += 1
                    await asyncio.to_thread(clocks.start, ahead)
                await asyncio.sleep(0.5)
            until = time.monotonic() + 90
            expected = {f"nap/{ident}" for ident in asked}
            while time.monotonic() < until:
                records = await newest(engine.log)
                if all(i in records and records[i].status in ENDED for i in expected):
                    break
                await asyncio.sleep(0.2)
            verdict.early = await early(engine.log)
    finally:
        clocks.under.close()
    judge(clocks.woke, asked, verdict)
    return verdict


async def early(log: Log) -> list[str]:
    """Timers whose record is stamped before their time."""
    found: list[str] = []
    for partition in range(log.partitions):
        due: dict[str, int] = {}
        for record in await lane_of(log, "log", partition):
            if record.value is None or dict(record.headers).get("cp-kind") != b"instance":
                continue
            instance = decode(record.value)
            at = due.pop(instance.instance, None)
            if at is not None and instance.cause.kind == "timer" and record.timestamp_ms < at:
                found.append(f"{instance.instance} woke {at - record.timestamp_ms} ms before its time")
            pending = instance.root.pending
            if pending is not None and pending.deadline is not None:
                due[instance.instance] = pending.deadline
    return found


def judge(woke: Path, asked: dict[str, tuple[int, int, int]], verdict: Verdict) -> None:
    """Everybody woke; how late."""
    first: dict[str, int] = {}
    for line in woke.read_text().splitlines():
        when, ident = line.split()
        first.setdefault(ident, int(when))
    for ident, (_, after, ms) in asked.items():
        at = first.get(ident)
        verdict.naps += 1
        if at is None:
            verdict.missing.append(ident)
            continue
        verdict.late_ms.append(max(0, at - after - ms))


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        verdict = asyncio.run(run(Path(folder), rounds=args.rounds, seed=args.seed))
    late = sorted(verdict.late_ms)
    print(
        f"{verdict.naps} naps, {verdict.jumps} jumps, {verdict.kills} kills: {len(verdict.early)} early, "
        f"{len(verdict.missing)} missing, late p50 {late[len(late) // 2]} ms, p99 {late[int(len(late) * 0.99)]} ms, "
        f"most {verdict.latest_ms} ms"
    )
    return int(bool(verdict.early or verdict.missing or verdict.latest_ms > 60_000))


if __name__ == "__main__":
    sys.exit(main())
