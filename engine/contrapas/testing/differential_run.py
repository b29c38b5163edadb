"""Random programs in both forms: one after the other, and the least program that fails (T3)."""

from __future__ import annotations

import linecache
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from contrapas.errors import CompileError
from contrapas.testing.differential import Pair, Report, compare, pair_of
from contrapas.testing.differential_load import loaded
from contrapas.testing.differential_prelude import EXCEPTIONS, Added, Go
from contrapas.testing.differential_programs import source_of
from contrapas.testing.differential_shrink import shrunk

SCRIPTS = 30
"""Scripts per program."""
PROBES = 12
"""After so many scripts a program that hardly does two different things is left."""
_FAILS = (0.2, 0.1, 0.05, 0.02)
"""Part of the steps that fail, by script: where many do, little of a long program is seen."""


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
    distinct: int = 0
    """Runs that no other run of the same program was equal to."""


def program(text: str, name: str) -> Pair:
    """A program text in both forms. CompileError when it is refused."""
    sagas = loaded(text, name)
    others = [s for n, s in sagas.items() if n != "main"]
    return pair_of(sagas["main"], *others, exceptions=EXCEPTIONS)


def run(seeds: Iterable[int], scripts: int = SCRIPTS, *, stop_after: int = 1, focus: str = "") -> Tally:
    """Programs of these seeds under so many scripts each; a program that the compiler refuses is counted by code.
    focus: a module of `testing.forms`, whose forms come often and alone."""
    tally = Tally()
    for seed in seeds:
        name = f"<program {seed}>"
        try:
            pair = program(source_of(seed, focus=focus), name)
        except CompileError as why:
            tally.refused.update({r.code for r in why.refusals})
            continue
        except Exception as why:  # noqa: BLE001  the compiler never raises (T8)
            tally.failures.append(Failure(seed, 0, f"compiling raises {type(why).__name__}: {why}"))
            continue
        finally:
            linecache.cache.pop(name, None)
        tally.programs += 1
        tally.report.traces.clear()
        for script in range(scripts):
            found = difference(pair, seed, script, tally.report)
            if found:
                tally.failures.append(Failure(seed, script, found))
                break
            if script == PROBES and len(tally.report.traces) <= PROBES // 4:
                break  # more scripts of this one would go the same few ways
        tally.distinct += len(tally.report.traces)
        if len(tally.failures) >= stop_after:
            break
    return tally


def difference(pair: Pair, seed: int, script: int, report: Report | None = None) -> str:
    """What differs, or what the compiled form raised that it never should; empty when all is the same."""
    try:
        fails = _FAILS[script % len(_FAILS)]
        number = seed + script
        starts = pair.machines[pair.saga.name].starts
        cls = (
            next((c for c in (Go, Added) if c.__name__ == starts[number % len(starts)]), Go) if starts else Go
        )
        compare(pair, lambda: (cls(k="k", n=number % 7),), [script], report=report, fails=fails)
    except Exception as why:  # noqa: BLE001  whatever the author's code raises
        return f"{type(why).__name__}: {why}"
    return ""


def least(failure: Failure, limit_s: float = 120, focus: str = "") -> str:
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

    return shrunk(source_of(failure.seed, focus=focus), fails)


def _kind(text: str) -> str:
    """What is the same in every form of one failure."""
    return re.sub(r"[0-9]+", "0", "\n".join([line[:45] for line in text.split("\n")]))
