"""The shape of `Any`: JSON-shaped values as they are, everything else under the registered name of its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from contrapas.codec.marks import ANYTHING
from contrapas.codec.shapes import Book, Float, Json, Marks, Misfit, Shape


class Shapes(Book, Protocol):
    """The registry, as this shape needs it."""

    def of_class(self, cls: type, /) -> Shape | None:
        """The shape of a registered class."""
        ...

    def of_class_name(self, name: str, /) -> type | None:
        """The registered class of a name."""
        ...


class Anything(Shape):
    """Whatever the registry knows."""

    text = "Any"
    tag = "Any"
    frozen = False
    token = ANYTHING
    kinds = frozenset({"null", "bool", "int", "float", "string", "array", "object"})

    def __init__(self, book: Shapes) -> None:
        self.book = book
        self.float = Float(book)

    def pack(self, value: Any, marks: Marks | None) -> Json:
        cls = value.__class__
        if value is None or cls is str or cls is int or cls is bool:
            return value
        if cls is float:
            data = self.float.pack(value, marks)
            return {"$type": "float", "$value": data} if data.__class__ is str else data
        if cls is list or (cls is dict and all(key.__class__ is str for key in value)):
            if marks is not None and (ref := marks.seen(value)) is not None:
                return ref
            packed = self._list(value, marks) if cls is list else self._dict(value, marks)
            return packed if marks is None else marks.mark(value, packed)
        return self.book.tag(value, marks)

    def _list(self, value: list[Any], marks: Marks | None) -> list[Json]:
        data: list[Json] = []
        try:
            for item in value:
                data.append(self.pack(item, marks))
        except Misfit as why:
            why.parts.append(len(data))
            raise
        return data

    def _dict(self, value: dict[str, Any], marks: Marks | None) -> dict[str, Json]:
        data: dict[str, Json] = {}
        key = ""
        try:
            for key, item in value.items():
                data["$" + key if key[:1] == "$" else key] = self.pack(item, marks)
        except Misfit as why:
            why.parts.append(key)
            raise
        return data

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        number = 0
        if data.__class__ is dict and "$type" in data:
            return self.book.untag(data, marks)
        if marks is not None:
            done, value, data, number = marks.known(data)
            if done:
                return value
        if data.__class__ is dict and "$type" in data:
            return self.book.untag(data, marks)
        if data.__class__ is list:
            items: list[Any] = []
            if number and marks is not None:
                marks.remember(number, items)
            items.extend([self.unpack(item, marks) for item in data])
            return items
        if data.__class__ is dict:
            found: dict[str, Any] = {}
            if number and marks is not None:
                marks.remember(number, found)
            for key, item in data.items():
                found[key[1:] if key[:2] == "$$" else key] = self.unpack(item, marks)
            return found
        return data

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        cls = value.__class__
        if cls is list:
            if met(value):
                for item in value:
                    self.visit(item, met)
        elif cls is dict:
            if met(value):
                for key, item in value.items():
                    self.visit(key, met)
                    self.visit(item, met)
        elif value is not None and cls not in (str, int, bool, float):
            shape = self.book.of_class(cls)
            if shape is not None:
                shape.visit(value, met)
