"""Collecting what is refused: every problem of a function, with its line, its column and what to write instead."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from contrapas.machine import Refusal


@dataclass(slots=True)
class Refusals:
    """Refusals and warnings about one function, in the order in which they were found."""

    file: str
    lines: tuple[str, ...]
    found: list[Refusal] = field(default_factory=list[Refusal])

    def add(self, node: ast.AST, code: str, text: str, fix: str, *, warning: bool = False) -> None:
        """Refuse `node`; the same code at the same place is said once."""
        line = getattr(node, "lineno", 1)
        column = getattr(node, "col_offset", 0)
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        # `col_offset` counts UTF-8 bytes, editors count characters.
        column = len(source.encode()[:column].decode(errors="replace"))
        refusal = Refusal(
            code=code,
            text=text,
            fix=fix,
            file=self.file,
            line=line,
            column=column + 1,
            source=source,
            warning=warning,
        )
        if all((r.code, r.line, r.column) != (code, refusal.line, refusal.column) for r in self.found):
            self.found.append(refusal)

    @property
    def fatal(self) -> bool:
        """Whether something is refused, not only warned about."""
        return any(not r.warning for r in self.found)

    def in_order(self) -> list[Refusal]:
        """By place."""
        return sorted(self.found, key=lambda r: (r.file, r.line, r.column, r.code))
