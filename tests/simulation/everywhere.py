"""The same code in processes that hash text differently, and in other Pythons."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["told_everywhere"]

HOUSE: Final = Path(__file__).resolve().parents[2]
OURS: Final = os.pathsep.join(str(HOUSE / folder) for folder in ("", "engine", "schemas", "connectors"))
"""Where another Python finds what is ours, and nothing else: the packages of one are not those of another."""


def told_everywhere(code: str) -> set[str]:
    """What it prints, each text once, under two hash seeds and in the Pythons of `CONTRAPAS_PYTHONS`."""
    others = [p for p in os.environ.get("CONTRAPAS_PYTHONS", "").split(os.pathsep) if p]
    told: set[str] = set()
    for seed, python in (("1", sys.executable), *(("2", p) for p in [sys.executable, *others])):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": OURS}
        done = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, check=True)
        told.add(done.stdout)
    return told
