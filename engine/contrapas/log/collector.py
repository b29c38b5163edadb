"""Python's collector of cycles, kept out of loops that make a million small values and no cycle.

It looks at every value once and again as they survive, which is a quarter of the time of a takeover. What such a loop
drops is gone by itself; between two stretches of it the collector works as ever.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """For a stretch without an await: the collector does not look meanwhile. Where it was off already it stays off."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
