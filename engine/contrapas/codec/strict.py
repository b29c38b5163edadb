"""The strict JSON door: every text that comes from outside passes here before anything is built from it.

Python's own parser accepts NaN, keeps the last of two equal keys, nests until the stack ends and takes integers that no
other language reads. Here each of them is an error with a code of its own. The good case is kept cheap: a fast parser,
then one walk over what it gave; only where the bytes leave a doubt are they parsed a second time, slowly.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from contrapas.errors import DataError

DEPTH_MAX: Final = 64
INT_MAX: Final = 2**63 - 1
INT_MIN: Final = -(2**63)

_LOOSE_COLON: Final = re.compile(rb'"[ \t\r\n]+:')
_NOT_A_NUMBER: Final = re.compile(rb"(?<![A-Za-z0-9_])(?:NaN|-?Infinity)(?![A-Za-z0-9_])")
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_INF: Final = float("inf")
M = TypeVar("M", bound=BaseModel)


def load_json(raw: bytes, /) -> Any:
    """Plain data from JSON text.

    raw: UTF-8 without a byte order mark. DataError: CP401 no JSON; CP405 NaN, Infinity, a number beyond a double, two
    equal keys; CP406 deeper than 64; CP407 an integer beyond 64 bits; CP408 text that is no Unicode, or holds NUL;
    CP417 a pickle or another serialisation that builds types.
    """
    data, large = _load(raw)
    if large:
        raise _too_large(large[0])
    return data


def load_model(cls: type[M], raw: bytes, /, *, name: str = "") -> M:
    """A message from JSON text, validated strictly: `"42"` is no integer. Unknown fields are ignored.

    DataError: what `load_json` raises, and CP403 with the JSON pointer of the first misfit. An integer beyond 64 bits is
    accepted where the field is a Decimal.
    """
    _, large = _load(raw)
    if large and not _has_decimal(cls):
        raise _too_large(large[0])
    try:
        model = cls.__pydantic_validator__.validate_json(raw, strict=True)
    except ValidationError as why:
        raise misfit(name or cls.__name__, why) from None
    except ValueError as why:
        raise DataError("CP403", f"{name or cls.__name__}: {why}"[:500]) from None
    for path in large:
        if _at(model, path).__class__ is int:
            raise _too_large(path)
    return model  # type: ignore[no-any-return]


def misfit(name: str, why: ValidationError) -> DataError:
    """What pydantic found, as one of ours: the first finding, with its JSON pointer, what was expected and what came."""
    first = why.errors(include_url=False, include_context=False)[0]
    path = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in first["loc"])
    missing = first["type"] == "missing"
    got = "nothing" if missing else _short(first.get("input"))
    more = why.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    return DataError(
        "CP403",
        f"{name}{path}: {first['msg']}{'' if missing else f', got {got}'}{tail}"[:500],
        path=path,
        expected=first["msg"].removeprefix("Input should be ").removeprefix("a ") or first["type"],
        got=got,
        fix="send the field as its schema says",
    )


def _load(raw: bytes) -> tuple[Any, list[tuple[str | int, ...]]]:
    if b"\0" in raw or raw[:2] in (b"\xff\xfe", b"\xfe\xff") or raw[:3] == b"\xef\xbb\xbf":
        raise _foreign(raw) or _bad_text(raw)
    try:
        data = from_json(raw, allow_inf_nan=False)
    except ValueError as why:
        raise _refused(raw, str(why)) from None
    large: list[tuple[str | int, ...]] = []
    keys = 0
    kind = data.__class__
    if kind is dict or kind is list:
        keys = _walk(data, large)
    elif kind is float or kind is int or kind is str:
        _scalar(data, (), large)
    if raw.count(b":") != keys and (raw.count(b'":') != keys or _LOOSE_COLON.search(raw)):
        _no_duplicates(raw)
    if b"\\u0000" in raw:
        _no_nul(data, ())
    return data, large


def _walk(data: Any, large: list[tuple[str | int, ...]]) -> int:
    """Check every number and the depth; the number of keys."""
    keys = 0
    depth = 1
    level: list[Any] = [data]
    while level:
        if depth > DEPTH_MAX:
            raise _too_deep()
        below: list[Any] = []
        for part in level:
            if part.__class__ is dict:
                keys += len(part)
                items = part.values()
            else:
                items = part
            for item in items:
                kind = item.__class__
                if kind is str or kind is bool or item is None:
                    continue
                if kind is dict or kind is list:
                    below.append(item)
                elif not large and (
                    (kind is int and not INT_MIN <= item <= INT_MAX)
                    or (kind is float and (item == _INF or item == -_INF))
                ):
                    _find_numbers(data, (), large)
        level = below
        depth += 1
    return keys


def _find_numbers(data: Any, path: tuple[str | int, ...], large: list[tuple[str | int, ...]]) -> None:
    """The slow walk, with paths, once it is known that a number is out of range."""
    if data.__class__ is dict:
        for key, item in data.items():
            _find_numbers(item, (*path, key), large)
    elif data.__class__ is list:
        for index, item in enumerate(data):
            _find_numbers(item, (*path, index), large)
    else:
        _scalar(data, path, large)


def _scalar(item: Any, path: tuple[str | int, ...], large: list[tuple[str | int, ...]]) -> None:
    if item.__class__ is int and not INT_MIN <= item <= INT_MAX:
        if path not in large:
            large.append(path)
    elif item.__class__ is float and (item == _INF or item == -_INF):
        raise DataError(
            "CP405",
            f"the number at {_pointer(path) or 'the top'} is beyond a double",
            path=_pointer(path),
            expected="a finite number",
            got="more than 1.8e308",
            fix="send it as text, or leave it out",
        )


def _no_duplicates(raw: bytes) -> None:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in items:
            if key in found:
                raise DataError(
                    "CP405",
                    f"the key {key[:80]!r} stands twice in one object",
                    path=f"/{key[:80]}",
                    expected="each key once",
                    got="twice",
                    fix="send each key once",
                )
            found[key] = item
        return found

    json.loads(raw, object_pairs_hook=pairs, parse_int=len, parse_float=len)


def _no_nul(data: Any, path: tuple[str | int, ...]) -> None:
    if data.__class__ is str and "\0" in data:
        raise DataError(
            "CP408",
            f"the text at {_pointer(path) or 'the top'} holds NUL",
            path=_pointer(path),
            expected="text without NUL",
            got="\\u0000",
        )
    if data.__class__ is dict:
        for key, item in data.items():
            _no_nul(key, path)
            _no_nul(item, (*path, key))
    elif data.__class__ is list:
        for index, item in enumerate(data):
            _no_nul(item, (*path, index))


def _refused(raw: bytes, why: str) -> DataError:
    """Which of the codes it is, once the fast parser has refused."""
    if (foreign := _foreign(raw)) is not None:
        return foreign
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _bad_text(raw)
    if "hex escape" in why or "surrogate" in why:
        return DataError("CP408", f"no Unicode text: {why}", expected="paired surrogates", got="a lone one")
    if "recursion" in why:
        return _too_deep()
    if "out of range" in why:
        return _too_large(())
    bare = _STRINGS.sub(b'""', raw)
    if _NOT_A_NUMBER.search(bare):
        return DataError(
            "CP405",
            "NaN and Infinity are no JSON",
            expected="a finite number",
            got="NaN or Infinity",
            fix="send null",
        )
    return DataError(
        "CP401", f"no JSON: {why}"[:300], expected="JSON", got=_short(raw), fix="send JSON in UTF-8"
    )


def _foreign(raw: bytes) -> DataError | None:
    if raw[:2] == b"\xc3\x01":
        return DataError(
            "CP401", "no JSON: it begins as Avro does", expected="JSON", got="Avro", fix="send JSON in UTF-8"
        )
    pickled = raw[:1] == b"\x80" and raw[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if not pickled and raw.lstrip()[:8] not in (b"!!python", b"!python/"):
        return None
    return DataError(
        "CP417",
        "a serialisation that builds types is never read",
        expected="JSON",
        got="a pickle" if pickled else "a YAML tag",
        fix="send JSON",
    )


def _bad_text(raw: bytes) -> DataError:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(raw) > 3 and (raw[1] == 0 or raw[0] == 0)):
        got = "UTF-16 or UTF-32"
    elif raw[:3] == b"\xef\xbb\xbf":
        got = "a byte order mark"
    elif b"\0" in raw:
        got = "NUL"
    else:
        got = "other bytes"
    return DataError(
        "CP408", f"the text is not UTF-8: {got}", expected="UTF-8", got=got, fix="send JSON in UTF-8"
    )


def _too_deep() -> DataError:
    return DataError(
        "CP406",
        f"nested deeper than {DEPTH_MAX}",
        expected=f"at most {DEPTH_MAX} levels",
        got="more",
        fix="send a flatter document",
    )


def _too_large(path: tuple[str | int, ...]) -> DataError:
    where = _pointer(path)
    return DataError(
        "CP407",
        f"the integer {f'at {where} ' if where else ''}is beyond 64 bits",
        path=where,
        expected="-2^63 to 2^63-1",
        got="a larger one",
        fix="declare the field as Decimal, or send it as text",
    )


def _pointer(path: tuple[str | int, ...]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    """What a model holds where its JSON held `path`; None where the model does not keep it."""
    at: Any = value
    for part in path:
        here: Any = at
        if isinstance(part, int):
            at = here[part] if isinstance(at, list | tuple) and part < len(here) else None
        elif isinstance(at, dict):
            at = here.get(part)
        else:
            at = getattr(here, _field(here.__class__, part), None)
    return at


@lru_cache(maxsize=4096)
def _field(cls: type, name: str) -> str:
    fields: dict[str, Any] = getattr(cls, "model_fields", {})
    for field, info in fields.items():
        if name in (info.validation_alias, info.alias):
            return field
    return name


@lru_cache(maxsize=4096)
def _has_decimal(cls: type[BaseModel]) -> bool:
    return "'decimal'" in repr(cls.__pydantic_core_schema__)
