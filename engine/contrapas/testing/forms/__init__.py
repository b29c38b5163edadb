"""Further forms of random programs (T3): each module of this package adds its own with `@number` and `@statement`.

    from contrapas.testing.forms import number, words

    @number
    def begun(p: Programs, depth: int) -> str:
        return f"(await s.begin(num({p.still(depth)})))"

    words(limit=limit)          # names that the texts use

`@number`: an awaiting expression of type int. `@statement`: lines. Both are asked for only where an await may stand
(`p.awaits`). `@head`: options of `@saga` and the annotation of `main`'s first parameter, for some programs. A writer calls the methods of `differential_programs.Programs` for what stands inside its form; how an
operation of a new kind ends is the script's and the two runners' (`testing.native`, `testing.differential`).
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

Writer = Callable[[Any, int], Any]
"""(the program being written, how deep the form may nest) -> its text, or its lines."""

NUMBERS: list[Writer] = []
STATEMENTS: list[Writer] = []
HEADS: list[Callable[[Any], tuple[str, str]]] = []
WORDS: dict[str, Any] = {}


def number(writer: Writer) -> Writer:
    """An expression that awaits and gives a number."""
    NUMBERS.append(writer)
    return writer


def statement(writer: Writer) -> Writer:
    """Statements that await."""
    STATEMENTS.append(writer)
    return writer


def head(writer: Callable[[Any], tuple[str, str]]) -> Callable[[Any], tuple[str, str]]:
    """How `main` begins: (options of `@saga`, annotation of its first parameter)."""
    HEADS.append(writer)
    return writer


def of(writers: list[Writer], focus: str) -> list[Writer]:
    """Those of one module; all, for no name."""
    return [w for w in writers if not focus or w.__module__.rpartition(".")[2] == focus]


def words(**more: Any) -> None:
    """Names that programs can use."""
    WORDS.update(more)


@functools.cache
def loaded() -> None:
    """Import every module of this package, in the order of their names."""
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
