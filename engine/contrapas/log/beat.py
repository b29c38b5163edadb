"""The moments at which an idle process looks about: looks of several kinds share a wake-up, which costs more than they do."""

from __future__ import annotations

import asyncio
import math
from typing import Final

GRID_S: Final = 0.05


def next_beat(loop: asyncio.AbstractEventLoop, pause_s: float) -> float:
    """When to look again on the loop's clock: after about `pause_s`, at a moment where others look too; never later than
    asked for, and as asked for where that is less than the moments are apart."""
    at = loop.time() + pause_s
    if pause_s < GRID_S:
        return at
    return max(loop.time(), math.floor(at / GRID_S + 1e-6) * GRID_S)
