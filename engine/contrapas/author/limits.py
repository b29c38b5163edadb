"""Limits in time as authors write them: `within=` a length, or its twin `until=` a moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeVar

from contrapas.author.duration import Duration, duration_ms
from contrapas.author.op import Op
from contrapas.errors import DataError

T = TypeVar("T")
SCOPED: Final = frozenset({"frame", "all", "first", "some"})


def scoped(op: Op[Any]) -> bool:
    """Awaited with a limit, does it stand in a scope that has it? So does what runs a saga's code, which is cancelled."""
    return op.kind in SCOPED or (op.kind == "map" and op.many.saga)


def limited(op: Op[T], within: Duration | None, until: datetime | None, what: str) -> Op[T]:
    """The operation with its limit. DataError CP850 for both at once, for nonsense, or for less than one attempt."""
    length, moment = limit_of(within, until, what)
    if length is not None:
        op.within_ms = length
    if moment is not None:
        op.until = moment
    return op


def limit_of(
    within: Duration | None, until: datetime | None, what: str
) -> tuple[int | None, datetime | None]:
    """ms, or a moment; both None without a limit."""
    if within is not None and until is not None:
        raise DataError("CP850", f"{what} and until= at once", fix="one of them")
    return None if within is None else duration_ms(within, what=what), aware(until, "until=")


def aware(when: datetime | None, what: str) -> datetime | None:
    """A moment that has a time zone and comes. DataError CP850, CP415."""
    if when is not None and when.tzinfo is None:
        raise DataError(
            "CP850",
            f"{what} {when.isoformat()} has no time zone",
            got=when.isoformat(),
            fix="datetime(..., tzinfo=UTC)",
        )
    if when is not None and not 1900 < when.year < 9000:
        raise DataError(
            "CP415",
            f"{what} {when.isoformat()} is no time that comes",
            expected="a year from 1901 to 8999",
            got=when.isoformat(),
            fix="check where the time comes from: it may stand for none",
        )
    return when


def attempt_fits(op: Op[Any]) -> None:
    """`within=` covers all attempts: DataError CP850 where it is shorter than one."""
    each = op.retry.each_ms if op.retry is not None and op.retry.each_ms is not None else op.attempt_ms
    if each is not None and op.within_ms is not None and op.within_ms < each:
        raise DataError(
            "CP850",
            f"{op.name}: within= of {op.within_ms} ms is shorter than one attempt of {each} ms",
            expected=f"at least {each} ms",
            got=f"{op.within_ms} ms",
            fix="within= covers all attempts: make it longer, or the attempt shorter",
        )
