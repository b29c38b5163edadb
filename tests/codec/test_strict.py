"""The strict JSON door, row by row of the catalogue of bad inputs (B-17 to B-23, B-37)."""

from __future__ import annotations

import json
import pickle  # noqa: TID251  (to make the bytes that must be refused)
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from contrapas.codec.strict import load_json, load_model
from contrapas.errors import DataError


class Inner(BaseModel):
    n: int = 0


class Order(BaseModel):
    order_id: str
    cents: int
    at: datetime | None = None
    amount: Decimal | None = None
    items: list[Inner] = []


def code(raw: bytes) -> str:
    with pytest.raises(DataError) as caught:
        load_json(raw)
    return caught.value.code


BAD: list[tuple[bytes, str]] = [
    (b"", "CP401"),
    (b"{", "CP401"),
    (b"{'a':1}", "CP401"),
    (b'{"a":1}}', "CP401"),
    (b'{"a":1,}', "CP401"),
    (b"[1] trailing", "CP401"),
    (b"NaN", "CP405"),
    (b'{"a":NaN}', "CP405"),
    (b'{"a":[1,-Infinity]}', "CP405"),
    (b'{"a":Infinity}', "CP405"),
    (b'{"a":1e400}', "CP405"),
    (b'{"a":-1e400}', "CP405"),
    (b"1e400", "CP405"),
    (b'{"a":1,"a":1}', "CP405"),
    (b'{"a":1, "a" : 2}', "CP405"),
    (b'{"a" :1,"a":2}', "CP405"),
    (b'{"t":"12:00","a":1,"a":2}', "CP405"),
    (b'{"t":"x\\":y","b":{"a":1,"a":2}}', "CP405"),
    (b'[{"k":{"a":1,"\\u0061":2}}]', "CP405"),
    (b"[" * 65 + b"]" * 65, "CP406"),
    (b'{"a":' * 65 + b"1" + b"}" * 65, "CP406"),
    (b"[" * 10_000 + b"]" * 10_000, "CP406"),
    (b"[" * 10_000, "CP406"),
    (b'{"a":9223372036854775808}', "CP407"),
    (b'{"a":-9223372036854775809}', "CP407"),
    (b'{"a":' + b"7" * 5_000 + b"}", "CP407"),
    (b"9223372036854775808", "CP407"),
    (b'{"a":"\\ud800"}', "CP408"),
    (b'{"a":"\\udc00x"}', "CP408"),
    (b'{"\\ud800":1}', "CP408"),
    (b'{"a":"\xff"}', "CP408"),
    (b'{"a":"\xed\xa0\x80"}', "CP408"),
    ('{"a":1}'.encode("utf-16"), "CP408"),
    ('{"a":1}'.encode("utf-16-le"), "CP408"),
    ('{"a":1}'.encode("utf-32-be"), "CP408"),
    (b'\xef\xbb\xbf{"a":1}', "CP408"),
    (b'{"a":"\x00"}', "CP408"),
    (b'{"a":"x\\u0000y"}', "CP408"),
    (b'{"a\\u0000":1}', "CP408"),
    (pickle.dumps({"a": 1}), "CP417"),
    (b"\x80\x04N.", "CP417"),
    (b"!!python/object:os.system {}", "CP417"),
]


@pytest.mark.parametrize(("raw", "expected"), BAD, ids=[f"{c}-{i}" for i, (_, c) in enumerate(BAD)])
def test_what_is_no_strict_json_is_refused_with_its_code(raw: bytes, expected: str) -> None:
    assert code(raw) == expected


GOOD: list[Any] = [
    None,
    1,
    "12:30:00",
    {"a": {"a": {"a": []}}, "b": 'quote": colon', "c": 'x":'},
    {"a": [9223372036854775807, -9223372036854775808, 1.5e308]},
    {"NaN": "Infinity", "x": "a\\u0000"},
    {"emoji": "\U0001f600", "t": "2024-01-01T00:00:00+01:00"},
    [[[[1]]], {"$type": "os.system", "__class__": "x"}],
]


@pytest.mark.parametrize("value", GOOD, ids=range(len(GOOD)))
@pytest.mark.parametrize(
    "form", [{}, {"indent": 2}, {"separators": (",", " : ")}], ids=["plain", "indented", "loose"]
)
def test_good_json_passes_as_plain_data(value: Any, form: dict[str, Any]) -> None:
    assert load_json(json.dumps(value, **form).encode()) == value


def test_sixty_four_levels_are_allowed() -> None:
    assert load_json(b"[" * 64 + b"]" * 64)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b'{"order_id":"o","cents":"42"}', "/cents"),
        (b'{"order_id":"o","cents":4.5}', "/cents"),
        (b'{"order_id":"o","cents":true}', "/cents"),
        (b'{"order_id":1,"cents":42}', "/order_id"),
        (b'{"order_id":"o"}', "/cents"),
        (b'{"order_id":"o","cents":1,"items":[{"n":1},{"n":"x"}]}', "/items/1/n"),
        (b"[]", ""),
    ],
)
def test_a_misfit_names_its_place(raw: bytes, path: str) -> None:
    with pytest.raises(DataError) as caught:
        load_model(Order, raw)
    assert (caught.value.code, caught.value.path) == ("CP403", path)
    assert caught.value.expected
    assert caught.value.got


def test_unknown_fields_are_ignored() -> None:
    order = load_model(Order, b'{"order_id":"o","cents":1,"__class__":"os.system","extra":{"a":1}}')
    assert order == Order(order_id="o", cents=1)


def test_dates_and_decimals_are_read_from_text() -> None:
    order = load_model(Order, b'{"order_id":"o","cents":1,"at":"2024-01-01T00:00:00Z","amount":"1.10"}')
    assert str(order.amount) == "1.10"
    assert order.at is not None
    assert order.at.year == 2024


def test_a_large_integer_is_accepted_only_where_a_decimal_was_declared() -> None:
    big = b"9" * 30
    assert load_model(Order, b'{"order_id":"o","cents":1,"amount":' + big + b"}").amount == Decimal(
        big.decode()
    )
    with pytest.raises(DataError) as caught:
        load_model(Order, b'{"order_id":"o","cents":' + big + b"}")
    assert (caught.value.code, caught.value.path) == ("CP407", "/cents")
    with pytest.raises(DataError) as caught:
        load_model(Inner, b'{"n":' + big + b"}")
    assert caught.value.code == "CP407"
