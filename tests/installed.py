"""What a test needs of this machine, and what becomes of it where that is missing."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import NoReturn

import pytest

__all__ = ["connector_listed", "missing"]


def missing(why: str) -> NoReturn:
    """Skip, or fail where everything must run."""
    if os.environ.get("CI"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def connector_listed(name: str) -> None:
    """Go on where commands find a connector by the scheme of an address."""
    if not list(entry_points(group="contrapas.connectors", name=name)):
        missing("this installation does not list its connectors: make setup")
