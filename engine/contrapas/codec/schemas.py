"""Schemas by reference, and payloads written in them: Avro bytes to the JSON that the strict door reads.

What is known is kept for good: a reference never changes its meaning. What is not known is `Wanted`: whoever can wait asks
the registry and tries again; this module waits for nothing. Limits: the size of a schema, the depth of a value, what a few
bytes may unfold to.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from pydantic_core import PydanticSerializationError, to_json

from contrapas.codec.framing import GUID_HEADER, Ref, framed
from contrapas.errors import DataError

SCHEMA_MAX: Final = 1_000_000
DEPTH_MAX: Final = 64
ITEMS_MAX: Final = 1_000_000
UNFOLDS_MAX: Final = 64
"""Values that one byte of an item may stand for."""
JSON_MAX: Final = 8 << 20
"""Bytes that a payload may become."""
_SIZES: Final = {"null": 0, "float": 4, "double": 8}


class Wanted(Exception):
    """A payload names a schema that is not here yet."""

    def __init__(self, ref: Ref) -> None:
        super().__init__(str(ref))
        self.ref = ref


class Text(NamedTuple):
    """A schema as a registry gives it."""

    schema: str
    kind: str = "AVRO"
    """`AVRO`, `JSON` or `PROTOBUF`."""
    references: tuple[str, ...] = ()
    """Texts of the schemas it refers to, those first that others need."""


class Writer:
    """A schema that somebody wrote with, ready to read."""

    def __init__(self, text: Text) -> None:
        self.kind = text.kind
        self.name = ""
        self._parsed: Any = None
        self._walks = False
        if text.kind == "AVRO":
            self._parse(text)
        elif text.kind != "JSON":
            raise DataError(
                "CP419", f"a schema of the kind {text.kind[:20]} is not read", expected="AVRO or JSON"
            )

    def _parse(self, text: Text) -> None:
        from fastavro.schema import parse_schema

        if len(text.schema) + sum(map(len, text.references)) > SCHEMA_MAX:
            raise DataError(
                "CP409", f"the schema is larger than {SCHEMA_MAX} bytes", expected="a smaller one"
            )
        names: dict[str, Any] = {}
        try:
            for other in text.references:
                parse_schema(json.loads(other), named_schemas=names)
            self._parsed = parse_schema(json.loads(text.schema), named_schemas=names)
        except Exception as why:  # noqa: BLE001  whatever the library makes of foreign bytes
            raise DataError("CP403", f"no Avro schema: {type(why).__name__}: {why}"[:300]) from None
        said: Any = self._parsed if _keyed(self._parsed) else {}
        self.name = str(said.get("name", ""))
        self._shape = _Shape(names)
        self._walks = self._shape.must_walk(self._parsed)

    def plain(self, payload: bytes) -> Any:
        """What the payload says, as plain values. DataError CP403, CP406, CP410."""
        from fastavro import schemaless_reader  # pyright: ignore[reportUnknownVariableType]

        source = io.BytesIO(payload)
        try:
            if self._walks:
                self._shape.walk(self._parsed, payload)
            read = cast("Callable[[Any, Any, Any], Any]", schemaless_reader)
            value = read(source, self._parsed, None)
        except DataError:
            raise
        except Exception as why:  # noqa: BLE001  whatever the library makes of foreign bytes
            raise DataError(
                "CP403", f"no {self.name or 'Avro'}: {type(why).__name__}: {why}"[:300], expected=self.name
            ) from None
        if source.tell() != len(payload):
            rest = len(payload) - source.tell()
            raise DataError("CP403", f"{rest} bytes stand after the end of {self.name}", expected=self.name)
        return value

    def as_json(self, payload: bytes, *, base64: bool = False) -> bytes:
        """The same as JSON text. base64: how bytes are written; else they must be UTF-8."""
        if self.kind == "JSON":
            return payload
        value = self.plain(payload)
        try:
            text = to_json(
                value, bytes_mode="base64" if base64 else "utf8", inf_nan_mode="constants", by_alias=False
            )
        except (PydanticSerializationError, ValueError, RecursionError) as why:
            raise DataError("CP403", f"{self.name}: {why}"[:300], expected="text or numbers") from None
        if len(text) > JSON_MAX:
            raise DataError("CP410", f"the payload grows beyond {JSON_MAX} bytes", got=str(len(text)))
        return text


class Schemas:
    """Every schema that is known here, by reference."""

    def __init__(self, own: Callable[[str], Text | None] | None = None, *, registry: bool = False) -> None:
        self._known: dict[Ref, Writer | DataError] = {}
        self._own = own
        self.registry = registry
        """Somebody can be asked for what is not known."""

    def put(self, ref: Ref, text: Text | None) -> None:
        """What the registry says; None: it knows no such schema."""
        if text is None:
            self._known[ref] = DataError(
                "CP420", f"the registry knows no {ref}", fix="register the schema, then redrive"
            )
            return
        try:
            self._known[ref] = Writer(text)
        except DataError as why:
            self._known[ref] = DataError(why.code, f"{ref}: {why.text}", fix=why.fix)

    def forget_unknown(self) -> None:
        """What was not there may be there by now."""
        self._known = {ref: found for ref, found in self._known.items() if isinstance(found, Writer)}

    def knows(self, ref: Ref) -> bool:
        """No need to ask."""
        return ref in self._known

    def writer(self, ref: Ref) -> Writer:
        """By reference. Wanted: ask the registry; DataError: there is none, and asking does not help."""
        found = self._known.get(ref)
        if found is None:
            if ref.kind == "fingerprint":
                found = self._of_fingerprint(ref)
                if isinstance(found, Writer):  # what is not ours anybody may make up, as often as he likes
                    self._known[ref] = found
            elif not self.registry:
                raise DataError(
                    "CP420",
                    f"{ref}: no registry is configured",
                    fix='[tool.contrapas] registry = "https://…"',
                )
            else:
                raise Wanted(ref)
        if isinstance(found, DataError):
            raise DataError(found.code, found.text, fix=found.fix)
        return found

    def _of_fingerprint(self, ref: Ref) -> Writer | DataError:
        text = self._own(ref.value) if self._own is not None else None
        if text is not None:
            return Writer(text)
        return DataError(
            "CP404",
            f"the schema with the fingerprint {ref.value} is not one of this release",
            fix="update the worker, then redrive",
        )


EMPTY: Final = Schemas()


def unframed(headers: Mapping[str, bytes], value: bytes, schemas: Schemas) -> tuple[Writer, bytes] | None:
    """The writer of a payload and its bare bytes; None: it is JSON as it stands."""
    found = framed(headers, value)
    return None if found is None else (schemas.writer(found[0]), found[1])


def json_headers(headers: Mapping[str, bytes]) -> dict[str, bytes]:
    """The headers of a payload that was brought into JSON."""
    found = {name: value for name, value in headers.items() if name != GUID_HEADER}
    found["content-type"] = b"application/json"
    return found


def _listed(schema: Any) -> bool:
    """A union."""
    return isinstance(schema, list)


def _keyed(schema: Any) -> bool:
    """A schema with attributes."""
    return isinstance(schema, dict)


class _Shape:
    """What values of a schema can do to their reader."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._walked: dict[str, bool] = {}

    def must_walk(self, schema: Any) -> bool:
        """Whether depth or number of values is not bounded by the schema and the payload's size."""
        return self._unsafe(schema, ())

    def _unsafe(self, schema: Any, inside: tuple[str, ...]) -> bool:
        schema = self._resolve(schema)
        if _listed(schema):
            return any(self._unsafe(branch, inside) for branch in schema)
        if not _keyed(schema):
            return False
        s = schema
        if s["type"] == "record":
            if s["name"] in inside:
                return True
            return any(self._unsafe(f["type"], (*inside, s["name"])) for f in s["fields"])
        if s["type"] in ("array", "map"):
            item = s["items" if s["type"] == "array" else "values"]
            least, values = self._least(item, ()), self._values(item, ())
            if s["type"] == "map":
                least += 1
            return least == 0 or values > UNFOLDS_MAX * least or self._unsafe(item, inside)
        return False

    def _least(self, schema: Any, inside: tuple[str, ...]) -> int:
        """Bytes that a value has at least."""
        schema = self._resolve(schema)
        if isinstance(schema, str):
            return _SIZES.get(schema, 1)
        if _listed(schema):
            return 1
        kind = schema["type"]
        if kind == "fixed":
            return int(schema["size"])
        if kind == "record":
            if schema["name"] in inside:
                return 0
            return sum(self._least(f["type"], (*inside, schema["name"])) for f in schema["fields"])
        return _SIZES.get(kind, 1)

    def _values(self, schema: Any, inside: tuple[str, ...]) -> int:
        """Values that one may hold without a byte of its own for each."""
        schema = self._resolve(schema)
        if _listed(schema):
            return max([self._values(branch, inside) for branch in schema], default=1)
        if _keyed(schema) and schema["type"] == "record":
            s = schema
            if s["name"] in inside:
                return 1
            return 1 + sum(self._values(f["type"], (*inside, s["name"])) for f in s["fields"])
        return 1

    def _resolve(self, schema: Any) -> Any:
        if isinstance(schema, str):
            return self._names.get(schema, schema)
        if _keyed(schema):
            s = schema
            if isinstance(s.get("type"), str) and s["type"] in self._names:
                return self._names[s["type"]]
            if isinstance(s.get("type"), dict | list):
                return self._resolve(s["type"])
            return s
        return schema

    def walk(self, schema: Any, payload: bytes) -> None:
        """Read past a value, counting. DataError CP406 too deep, CP410 too many values, CP403 cut off."""
        end = _Walk(self, payload).value(schema, 0, 1)
        if end > len(payload):
            raise DataError("CP403", "the payload is cut off")

    def of(self, schema: Any) -> Any:
        """A schema with names resolved."""
        return self._resolve(schema)


class _Walk:
    def __init__(self, shape: _Shape, data: bytes) -> None:
        self.shape = shape
        self.data = data
        self.count = 0
        self.most = min(ITEMS_MAX, 1_000 + UNFOLDS_MAX * len(data))
        """A few bytes may say that they are a million nulls: nobody counts to a million for them."""

    def value(self, schema: Any, at: int, depth: int) -> int:
        """The place behind a value."""
        self.count += 1
        if self.count > self.most:
            raise DataError("CP410", f"the payload holds more than {self.most} values")
        if depth > DEPTH_MAX:
            raise DataError(
                "CP406", f"nested deeper than {DEPTH_MAX}", expected=f"at most {DEPTH_MAX} levels"
            )
        if at > len(self.data):
            raise DataError("CP403", "the payload is cut off")
        s = self.shape.of(schema)
        if _listed(s):
            branch, at = self.long(at)
            branches = s
            if not 0 <= branch < len(branches):
                raise DataError("CP403", f"a union has no branch {branch}")
            return self.value(branches[branch], at, depth)
        kind: str = s["type"] if _keyed(s) else s
        match kind:
            case "null":
                return at
            case "boolean":
                return at + 1
            case "float":
                return at + 4
            case "double":
                return at + 8
            case "int" | "long" | "enum":
                return self.long(at)[1]
            case "bytes" | "string":
                size, at = self.long(at)
                if size < 0:
                    raise DataError("CP403", "a length is negative")
                return at + size
            case "fixed":
                return at + int(s["size"])
            case "record":
                for field in s["fields"]:
                    at = self.value(field["type"], at, depth + 1)
                return at
            case _:
                return self.blocks(s, at, depth)

    def blocks(self, s: Any, at: int, depth: int) -> int:
        """Past an array or a map."""
        keyed = s["type"] == "map"
        item = s["values" if keyed else "items"]
        while True:
            count, at = self.long(at)
            if count < 0:
                count = -count
                _, at = self.long(at)
            if count == 0:
                return at
            for _ in range(count):
                if keyed:
                    at = self.value("string", at, depth)
                at = self.value(item, at, depth + 1)

    def long(self, at: int) -> tuple[int, int]:
        """A number and the place behind it."""
        shift = number = 0
        while True:
            if at >= len(self.data) or shift > 63:
                raise DataError("CP403", "the payload is cut off")
            byte = self.data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 128:
                return (number >> 1) ^ -(number & 1), at
            shift += 7
