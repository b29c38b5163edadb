"""Values that stand for what did not happen: `Timeout` where `within=` ran out, `Failed` for one item of many."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeout:
    """Nothing came within the time that `within=` gave. All timeouts are equal; `case Timeout():` matches them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An item that failed, where failures are collected instead of raised."""

    reason: str
    unknown: bool = False
    """It is not known whether it happened."""
