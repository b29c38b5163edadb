"""Shapes of classes with fields: pydantic models, dataclasses, typed dicts; objects by field name.

A value is rebuilt field by field, never through a constructor or a validator: what is stored was built once already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field as DataclassField
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar

from pydantic import BaseModel

from contrapas.author.asked import ask_of, received
from contrapas.author.event import Command
from contrapas.codec.shapes import (
    Book,
    Dict,
    Float,
    Json,
    Marks,
    Scalar,
    Sequence,
    Shape,
    Text,
    Tuple,
    Union,
    null,
)

_SIMPLE = ("contrapas", "annotated_types", "pydantic.fields", "pydantic.types", "pydantic._internal._fields")


class Fields(Shape):
    """What models and dataclasses have in common: named fields, one class, a name of the registry."""

    kinds = frozenset({"object"})
    merges: ClassVar[bool] = True

    def __init__(self, cls: type, name: str, book: Book) -> None:
        self.cls: Any = cls
        self.text = self.tag = name
        self.book = book
        self.fields: dict[str, Shape] = {}
        self.frozen_class = False

    def settle(self, fields: dict[str, Shape]) -> None:
        """Give it the shapes of its fields (which may mention itself)."""
        self.fields = fields
        self.frozen = self.frozen_class and all(f.frozen for f in fields.values())
        self.token = None if self.frozen_class else (self.cls, "")

    def classes(self) -> tuple[type, ...]:
        return (self.cls,)

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        return [(field, False) for field in self.fields.values()]

    def attributes(self, value: Any) -> dict[str, Any]:
        """The values of the fields that are set."""
        raise NotImplementedError

    def build(self, found: dict[str, Any], made: Any) -> None:
        """Fill a new object with its fields."""
        raise NotImplementedError

    def default(self, name: str) -> Any:
        """Of a field that the text does not have; Misfit when it must be there."""
        raise NotImplementedError

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if value.__class__ is not self.cls:
            if isinstance(value, self.cls):
                return self.book.tag(value, marks)
            raise self.misfit(value)
        mutable = marks is not None and not self.frozen_class
        if mutable and marks is not None and (ref := marks.seen(value)) is not None:
            return ref
        data: dict[str, Json] = {}
        name = ""
        have = self.attributes(value)
        try:
            for name, shape in self.fields.items():
                if name in have:
                    data[name] = shape.pack(have[name], marks)
        except Exception as why:
            _at(why, name)
            raise
        return marks.mark(value, data) if mutable and marks is not None else data

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        number = 0
        if marks is not None and not self.frozen_class:
            done, value, data, number = marks.known(data)
            if done:
                return value
        if data.__class__ is not dict:
            raise self.misfit(data)
        if "$type" in data:
            return self.book.untag(data, marks)
        made: Any = self.cls.__new__(self.cls)
        if number and marks is not None:
            marks.remember(number, made)
        found: dict[str, Any] = {}
        name = ""
        try:
            for name, shape in self.fields.items():
                found[name] = shape.unpack(data[name], marks) if name in data else self.default(name)
        except Exception as why:
            _at(why, name)
            raise
        self.build(found, made)
        return made

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        if value.__class__ is self.cls and (self.frozen_class or met(value)):
            have = self.attributes(value)
            for name, shape in self.fields.items():
                if name in have:
                    shape.visit(have[name], met)


class Model(Fields):
    """A pydantic model, its private attributes and extra fields included."""

    def __init__(self, cls: type[BaseModel], name: str, book: Book, anything: Shape) -> None:
        super().__init__(cls, name, book)
        self.model = cls
        self.anything = anything
        self.frozen_class = bool(cls.model_config.get("frozen"))
        self.extra = cls.model_config.get("extra") == "allow"
        self.private = tuple(cls.__private_attributes__)
        self.is_plain: bool | None = None
        self.asks = issubclass(cls, Command)
        """A received command carries its name along (`$id`)."""

    def settle(self, fields: dict[str, Shape]) -> None:
        super().settle(fields)
        if self.extra or self.private:
            self.frozen = False
            self.token = (self.cls, "")
            self.frozen_class = False

    def attributes(self, value: Any) -> dict[str, Any]:
        return value.__dict__  # type: ignore[no-any-return]

    def pack(self, value: Any, marks: Marks | None) -> Json:
        data = super().pack(value, marks)
        if value.__class__ is not self.cls or "$ref" in data:
            return data
        inner = data["$value"] if "$value" in data and "$id" in data else data
        if self.asks and (name := ask_of(value)):
            inner["$id"] = name
        if not (self.extra or self.private):
            return data
        extra: dict[str, Any] = getattr(value, "__pydantic_extra__", None) or {}
        private: dict[str, Any] = getattr(value, "__pydantic_private__", None) or {}
        for name, item in extra.items():
            inner["$+" + name] = self.anything.pack(item, marks)
        for name, item in private.items():
            inner["$-" + name] = self.anything.pack(item, marks)
        return data

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        made = super().unpack(data, marks)
        inner = data.get("$value", data)
        if self.asks and made.__class__ is self.cls and isinstance(inner.get("$id"), str):
            received(made, inner["$id"])
        if not (self.extra or self.private):
            return made
        if "$ref" not in inner and made.__class__ is self.cls:
            extra = {n[2:]: self.anything.unpack(d, marks) for n, d in inner.items() if n[:2] == "$+"}
            private = {n[2:]: self.anything.unpack(d, marks) for n, d in inner.items() if n[:2] == "$-"}
            object.__setattr__(made, "__pydantic_extra__", extra if self.extra else None)
            object.__setattr__(made, "__pydantic_private__", private if self.private else None)
        return made

    def build(self, found: dict[str, Any], made: Any) -> None:
        put = object.__setattr__
        put(made, "__dict__", found)
        put(made, "__pydantic_fields_set__", set(found))
        put(made, "__pydantic_extra__", {} if self.extra else None)
        put(made, "__pydantic_private__", None)

    def default(self, name: str) -> Any:
        field = self.model.model_fields[name]
        if field.is_required():
            raise self._missing(name)
        return field.get_default(call_default_factory=True, validated_data={})

    def _missing(self, name: str) -> Exception:
        why = self.misfit(None)
        why.text = f"{self.text} has no {name}"
        why.expected, why.got = name, "nothing"
        return why


class Dataclass(Fields):
    """A dataclass, of the standard library or pydantic's."""

    def __init__(self, cls: type, name: str, book: Book) -> None:
        super().__init__(cls, name, book)
        self.specs: dict[str, DataclassField[Any]] = {f.name: f for f in dataclass_fields(cls)}
        self.frozen_class = bool(getattr(cls, "__dataclass_params__").frozen)  # noqa: B009

    def attributes(self, value: Any) -> dict[str, Any]:
        missing = self.specs
        return {name: getattr(value, name) for name in missing if hasattr(value, name)}

    def build(self, found: dict[str, Any], made: Any) -> None:
        for name, item in found.items():
            object.__setattr__(made, name, item)

    def default(self, name: str) -> Any:
        spec = self.specs[name]
        if spec.default is not NO_DEFAULT:
            return spec.default
        if spec.default_factory is not NO_DEFAULT:
            return spec.default_factory()
        why = self.misfit(None)
        why.text = f"{self.text} has no {name}"
        raise why


class Typed(Shape):
    """A typed dict: an object of the keys that are there."""

    kinds = frozenset({"object"})
    frozen = False
    merges: ClassVar[bool] = True

    def __init__(self, name: str, cls: type, required: frozenset[str]) -> None:
        self.text = self.tag = name
        self.token = (dict, name)
        self.cls: Any = cls
        self.required = required
        self.fields: dict[str, Shape] = {}

    def classes(self) -> tuple[type, ...]:
        return (dict,)

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        return [(field, False) for field in self.fields.values()]

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if value.__class__ is not dict or not self.required <= value.keys() <= self.fields.keys():
            raise self.misfit(value)
        if marks is not None and (ref := marks.seen(value)) is not None:
            return ref
        data: dict[str, Json] = {}
        name = ""
        try:
            for name, item in value.items():
                data["$" + name if name[:1] == "$" else name] = self.fields[name].pack(item, marks)
        except Exception as why:
            _at(why, name)
            raise
        return marks.mark(value, data) if marks is not None else data

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        number = 0
        if marks is not None:
            done, value, data, number = marks.known(data)
            if done:
                return value
        if data.__class__ is not dict:
            raise self.misfit(data)
        found: dict[str, Any] = {}
        name = ""
        try:
            for key, item in data.items():
                name = key[1:] if key[:2] == "$$" else key
                if name in self.fields:
                    found[name] = self.fields[name].unpack(item, marks)
        except Exception as why:
            _at(why, name)
            raise
        if not self.required <= found.keys():
            raise self.misfit(data)
        if number and marks is not None:
            marks.remember(number, found)
        return found

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        if value.__class__ is dict and met(value):
            for name, item in value.items():
                if name in self.fields:
                    self.fields[name].visit(item, met)


def plain(shape: Shape, above: tuple[Shape, ...] = ()) -> bool:
    """Whether pydantic's own JSON of a value of this shape, within a model, is ours and comes back exactly."""
    if isinstance(shape, Model):
        if shape.is_plain is None:
            if shape in above:
                return False
            shape.is_plain = _plain_model(shape) and all(
                plain(field, (*above, shape)) for field in shape.fields.values()
            )
        return shape.is_plain and (not above or not shape.model.__subclasses__())
    if isinstance(shape, Text):
        return shape.plain
    if isinstance(shape, Scalar):
        return True
    if isinstance(shape, Sequence):
        return shape.cls in (list, tuple) and plain(shape.item, above)
    if isinstance(shape, Tuple):
        return shape.cls is tuple and all(plain(item, above) for item in shape.items)
    if isinstance(shape, Dict):
        return shape.cls is dict and shape.plain_keys and plain(shape.value, above)
    if isinstance(shape, Union):
        solid = [m for m in shape.members if not null(m)]
        return len(solid) == 1 and plain(solid[0], above)
    return False


def has_float(shape: Shape) -> bool:
    """Whether a NaN may hide as null in pydantic's own JSON of it."""
    seen: set[int] = set()
    stack = [shape]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Float):
            return True
        stack.extend(inner for inner, _ in part.parts())
    return False


def _plain_model(shape: Model) -> bool:
    cls = shape.model
    if shape.asks:
        return False
    marks = cls.__pydantic_decorators__
    if any(getattr(marks, word) for word in _DECORATORS) or shape.extra or shape.private:
        return False
    if cls.__init__ is not BaseModel.__init__ or cls.model_post_init is not BaseModel.model_post_init:
        return False
    if cls.model_config.get("use_enum_values") or cls.model_config.get("strict"):
        return False
    if "__get_pydantic_core_schema__" in vars(cls) or getattr(cls, "__pydantic_root_model__", False):
        return False
    for field in cls.model_fields.values():
        if field.alias or field.validation_alias or field.serialization_alias or field.exclude:
            return False
        if isinstance(field.default, int) and has_float_annotation(field.annotation):
            return False
        for mark in field.metadata:
            module = (mark if isinstance(mark, type) else type(mark)).__module__
            if not module.startswith(_SIMPLE):
                return False
    return True


_DECORATORS = (
    "validators",
    "field_validators",
    "root_validators",
    "model_validators",
    "field_serializers",
    "model_serializers",
    "computed_fields",
)


def has_float_annotation(annotation: Any) -> bool:
    """Whether `float` stands in an annotation."""
    return "float" in str(annotation)


def _at(why: Exception, name: str) -> None:
    parts: list[str | int] | None = getattr(why, "parts", None)
    if parts is not None:
        parts.append(name)
