"""What compiling and checking cost: 12 lines, 33 lines, the same source again, fifty sagas at once (compiler.md 16).

Prints one JSON line: milliseconds of CPU; `compile_33` over random sagas of 28 to 38 lines, each timed at its best round.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contrapas.author.saga import SagaDef
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_all
from contrapas.testing.differential_load import loaded
from contrapas.testing.differential_prelude import EXCEPTIONS
from contrapas.testing.differential_programs import source_of

TWELVE = """
from __future__ import annotations
from contrapas.author.retry import FOREVER


@saga
async def place_order(s: Saga, go: Go) -> int:
    try:
        paid = await s.step(Charge(k=go.k, cents=go.n), undo=lambda ok: Refund(k=go.k, cents=ok.cents), within="30s")
        stock = await s.step(num(go.n), undo=Refund(k=go.k), within="1m")
        s.point_of_no_return()
        parcel = await s.step(word(stock), retry=FOREVER)
    except StepFailed as why:
        await s.compensate()
        s.emit(Done(k=why.reason, n=0))
        return 0
    return len(parcel) + paid.cents
"""
SAGAS = 50
ROUNDS = 5


def lines_of(text: str) -> int:
    """Lines of the body."""
    return text.count("\n", text.index("async def"))


def programs(count: int) -> list[str]:
    """Random sagas without callees, of 28 to 38 lines."""
    found: list[str] = []
    seed = 500_000
    while len(found) < count:
        text = source_of(seed)
        if text.count("@saga") == 1 and 28 <= lines_of(text) <= 38:
            found.append(text)
        seed += 1
    return found


def registry() -> Registry:
    """With the exceptions of the vocabulary."""
    made = Registry()
    for cls in EXCEPTIONS:
        made.add_exception(cls)
    return made


def compiled(saga: SagaDef[..., Any]) -> Any:
    """One saga, into a registry of its own."""
    return compile_all([saga], registry=registry())


def fresh(text: str, number: int) -> SagaDef[..., Any]:
    """A saga that no cache has seen."""
    return next(iter(loaded(f"{text}\n# {number}\n", f"<bench {number}>").values()))


def timed(what: Callable[[], Any]) -> float:
    """Milliseconds of CPU."""
    began = time.process_time()
    what()
    return (time.process_time() - began) * 1e3


def best(text: str, number: int, rounds: int = ROUNDS) -> float:
    """The best of some rounds, each with a source of its own."""
    found = float("inf")
    for each in range(rounds):
        saga = fresh(text, number * 100 + each)
        found = min(found, timed(lambda: compiled(saga)))  # noqa: B023  called at once
    return found


def again(text: str, number: int) -> float:
    """The same source a second time."""
    saga = fresh(text, number * 100 + 50)
    compiled(saga)
    return min(timed(lambda: compiled(saga)) for _ in range(ROUNDS))


def fifty() -> tuple[float, float]:
    """Compile fifty sagas as one app's, then check them: milliseconds of each."""
    from contrapas.app import App
    from contrapas.check.report import check_app
    from contrapas.runtime.build import compiled as built

    app = App("bench")
    for number in range(SAGAS):
        named = TWELVE.replace("async def place_order(", f"async def saga_{number}(")
        saga = loaded(named, f"<bench app {number}>")[f"saga_{number}"]
        app.orchestrate(saga)
    definition = app.definition()
    made: list[Any] = []
    compile_ms = timed(lambda: made.append(built(definition)))
    check_ms = timed(lambda: check_app(made[0].world.machines, definition))
    return compile_ms, check_ms


def main() -> None:
    gc.disable()
    texts = programs(SAGAS)
    best(texts[0], 9000, 1)
    each = sorted(best(text, 1000 + number) for number, text in enumerate(texts))
    compile_ms, check_ms = fifty()
    found = {
        "bench": "compile",
        "compile_12_ms": best(TWELVE, 1, 20),
        "compile_33_median_ms": statistics.median(each),
        "compile_33_p95_ms": each[int(len(each) * 0.95)],
        "again_ms": statistics.median(again(text, 5000 + n) for n, text in enumerate(texts)),
        "fifty_compile_ms": compile_ms,
        "fifty_check_ms": check_ms,
    }
    print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()}))


if __name__ == "__main__":
    main()
