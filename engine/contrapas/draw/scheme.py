"""What a picture holds before anything has a place: boxes with their words, arrows with theirs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

BOX_CHARS, LABEL_CHARS = 26, 24
"""Where words of a box and of an arrow are wrapped."""
BOX_LINES, LABEL_LINES = 5, 5
_BREAK = re.compile(r"[|,()\[\]#/:.\s_-]+|(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A small box in the lane beside its box: an undo beside its step."""

    id: str
    words: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box."""

    id: str
    lines: tuple[str, ...]
    title: str
    kind: str
    """Classes of the drawing: `state kind-command`, `outcome`."""
    shape: str = "box"
    """`box`, `pill`, `frame` (bars at both sides) or `dot`."""
    beside: tuple[Beside, ...] = ()
    inner: tuple[str, ...] = ()
    """What runs in parallel in it, side by side."""
    scopes: tuple[str, ...] = ()
    """Scopes that it stands in, outermost first."""
    lane: int | None = None
    """The column it must stand in; None: the layout chooses."""
    aside: bool = False
    """It takes back, or is a bad end: never part of the way forward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """An arrow; there is one between two boxes in one direction."""

    source: str
    target: str
    lines: tuple[str, ...] = ()
    title: str = ""
    failure: bool = False
    pivot: bool = False

    @property
    def ends(self) -> tuple[str, str]:
        """Source and target."""
        return self.source, self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Everything that one picture shows."""

    title: str
    about: str
    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]
    lanes: tuple[str, ...] = ()
    """Heads of the columns where boxes have lanes."""
    notes: tuple[str, ...] = field(default=())
    """Lines under the picture."""


def columns_of(text: str) -> int:
    """How many columns of a fixed-width font a text takes: wide signs take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def wrapped(text: str, width: int, most: int) -> tuple[str, ...]:
    """Lines of at most `width` columns, broken after separators and between words of a name; at most `most` of them."""
    lines: list[str] = []
    line = ""
    for part in _parts(" ".join(text.split()), width):
        if line and columns_of(line + part.rstrip()) > width:
            lines.append(line.rstrip())
            line = part.lstrip()
        else:
            line += part
    lines.append(line.rstrip())
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{_cut(lines[most - 1], width - 2)} …"]
    return tuple(lines)


def label_of(causes: Sequence[str]) -> tuple[str, ...]:
    """Words of an arrow: causes side by side, wrapped; where they are too many, the first ones and how many more."""
    distinct = list(dict.fromkeys(" ".join(c.split()) for c in causes if c))
    if not distinct:
        return ()
    lines = _packed(distinct)
    if len(lines) <= LABEL_LINES or len(distinct) == 1:
        return lines[:LABEL_LINES]
    told = [shortened(cause, LABEL_CHARS) for cause in distinct[: LABEL_LINES - 2]]
    return (*told, f"… {len(distinct) - len(told)} more")


def _packed(causes: Sequence[str]) -> tuple[str, ...]:
    """Causes side by side; a line ends between two of them where that is possible."""
    lines: list[str] = []
    for number, cause in enumerate(causes):
        said = f"{cause} |" if number < len(causes) - 1 else cause
        if lines and columns_of(f"{lines[-1]} {said}") <= LABEL_CHARS:
            lines[-1] += f" {said}"
        else:
            lines += wrapped(said, LABEL_CHARS, LABEL_LINES + 1)
    return tuple(lines)


def shortened(text: str, width: int) -> str:
    """A text of at most so many columns."""
    return text if columns_of(text) <= width else f"{_cut(text, width - 1)}…"


def _parts(text: str, width: int) -> list[str]:
    """Pieces that stay together, each no wider than a line."""
    ends = [m.end() for m in _BREAK.finditer(text)]
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True) if a < b]
    parts: list[str] = []
    for piece in pieces:
        rest = piece
        while columns_of(rest) > width:
            head = _cut(rest, width)
            parts.append(head)
            rest = rest[len(head) :]
        parts.append(rest)
    return parts


def _cut(text: str, width: int) -> str:
    while columns_of(text) > width:
        text = text[:-1]
    return text
