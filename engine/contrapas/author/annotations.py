"""The annotations of a function as types; what `typing.get_type_hints` gives, without compiling each text again.

A module of a hundred steps says `str` and `int` a thousand times, and an app reads them all whenever it is built.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any


def annotations_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Types by parameter, `return` too. NameError for a name that the module does not have."""
    held: Mapping[str, Any] = getattr(fn, "__annotations__", {})
    if hasattr(fn, "__wrapped__") or getattr(fn, "__type_params__", None) or not _plain(held):
        return typing.get_type_hints(fn, include_extras=True)
    scope = fn.__globals__
    values = {name: eval(_compiled(text), scope) for name, text in held.items()}
    return {name: type(None) if value is None else value for name, value in values.items()}


def _plain(annotations: Mapping[str, Any]) -> bool:
    """Texts without texts in them, as `from __future__ import annotations` leaves them."""
    return all(text.__class__ is str and "'" not in text and '"' not in text for text in annotations.values())


@functools.lru_cache(maxsize=4096)
def _compiled(text: str) -> types.CodeType:
    """One text; what its names mean is asked for in each module anew."""
    code: types.CodeType = compile(text, "<annotation>", "eval", dont_inherit=True)
    return code
