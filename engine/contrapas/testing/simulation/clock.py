"""A worker's clocks: a monotonic one that goes a little wrong, and a wall clock that jumps and that nobody may believe."""

from __future__ import annotations

from collections.abc import Callable

from contrapas.runtime.clock import Handle
from contrapas.testing.simulation.universe import Universe


class WorkerClock:
    """`runtime.clock.Clock` over virtual time."""

    def __init__(self, universe: Universe, *, ahead_ms: int = 0) -> None:
        self._u = universe
        self._began = universe.now
        self.wall_ahead_ms = ahead_ms

    def ms(self) -> float:
        """Monotonic ms since this process began."""
        return self._u.now - self._began

    def wall_ms(self) -> int:
        """What the process would take for the time of day."""
        return self._u.now + self.wall_ahead_ms

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Handle:
        """Call back once."""
        call = _Call(callback)
        self._u.at(max(0, int(delay_ms)), call.ring)
        return call


class _Call:
    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def ring(self) -> None:
        if self._callback is not None:
            self._callback()
