"""A thread beside the event loop that sees it stand still, and names the line that holds it.

One step that blocks stops every instance of its worker, and the loop itself can say nothing meanwhile: what is known
comes from outside. After a second the line is logged, and health is amber until a minute after; from thirty on it is red.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import sysconfig
import threading
import time
from collections import Counter
from types import FrameType
from typing import Final, NamedTuple

from contrapas.log.beat import next_beat

BEAT_S: Final = 0.5
BLOCKED_S: Final = 1.0
RED_S: Final = 30.0
REMEMBERED_S: Final = 60.0
_OWN: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARIES: Final = (_OWN, sysconfig.get_paths()["stdlib"], "<")
_logger = logging.getLogger("contrapas.runtime")


class Block(NamedTuple):
    """The loop stood still."""

    place: str
    """`claim.py:31 charge()`: the innermost line that is no library's."""
    seconds: float
    ended: float
    """Monotonic seconds; of one that goes on, now."""

    def words(self) -> str:
        """For health and logs."""
        return f"{self.place} holds the event loop for {self.seconds:.1f} s (CP842)"


class Watchdog:
    """Watches the loop it is started on."""

    def __init__(self, *, beat_s: float = BEAT_S, blocked_s: float = BLOCKED_S, red_s: float = RED_S) -> None:
        self.beat_s = beat_s
        self.blocked_s = blocked_s
        self.red_s = red_s
        self.worst: Block | None = None
        """The longest time within the last minute that the loop stood still, whether it is over or not."""
        self._beaten = time.monotonic()
        self._thread_id = 0
        self._end = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, from the loop's own thread."""
        self._thread_id = threading.get_ident()
        self._beat(asyncio.get_running_loop())
        threading.Thread(target=self._watch, name="contrapas-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._end.set()
        if self._timer is not None:
            self._timer.cancel()

    def colour(self) -> tuple[str, str]:
        """(`green`, `amber` or `red`, why)."""
        worst = self.worst
        if worst is None or time.monotonic() - worst.ended > REMEMBERED_S:
            return "green", ""
        return ("red" if worst.seconds >= self.red_s else "amber"), worst.words()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beaten = time.monotonic()
        self._timer = loop.call_at(next_beat(loop, self.beat_s), self._beat, loop)

    def _watch(self) -> None:
        said = told = 0.0
        seen: Counter[str] = Counter()
        while not self._end.wait(self.beat_s):
            beaten = self._beaten
            now = time.monotonic()
            seconds = now - beaten - self.beat_s
            if seconds < self.blocked_s:
                continue
            frame = sys._current_frames().get(self._thread_id)  # pyright: ignore[reportPrivateUsage]
            if frame is None or self._beaten != beaten:
                continue
            if said != beaten:
                seen.clear()
            seen[place_of(frame)] += (
                1  # the last look may find what comes after it: where it was seen most, it is
            )
            found, worst = Block(seen.most_common(1)[0][0], seconds, now), self.worst
            if worst is None or now - worst.ended > REMEMBERED_S or seconds >= worst.seconds:
                self.worst = found
            if said != beaten:
                said = beaten
                _logger.warning("amber: %s", found.words())
            if seconds >= self.red_s and told != beaten:
                told = beaten
                _logger.error("red: %s", found.words())


def place_of(frame: FrameType) -> str:
    """`file.py:line function()` of the innermost frame that is no library's; else of the innermost."""
    at: FrameType | None = frame
    while at is not None:
        path = at.f_code.co_filename
        if not path.startswith(_LIBRARIES) and "site-packages" not in path:
            break
        at = at.f_back
    found = at or frame
    return f"{os.path.basename(found.f_code.co_filename)}:{found.f_lineno} {found.f_code.co_qualname}()"
