"""Time as the runtime sees it: a monotonic clock, and from it a lower bound of the log's own clock.

No wall clock is read. A record seen with log timestamp `t` at monotonic time `m` proves that the log's clock is now at
least `t + (now - m)`; the largest such bound counts, so a jump of any clock does nothing but delay.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    """Something that can be called off."""

    def cancel(self) -> None:
        """Do not call back."""
        ...


class Clock(Protocol):
    """What the shell takes time from; a test gives one that jumps."""

    def ms(self) -> float:
        """Monotonic milliseconds."""
        ...

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Handle:
        """Call back once, after `delay_ms`."""
        ...


class RealClock:
    """The machine's monotonic clock and the running event loop."""

    def ms(self) -> float:
        return time.monotonic() * 1000

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Handle:
        return asyncio.get_running_loop().call_later(max(delay_ms, 0) / 1000, callback)


async def pause(clock: Clock, delay_ms: float) -> None:
    """Sleep on that clock."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    handle = clock.call_later(delay_ms, lambda: None if done.done() else done.set_result(None))
    try:
        await done
    finally:
        handle.cancel()


class LogClock:
    """A lower bound of the log's clock, from what was read or acknowledged."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: float | None = None
        """log time minus monotonic time, at least."""

    def saw(self, timestamp_ms: int) -> None:
        """A record with this timestamp exists now."""
        ahead = timestamp_ms - self._clock.ms()
        if self._ahead is None or ahead > self._ahead:
            self._ahead = ahead

    def now(self) -> int:
        """ms of log time, at least; 0 before anything was seen."""
        return 0 if self._ahead is None else int(self._clock.ms() + self._ahead)

    def until(self, at_ms: int) -> float:
        """ms to wait until `at_ms` is surely reached; a second while nothing was seen yet."""
        return 1000.0 if self._ahead is None else max(0.0, at_ms - self._ahead - self._clock.ms())


class JumpClock:
    """A clock that stands until `advance` moves it; timers due on the way ring in order. For tests and simulators.

    Called, it gives whole milliseconds, as an in-memory log wants its clock.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now = float(now_ms)
        self._timers: list[tuple[float, int, _Jump]] = []
        self._count = 0

    def __call__(self) -> int:
        return int(self._now)

    def ms(self) -> float:
        return self._now

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Handle:
        handle = _Jump(callback)
        self._count += 1
        heapq.heappush(self._timers, (self._now + max(delay_ms, 0.0), self._count, handle))
        return handle

    def advance(self, ms: float) -> None:
        """Let time pass."""
        end = self._now + ms
        while self._timers and self._timers[0][0] <= end:
            at, _, handle = heapq.heappop(self._timers)
            self._now = max(self._now, at)
            handle.ring()
        self._now = end

    def next_ms(self) -> float | None:
        """ms until the next timer rings; None: there is none."""
        while self._timers and self._timers[0][2].off:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self._now) if self._timers else None


class _Jump:
    __slots__ = ("callback", "off")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.off = False

    def cancel(self) -> None:
        self.off = True

    def ring(self) -> None:
        if not self.off:
            self.off = True
            self.callback()
