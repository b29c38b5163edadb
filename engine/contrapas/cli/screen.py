"""Where output goes: data to stdout in the form that `-o` asks for, words to stderr, colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from contrapas.cli import text

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]
"""Heading, and a row's cell under it."""
FORMS = ("table", "wide", "json", "jsonl", "id", "raw")


class Look(NamedTuple):
    """How this run prints."""

    form: str = "table"
    color: bool = False
    ascii: bool = False
    time: str = "relative"
    format: str = ""
    width: int = 110


def look(
    form: str | None,
    color: str | None,
    ascii_only: bool | None,
    time_form: str | None,
    format: str | None,
    settings: Any,
) -> Look:
    """From flags and configuration; a pipe changes colour and width only."""
    wish = color or settings.get("color", "auto")
    terminal = sys.stdout.isatty()
    paint = wish == "always" or (wish == "auto" and terminal and "NO_COLOR" not in os.environ)
    width = _width() if terminal else 10_000
    only = bool(ascii_only if ascii_only is not None else settings.get("ascii", False)) or not _can_show()
    return Look(
        form or settings.get("output", "table"),
        paint,
        only,
        time_form or settings.get("time", "relative"),
        format or "",
        width,
    )


def _width() -> int:
    try:
        return int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size().columns or 110
    except (ValueError, OSError):
        return 110


def _can_show() -> bool:
    try:
        "✓─▶┄●".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def line(look: Look, words: str) -> None:
    """One line of data for people."""
    sys.stdout.write((text.plain(words) if look.ascii else words) + "\n")


def lines(look: Look, rows: Iterable[str]) -> None:
    """Several."""
    for row in rows:
        line(look, row)


def note(words: str) -> None:
    """One line to stderr."""
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(words.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stderr.flush()


def paint(look: Look, words: str, color: str) -> str:
    """Coloured if this run uses colour."""
    return text.painted(words, color) if look.color else words


def document(value: Any) -> None:
    """One JSON document."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=str)
    sys.stdout.write("\n")


def stream(value: Any) -> None:
    """One line of JSON lines."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str) + "\n")


def rows(
    look: Look, found: Sequence[Row], table: Sequence[Column], wide: Sequence[Column] = (), *, id: str = "id"
) -> None:
    """A list in any form. table, wide: (heading, function of a row to text); id: field printed by `-o id`."""
    if look.form == "json":
        document(list(found))
    elif look.form == "jsonl":
        for one in found:
            stream(one)
    elif look.form in ("id", "raw"):
        for one in found:
            sys.stdout.write(f"{text.escape(str(one[id]), cut=None)}\n")
    else:
        shown = [*table, *(wide if look.form == "wide" else ())]
        cells = [[render(one) for _, render in shown] for one in found]
        for row in text.columns([heading for heading, _ in shown], cells):
            line(look, row if len(row) <= look.width else row[: look.width - 1] + "…")


def moment(look: Look, ms: int | None, now_ms: int | None = None) -> str:
    """A time as `--time` asks."""
    if ms is None:
        return "–"
    if look.time == "unix":
        return str(ms)
    from datetime import UTC, datetime

    when = datetime.fromtimestamp(ms / 1000, UTC)
    if look.time == "iso":
        return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
    now = now_ms if now_ms is not None else time.time_ns() // 1_000_000
    if abs(now - ms) < 20 * 3_600_000:
        return when.astimezone().strftime("%H:%M:%S")
    return when.astimezone().strftime("%Y-%m-%d %H:%M")


class Progress:
    """One line on stderr: redrawn on a terminal, else one every ten seconds."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what = what
        self.total = total
        self.began = self.said = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def at(self, number: int) -> None:
        """Say how far it is."""
        now = time.monotonic()
        if now - self.said < (0.1 if self.terminal else 10.0):
            return
        self.said = now
        part = f" {100 * number // self.total}%" if self.total else ""
        words = f"{self.what}  {text.count(number)}{part}  {now - self.began:.1f}s"
        sys.stderr.write(f"\r{words}\x1b[K" if self.terminal else f"{words}\n")
        sys.stderr.flush()

    def done(self, words: str) -> None:
        """The last line."""
        sys.stderr.write(f"\r{words}\x1b[K\n" if self.terminal else f"{words}\n")
        sys.stderr.flush()
