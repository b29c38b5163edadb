"""Positions in the language of `rpk`: `start`, `end`, `1041`, `-100`, `+5`, `@-1h`, `@2026-11-20T09:00Z`, `2:1041`.

A position is parsed without looking at the log, and resolved against the bounds of one partition.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from contrapas.cli.exits import Usage
from contrapas.errors import Refused

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
MS_MAX = 100 * 366 * 86_400_000
"""Longer than any log is old."""
_NUMBER = re.compile(r"[0-9]{1,18}")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+\Z")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


class Position(NamedTuple):
    """`kind`: start, end, offset, before (n before the end), after (n after the start), time (ms since 1970)."""

    kind: str
    value: int = 0
    partition: int | None = None


class Span(NamedTuple):
    """From one position up to, not including, another."""

    first: Position
    last: Position


def duration_ms(text: str) -> int:
    """`10m`, `2h30m`, `1.5s` in milliseconds; CP814 on anything else."""
    if not _DURATION.match(text):
        raise Usage("CP814", f"'{text[:40]}' is no duration", fix="10s, 5m, 2h30m, 1d")
    return int(min(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)), MS_MAX))


def instant_ms(text: str, now_ms: int) -> int:
    """`-1h` (from now), `2026-11-20`, RFC 3339 or milliseconds since 1970; Usage CP807 on anything else."""
    if text.startswith("-") and _DURATION.match(text[1:]):
        return now_ms - duration_ms(text[1:])
    if _NUMBER.fullmatch(text) and len(text) >= 11:
        return int(text)
    try:
        when = datetime.fromisoformat(text)
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _bad(f"@{text}") from None


def parse(text: str, now_ms: int) -> Position:
    """One position; Usage CP807 when it is none."""
    if text in ("start", "end"):
        return Position(text)
    if text.startswith("@"):
        return Position("time", instant_ms(text[1:], now_ms))
    head, colon, tail = text.partition(":")
    if colon and _NUMBER.fullmatch(head) and tail:
        return parse(tail, now_ms)._replace(partition=int(head))
    if _NUMBER.fullmatch(text):
        return Position("offset", int(text))
    if text[:1] in ("+", "-") and _NUMBER.fullmatch(text[1:]):
        return Position("after" if text[0] == "+" else "before", int(text[1:]))
    raise _bad(text)


def span(
    first: str | None, last: str | None, since: str | None, now_ms: int, *, default: str = "start"
) -> Span:
    """`--from`, `--to` and `--since` together; `@-2d:@-1d` in `--from` names both ends."""
    if since is not None:
        if first is not None:
            raise Usage(
                "CP814",
                "--since and --from say the same thing: give one of them",
                fix="--since 1h is --from @-1h",
            )
        first = f"@-{since}"
        duration_ms(since)
    if first is not None and first.startswith("@") and ":@" in first:
        if last is not None:
            raise Usage("CP814", "--from names both ends already", fix="leave --to away")
        first, _, tail = first.partition(":@")
        last = f"@{tail}"
    return Span(parse(first or default, now_ms), parse(last or "end", now_ms))


def resolve(position: Position, start: int, end: int, at_time: int | None, where: str) -> int:
    """The offset of a position in a partition whose records lie in [start, end).

    at_time: first offset at or after the position's time, if it is one. Refused CP807 names floor and end.
    """
    match position.kind:
        case "start":
            return start
        case "end":
            return end
        case "before":
            return max(start, end - position.value)
        case "after":
            wanted = start + position.value
        case "time":
            return end if at_time is None else at_time
        case _:
            wanted = position.value
    if not start <= wanted <= end:
        side = "beyond the end" if wanted > end else "below the floor"
        raise Refused(
            "CP807",
            f"{where} has no offset {wanted}: it is {side}",
            fix=f"floor {start}, end {end}: --from {start}",
            place=where,
        )
    return wanted


def _bad(text: str) -> Usage:
    return Usage(
        "CP807",
        f"'{text[:60]}' is no position",
        fix="start, end, 1041, -100, +5, @-1h, @2026-11-20T09:00Z, @-2d:@-1d, 2:1041",
    )
