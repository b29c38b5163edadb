"""Rows of a JSON lines or CSV file as records for a topic: key, type, time and id from named columns.

A row's id is derived from the file's name and the row's number, so that producing a file twice changes nothing: the
second time every event is a duplicate.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple

from contrapas.cli.exits import Usage
from contrapas.cli.text import escape, nearest
from contrapas.core.lane import Draft
from contrapas.errors import ContrapasError, DataError

LIMIT = 900_000
_KINDS = ("text", "int", "number", "bool", "json")


class Columns(NamedTuple):
    """Which column says what. `fields`: (name in the body, column, kind); empty: the row as it is."""

    key: str
    type: str = ""
    """Column of the event's type, or `=Name` for all rows; empty: the topic's mapping says it."""
    time: str = ""
    id: str = ""
    fields: tuple[tuple[str, str, str], ...] = ()


def field(text: str) -> tuple[str, str, str]:
    """`name=column` or `name=column:int`."""
    name, equals, rest = text.partition("=")
    column, colon, kind = rest.rpartition(":")
    if not colon or kind not in _KINDS:
        column, kind = rest, "text"
    if not equals or not name or not column:
        raise Usage("CP814", f"--field {escape(text)} is not understood", fix="--field cents=amount:int")
    return name, column, kind


def read(source: IO[bytes], form: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row); DataError CP818 for a row that is none."""
    if form == "csv":
        yield from _csv(source, name)
    else:
        yield from _lines(source, name)


def drafts(
    rows: Iterable[tuple[int, Mapping[str, Any]]], topic: str, columns: Columns, name: str
) -> Iterator[Draft]:
    """Records for the rows, in order."""
    for line, row in rows:
        yield draft(row, topic, columns, name, line)


def draft(row: Mapping[str, Any], topic: str, columns: Columns, name: str, line: int) -> Draft:
    """One record; DataError CP818 names row and column."""
    place = f"{name}:{line}"
    key = _text(row, columns.key, place)
    raw = key.encode("utf-8", "surrogatepass")
    if not 1 <= len(raw) <= 200 or "\0" in key:
        raise _wrong(place, columns.key, "a key of 1 to 200 bytes", key)
    body = {n: _typed(row, c, kind, place) for n, c, kind in columns.fields} if columns.fields else dict(row)
    value = _json(body, place)
    if len(value) > LIMIT:
        raise DataError("CP409", f"the row is {len(value)} bytes, the limit is {LIMIT}", place=place)
    id = _text(row, columns.id, place) if columns.id else f"{name}#{line}"
    return Draft(topic, -1, raw, value, _headers(row, columns, place, name, id, key), f"{name}#{id}")


def _json(body: Mapping[str, Any], place: str) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        raise DataError(
            "CP408", "the row holds a lone surrogate", expected="Unicode text", place=place
        ) from None
    except ValueError:
        raise DataError(
            "CP405", "the row holds NaN, or a number beyond a double", expected="finite numbers", place=place
        ) from None


def _headers(
    row: Mapping[str, Any], columns: Columns, place: str, name: str, id: str, key: str
) -> tuple[tuple[str, bytes], ...]:
    if not columns.type:
        return (("content-type", b"application/json"),)
    kind = columns.type[1:] if columns.type.startswith("=") else _text(row, columns.type, place)
    found = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", f"/contrapas/produce/{name}"),
        ("ce_type", kind),
        ("ce_subject", key),
        ("content-type", "application/json"),
    ]
    if columns.time:
        found.append(("ce_time", _time(row, columns.time, place)))
    return tuple((header, text.encode("utf-8", "replace")) for header, text in found)


def _csv(source: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.TextIOWrapper(source, encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        if len(set(header)) != len(header):
            twice = next(h for h in header if header.count(h) > 1)
            raise DataError(
                "CP818", f"column '{escape(twice)}' stands twice in the first row", place=f"{name}:1"
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise _wrong(
                    f"{name}:{reader.line_num}", "the row", f"{len(header)} columns", f"{len(cells)}"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError("CP818", f"not CSV: {error}", place=f"{name}:{reader.line_num}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            "CP818", f"not UTF-8: {error.reason}", place=f"{name}:{reader.line_num + 1}"
        ) from None


def _lines(source: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    from contrapas.codec.strict import load_json

    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            row = load_json(line)
        except ContrapasError as error:
            error.place = f"{name}:{number}"
            raise
        if not isinstance(row, dict):
            raise _wrong(f"{name}:{number}", "the line", "a JSON object", type(row).__name__)
        yield number, row


def _text(row: Mapping[str, Any], column: str, place: str) -> str:
    value = row.get(column)
    if value is None or value == "":
        near = nearest(column, list(row))
        if column not in row:
            raise DataError(
                "CP818",
                f"there is no column '{escape(column)}'" + (f", the nearest is '{near}'" if near else ""),
                place=place,
            )
        raise _wrong(place, column, "a value", "nothing")
    return value if isinstance(value, str) else json.dumps(value)


def _typed(row: Mapping[str, Any], column: str, kind: str, place: str) -> Any:
    if column not in row:
        return _text(row, column, place)
    value = row[column]
    if kind == "text" or not isinstance(value, str):
        return value
    try:
        match kind:
            case "int":
                return int(value)
            case "number":
                return float(value) if "." in value or "e" in value.lower() else int(value)
            case "bool":
                return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
            case _:
                return json.loads(value)
    except (ValueError, KeyError):
        raise _wrong(place, column, kind, value) from None


def _time(row: Mapping[str, Any], column: str, place: str) -> str:
    value = _text(row, column, place)
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise _wrong(place, column, "a time (RFC 3339)", value) from None
    when = (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def _wrong(place: str, column: str, expected: str, got: str) -> DataError:
    return DataError(
        "CP818", f"{escape(column)}: expected {expected}, got {escape(got)}", place=place, path=column
    )
