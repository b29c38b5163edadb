"""A saga of twenty states, three levels of `try/finally` and a loop; each step leaves a line in a file.

The line: time, instance, what, idempotency key. A step lasts `MARK_S`, so that its process can be replaced meanwhile.
"""

from __future__ import annotations

import os
import time

from contrapas import App, Event, Saga, StepFailed, saga, step
from contrapas.runtime.steps import idempotency_key


class Begun(Event, key="id"):
    id: str
    rounds: int


class Finished(Event, key="id"):
    id: str
    told: tuple[str, ...]


@step(undo=None)
def mark(id: str, what: str) -> str:
    with open(os.environ["MARKS"], "a") as out:
        out.write(f"{time.time_ns() // 1_000_000} {id} {what} {idempotency_key()}\n")
    time.sleep(float(os.environ.get("MARK_S", "0")))
    return what


@step(undo=None)
def refuse(id: str, what: str) -> str:
    mark.native(id, what)
    raise StepFailed(what)


@saga
async def winding(s: Saga, e: Begun) -> Finished:
    told = [await mark(e.id, "first")]
    try:
        told.append(await mark(e.id, "outer"))
        try:
            told.append(await mark(e.id, "middle"))
            try:
                for number in range(e.rounds):
                    told.append(await mark(e.id, f"round-{number}"))
                    if number % 2:
                        told.append(await mark(e.id, f"odd-{number}"))
                        continue
                    told.append(await mark(e.id, f"even-{number}"))
                told.append(await mark(e.id, "looped"))
                await refuse(e.id, "refused")
            except StepFailed as why:
                told.append(await mark(e.id, f"caught-{why.reason}"))
                raise
            finally:
                told.append(await mark(e.id, "inner-a"))
                told.append(await mark(e.id, "inner-b"))
        except StepFailed:
            told.append(await mark(e.id, "again"))
            told.append(await mark(e.id, "and-again"))
        else:
            told.append(await mark(e.id, "never"))
        finally:
            told.append(await mark(e.id, "middle-a"))
            told.append(await mark(e.id, "middle-b"))
    finally:
        told.append(await mark(e.id, "outer-a"))
        told.append(await mark(e.id, "outer-b"))
    await s.sleep("10ms")
    told.append(await mark(e.id, "last"))
    told.append(await mark(e.id, "very-last"))
    return Finished(id=e.id, told=tuple(told))


app = App("winding")
app.orchestrate(winding)
EXPECTED = [
    "first", "outer", "middle", "round-0", "even-0", "round-1", "odd-1", "round-2", "even-2", "looped", "caught-refused",
    "inner-a", "inner-b", "again", "and-again", "middle-a", "middle-b", "outer-a", "outer-b", "last", "very-last",
]  # fmt: skip
"""What it tells after three rounds."""
