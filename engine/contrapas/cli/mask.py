"""`Sensitive` fields in output: masked by the type of a message, and by name where only JSON is known."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from contrapas.author.sensitive import MASK, masked


class Masks:
    """types: registered name -> JSON pointers; names: field names that are masked wherever they stand."""

    def __init__(self, types: Mapping[str, Collection[str]], names: Collection[str]) -> None:
        self.types = types
        self.names = frozenset(names)

    def message(self, name: str, raw: str) -> str:
        """JSON text of a message of this type; of an unknown type, by field names."""
        paths = tuple(self.types.get(name, ()))
        if not paths:
            return raw if name in self.types else self.value(raw)
        try:
            return _dumped(masked(json.loads(raw), paths))
        except ValueError:
            return MASK

    def value(self, raw: str) -> str:
        """JSON text of a local."""
        if not self.names or not any(name in raw for name in self.names):
            return raw
        try:
            return _dumped(self._walk(json.loads(raw)))
        except ValueError:
            return MASK

    def _walk(self, value: Any) -> Any:
        if isinstance(value, dict):
            items = cast("dict[str, Any]", value)
            return {k: MASK if k in self.names and v is not None else self._walk(v) for k, v in items.items()}
        if isinstance(value, list):
            return [self._walk(item) for item in cast("Collection[Any]", value)]
        return value


NONE = Masks({}, ())


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
