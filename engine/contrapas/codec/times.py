"""Dates and times as ISO 8601 text; a zone with a name keeps it in brackets, as RFC 9557 writes it."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def write_datetime(value: datetime) -> str:
    """`2024-01-01T00:00:00+01:00[Europe/Berlin]`; UTC is `Z`; without a zone there is no offset."""
    text = datetime.isoformat(value)
    if value.tzinfo is None:
        return text
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        return f"{text}[{value.tzinfo.key}]"
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def read_datetime(data: Any) -> datetime:
    """What `write_datetime` wrote. ValueError for anything else."""
    text, bracket, name = _text(data).partition("[")
    value = datetime.fromisoformat(text)
    if not bracket:
        return value
    try:
        zone = ZoneInfo(name.removesuffix("]"))
    except ZoneInfoNotFoundError:
        raise ValueError(name) from None
    local = value.replace(tzinfo=zone)
    return local if local.utcoffset() == value.utcoffset() else local.replace(fold=1)


def write_date(value: date) -> str:
    """`2024-01-01`; a datetime, which is a date too, stays one."""
    return write_datetime(value) if isinstance(value, datetime) else value.isoformat()


def read_date(data: Any) -> date:
    """What `write_date` wrote."""
    return read_datetime(data) if "T" in _text(data) else date.fromisoformat(data)


def write_time(value: time) -> str:
    """`01:02:03Z`."""
    text = value.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def read_time(data: Any) -> time:
    """What `write_time` wrote."""
    return time.fromisoformat(_text(data))


def write_timedelta(value: timedelta) -> list[int]:
    """Days, seconds, microseconds: exact, and without a second way to write the same."""
    return [value.days, value.seconds, value.microseconds]


def read_timedelta(data: Any) -> timedelta:
    """What `write_timedelta` wrote."""
    days, seconds, micros = data
    return timedelta(days, seconds, micros)


def read_complex(data: Any) -> complex:
    """Two floats as text."""
    real, imaginary = data
    return complex(float(real), float(imaginary))


def _text(data: Any) -> str:
    if data.__class__ is not str:
        raise ValueError(data)
    return str(data)
