"""Durations as people write them, for connectors, which see no author's module: `inbox="30d"`."""

from __future__ import annotations

from contrapas.author.duration import Duration, duration_ms

__all__ = ["Duration", "duration_ms"]
