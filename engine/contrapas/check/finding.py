"""A finding: what the checker says, where, how it comes to that, and what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

_ALLOW = re.compile(r"#\s*allow\s+(CP\d{3}(?:\s*,\s*CP\d{3})*)\s*:\s*(\S.*?)\s*$")


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One line of a story."""

    what: str
    """A state, an undo, or how it ended."""
    how: str
    line: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding in one saga."""

    code: str
    severity: str
    """`error`, `warning` or `information`."""
    saga: str
    text: str
    fix: str
    file: str
    line: int
    column: int
    """From 1."""
    source: str = ""
    """The line itself, for the caret."""
    hint: str = ""
    """Words beside the caret."""
    story: tuple[StoryLine, ...] = ()
    """The shortest way there; empty: the line says it all."""
    allowed: str = ""
    """The reason given in `# allow CPnnn: reason` on that line."""
    path: tuple[Any, ...] = ()
    """The story as moves of the explorer (`draw.model.Move`), so that it can be run."""

    @property
    def place(self) -> str:
        """`file:line:column`."""
        return f"{self.file}:{self.line}:{self.column}"

    def data(self) -> dict[str, object]:
        """JSON-shaped; field names are public."""
        return {
            "code": self.code,
            "severity": self.severity,
            "saga": self.saga,
            "text": self.text,
            "fix": self.fix,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "story": [
                {"what": part.what, "how": part.how, "line": part.line or None, "note": part.note}
                for part in self.story
            ],
            "allowed": self.allowed or None,
        }


def settle(finding: Finding, lines: Sequence[str]) -> Finding:
    """With the source line, and with the reason for which that line allows it, if it does. A statement over several lines
    is one: formatters move a comment to where it ends."""
    at = finding.line
    source = lines[at - 1].rstrip("\r\n") if 0 < at <= len(lines) else ""
    reason = _reason(source, finding.code)
    if not reason and source:
        first, last = next(
            (
                span
                for span in _spans("\n".join([line.rstrip("\r\n") for line in lines]))
                if span[0] <= at <= span[1]
            ),
            (at, at),
        )
        reason = next((r for n in range(first, last + 1) if (r := _reason(lines[n - 1], finding.code))), "")
    return replace(finding, source=source, allowed=reason)


def _reason(line: str, code: str) -> str:
    match = _ALLOW.search(line.rstrip("\r\n"))
    codes = re.split(r"\s*,\s*", match[1]) if match else []
    return match[2] if match and code in codes else ""


@lru_cache(maxsize=8)
def _spans(text: str) -> tuple[tuple[int, int], ...]:
    """First and last line of every simple statement that stands on more than one."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()
    return tuple(
        [
            (node.lineno, node.end_lineno)
            for node in ast.walk(tree)
            if isinstance(node, ast.stmt)
            and not hasattr(node, "body")
            and not isinstance(node, ast.Match)
            and node.end_lineno is not None
            and node.end_lineno > node.lineno
        ]
    )


def unique(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """One per code and place, in order of file and line."""
    first: Mapping[tuple[str, str], Finding] = {(f.code, f.place): f for f in reversed(findings)}
    return tuple(sorted(first.values(), key=lambda f: (f.file, f.line, f.column, f.code)))
