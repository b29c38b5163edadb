import re
from pathlib import Path

from contrapas import codes

ENGINE = Path(codes.__file__).parent


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
