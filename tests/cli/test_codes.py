import re
from pathlib import Path

from contrapas import codes
from contrapas.cli import tree

ENGINE = Path(codes.__file__).parent
NO_FIX = {("instance", "lst"), ("store", "prepare")}
"""An example of a mistake, and the name of a lock."""


def test_every_code_has_a_title_and_a_kind_and_says_what_to_do() -> None:
    for name, entry in codes.table().items():
        assert re.fullmatch(r"CP\d{3}", name)
        assert entry.kind in ("error", "warning", "info"), name
        assert entry.title[0].isupper() or entry.title.startswith(
            ("await", "return", "yield", "async", "locals", "super", "undo", "s ", "point", "sagas")
        ), name
        assert entry.fix or entry.kind in ("info", "warning"), name


def test_every_code_in_the_source_is_in_the_table() -> None:
    for path in ENGINE.rglob("*.py"):
        for found in re.findall(r"\bCP\d{3}\b", path.read_text(encoding="utf-8")):
            assert found in codes.table() or found == "CP999", f"{path}: {found}"


def test_codes_imports_nothing() -> None:
    source = (ENGINE / "codes.py").read_text(encoding="utf-8")
    assert re.findall(r"^(?:import|from) .*$", source, re.MULTILINE) == ["from __future__ import annotations"]


def test_every_command_that_a_fix_names_is_in_the_tree() -> None:
    wrong: list[str] = []
    for path in [*ENGINE.rglob("*.py"), *(ENGINE.parents[1] / "connectors").rglob("*.py")]:
        source = path.read_text(encoding="utf-8")
        for noun, word in re.findall(r"\bcontrapas ([a-z]+) ([a-z-]+)", source):
            if (noun, word) in NO_FIX:
                continue
            if noun in tree.NOUNS and word not in tree.NOUNS[noun][1]:
                wrong.append(f"{path.name}: contrapas {noun} {word}")
    for entry in codes.table().values():
        for noun in re.findall(r"\bcontrapas ([a-z]+)\b", entry.fix):
            if noun not in tree.NOUNS and noun not in tree.VERBS:
                wrong.append(f"{entry.code}: contrapas {noun}")
    assert wrong == []
