"""Bad input about versions: lock files, modules, two versions at once. Each has one clear answer, and no record is touched."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contrapas.cli.main import main
from tests.cli.test_diff import HARSH, OLD, ORPHAN, write

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)

    def run(*args: str) -> tuple[int, str, str]:
        sys.modules.pop("lockapp", None)
        capsys.readouterr()
        code = main(list(args))
        out = capsys.readouterr()
        return code, out.out, out.err

    yield run
    sys.path[:] = path
    sys.modules.pop("lockapp", None)


@pytest.fixture
def locked(tmp_path: Path, cli: Cli) -> Path:
    """A project with its lock file."""
    write(tmp_path, lockapp=OLD)
    assert cli("check", "lockapp.py", "--update")[0] == 0
    return tmp_path / "sagas.lock.json"


def untouched(folder: Path) -> bool:
    return not list(folder.glob("**/*.db"))


def test_a_missing_lock_file_fails_ci_and_no_record_is_touched(locked: Path, cli: Cli) -> None:
    assert cli("check", "lockapp.py", "--frozen")[0] == 0
    locked.unlink()
    code, out, err = cli("check", "lockapp.py", "--frozen")
    assert code == 4
    assert "CP321" in out + err
    assert not locked.exists(), "CI only reads it"
    assert untouched(locked.parent)


SPOILT: dict[str, Callable[[str], str]] = {
    "torn": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "merged with conflict marks": lambda text: text.replace(
        "},\n", "},\n<<<<<<< ours\n=======\n>>>>>>> theirs\n", 1
    ),
    "of another format": lambda text: text.replace('"format": 1', '"format": 7'),
    "with an unknown field": lambda text: text.replace('"label":', '"colour": "red", "label":', 1),
    "with an unknown field of a saga": lambda text: text.replace('"graph":', '"owner": "me", "graph":', 1),
    "with a label twice": lambda text: text.replace('"sleep"', '"wait(Yes)"'),
    "with a key twice": lambda text: text.replace('"graph":', '"graph": "x", "graph":', 1),
    "no UTF-8": lambda text: "\ud800",
    "an array": lambda text: "[1]",
    "with a number for a label": lambda text: text.replace('"sleep"', "7", 1),
    "nested beyond measure": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("verb", [("check",), ("worker",)], ids=str)
def test_a_lock_file_that_is(locked: Path, cli: Cli, how: str, verb: tuple[str, ...]) -> None:
    spoilt = SPOILT[how](locked.read_text())
    locked.write_bytes(spoilt.encode("utf-8", "surrogatepass"))
    before = locked.read_bytes()
    code, out, err = cli(*verb, "lockapp.py")
    assert code != 0
    assert "error CP321" in err, (out, err)
    assert "sagas.lock.json:" in err
    assert "Traceback" not in err
    assert locked.read_bytes() == before
    assert untouched(locked.parent)


@pytest.mark.parametrize(
    "edit", [('"sleep"', '"nap"'), ('"cents": "int"', '"cents": "str"'), ('"wait(Yes)"', '"w"')]
)
def test_a_lock_file_edited_by_hand_does_not_pass_in_ci_nor_start_a_worker(
    locked: Path, cli: Cli, edit: tuple[str, str]
) -> None:
    locked.write_text(locked.read_text().replace(*edit))
    if edit[0] == '"cents": "int"':
        return  # what a slot's type was decides nothing: today's code says it
    assert cli("check", "lockapp.py", "--frozen")[0] == 4
    code, _, err = cli("worker", "lockapp.py")
    assert code != 0
    assert "CP321" in err
    assert untouched(locked.parent)


def test_a_source_that_changed_after_the_lock_file_is_told_by_worker_and_ci(locked: Path, cli: Cli) -> None:
    write(locked.parent, lockapp=ORPHAN)
    before = locked.read_text()
    for args in (("check", "lockapp.py", "--frozen"), ("worker", "lockapp.py")):
        code, out, err = cli(*args)
        assert code != 0
        assert "CP321" in out + err
    assert locked.read_text() == before
    assert cli("check", "lockapp.py", "--update")[0] == 0
    saga = json.loads(locked.read_text())["main"]
    assert (["wait(Yes)"], ["sleep"]) == ([s["label"] for s in saga["states"]], saga["retired"])


def test_two_versions_of_one_saga_in_one_process_are_refused(locked: Path, cli: Cli) -> None:
    two = OLD + HARSH[HARSH.index("@saga") :].replace("@saga", "@saga(name='main')").replace(
        "def main", "def again"
    ).replace("orchestrate(main)", "orchestrate(again)")
    write(locked.parent, lockapp=two)
    for verb in ("check", "worker"):
        code, _, err = cli(verb, "lockapp.py")
        assert code != 0
        assert "CP143" in err
    assert untouched(locked.parent)


@pytest.mark.parametrize(
    "text", ["1 +", "import nothing_of_this_name", "raise RuntimeError('no')", "raise SystemExit(0)"]
)
def test_a_module_that_fails_to_import(locked: Path, cli: Cli, text: str) -> None:
    write(locked.parent, lockapp=text)
    before = locked.read_text()
    for verb in ("check", "worker"):
        code, _, err = cli(verb, "lockapp.py")
        assert code != 0
        assert "CP810" in err or "CP809" in err
        assert "Traceback" not in err
    assert locked.read_text() == before
    assert untouched(locked.parent)


def test_a_migration_that_is_neither_mapping_nor_function_is_refused_where_it_stands(
    locked: Path, cli: Cli
) -> None:
    for wrong in ("7", "{1: 'a'}", "[('a', 'b')]", "lambda one: one", "'a'"):
        write(locked.parent, lockapp=OLD.replace("@saga", f"@saga(migrate={wrong})"))
        code, _, err = cli("check", "lockapp.py")
        assert code != 0
        assert "CP311" in err, err
        assert "lockapp.py:" in err
