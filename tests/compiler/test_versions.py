"""Machines and records do not depend on the Python that made them, nor on the hash seed of its process (T5, T7).

Other Pythons are those of `CONTRAPAS_PYTHONS` (paths, separated by the path separator; each with the dependencies installed);
without it the tests that need one are skipped, and say so.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = Path(__file__).with_name("versions_main.py")
GOLDEN = Path(__file__).with_name("machines.txt")
OTHERS = [p for p in os.environ.get("CONTRAPAS_PYTHONS", "").split(os.pathsep) if p]
needs_another = pytest.mark.skipif(not OTHERS, reason="CONTRAPAS_PYTHONS names no other Python")


@functools.cache
def child(python: str, *arguments: str, seed: str = "random") -> str:
    """What the child prints."""
    done = subprocess.run(
        [python, str(MAIN), *arguments],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stderr, done.stderr[-3000:]
    return done.stdout


def fingerprints(lines: str) -> str:
    """Name, fingerprint and labels of the machines of a corpus that stays; those in `sagas/` have goldens of their own."""
    found: list[str] = []
    for line in lines.splitlines():
        head, _, data = line.partition(" {")
        machine = json.loads("{" + data)
        name = head.split(" ")[0]
        if name == "random" or name.startswith("case_"):
            labels = " ".join([s["label"] for s in machine["states"]])
            found.append(f"{head} {machine['graph']} {labels}".rstrip())
    return "\n".join(found) + "\n"


def test_the_machines_of_the_corpus_are_those_in_the_golden_file(request: pytest.FixtureRequest) -> None:
    made = fingerprints(child(sys.executable, "machines", seed="0"))
    if request.config.getoption("--rewrite"):
        GOLDEN.write_text(made, encoding="utf-8")
    assert GOLDEN.read_text(encoding="utf-8") == made, "pytest --rewrite, then read the diff"


def test_the_machines_are_the_same_under_every_hash_seed() -> None:
    assert child(sys.executable, "machines", seed="0") == child(sys.executable, "machines", seed="4711")


@pytest.mark.case(76, "other Python, equal fingerprints")
@needs_another
@pytest.mark.parametrize("python", OTHERS)
def test_another_python_makes_the_same_machines_byte_for_byte(python: str) -> None:
    assert child(python, "machines", seed="1") == child(sys.executable, "machines", seed="0")


def test_a_record_is_finished_by_another_process_as_by_its_own(tmp_path: Path) -> None:
    file = str(tmp_path / "records.jsonl")
    child(sys.executable, "write", file, seed="1")
    seen = json.loads(child(sys.executable, "finish", file, seed="2"))
    assert seen["differs"] == 0
    assert seen["resumed"] > 150


@needs_another
@pytest.mark.parametrize("python", OTHERS)
def test_a_record_of_one_python_is_finished_by_another_and_back(python: str, tmp_path: Path) -> None:
    for number, (writes, finishes) in enumerate(((sys.executable, python), (python, sys.executable))):
        file = str(tmp_path / f"records{number}.jsonl")
        child(writes, "write", file)
        seen = json.loads(child(finishes, "finish", file))
        assert seen["differs"] == 0
        assert seen["resumed"] > 150
