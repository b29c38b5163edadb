"""R-17: a poisoned instance among many: what its neighbours notice of it.

python -m tests.scenarios.poison --rounds 5           # the long form: p99 of the neighbours with and without each poison

Neighbours are started and waited for one after another, a few at a time, in the same worker and on the same partitions. For
each poison the same number of them runs without and with it, in turns, so that a busy machine is as busy for both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from contrapas.runtime.engine import Engine
from tests.scenarios.poison_saga import Asked, Told, app

POISONS = ("raises", "hangs", "returns 10 MB", "allocates 2 GB", "blocks the loop")
STALLS = frozenset({"blocks the loop"})
"""They stop the whole worker while they last: neighbours of that time are not counted, only afterwards."""
MOST = 2.0


@dataclass(slots=True)
class Verdict:
    """What neighbours saw."""

    with_ms: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    without_ms: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    ends: dict[str, str] = field(default_factory=dict[str, str])
    """Poison -> how its instance ended."""
    lost: int = 0
    """Neighbours that did not end well."""

    def p99(self, what: str) -> tuple[float, float]:
        """Without and with."""
        return quantile(self.without_ms[what], 0.99), quantile(self.with_ms[what], 0.99)


def quantile(values: list[float], at: float) -> float:
    """Of a list that need not be sorted."""
    return sorted(values)[min(len(values) - 1, int(at * len(values)))]


async def neighbours(
    engine: Engine, prefix: str, count: int, verdict: Verdict, *, at_once: int = 4
) -> list[float]:
    """How long each took, in ms."""
    took: list[float] = []
    numbers = iter(range(count))

    async def one_after_another() -> None:
        for number in numbers:
            began = time.perf_counter()
            await engine.client.start("neighbour", Asked(id=f"{prefix}{number}"))
            told = await engine.client.wait(f"neighbour/{prefix}{number}", timeout_ms=120_000)
            took.append((time.perf_counter() - began) * 1000)
            verdict.lost += told.status != "done"

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return took


async def run(folder: Path, *, rounds: int, count: int, poisons: tuple[str, ...] = POISONS) -> Verdict:
    """Neighbours without and with each poison, in turns."""
    verdict = Verdict()
    async with (
        Engine.opened(app.definition(), f"sqlite:///{folder}/poison.db") as engine,
        engine.working(2_000),
    ):
        await neighbours(engine, "warm-", count, verdict)
        for round_ in range(rounds):
            for what in poisons:
                name = f"{what}-{round_}"
                gc.collect()
                calm = await neighbours(engine, f"calm {name}-", count, verdict)
                await engine.client.start("poison", Told(id=name, what=what))
                if what in STALLS:
                    await asyncio.sleep(0.1)
                    await engine.client.wait(f"poison/{name}", timeout_ms=60_000)
                hot = await neighbours(engine, f"hot {name}-", count, verdict)
                end = await engine.client.wait(f"poison/{name}", timeout_ms=60_000)
                verdict.ends[what] = f"{end.status} {end.code}".strip()
                verdict.without_ms.setdefault(what, []).extend(calm)
                verdict.with_ms.setdefault(what, []).extend(hot)
    return verdict


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=400)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        verdict = asyncio.run(run(Path(folder), rounds=args.rounds, count=args.count))
    worst = 0.0
    for what in verdict.ends:
        without, with_ = verdict.p99(what)
        worst = max(worst, with_ / without)
        ratio = f"{with_ / without:.2f}"
        print(
            f"{what:16} {verdict.ends[what]:20} p99 of neighbours {without:.1f} ms, with it {with_:.1f} ms, ratio {ratio}"
        )
    return int(worst >= MOST or verdict.lost > 0)


if __name__ == "__main__":
    sys.exit(main())
