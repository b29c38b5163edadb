"""What `doctor` says of a schema registry: one that does not answer, one that refuses us, one that an app does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.test_schemas import APP, schema
from tests.registry import registry


def doctor(folder: Path, url: str, *words: str, more: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "desk.py").write_text(APP.format(more=more))
    return subprocess.run(
        [sys.executable, "-m", "contrapas", "doctor", *words],
        cwd=folder,
        env={"CONTRAPAS_REGISTRY": url, "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_registry_that_does_not_answer_is_a_finding_with_its_remedy(tmp_path: Path) -> None:
    said = doctor(tmp_path, "http://127.0.0.1:1")
    assert said.returncode == 4, said.stderr
    line = next(line for line in said.stdout.splitlines() if "CP525" in line)
    assert line.startswith("✗ the schema registry http://127.0.0.1:1 does not answer")
    assert "fix  correct registry, registry_auth or registry_ca" in said.stdout


def test_a_registry_that_refuses_the_credentials_is_a_finding(tmp_path: Path) -> None:
    with registry() as found:
        found.authorization = "Basic nobody"
        said = doctor(tmp_path, found.url)
    assert said.returncode == 4 and "refuses the credentials (401)" in said.stdout


def test_what_an_app_writes_is_judged_against_what_is_registered(tmp_path: Path) -> None:
    with registry() as found:
        said = doctor(tmp_path, found.url, "desk.py:app")
        assert said.returncode == 0 and "CP606" not in said.stdout, said.stdout  # it may write JSON
        assert schema(tmp_path, found.url, "publish", "--apply").returncode == 0
        said = doctor(tmp_path, found.url, "desk.py:app")
        assert said.returncode == 0 and "CP606" not in said.stdout
        said = doctor(tmp_path, found.url, "desk.py:app", more="\n    note: str | None = None")
        assert said.returncode == 0
        assert "! desk.events-Opened: the app's schema is newer than what is registered" in said.stdout
        assert "fix  contrapas schema publish desk.py:app --apply" in said.stdout
        said = doctor(tmp_path, found.url, "desk.py:app", more="\n    new: str")
        assert said.returncode == 4
        assert "✗ desk.events-Opened: the app's schema breaks a registered version" in said.stdout
        assert "fix  contrapas schema check desk.py:app" in said.stdout
