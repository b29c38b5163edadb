"""R-22: people look while workers work: the lanes and topics are read, instances listed and described, live ones judged.

python -m tests.scenarios.looking --seconds 60         # the long form: what looking costs

Windows with and without anybody who looks take turns in one run. What it costs is told twice: records written per second of
the clock, which on two cores also pays for the lookers' own work, and per second of the workers' processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from contrapas.log.sqlite_read import SqliteReader
from contrapas.runtime.engine import Engine
from sagas.bank.saga import TransferAsked
from tests.scenarios import bank
from tests.scenarios.supervisor import ROOT, Supervisor

TICK = os.sysconf("SC_CLK_TCK")
VERBS: tuple[tuple[str, ...], ...] = (
    ("ls",),
    ("topic", "read", "bank.log", "-n", "200", "-o", "jsonl"),
    ("topic", "read", "bank.requests", "-n", "50"),
    ("log", "describe"),
    ("log", "verify"),
    ("check", f"{ROOT}/sagas/bank/saga.py:app", "--against-live"),
    ("doctor",),
)


@dataclass(slots=True)
class Window:
    """What was written while somebody looked, or nobody did."""

    records: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def rates(self) -> tuple[float, float]:
        """Records per second of the clock, and of the workers' processor time."""
        return self.records / max(0.001, self.wall_s), self.records / max(0.001, self.cpu_s)


@dataclass(slots=True)
class Verdict:
    """The cost, and whether looking was only that."""

    books: bank.Verdict
    calm: Window = field(default_factory=Window)
    watched: Window = field(default_factory=Window)
    looks: Counter[str] = field(default_factory=Counter[str])
    failed: list[str] = field(default_factory=list[str])

    def costs(self) -> tuple[float, float]:
        """Share of the rate that is lost, by the clock and by processor time."""
        (wall, cpu), (wall_w, cpu_w) = self.calm.rates(), self.watched.rates()
        return 1 - wall_w / wall, 1 - cpu_w / cpu


def cpu_s(under: Supervisor) -> float:
    """Processor time of the workers."""
    total = 0.0
    for worker in under.workers:
        parts = Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(map(int, parts[11:13])) / TICK
    return total


def look(folder: Path, url: str, number: int, verdict: Verdict) -> None:
    """One look, by the command line, in a process of its own."""
    words = VERBS[number % len(VERBS)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("CONTRAPAS_")}
    env |= {"PYTHONPATH": str(ROOT), "BANK_DB": str(folder / "bank.db")}
    done = subprocess.run(
        [sys.executable, "-m", "contrapas", *words, "--log", url],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    verdict.looks[" ".join(words[:2])] += 1
    if done.returncode not in (0, 6) or "Traceback" in done.stderr:
        verdict.failed.append(f"{words}: {done.returncode} {done.stderr[-400:]}")


async def window(
    engine: Engine,
    under: Supervisor,
    into: Window,
    seconds: float,
    asked: list[TransferAsked],
    watched: bool,
    verdict: Verdict,
) -> None:
    """Keep the workers busy for so long; somebody looks meanwhile, or nobody."""
    reader = SqliteReader(str(under.folder / "scenario.db"))
    stop = asyncio.Event()
    looking = asyncio.ensure_future(_looks(under, stop, verdict)) if watched else None
    began, cpu, at = time.monotonic(), cpu_s(under), _written(reader)
    while time.monotonic() - began < seconds:
        if sum(p.in_end - p.control.cursor.get(("in", p.partition), 0) for p in reader.parts()) < 200:
            await bank.ask(engine, fresh := bank_transfers(len(asked), 100))
            asked += fresh
        await asyncio.sleep(0.02)
    into.records += _written(reader) - at
    into.wall_s += time.monotonic() - began
    into.cpu_s += cpu_s(under) - cpu
    stop.set()
    if looking is not None:
        await looking
    reader.close()


def bank_transfers(first: int, count: int) -> list[TransferAsked]:
    """Transfers between two accounts each, there and back."""
    return [
        TransferAsked(transfer_id=f"w{n}", source=f"a{n % 20}", target=f"a{20 + n % 20}", cents=1)
        for n in range(first, first + count)
    ]


async def _looks(under: Supervisor, stop: asyncio.Event, verdict: Verdict) -> None:
    number = sum(verdict.looks.values())
    while not stop.is_set():
        await asyncio.to_thread(look, under.folder, under.url, number, verdict)
        number += 1


def _written(reader: SqliteReader) -> int:
    return sum(part.log_end for part in reader.parts())


async def run(folder: Path, *, seconds: float, windows: int) -> Verdict:
    """Windows with and without looks, in turns; then the books."""
    under, books = bank.supervisor(folder)
    verdict = Verdict(bank.Verdict(0, 0, 0, []))
    asked: list[TransferAsked] = []
    try:
        under.start()
        under.start()
        async with under.outside() as engine:
            await window(engine, under, Window(), seconds, asked, False, verdict)
            for _ in range(windows):
                await window(engine, under, verdict.calm, seconds, asked, False, verdict)
                await window(engine, under, verdict.watched, seconds, asked, True, verdict)
            verdict.books = await bank.judge(engine, books, asked)
    finally:
        under.close()
    return verdict


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="of work with looks, and as much without")
    args = parser.parse_args()
    windows = max(1, round(args.seconds / 5))
    with tempfile.TemporaryDirectory() as folder:
        verdict = asyncio.run(run(Path(folder), seconds=args.seconds / windows, windows=windows))
    wall, cpu = verdict.costs()
    print(
        f"without looks {verdict.calm.rates()}, with them {verdict.watched.rates()} records/s (of the clock, of CPU)"
    )
    print(
        f"looking costs {wall:.1%} by the clock, {cpu:.1%} of the workers' CPU; looks {dict(verdict.looks)}"
    )
    print(*verdict.failed[:5], *verdict.books.faults[:5], sep="\n")
    return int(bool(verdict.failed) or not verdict.books.exact or cpu >= 0.1)


if __name__ == "__main__":
    sys.exit(main())
