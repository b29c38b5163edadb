"""The sagas of `bench_load.py`: one that sleeps, one that counts what it is told, one that waits for good, one that steps."""

from __future__ import annotations

from datetime import datetime

from contrapas import App, Event, Saga, saga, step


class NapAsked(Event, key="id"):
    id: str
    until: datetime


class Napped(Event, key="id"):
    id: str


class CountAsked(Event, key="id"):
    id: str


class Tick(Event, key="id"):
    id: str
    number: int


class Counted(Event, key="id"):
    id: str
    total: int


class WaitAsked(Event, key="id"):
    id: str


class Go(Event, key="id"):
    id: str


class Gone(Event, key="id"):
    id: str


class WalkAsked(Event, key="id"):
    id: str


class Walked(Event, key="id"):
    id: str
    steps: int


@step(undo=None)
async def noop(number: int) -> int:
    return number


@saga
async def nap(s: Saga, e: NapAsked) -> Napped:
    await s.sleep(until=e.until)
    return Napped(id=e.id)


@saga
async def count(s: Saga, e: CountAsked) -> Counted:
    total = 0
    while True:
        tick = await s.wait(Tick)
        if tick.number < 0:
            break
        total += 1
    return Counted(id=e.id, total=total)


@saga
async def wait(s: Saga, e: WaitAsked) -> Gone:
    await s.wait(Go)
    return Gone(id=e.id)


@saga
async def walk(s: Saga, e: WalkAsked) -> Walked:
    total = 0
    for number in range(5):
        total += await noop(number)
    return Walked(id=e.id, steps=total)


app = App("load")
app.orchestrate(nap, count, wait, walk)
