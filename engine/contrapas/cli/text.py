"""Words for a terminal: escaping, cutting, durations, counts, colour. Pure functions over strings and numbers.

Whatever came from outside is escaped before it is shown, so that no record can move a cursor or hide a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

CUT = 200
HEX_LIMIT = 1024

_SYMBOLS = {
    "✓": "ok",
    "✗": "x",
    "↩": "<-",
    "▣": "#",
    "●": "*",
    "─": "-",
    "▶": ">",
    "┄": ".",
    "▷": ">",
    "├": "|",
    "└": "`",
    "│": "|",
    "→": "->",
    "…": "...",
    "–": "-",
    "·": "|",
    "×": "x",
    "≥": ">=",
    "−": "-",
}

_COLORS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}

_HIDDEN = (
    frozenset(range(0x202A, 0x202F))
    | frozenset(range(0x2066, 0x206A))
    | {0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF}
)


def escape(text: str, *, cut: int | None = CUT) -> str:
    """Control characters, direction overrides and lone surrogates as `\\x1b`, `\\u202e`; cut at `cut` characters."""
    short = text if cut is None or len(text) <= cut else text[: cut - 1] + "…"
    if short.isprintable():
        return short
    return "".join(ch if _shows(ch) else _escaped(ch) for ch in short)


def _shows(ch: str) -> bool:
    return (ch.isprintable() or ch == "\u00a0") and ord(ch) not in _HIDDEN


def _escaped(ch: str) -> str:
    code = ord(ch)
    if ch in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[ch]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def payload(value: bytes | None, *, cut: int | None = None) -> str:
    """A stored value for people: text as it is, anything else as hex of at most 1 kB; never an escape sequence."""
    if value is None:
        return "(empty)"
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return hexed(value)
    if any(not (_shows(ch) or ch in "\n\t\r") for ch in text):
        return hexed(value)
    return escape(text, cut=cut)


def hexed(value: bytes) -> str:
    """`hex 00ff… (12 345 B)`."""
    more = "…" if len(value) > HEX_LIMIT else ""
    return f"hex {value[:HEX_LIMIT].hex()}{more} ({count(len(value))} B)"


def count(number: int) -> str:
    """`4 812`."""
    return f"{number:,}".replace(",", " ")


def duration(ms: float) -> str:
    """`41ms`, `19s`, `1m04s`, `3h12m`, `5d4h`."""
    if ms < 0:
        return f"-{duration(-ms)}"
    if ms < 1000:
        return f"{ms:.0f}ms"
    seconds = int(ms // 1000)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h"


def plain(text: str) -> str:
    """The same with ASCII only, for `--ascii` and terminals that cannot show more."""
    if text.isascii():
        return text
    return (
        "".join(_SYMBOLS.get(ch, ch) if not ch.isascii() else ch for ch in text)
        .encode("ascii", "replace")
        .decode()
    )


def painted(text: str, color: str) -> str:
    """With a terminal colour; only `Screen` decides whether to use it."""
    return f"\x1b[{_COLORS[color]}m{text}\x1b[0m"


def columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()
) -> list[str]:
    """Aligned lines; the last column is not padded."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines: list[str] = []
    for row in table:
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word closest to a mistyped one, or an empty string."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else ""


def object_of(raw: str | bytes) -> dict[str, Any]:
    """A JSON object; empty when the text is none."""
    import json

    try:
        found: Any = json.loads(raw)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def plural(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"
