"""The house: what stands at the root, what the README promises, what the settings of the tools agree on."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import contrapas
from contrapas.cli.tree import NOUNS, VERBS

ROOT = Path(__file__).parents[2]
FOLDERS = {"engine", "sagas", "schemas", "connectors", "deploy", "tests", "benchmarks", ".ci"}
FILES = {
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "constraints.txt",
    "pyproject.toml",
}
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "sagas/order/README.md",
    "sagas/billing/README.md",
    "connectors/contrapas_kafka/README.md",
]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git here")
    return done.stdout.splitlines()


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```(?:console|sh)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ").split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("make", "contrapas ", ".venv/bin/contrapas "))]


def test_at_the_root_stands_what_is_expected_there_and_nothing_else() -> None:
    tops = {path.split("/")[0] for path in tracked()}
    assert tops <= FOLDERS | FILES
    assert tops >= FILES


def test_the_version_is_the_same_everywhere() -> None:
    assert SETTINGS["project"]["version"] == contrapas.__version__
    assert f"## {contrapas.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_tool_and_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    wanted = SETTINGS["project"]["dependencies"] + SETTINGS["dependency-groups"]["dev"]
    names = {re.split(r"[\[<>=~]", each)[0].lower() for each in wanted}
    assert sorted(names - pinned) == []
    assert all("==" in line for line in lines if line and not line.startswith("#"))


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for line in commands(page):
            if line.startswith("make"):
                words = [word for word in line.split()[1:] if "=" not in word]
                assert set(words) <= targets, f"{page}: {line}"


def test_every_command_that_a_page_names_exists() -> None:
    for page in PAGES:
        for line in commands(page):
            if "contrapas " in line:
                words = line.split("contrapas ", 1)[1].split()
                known = words[0] in VERBS or (words[0] in NOUNS and words[1] in NOUNS[words[0]][1])
                assert known or words[0].startswith("-"), f"{page}: {line}"


def test_what_the_readme_shows_is_what_lies_in_the_folder() -> None:
    page = (ROOT / "README.md").read_text()
    order = ROOT / "sagas" / "order"
    code, service, _test = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    machine, _story = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert code in (order / "saga.py").read_text()
    assert service in (ROOT / "sagas" / "checkout" / "service.py").read_text()
    assert machine == (order / "machine.txt").read_text()


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_decisions_are_numbered_pages_with_the_same_four_parts() -> None:
    pages = sorted((ROOT / "engine" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Motivation",
            "Decision",
            "Consequences",
            "Compatibility",
        ]


def test_every_import_package_says_that_it_is_typed() -> None:
    for package in SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert (ROOT / package / "py.typed").exists()


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("bench_*.py")), ids=lambda f: f.name)
def test_a_benchmark_finds_what_it_needs_wherever_it_is_started(file: Path, tmp_path: Path) -> None:
    """`make bench` runs each as a script; here it is loaded, not run."""
    code = f"import runpy; runpy.run_path({str(file)!r}, run_name='loaded')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
