"""A process whose wall clock is so many milliseconds ahead as a file says at the moment; its monotonic clock is the machine's."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def skew(path: str) -> None:
    """Put everything that tells the time of day ahead, the times of files included."""
    real_ns, real_utime = time.time_ns, os.utime

    def shifted_ns() -> int:
        return real_ns() + int(Path(path).read_text()) * 1_000_000

    def shifted() -> float:
        return shifted_ns() / 1e9

    def utime(file: Any, *args: Any, **more: Any) -> None:
        if not args and not more:
            more = {"ns": (shifted_ns(), shifted_ns())}
        real_utime(file, *args, **more)

    for module, name, instead in (
        (time, "time_ns", shifted_ns),
        (time, "time", shifted),
        (os, "utime", utime),
    ):
        setattr(module, name, instead)
