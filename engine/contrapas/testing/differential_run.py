"""`python -m contrapas.testing.differential`: random programs in both forms, for as long as one likes."""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from contrapas.errors import CompileError
from contrapas.testing.differential import Pair, Report, compare, pair_of
from contrapas.testing.differential_prelude import EXCEPTIONS, Go
from contrapas.testing.differential_programs import loaded, source_of
from contrapas.testing.differential_shrink import shrunk

SCRIPTS = 30
"""Scripts per program."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A program under a script where the two forms part."""

    seed: int
    script: int
    text: str


@dataclass(slots=True)
class Tally:
    """What a campaign saw."""

    programs: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    report: Report = field(default_factory=Report)
    failures: list[Failure] = field(default_factory=list[Failure])


def program(text: str, name: str) -> Pair:
    """A program text in both forms. CompileError when it is refused."""
    sagas = loaded(text, name)
    others = [s for n, s in sagas.items() if n != "main"]
    return pair_of(sagas["main"], *others, exceptions=EXCEPTIONS)


def run(seeds: Iterable[int], scripts: int = SCRIPTS, *, stop_after: int = 1) -> Tally:
    """Programs of these seeds under so many scripts each; a program that the compiler refuses is counted by code."""
    tally = Tally()
    for seed in seeds:
        try:
            pair = program(source_of(seed), f"<program {seed}>")
        except CompileError as why:
            tally.refused.update({r.code for r in why.refusals})
            continue
        tally.programs += 1
        for script in range(scripts):
            found = difference(pair, seed, script, tally.report)
            if found:
                tally.failures.append(Failure(seed, script, found))
                break
        if len(tally.failures) >= stop_after:
            break
    return tally


def difference(pair: Pair, seed: int, script: int, report: Report | None = None) -> str:
    """What differs, or what the compiled form raised that it never should; empty when all is the same."""
    try:
        compare(pair, lambda: (Go(k="k", n=seed % 7),), [script], report=report)
    except Exception as why:  # noqa: BLE001  whatever the author's code raises
        return f"{type(why).__name__}: {why}"
    return ""


def least(failure: Failure, limit_s: float = 120) -> str:
    """The smallest program found within the time that fails in the same way."""
    until = time.monotonic() + limit_s
    kind = _kind(failure.text)

    def fails(text: str) -> bool:
        if time.monotonic() > until:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pair = program(text, f"<shrinking {failure.seed}>")
            except Exception:  # noqa: BLE001  whatever the author's code raises
                return False
        return _kind(difference(pair, failure.seed, failure.script)) == kind

    return shrunk(source_of(failure.seed), fails)


def _kind(text: str) -> str:
    """What is the same in every form of one failure."""
    return re.sub(r"[0-9]+", "0", "\n".join([line[:45] for line in text.split("\n")]))


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m contrapas.testing.differential", description=__doc__)
    parser.add_argument("--cases", type=int, default=5000, help="runs in both forms")
    parser.add_argument("--seed", type=int, default=0, help="first program")
    parser.add_argument("--scripts", type=int, default=SCRIPTS, help="scripts per program")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first difference")
    parser.add_argument("--show", action="store_true", help="print the program of --seed and end")
    options = parser.parse_args(arguments)
    if options.show:
        print(source_of(options.seed))
        return 0
    began = time.monotonic()
    seeds = range(options.seed, options.seed + -(-options.cases // options.scripts))
    tally = run(seeds, options.scripts, stop_after=1_000_000 if options.keep_going else 1)
    seen = tally.report
    print(
        f"{seen.runs} cases of {tally.programs} programs, {seen.operations} operations, {seen.transitions} transitions, "
        f"{len(tally.failures)} differences, {sum(tally.refused.values())} refused {dict(tally.refused)}, "
        f"{time.monotonic() - began:.1f} s"
    )
    for failure in tally.failures[:20]:
        print(f"\nprogram {failure.seed}, script {failure.script}: {failure.text[:2000]}", file=sys.stderr)
    if tally.failures:
        print(f"\nthe least program that still fails:\n{least(tally.failures[0])}", file=sys.stderr)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
