"""Durations as people write them, for connectors, which see no author's module: `inbox="30d"`, `prune="off"`."""

from __future__ import annotations

from contrapas.author.duration import Duration, duration_ms

__all__ = ["Duration", "duration_ms", "every_ms"]


def every_ms(text: Duration, *, what: str) -> int:
    """Whole milliseconds between two times, 0 for `"off"`. DataError CP850 names `what` and the value."""
    return 0 if text == "off" else duration_ms(text, what=what)
