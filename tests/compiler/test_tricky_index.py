"""Every tricky case of the compiler has a test that carries its number: `pytest --case 30` runs those of one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.compiler.differential.cases_corners import CORNERS

TESTS = Path(__file__).resolve().parent.parent
LAST = 98


def marked() -> Iterator[tuple[int, str]]:
    """(number, words) of every `@pytest.mark.case`, read from the files."""
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="case", value=ast.Attribute(attr="mark")),
                    args=[ast.Constant(value=int(number)), ast.Constant(value=str(words))],
                ):
                    yield number, words
                case _:
                    pass


def compared() -> set[int]:
    """Numbers in the names of hand-written sagas: `case_52_53_values`, `case_62_to_64_joins`."""
    found: set[int] = set()
    for saga, _ in CORNERS:
        found |= {int(n) for n in re.findall(r"\d+", saga.name.split("_", 1)[1])}
    return found


def test_every_number_has_a_test() -> None:
    there = {number for number, _ in marked()} | compared()
    assert [n for n in range(1, LAST + 1) if n not in there] == []
    assert max(there) <= LAST


def test_what_the_core_decides_has_a_test_of_the_core_besides_the_comparison_of_both_forms() -> None:
    there = {number for number, _ in marked()}
    assert [
        n for n in (*range(59, 67), *range(68, 74), 76, *range(81, 86), *range(87, 99)) if n not in there
    ] == []


def test_a_number_always_carries_the_same_words() -> None:
    words: dict[int, set[str]] = {}
    for number, text in marked():
        words.setdefault(number, set()).add(text)
    assert {n: w for n, w in words.items() if len(w) > 1} == {}
