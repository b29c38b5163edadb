"""How often a worker wakes that has nothing to do: counted on an event loop whose time is made up, so that no clock decides."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contrapas.runtime.clock import RealClock
from contrapas.runtime.engine import Engine
from tests.scenarios.clock_saga import app

SECONDS = 20


class Counting(selectors.DefaultSelector):
    """Waiting takes no time: what would have passed is added up, and each wait that would have been one is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waits = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is there already; else time passes."""
        found = super().select(0)
        if not found and timeout is None:
            return super().select(None)  # a thread has something to say
        if not found and timeout is not None and timeout > 0:
            self.waits += 1
            self.now += timeout
        return found


def counted(work: Callable[[Counting], Any]) -> None:
    """Run it on such a loop."""
    selector = Counting()

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return selector.now

    with asyncio.Runner(loop_factory=lambda: Loop(selector)) as runner:
        runner.run(work(selector))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_idle_worker_wakes_about_twenty_times_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    async def work(selector: Counting) -> None:
        def ms(clock: RealClock) -> float:
            return selector.now * 1000

        monkeypatch.setattr(RealClock, "ms", ms)
        url = f"sqlite:///{tmp_path}/idle.db"
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(workers):
                engine = await stack.enter_async_context(Engine.opened(app.definition(), url))
                await stack.enter_async_context(engine.working(100))
            await look(selector)

    async def look(selector: Counting) -> None:
        await asyncio.sleep(30)
        before, began = selector.waits, selector.now
        await asyncio.sleep(SECONDS)
        rates.append((selector.waits - before) / (selector.now - began))

    rates: list[float] = []
    counted(work)
    assert rates and rates[0] < 23, rates
