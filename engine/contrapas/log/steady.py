"""The time of a log that a machine's clock gives: where that clock is put back, the log's goes on from where it was.

An owner reckons the log's time from stamps it has seen and its monotonic clock (`runtime/clock.py`). Were the stamps to
stand still until a clock that was put back catches up, the next owner would reckon from an old stamp, and its timers
would be late by as long as the log had stood still.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from contrapas.log.memory_store import wall_ms

LAST_MS: Final = 253_402_300_800_000
"""The end of the year 9999."""
BOOT: Final = "/proc/sys/kernel/random/boot_id"


class Steady:
    """Milliseconds that never go back and never stand still.

    wall: the machine's clock. since: its monotonic one, which all processes of one boot share.
    """

    __slots__ = ("_since", "_wall", "ahead")

    def __init__(
        self,
        wall: Callable[[], int] = wall_ms,
        since: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        self._wall = wall
        self._since = since
        self.ahead = wall() - since()
        """The log's time minus the monotonic one, at least, in ms."""

    def __call__(self) -> int:
        since = self._since()
        self.ahead = max(self.ahead, self._wall() - since)
        return since + self.ahead

    def saw(self, timestamp_ms: int) -> None:
        """A record with this stamp exists now."""
        self.ahead = max(self.ahead, timestamp_ms - self._since())

    def knew(self, ahead_ms: int) -> None:
        """Another process of this boot reckoned with so much; what no clock can say is left."""
        if 0 < self._since() + ahead_ms < LAST_MS:
            self.ahead = max(self.ahead, ahead_ms)


def boot_id() -> str:
    """What tells this boot of the machine from others; empty where nothing does."""
    try:
        with open(BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
