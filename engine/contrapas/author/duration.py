"""Lengths of time as authors write them: `"30s"`, `"2h30m"`, `"9h"`, or a `timedelta`; inside always whole ms."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache
from typing import Final

from contrapas.errors import DataError

Duration = str | timedelta
"""What `within=`, `timeout=`, `s.sleep(...)` and their like take."""

MS_MAX: Final = 100 * 365 * 24 * 3600 * 1000
"""A hundred years: longer is a mistake, and no clock of a log reaches it."""

_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")


def duration_ms(text: Duration, *, what: str = "duration", zero: bool = False) -> int:
    """Whole milliseconds of `"2h30m"`, `"1.5s"` or a timedelta; `zero` says whether 0 makes sense there.

    Units: ms s m h d w. DataError CP850 names `what` and the value: nonsense, negative, endless, zero.
    """
    value = _timedelta_ms(text, what) if isinstance(text, timedelta) else _text_ms(text, what)
    if value < 0 or value > MS_MAX or (value == 0 and not zero):
        raise _refusal(text, what)
    return value


def duration_text(ms: int) -> str:
    """The shortest spelling of so many milliseconds: `90000` is `1m30s`."""
    if ms == 0:
        return "0s"
    parts: list[str] = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def _timedelta_ms(value: timedelta, what: str) -> int:
    if value > timedelta(milliseconds=MS_MAX):
        raise _refusal(value, what)
    return round(value / timedelta(milliseconds=1))


def _text_ms(text: object, what: str) -> int:
    if not isinstance(text, str):
        raise _refusal(text, what)
    found = _parsed(text)
    if found is None:
        raise _refusal(text, what)
    return found


@lru_cache(maxsize=1024)
def _parsed(text: str) -> int | None:
    if len(text) > 40 or _WHOLE.fullmatch(text) is None:
        return None
    return round(sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(text)))


def _refusal(value: object, what: str) -> DataError:
    shown = f"'{value}'" if isinstance(value, (str, timedelta)) else repr(value)
    return DataError(
        "CP850",
        f"{what} {shown[:80]} is no length of time",
        expected='a length such as "30s", "2h30m", or a positive timedelta of at most a hundred years',
        got=shown[:80],
        fix='write it as "30s", "5m", "9h", "2d"',
    )
