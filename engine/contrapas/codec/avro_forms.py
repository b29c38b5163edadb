"""The Avro schema of a message class, derived from its pydantic model; its fingerprint, and values written in it.

Numbers are 64-bit, moments microseconds; a decimal is one where a field declares its places, else text. A field with a default has it in the
schema too. A class that has no such form says which field has none.
"""

from __future__ import annotations

import io
import json
import types
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from contrapas.codec.messages import MessageType
from contrapas.codec.schemas import Text
from contrapas.errors import DataError

Json = Any
_LEAVES: Final[Mapping[Any, Json]] = {
    str: "string",
    int: "long",
    bool: "boolean",
    float: "double",
    bytes: "bytes",
    type(None): "null",
    datetime: {"type": "long", "logicalType": "timestamp-micros"},
    date: {"type": "int", "logicalType": "date"},
    time: {"type": "long", "logicalType": "time-micros"},
    UUID: {"type": "string", "logicalType": "uuid"},
    Decimal: "string",
    timedelta: "string",
}


def schema_of(cls: type[BaseModel], name: str = "", namespace: str = "") -> Json:
    """The schema of a class as plain JSON. DataError CP205 for a field that has no form in Avro."""
    return _Forms(namespace).record(cls, name or _name(cls))


@lru_cache(maxsize=4096)
def text_of(cls: type[BaseModel], name: str = "") -> str:
    """The same as text, the same for the same class."""
    return json.dumps(schema_of(cls, name), ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=4096)
def fingerprint_of(text: str) -> str:
    """CRC-64-AVRO of the parsing canonical form, in hex, as its bytes stand on the wire."""
    from fastavro.schema import fingerprint, to_parsing_canonical_form

    return fingerprint(to_parsing_canonical_form(json.loads(text)), "CRC-64-AVRO")


def write(cls: type[BaseModel], value: BaseModel, name: str = "") -> bytes:
    """A value in its class's schema, without framing. DataError CP403: a number beyond 64 bits."""
    from fastavro import schemaless_writer  # pyright: ignore[reportUnknownVariableType]

    made = io.BytesIO()
    put = cast("Callable[[Any, Any, Any], None]", schemaless_writer)
    try:
        put(made, _parsed(text_of(cls, name)), _plain(value))
    except Exception as why:  # noqa: BLE001  whatever the library makes of a value
        raise DataError("CP403", f"{cls.__name__} in Avro: {type(why).__name__}: {why}"[:300]) from None
    return made.getvalue()


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    from fastavro.schema import parse_schema

    return parse_schema(json.loads(text))


def _plain(value: Any) -> Any:
    """Models as dictionaries, what Avro has no type for as text."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {_field(name, info): _kept(getattr(value, name), info) for name, info in fields.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal | timedelta):
        return to_jsonable_python(value)
    if _is(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if _is(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _kept(value: Any, info: FieldInfo) -> Any:
    """A field: a decimal with declared places is one in Avro too."""
    return value if isinstance(value, Decimal) and _places(info.metadata) is not None else _plain(value)


class OwnSchemas:
    """The schemas of an app's messages by fingerprint, made at the first question."""

    def __init__(self, messages: Mapping[str, MessageType]) -> None:
        self._messages = messages
        self._found: dict[str, Text] | None = None

    def of_fingerprint(self, fingerprint: str) -> Text | None:
        """None: none of this release."""
        if self._found is None:
            self._found = {}
            for message in self._messages.values():
                try:
                    text = text_of(message.cls, message.name)
                except DataError:
                    continue
                self._found[fingerprint_of(text)] = Text(text)
        return self._found.get(fingerprint)


class _Forms:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.named: dict[type, str] = {}

    def record(self, cls: type[BaseModel], name: str) -> Json:
        """A model."""
        if cls in self.named:
            return self.named[cls]
        self.named[cls] = name
        fields: list[Json] = []
        for field, info in cls.model_fields.items():
            fields.append(self.field(cls, field, info))
        made: dict[str, Json] = {"type": "record", "name": name, "fields": fields}
        if self.namespace and len(self.named) == 1:
            made["namespace"] = self.namespace
        return made

    def field(self, cls: type, name: str, info: FieldInfo) -> Json:
        """A field of a model."""
        try:
            form = self.of(info.annotation, info.metadata)
        except DataError as why:
            raise DataError("CP205", f"{cls.__name__}.{name}: {why.text}", fix=why.fix) from None
        made: dict[str, Json] = {"name": _field(name, info), "type": form}
        if info.is_required():
            return made
        default = info.get_default(call_default_factory=True, validated_data={})
        value = None if default is PydanticUndefined else to_jsonable_python(_plain(default))
        if _is(form, list):
            made["type"] = sorted(form, key=lambda branch: not _fits(branch, value))
        made["default"] = value
        return made

    def of(self, tp: Any, metadata: list[Any] | None = None) -> Json:
        """An annotation."""
        if tp is Decimal and (places := _places(metadata or [])) is not None:
            digits, scale = places
            return {"type": "bytes", "logicalType": "decimal", "precision": digits, "scale": scale}
        if isinstance(tp, type) and tp in _LEAVES:
            return _LEAVES[tp]
        if tp is None:
            return "null"
        origin, args = get_origin(tp), get_args(tp)
        if origin is Annotated:
            return self.of(args[0])
        if origin in (Union, types.UnionType):
            branches: list[Json] = []
            for arg in args:
                form = self.of(arg)
                if form not in branches:
                    branches.append(form)
            return branches if len(branches) > 1 else branches[0]
        if origin is Literal:
            return self.of(args[0].__class__) if len({a.__class__.__name__ for a in args}) == 1 else _none(tp)
        if origin in (list, set, frozenset) or (origin is tuple and args[1:] == (Ellipsis,)):
            return {"type": "array", "items": self.of(args[0])}
        if origin in (dict, Mapping) or getattr(origin, "__name__", "") == "Mapping":
            return {"type": "map", "values": self.of(args[1])} if args[0] is str else _none(tp)
        if isinstance(tp, type):
            if issubclass(tp, BaseModel):
                return self.record(tp, _name(tp))
            if issubclass(tp, Enum):
                values: list[Any] = [member.value for member in tp]
                alike = len({v.__class__.__name__ for v in values}) == 1
                return self.of(values[0].__class__) if alike else _none(tp)
            for base in (str, int, float, bytes):
                if issubclass(tp, base):
                    return _LEAVES[base]
        return _none(tp)


def _is(value: Any, kind: Any) -> bool:
    """Like isinstance, to the reader of types too."""
    return isinstance(value, kind)


def _fits(branch: Json, value: Any) -> bool:
    kinds = {"string": str, "long": int, "boolean": bool, "double": float, "null": type(None)}
    kind: Any = branch["type"] if _is(branch, dict) else branch
    return type(value) is kinds.get(str(kind), {"array": list, "map": dict, "record": dict}.get(str(kind)))


def _places(metadata: list[Any]) -> tuple[int, int] | None:
    digits = next((m.max_digits for m in metadata if getattr(m, "max_digits", None) is not None), None)
    scale = next((m.decimal_places for m in metadata if getattr(m, "decimal_places", None) is not None), None)
    return (int(digits), int(scale)) if digits is not None and scale is not None else None


def _none(tp: Any) -> Json:
    raise DataError(
        "CP205",
        f"{getattr(tp, '__name__', tp)!s:.80} has no form in Avro",
        fix="a model, a list, a dict with text keys, or a plain type",
    )


def _field(name: str, info: FieldInfo) -> str:
    return info.serialization_alias or info.alias or name


def _name(cls: type) -> str:
    own = vars(cls).get("__contrapas_name__")
    return own if isinstance(own, str) else cls.__name__
