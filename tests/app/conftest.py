from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory of its own: the default log lies below it, and no configuration above it counts."""
    (tmp_path / "pyproject.toml").write_text("")
    for name in ("CONTRAPAS_LOG", "CONTRAPAS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
