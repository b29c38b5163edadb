"""Collecting garbage rarely in a process that is ours: what comes and goes with a batch holds no cycles.

To look for cycles among the records of a batch and everything that was imported and compiled costs a worker a tenth of its
time. Only a process of our own is told so: in one that embeds the engine the collector is its owner's.
"""

from __future__ import annotations

import gc
from typing import Final

USUAL: Final = 2_000
"""Whoever has set a higher threshold meant it."""


def calm(young: int, middle: int, old: int) -> None:
    """Let what is there now be, and look at the rest so seldom. young: new objects; middle, old: looks at the younger."""
    gc.collect()
    gc.freeze()
    if gc.get_threshold()[0] <= USUAL:
        gc.set_threshold(young, middle, old)
