"""mypy and pyright are run over what must pass and over planted mistakes; the lines they report are compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]
GOOD = (
    "tests/typing/revealed.py",
    "tests/runtime/cart.py",
    "tests/runtime/hauling.py",
    "sagas/order/saga.py",
    "sagas/order/observed.py",
)
PLANTED = "tests/typing/mistakes/planted.py"

Report = dict[tuple[str, int], str]


def mypy(*files: str) -> Report:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.finditer(r"^(.+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return {(m[1], int(m[2])): m[3] for m in found}


def pyright(*files: str) -> Report:
    with TemporaryDirectory() as folder:
        settings = {  # paths in a configuration are relative to it
            "include": [os.path.relpath(ROOT / file, folder) for file in files],
            "extraPaths": [os.path.relpath(ROOT / place, folder) for place in ("engine", "schemas", ".")],
            "typeCheckingMode": "strict",
            "pythonVersion": "3.11",
        }
        (Path(folder) / "pyrightconfig.json").write_text(json.dumps(settings))
        done = subprocess.run(
            [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", folder],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] >= len(files)
    return {
        (str(Path(d["file"]).relative_to(ROOT)), d["range"]["start"]["line"] + 1): d["message"]
        for d in report["generalDiagnostics"]
        if d["severity"] == "error"
    }


CHECKERS = {"mypy": mypy, "pyright": pyright}


def planted(checker: str) -> set[int]:
    lines = (ROOT / PLANTED).read_text().splitlines()
    marks = (
        (number, re.search(r"# error: (both|mypy|pyright)$", line)) for number, line in enumerate(lines, 1)
    )
    return {number for number, mark in marks if mark and mark[1] in ("both", checker)}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_every_form_reveals_the_type_that_is_written_beside_it(checker: str) -> None:
    assert CHECKERS[checker](*GOOD) == {}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_every_planted_mistake_is_reported_and_nothing_else(checker: str) -> None:
    reported = CHECKERS[checker](PLANTED)
    lines = {line for file, line in reported if file == PLANTED}
    assert sorted(lines - planted(checker)) == [], reported
    assert sorted(planted(checker) - lines) == [], "not reported"
