"""Problem documents (RFC 9457): every error over HTTP carries our code, and the places in the body that are wrong."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from contrapas import codes
from contrapas.errors import ContrapasError, DataError

STATUS: dict[str, int] = {
    "CP401": 422,
    "CP402": 422,
    "CP403": 422,
    "CP404": 422,
    "CP405": 400,
    "CP406": 400,
    "CP407": 400,
    "CP408": 400,
    "CP409": 413,
    "CP410": 400,
    "CP411": 400,
    "CP412": 409,
    "CP413": 400,
    "CP414": 404,
    "CP415": 400,
    "CP416": 400,
    "CP417": 400,
    "CP419": 400,
    "CP501": 503,
    "CP507": 504,
    "CP813": 404,
    "CP815": 409,
    "CP821": 401,
    "CP823": 403,
    "CP824": 403,
    "CP825": 413,
    "CP829": 429,
    "CP831": 403,
    "CP832": 410,
    "CP833": 503,
}
"""Code -> status; others are 500 when they are ours, 503 when they are the log's."""

_WORDS = {
    "dict": "object",
    "list": "array",
    "str": "string",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
}


def problem(
    code: str,
    title: str,
    *,
    status: int | None = None,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
    reason: str = "",
) -> Response:
    """A problem document. reason: one word of ours that programs look at."""
    number = status or STATUS.get(code, 503 if code.startswith("CP5") else 500)
    body: dict[str, Any] = {"type": f"urn:contrapas:{code}", "title": title[:400], "status": number}
    if reason:
        body["reason"] = reason
    if errors:
        body["errors"] = errors
    entry = codes.table().get(code)
    if entry is not None and entry.fix and not errors:
        body["detail"] = entry.fix
    return Response(
        json.dumps(body, ensure_ascii=False), number, headers=headers, media_type="application/problem+json"
    )


def of_error(error: ContrapasError, *, headers: dict[str, str] | None = None) -> Response:
    """The problem document of one of our errors."""
    errors: list[dict[str, str]] = []
    if isinstance(error, DataError) and (error.path or error.expected):
        errors = [{"at": error.path, "expected": error.expected, "got": error.got}]
    return problem(error.code, error.text, errors=errors, headers=headers)


def misfits(cls: type[BaseModel], raw: bytes, name: str) -> Response:
    """Everything in a body that does not fit its type, each with a JSON pointer."""
    errors: list[dict[str, str]] = []
    try:
        cls.__pydantic_validator__.validate_json(raw, strict=True)
    except ValidationError as why:
        schema = cls.model_json_schema()
        for one in why.errors(include_url=False, include_context=False)[:20]:
            path = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in one["loc"])
            missing = one["type"] == "missing"
            errors.append(
                {
                    "at": path,
                    "expected": _expected(schema, one["loc"], one["msg"]),
                    "got": "nothing" if missing else _word(one.get("input")),
                }
            )
    return problem("CP403", f"body does not fit {name}", errors=errors)


def _word(value: object) -> str:
    return "null" if value is None else _WORDS.get(type(value).__name__, "something else")


def _expected(schema: dict[str, Any], path: tuple[int | str, ...], message: str) -> str:
    at: Any = schema
    for part in path:
        at = _resolve(schema, at)
        at = at.get("items", {}) if isinstance(part, int) else at.get("properties", {}).get(part, {})
        if not at:
            return message
    at = _resolve(schema, at)
    kind = at.get("type")
    return str(at.get("format") or kind) if isinstance(kind, str) else message


def _resolve(schema: dict[str, Any], at: dict[str, Any]) -> dict[str, Any]:
    ref = at.get("$ref")
    if isinstance(ref, str):
        found: dict[str, Any] = schema.get("$defs", {}).get(ref.rpartition("/")[2], {})
        return found
    return at
