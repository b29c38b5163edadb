"""What `check` costs: one saga at a time, and fifty sagas compiled and checked together. CPU time of this process.

Prints one JSON line: milliseconds per saga (median, 95th percentile, worst), seconds for fifty sagas with their compilation.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contrapas import App
from contrapas.author.saga import SagaDef
from contrapas.check.report import check_app, examined
from contrapas.draw.edges import program_of
from contrapas.draw.segment import Walker
from contrapas.runtime.build import compiled
from tests.check import corpus

ROUNDS = 7


def sagas() -> dict[str, SagaDef[..., Any]]:
    """The sagas of the checker's tests, by name."""
    found: dict[str, SagaDef[..., Any]] = {}
    for module in pkgutil.iter_modules(corpus.__path__):
        loaded = importlib.import_module(f"{corpus.__name__}.{module.name}")
        found |= {v.name: v for v in vars(loaded).values() if isinstance(v, SagaDef)}
    return found


def app_of(several: list[SagaDef[..., Any]]) -> Any:
    """An app's definition."""
    app = App("bench")
    app.orchestrate(*several)
    return app.definition()


def main() -> None:
    several = list(sagas().values())[:50]
    whole = float("inf")
    for _ in range(3):
        began = time.process_time()
        definition = app_of(several)
        check_app(compiled(definition).world.machines, definition)
        whole = min(whole, time.process_time() - began)
    each: list[float] = []
    sizes: list[int] = []
    for saga in several:
        machines = compiled(app_of([saga])).world.machines
        best, size = float("inf"), 0
        for _ in range(ROUNDS):
            began = time.process_time()
            walkers = {name: Walker(program_of(machine)) for name, machine in machines.items()}
            _, _, size = examined(machines[saga.name], walkers, "orchestrate")
            best = min(best, time.process_time() - began)
        each.append(best * 1000)
        sizes.append(size)
    ordered = sorted(each)
    made = {
        "bench": "check",
        "sagas": len(several),
        "configurations_median": statistics.median(sizes),
        "check_ms_median": statistics.median(each),
        "check_ms_p95": ordered[int(len(ordered) * 0.95)],
        "check_ms_worst": ordered[-1],
        "compile_and_check_s": whole,
    }
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in made.items()}))


if __name__ == "__main__":
    main()
