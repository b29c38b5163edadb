"""A saga that sleeps and then notes, by the clock that nobody can set, when it woke."""

from __future__ import annotations

import os
import time

from contrapas import App, Event, Saga, saga, step


class NapAsked(Event, key="id"):
    id: str
    ms: int


class Napped(Event, key="id"):
    id: str


@step(undo=None)
def woke(ident: str) -> None:
    with open(os.environ["WOKE"], "ab", buffering=0) as file:
        file.write(b"%d %s\n" % (time.monotonic_ns() // 1_000_000, ident.encode()))


@saga
async def nap(s: Saga, e: NapAsked) -> Napped:
    await s.sleep("2s" if e.ms == 2_000 else "1s")
    await woke(e.id)
    return Napped(id=e.id)


app = App("clocks")
app.orchestrate(nap)
