"""What an examination of a log, a database or an environment found; `contrapas.log` and `.participant` re-export it."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """What `doctor` or `log verify` found."""

    refused: bool
    """The engine does not start on it; else a warning."""
    code: str
    text: str
    fix: str = ""
    place: str = ""
