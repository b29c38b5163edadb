"""CloudEvents 1.0 as they stand on a record: binary mode as it is, structured mode brought into the same shape.

A message counts as a CloudEvent only if all four required attributes are there. A structured one (content type
`application/cloudevents+json`) becomes headers `ce_<attribute>` and the bytes of its data, so that whoever reads on sees one
form. Batches, and structured forms other than JSON, are refused. The record itself stays as it came.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from contrapas.codec.strict import load_json
from contrapas.core.lane import NULL, Headers
from contrapas.errors import DataError

REQUIRED: Final = ("id", "source", "type", "specversion")
VERSION: Final = b"1.0"
_STRUCTURED: Final = b"application/cloudevents"
_NAME_MAX: Final = 64
_VALUE_MAX: Final = 8_192


def present(headers: Headers) -> dict[str, bytes]:
    """The headers by name: the last of a name counts, a null one is none. The media type's name is read without case."""
    found = dict(headers)
    if b"" in found.values():
        found = {name: value for name, value in headers if value is not NULL}
    if "content-type" not in found:
        for name in found:
            if len(name) == 12 and name.lower() == "content-type":
                found["content-type"] = found[name]
                break
    return found


def is_structured(headers: Mapping[str, bytes]) -> bool:
    """The whole event is the record's value."""
    return headers.get("content-type", b"").lstrip()[:23].lower() == _STRUCTURED


def is_event(headers: Mapping[str, bytes]) -> bool:
    """All four required attributes are there. DataError CP419: of another version than 1.0."""
    for name in REQUIRED:
        if not headers.get(f"ce_{name}"):
            return False
    if headers["ce_specversion"] != VERSION:
        said = headers["ce_specversion"][:20].decode(errors="replace")
        raise DataError("CP419", f"a CloudEvent of version {said!r}", expected="1.0", got=said)
    return True


def missing(headers: Mapping[str, bytes]) -> str:
    """What a message that is none lacks, for people."""
    return ", ".join([f"ce_{name}" for name in REQUIRED if not headers.get(f"ce_{name}")])


def binary(headers: Mapping[str, bytes], value: bytes) -> tuple[dict[str, bytes], bytes]:
    """A structured event in binary mode: its headers, the attributes among them, and the bytes of its data.

    DataError: CP419 for a batch, another form than JSON or another version; CP401 without the required attributes; what
    the strict JSON door refuses.
    """
    kind = headers["content-type"].lower().partition(b";")[0].strip()
    if kind != b"application/cloudevents+json" and kind != _STRUCTURED:
        said = kind[:60].decode(errors="replace")
        what = "a batch of CloudEvents" if b"batch" in kind else f"a structured CloudEvent as {said}"
        raise DataError(
            "CP419",
            f"{what} is not taken",
            expected="application/cloudevents+json, or binary mode",
            got=said,
            fix="send each event in a record of its own, in JSON or in binary mode",
        )
    event: object = load_json(value)
    if not isinstance(event, dict):
        raise DataError(
            "CP403", "a structured CloudEvent is a JSON object", expected="object", got=type(event).__name__
        )
    fields = cast("dict[str, Any]", event)
    for name in REQUIRED:
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise DataError(
                "CP401",
                f"a structured CloudEvent needs {name}",
                path=f"/{name}",
                expected=", ".join(REQUIRED),
                got="less",
            )
    found = {name: said for name, said in headers.items() if name.lower() != "content-type"}
    for name, said in fields.items():
        if name not in ("data", "data_base64") and said is not None and _is_name(name):
            found[f"ce_{name}"] = _attribute(name, said)
    content = found.pop("ce_datacontenttype", b"application/json")
    is_event(found)
    found["content-type"] = content
    return found, _data(fields, content)


def _data(fields: Mapping[str, Any], content: bytes) -> bytes:
    packed, data = fields.get("data_base64"), fields.get("data")
    if packed is not None:
        if data is not None or not isinstance(packed, str):
            raise DataError("CP401", "an event has data or data_base64, as text", path="/data_base64")
        try:
            return base64.b64decode(packed, validate=True)
        except ValueError:
            raise DataError("CP401", "data_base64 is no base64", path="/data_base64") from None
    if isinstance(data, str) and b"json" not in content.lower():
        return data.encode()
    return json.dumps(
        {} if data is None else data, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    ).encode()


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME_MAX and name.isascii() and name.isalnum() and name == name.lower()


def _attribute(name: str, said: object) -> bytes:
    text = str(said).lower() if isinstance(said, bool) else str(said)
    if not isinstance(said, str | int) or len(text) > _VALUE_MAX:
        raise DataError("CP401", f"the attribute {name} is no text", path=f"/{name}", expected="text")
    raw = text.encode()
    if b"\n" in raw or b"\r" in raw or b"\x1b" in raw:
        raise DataError(
            "CP416", f"the attribute {name} holds a line break or an escape code", path=f"/{name}"
        )
    return raw
