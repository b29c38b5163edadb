"""Sagas with maps, and steps that note when they run and under which key."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from contrapas.app import App
from contrapas.author.event import Command, Event
from contrapas.author.retry import Retry
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.author.timeout import Failed
from contrapas.errors import StepFailed
from contrapas.runtime.steps import idempotency_key


class Wanted(Event, topic="map.events", key="id"):
    id: str
    items: list[int]


class Mapped(Event, topic="map.events", key="id"):
    id: str
    results: list[int]
    failed: list[str] = []


class Nudge(Event, topic="map.events", key="id"):
    id: str


class Erased(Event, topic="erase.events", key="id"):
    id: str


class Erase(Command[Erased], topic="erase.commands", key="id"):
    id: str
    what: int


RAN: list[tuple[int, str]] = []
UNDONE: list[int] = []
NOW = [0]
MOST = [0]
GATES: dict[int, asyncio.Event] = {}
BROKEN: dict[int, list[BaseException]] = {}
"""What the next attempts of an item raise."""


def reset() -> None:
    """Before each test."""
    RAN.clear()
    UNDONE.clear()
    GATES.clear()
    BROKEN.clear()
    NOW[0] = MOST[0] = 0


async def _work(x: int) -> int:
    RAN.append((x, idempotency_key()))
    NOW[0] += 1
    MOST[0] = max(MOST[0], NOW[0])
    try:
        await asyncio.sleep(0)
        if x in GATES:
            await GATES[x].wait()
        if BROKEN.get(x):
            raise BROKEN[x].pop(0)
        return 10 * x
    finally:
        NOW[0] -= 1


@step(undo=None, retry=Retry(3, backoff="1s"))
async def work(x: int) -> int:
    return await _work(x)


@step(undo=None)
async def erase(x: int) -> None:
    UNDONE.append(x)


@step(undo=lambda made: erase(made), retry=None)
async def make(x: int) -> int:
    return await _work(x)


@step(undo=None)
def plain(x: int) -> int:
    RAN.append((x, idempotency_key()))
    return 10 * x


@step(undo=None)
async def instant(x: int) -> int:
    RAN.append((x, idempotency_key()))
    return 10 * x


@saga
async def quick(s: Saga, e: Wanted) -> Mapped:
    return Mapped(id=e.id, results=await s.map(instant, e.items, concurrency=3))


@saga
async def beside(s: Saga, e: Wanted) -> Mapped:
    many = s.begin(s.map(work, e.items, concurrency=2))
    nudge = s.begin(s.wait(Nudge))
    done = await s.next(many, nudge)
    if done == nudge:
        many.cancel()
        return Mapped(id=e.id, results=[], failed=["nudged"])
    nudge.cancel()
    return Mapped(id=e.id, results=await many)


KINDS: Final = {"work": work, "instant": instant}


class Chosen(Event, topic="map.events", key="id"):
    id: str
    kinds: list[str]


@saga
async def choosing(s: Saga, e: Chosen) -> Mapped:
    results: list[int] = []
    for at, kind in enumerate(e.kinds):
        results.append(await KINDS[kind](at))
    return Mapped(id=e.id, results=results)


@saga
async def each(s: Saga, e: Wanted) -> Mapped:
    results = await s.map(work, e.items)
    return Mapped(id=e.id, results=results)


@saga
async def threads(s: Saga, e: Wanted) -> Mapped:
    return Mapped(id=e.id, results=await s.map(plain, e.items))


@saga
async def few(s: Saga, e: Wanted) -> Mapped:
    results = await s.map(work, e.items, concurrency=3)
    return Mapped(id=e.id, results=results)


@saga
async def slowly(s: Saga, e: Wanted) -> Mapped:
    results = await s.map(work, e.items, rate="10/s")
    return Mapped(id=e.id, results=results)


@saga
async def collected(s: Saga, e: Wanted) -> Mapped:
    results = await s.map(work, e.items, on_error="collect", concurrency=4)
    good = [r for r in results if not isinstance(r, Failed)]
    bad = [f"{at}: {r.reason} {r.unknown}" for at, r in enumerate(results) if isinstance(r, Failed)]
    return Mapped(id=e.id, results=good, failed=bad)


@saga
async def both(s: Saga, e: Wanted) -> Mapped:
    left, right = await s.all(s.map(work, e.items), s.map(make, e.items, on_error="collect"))
    return Mapped(id=e.id, results=[*left, *[r for r in right if not isinstance(r, Failed)]])


@saga
async def listened(s: Saga, e: Wanted) -> Mapped:
    results = await s.map(work, e.items)
    nudge = await s.wait(Nudge, within="1h")
    return Mapped(id=e.id, results=results, failed=[type(nudge).__name__])


@saga
async def made(s: Saga, e: Wanted) -> Mapped:
    results = await s.map(make, e.items)
    await s.wait(Nudge, within="1h")
    if len(results) > 1:
        raise StepFailed("too many")
    return Mapped(id=e.id, results=results)


@saga
async def taken(s: Saga, e: Wanted) -> Mapped:
    tag = 100
    results = await s.map(work, e.items, on_error="collect", undo=lambda made: erase(made + tag))
    tag = 1000
    await s.wait(Nudge, within="1h")
    raise StepFailed(f"{tag}: {len(results)}")


@saga
async def by_command(s: Saga, e: Wanted) -> Mapped:
    await s.map(work, e.items, undo=lambda made: Erase(id=e.id, what=made))
    raise StepFailed("after all")


@saga(deadline="20s")
async def hurried(s: Saga, e: Wanted) -> Mapped:
    return Mapped(id=e.id, results=await s.map(make, e.items))


@saga
async def limited(s: Saga, e: Wanted) -> Mapped:
    try:
        results = await s.step(s.map(work, e.items), within="10s")
    except StepFailed as why:
        return Mapped(id=e.id, results=[], failed=[why.reason, str(why.unknown)])
    return Mapped(id=e.id, results=results)


@saga
async def buggy(s: Saga, e: Wanted) -> Mapped:
    results = await s.map(work, e.items)
    if BROKEN:
        raise ValueError("a bug")
    return Mapped(id=e.id, results=results)


ALL: list[Any] = [
    taken, by_command,
    each, threads, few, slowly, collected, both, listened, made, hurried, limited, buggy, quick, choosing, beside,
]  # fmt: skip
app = App("m")
app.orchestrate(*ALL)
