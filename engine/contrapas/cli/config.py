"""Configuration for the command line: `runtime.settings`, with its mistakes as wrong usage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrapas.cli.exits import Usage
from contrapas.errors import Refused
from contrapas.runtime import settings
from contrapas.runtime.settings import KEYS, TOPIC_KEYS, Settings, Value

__all__ = ["KEYS", "TOPIC_KEYS", "Settings", "Value", "load"]


def load(
    flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Settings:
    """Merge flag, environment and file; Usage CP801 lists every mistake with its source."""
    try:
        return settings.load(flags, env, cwd)
    except Refused as wrong:
        raise Usage(wrong.code, wrong.text, fix=wrong.fix) from None
