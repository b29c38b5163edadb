"""Questions about types that are known at run time only, answered so that type checkers believe nothing by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def generic(origin: Any, *args: Any) -> Any:
    """`origin[args]`."""
    return origin[args[0] if len(args) == 1 else args]


def is_kind(tp: Any, *of: Any) -> bool:
    """Whether it is a class, and one of these or below them."""
    return isinstance(tp, type) and issubclass(tp, of)


def is_model(tp: Any) -> bool:
    """Whether it is a pydantic model."""
    return is_kind(tp, BaseModel)


def is_named_tuple(tp: Any) -> bool:
    """Whether it is the class of a named tuple."""
    return is_kind(tp, tuple) and getattr(tp, "_fields", None) is not None


def model_fields(tp: Any) -> Mapping[str, Any]:
    """The annotation of each field of a model."""
    return {name: field.annotation for name, field in tp.model_fields.items()}
