"""A saga whose step does what it is told, the worst included, and its neighbours, who tell how long they took."""

from __future__ import annotations

import asyncio
import time

from contrapas import App, Event, Retry, Saga, saga, step

ONCE = Retry(1)
HANG_S = 120.0


class Told(Event, key="id"):
    id: str
    what: str


class Did(Event, key="id"):
    id: str


class Asked(Event, key="id"):
    id: str


class Answered(Event, key="id"):
    id: str


@step(undo=None, retry=ONCE, timeout="2s")
async def bad(what: str) -> str:
    if what == "raises":
        raise RuntimeError("poison")
    if what == "hangs":
        await asyncio.sleep(HANG_S)
    if what == "returns 10 MB":
        return "x" * 10_000_000
    if what == "blocks the loop":
        time.sleep(1.5)  # noqa: ASYNC251  that is the poison
    return "well"


@step(undo=None, retry=ONCE, timeout="1m")
def heavy(megabytes: int) -> int:
    return len([bytearray(1 << 20) for _ in range(megabytes)])


@step(undo=None)
async def good(number: int) -> int:
    return number + 1


@saga
async def poison(s: Saga, e: Told) -> Did:
    if e.what == "allocates 2 GB":
        await s.step(heavy(2_048))
    else:
        await s.step(bad(e.what))
    return Did(id=e.id)


@saga
async def neighbour(s: Saga, e: Asked) -> Answered:
    number = 0
    for _ in range(3):
        number = await s.step(good(number))
    return Answered(id=e.id)


app = App("poison")
app.orchestrate(poison, neighbour)
