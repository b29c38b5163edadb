"""The table of refusals: each code of the compiler with the example of `contrapas explain`, its place and its message.

`refusals.txt` is that table; `pytest --rewrite` writes it anew. A place counts from the example's first line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrapas import codes
from contrapas.cli.examples import EXAMPLES, PRELUDE
from contrapas.cli.main import main
from contrapas.errors import CompileError, ContrapasError
from contrapas.runtime import find
from contrapas.runtime.build import compiled

TABLE = Path(__file__).with_name("refusals.txt")
CODES = [code for code in codes.table() if "CP100" <= code < "CP300"]
UNUSED = {
    "CP112": "every jump out of a loop in an await-free `with` can be taken: `with_return` in differential/cases_corners.py",
}
"""Codes that nothing produces, and why."""
PENDING = {"CP121"}
"""Of forms that come later; with an example they are held like all others."""
HEADER = PRELUDE.count("\n") + 1


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("refusal_"):
            del sys.modules[name]


def lines_of(code: str, here: Path) -> list[str]:
    """What an example is refused or warned with: `place kind code text | fix`."""
    shown = EXAMPLES[code].shown
    tail = "" if "app.o" in shown else "\napp.orchestrate(demo)\n"
    if EXAMPLES[code].kind == "python":
        shown, tail = f"from contrapas.author.event import message_spec\n{shown}", "\n"
    name = f"refusal_{code.lower()}"
    (here / f"{name}.py").write_text(f"{PRELUDE}\n{shown}{tail}", encoding="utf-8")
    try:
        built = compiled(find.app(f"{name}:app").definition())
    except CompileError as error:
        return [
            f"{one.line - HEADER}:{one.column} {'warning' if one.warning else 'error'} {one.code} {one.text} | {one.fix}"
            if one.file != "<string>"
            else f"{one.file}:{one.line}:{one.column} error {one.code} {one.text} | {one.fix}"
            for one in error.refusals
        ]
    except ContrapasError as error:
        found = re.fullmatch(r".*\.py:(\d+)(?::(\d+))?", error.place)
        place = f"{int(found[1]) - HEADER}:{found[2] or 1}" if found else "-"
        text = error.text.replace(str(here), "")
        return [f"{place} error {error.code} {text} | {error.fix}"]
    return [
        f"{one.line - HEADER}:{one.column} warning {one.code} {one.text} | {one.fix}"
        for one in built.warnings
    ]


def test_every_code_of_the_compiler_has_an_example() -> None:
    without = [c for c in CODES if c not in EXAMPLES and c not in UNUSED and c not in PENDING]
    assert without == []
    assert not UNUSED.keys() & EXAMPLES.keys()


def test_the_examples_are_refused_where_the_table_says_and_in_these_words(
    here: Path, request: pytest.FixtureRequest
) -> None:
    made: list[str] = []
    for code in CODES:
        if code in EXAMPLES:
            found = lines_of(code, here)
            assert [line.split(" ")[2] for line in found] == [code], found
            made += [re.sub(r"\bline (\d+)", lambda m: f"line {int(m[1]) - HEADER}", f"{code} {found[0]}")]
    text = "\n".join(made) + "\n"
    if request.config.getoption("--rewrite"):
        TABLE.write_text(text, encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == text, "pytest --rewrite, then read the diff"


def test_every_refusal_has_a_place_a_sentence_and_a_fix() -> None:
    rows = TABLE.read_text(encoding="utf-8").splitlines()
    for row in rows:
        code, place, kind, same, rest = row.split(" ", 4)
        text, _, fix = rest.partition(" | ")
        assert code == same
        assert kind == codes.table()[code].kind, row
        assert re.fullmatch(r"(<string>:)?\d+:\d+|-", place), row
        assert len(text) > 10 and len(fix) > 5, row
    placeless = {row.split(" ")[0] for row in rows if row.split(" ")[1] == "-"}
    assert placeless <= {"CP144", "CP208"}, "these two are about classes, not about a line of a saga"


@pytest.mark.parametrize("code", [c for c in CODES if c in EXAMPLES])
def test_explain_shows_the_example_that_is_refused(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code]) == 0
    out = capsys.readouterr().out
    entry = codes.table()[code]
    assert entry.title in out
    assert "fix" in out
    shown = [row.strip() for row in EXAMPLES[code].shown.strip("\n").split("\n")]
    told = [row.strip() for row in out.split("example", 1)[1].strip("\n").split("\n")]
    assert [row for row in told if row] == [row for row in shown if row]
