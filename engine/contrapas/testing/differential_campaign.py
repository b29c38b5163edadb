"""`python -m contrapas.testing.differential`: random programs in both forms, a million cases if one likes.

A case is one program under one script of outcomes, run natively and compiled; scripts of one program differ in their seed.
Programs are dealt out in chunks to processes; what each chunk saw is a line in a file, and a campaign that is started again
with the same file goes on behind the chunks that it holds.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contrapas.testing.differential_programs import source_of
from contrapas.testing.differential_run import Failure, least, run

CHUNK = 20
"""Programs that a process takes at a time."""
SCRIPTS = 60
"""Scripts per program: to compile a program costs as much as to run it fifty times."""


@dataclass(slots=True)
class Counts:
    """What chunks saw."""

    programs: int = 0
    cases: int = 0
    distinct: int = 0
    operations: int = 0
    transitions: int = 0
    errors: int = 0
    refused: dict[str, int] = field(default_factory=dict[str, int])
    failures: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])

    def add(self, other: Counts) -> None:
        """Another chunk."""
        self.programs += other.programs
        self.cases += other.cases
        self.distinct += other.distinct
        self.operations += other.operations
        self.transitions += other.transitions
        self.errors += other.errors
        self.failures += other.failures
        for code, count in other.refused.items():
            self.refused[code] = self.refused.get(code, 0) + count

    def line(self) -> str:
        """For people."""
        refused = ", ".join(f"{code} {count}" for code, count in sorted(self.refused.items())) or "none"
        return (
            f"{self.cases:,} cases ({self.distinct:,} distinct runs) of {self.programs:,} programs, {self.operations:,} "
            f"operations, {self.transitions:,} transitions, {self.errors:,} ended by an error, refused: {refused}, "
            f"{len(self.failures):,} mismatches"
        )


def chunk(first: int, scripts: int, focus: str = "") -> Counts:
    """The programs of one chunk, in a process of its own."""
    gc.set_threshold(50_000, 20, 50)  # syntax trees are many small objects that die together
    tally = run(range(first, first + CHUNK), scripts, stop_after=CHUNK, focus=focus)
    seen = tally.report
    return Counts(
        programs=tally.programs,
        cases=seen.runs,
        distinct=tally.distinct,
        operations=seen.operations,
        transitions=seen.transitions,
        errors=seen.errors,
        refused=dict(tally.refused),
        failures=[(f.seed, f.script, f.text[:4000]) for f in tally.failures],
    )


@dataclass(slots=True)
class Campaign:
    """As many chunks as it takes."""

    cases: int
    seed: int = 0
    scripts: int = SCRIPTS
    jobs: int = 1
    time_s: float = float("inf")
    state: Path | None = None
    keep_going: bool = False
    focus: str = ""
    """A module of `testing.forms`, whose forms come often and alone."""
    counts: Counts = field(default_factory=Counts)

    def run(self) -> Counts:
        """Until the cases are there, the time is over, or a mismatch was found."""
        began = time.monotonic()
        done = self._kept()
        firsts = self._firsts(done)
        context = multiprocessing.get_context("spawn")
        told = began
        with ProcessPoolExecutor(self.jobs, mp_context=context, max_tasks_per_child=50) as pool:
            running: dict[Future[Counts], int] = {}
            while True:
                while len(running) < self.jobs and self._wanted(began, len(running)):
                    first = next(firsts)
                    running[pool.submit(chunk, first, self.scripts, self.focus)] = first
                if not running:
                    break
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._note(running.pop(future), future.result())
                if time.monotonic() - told > 20:
                    told = time.monotonic()
                    print(f"  {told - began:.0f} s: {self.counts.line()}", file=sys.stderr, flush=True)
        return self.counts

    def _wanted(self, began: float, running: int) -> bool:
        if self.counts.failures and not self.keep_going:
            return False
        coming = running * CHUNK * self.scripts
        return self.counts.cases + coming < self.cases and time.monotonic() - began < self.time_s

    def _firsts(self, done: set[int]) -> Iterator[int]:
        first = self.seed
        while True:
            if first not in done:
                yield first
            first += CHUNK

    def _key(self) -> list[object]:
        """What a line of the file must agree in."""
        return [self.seed, self.scripts, platform.python_version(), *([self.focus] if self.focus else [])]

    def _kept(self) -> set[int]:
        """First seeds of the chunks that the file holds; their counts are added."""
        done: set[int] = set()
        if self.state is None or not self.state.exists():
            return done
        for line in self.state.read_text(encoding="utf-8").splitlines():
            try:
                held = json.loads(line)
                if held["of"] == self._key() and held["first"] not in done:
                    self.counts.add(Counts(**held["counts"]))
                    done.add(held["first"])
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill: that chunk is run again
        return done

    def _note(self, first: int, counts: Counts) -> None:
        self.counts.add(counts)
        if self.state is not None:
            self.state.parent.mkdir(parents=True, exist_ok=True)
            with self.state.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"of": self._key(), "first": first, "counts": asdict(counts)}) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m contrapas.testing.differential", description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, help="runs in both forms")
    parser.add_argument("--seed", type=int, default=0, help="first program")
    parser.add_argument("--scripts", type=int, default=SCRIPTS, help="scripts per program")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--time", type=float, default=float("inf"), help="seconds after which no new chunk is begun"
    )
    parser.add_argument(
        "--state", type=Path, default=None, help="file of what was done; given again, it goes on there"
    )
    parser.add_argument(
        "--form", default="", help="one module of contrapas.testing.forms, whose forms come often and alone"
    )
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first mismatch")
    parser.add_argument("--show", action="store_true", help="print the program of --seed and end")
    options = parser.parse_args(arguments)
    if options.show:
        print(source_of(options.seed, focus=options.form))
        return 0
    began = time.monotonic()
    campaign = Campaign(
        cases=options.cases,
        seed=options.seed,
        scripts=options.scripts,
        jobs=options.jobs,
        time_s=options.time,
        state=options.state,
        keep_going=options.keep_going,
        focus=options.form,
    )
    counts = campaign.run()
    print(f"Python {platform.python_version()}: {counts.line()}, {time.monotonic() - began:.0f} s")
    for seed, script, text in counts.failures[:20]:
        print(f"\nprogram {seed}, script {script}: {text[:2000]}", file=sys.stderr)
    if counts.failures:
        seed, script, text = counts.failures[0]
        print(
            f"\nthe least program that still fails:\n{least(Failure(seed, script, text), focus=options.form)}",
            file=sys.stderr,
        )
    return 1 if counts.failures else 0
