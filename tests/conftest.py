"""Golden files: `pytest --rewrite` writes them anew, and git shows what changed."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", default=False, help="write golden files anew")
