"""A finding: what the checker says, where, how it comes to that, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    """With the source line, and with the reason for which that line allows it, if it does."""
    source = lines[finding.line - 1].rstrip("\r\n") if 0 < finding.line <= len(lines) else ""
    match = _ALLOW.search(source)
    codes = re.split(r"\s*,\s*", match[1]) if match else []
    reason = match[2] if match and finding.code in codes else ""
    return replace(finding, source=source, allowed=reason)


def unique(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """One per code and place, in order of file and line."""
    first: Mapping[tuple[str, str], Finding] = {(f.code, f.place): f for f in reversed(findings)}
    return tuple(sorted(first.values(), key=lambda f: (f.file, f.line, f.column, f.code)))
