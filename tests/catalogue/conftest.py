from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.catalogue.shell import Cli


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`contrapas` in an empty folder."""
    for name in list(os.environ):
        if name.startswith("CONTRAPAS_"):
            monkeypatch.delenv(name)
    (tmp_path / "pyproject.toml").write_text("")
    return Cli(tmp_path)
