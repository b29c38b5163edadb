"""What built-in functions and the methods of built-in types give, as far as a saga's locals need it (A6)."""

from __future__ import annotations

import collections
import types
from collections import abc
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

from contrapas.codec.kinds import generic

Row = dict[str, Any]
SELF: Final = "self"
ITEM: Final = "item"
KEY: Final = "key"
VALUE: Final = "value"
OPTIONAL_VALUE: Final = "value or None"
ITEMS: Final = "items"
LIST: Final = "list of items"

_STR: Row = {
    **dict.fromkeys(
        [
            "capitalize",
            "casefold",
            "center",
            "expandtabs",
            "format",
            "format_map",
            "join",
            "ljust",
            "lower",
            "lstrip",
            "removeprefix",
            "removesuffix",
            "replace",
            "rjust",
            "rstrip",
            "strip",
            "swapcase",
            "title",
            "translate",
            "upper",
            "zfill",
        ],
        str,
    ),
    **dict.fromkeys(
        [
            "endswith",
            "isalnum",
            "isalpha",
            "isascii",
            "isdecimal",
            "isdigit",
            "isidentifier",
            "islower",
            "isnumeric",
            "isprintable",
            "isspace",
            "istitle",
            "isupper",
            "startswith",
        ],
        bool,
    ),
    **dict.fromkeys(["count", "find", "index", "rfind", "rindex"], int),
    **dict.fromkeys(["split", "rsplit", "splitlines"], list[str]),
    **dict.fromkeys(["partition", "rpartition"], tuple[str, str, str]),
    "encode": bytes,
}
_INT: Row = {
    "bit_length": int,
    "bit_count": int,
    "to_bytes": bytes,
    "conjugate": int,
    "is_integer": bool,
    "as_integer_ratio": tuple[int, int],
}
_FLOAT: Row = {"is_integer": bool, "hex": str, "as_integer_ratio": tuple[int, int], "conjugate": float}
_SET: Row = {
    **dict.fromkeys(["union", "intersection", "difference", "symmetric_difference", "copy"], SELF),
    **dict.fromkeys(["isdisjoint", "issubset", "issuperset"], bool),
    "pop": ITEM,
    **dict.fromkeys(
        ["add", "discard", "remove", "clear", "update", "difference_update", "intersection_update"], None
    ),
}
METHODS: Final[dict[type, Row]] = {
    str: _STR,
    bytes: {
        **{
            n: bytes if t is str else list[bytes] if t == list[str] else t
            for n, t in _STR.items()
            if n != "encode"
        },
        "decode": str,
        "hex": str,
    },
    int: _INT,
    bool: _INT,
    float: _FLOAT,
    list: {
        "copy": SELF,
        "pop": ITEM,
        "index": int,
        "count": int,
        **dict.fromkeys(["append", "extend", "insert", "remove", "clear", "sort", "reverse"], None),
    },
    collections.deque: {"pop": ITEM, "popleft": ITEM, "copy": SELF, "append": None, "appendleft": None},
    tuple: {"index": int, "count": int},
    set: _SET,
    frozenset: _SET,
    dict: {
        "copy": SELF,
        "pop": VALUE,
        "setdefault": VALUE,
        "get": OPTIONAL_VALUE,
        "popitem": ITEMS,
        "update": None,
        "clear": None,
    },
    datetime: {
        "date": date,
        "time": time,
        "timetz": time,
        "isoformat": str,
        "strftime": str,
        "timestamp": float,
        "weekday": int,
        "isoweekday": int,
        "utcoffset": timedelta | None,
        "tzname": str | None,
        **dict.fromkeys(
            ["replace", "astimezone", "now", "utcnow", "fromtimestamp", "fromisoformat"], datetime
        ),
    },
    date: {
        "isoformat": str,
        "strftime": str,
        "weekday": int,
        "isoweekday": int,
        "toordinal": int,
        **dict.fromkeys(["replace", "today", "fromisoformat"], date),
    },
    time: {"isoformat": str, "strftime": str, "replace": time},
    timedelta: {"total_seconds": float},
    Decimal: {
        "quantize": Decimal,
        "normalize": Decimal,
        "to_integral_value": Decimal,
        "copy_abs": Decimal,
        "sqrt": Decimal,
        "is_nan": bool,
        "is_zero": bool,
    },
}
ATTRIBUTES: Final[dict[type, Row]] = {
    datetime: {
        **dict.fromkeys(["year", "month", "day", "hour", "minute", "second", "microsecond", "fold"], int),
        "tzinfo": tzinfo | None,
    },
    date: dict.fromkeys(["year", "month", "day"], int),
    time: dict.fromkeys(["hour", "minute", "second", "microsecond", "fold"], int),
    timedelta: dict.fromkeys(["days", "seconds", "microseconds"], int),
    int: dict.fromkeys(["real", "imag", "numerator", "denominator"], int),
    float: dict.fromkeys(["real", "imag"], float),
    range: dict.fromkeys(["start", "stop", "step"], int),
    type: dict.fromkeys(["__name__", "__qualname__", "__module__"], str),
}
FUNCTIONS: Final[dict[Any, Any]] = {
    **dict.fromkeys((len, hash, id, ord, int.from_bytes), int),
    **dict.fromkeys((repr, ascii, chr, hex, oct, bin, format, input), str),
    **dict.fromkeys((isinstance, issubclass, callable, all, any, hasattr), bool),
    divmod: tuple[int, int],
    print: None,
}
"""Functions whose result does not depend on their arguments."""
NUMBERS: Final = (bool, int, float, complex)
ITERABLES: Final = (list, tuple, set, frozenset, dict, str, bytes, range, collections.deque)
VIEWS: Final[dict[str, Any]] = {"keys": abc.KeysView, "values": abc.ValuesView, "items": abc.ItemsView}


def method(origin: Any, args: tuple[Any, ...], tp: Any, name: str) -> Any:
    """What `value.name(...)` gives for a value of a built-in type; KeyError when that is not known."""
    row = METHODS.get(origin)
    if row is None or (origin is dict and name in VIEWS):
        if origin is dict and name in VIEWS:
            key, value = args if len(args) == 2 else (Any, Any)
            view = VIEWS[name]
            if name == "items":
                return generic(view, key, value)
            return generic(view, key if name == "keys" else value)
        raise KeyError(name)
    given = row[name]
    if given == SELF:
        return tp
    if given == ITEM:
        return args[0] if args else Any
    if given == VALUE:
        return args[1] if len(args) == 2 else Any
    if given == OPTIONAL_VALUE:
        return (args[1] if len(args) == 2 else Any) | types.NoneType if _joins(args) else Any
    if given == ITEMS:
        return generic(tuple, args[0], args[1]) if len(args) == 2 else Any
    return given


def _joins(args: tuple[Any, ...]) -> bool:
    return len(args) == 2 and args[1] is not Any
