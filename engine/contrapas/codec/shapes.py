"""Shapes: how the values of one type become plain JSON data and come back; scalars and containers.

A shape is exact: what comes back is equal to what went in and of the same class, so that a saga cannot tell a reloaded
value from the one it had. What is not exact is refused, with its path. Where a slot may hold a subclass of what its type
says, the value is written as `{"$type": name, ...}` with a name of the closed registry.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from math import isnan
from typing import Any, ClassVar, Protocol

from pydantic_core import to_json

Json = Any
"""None, bool, int, float, str, list, dict with string keys."""


class Misfit(Exception):
    """A value or text that does not fit; `parts` is the path to it, innermost first."""

    def __init__(self, text: str, *, expected: str = "", got: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.expected = expected
        self.got = got
        self.parts: list[str | int] = []

    @property
    def path(self) -> str:
        """JSON pointer."""
        return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in reversed(self.parts))


class Marks(Protocol):
    """Who remembers which mutable objects were met (`codec.marks`)."""

    def seen(self, value: Any, /) -> Json | None:
        """The reference to an object that was written before; None at its first visit. Misfit for a cycle."""
        ...

    def mark(self, value: Any, data: Json, /) -> Json:
        """Its data, with a number if it is met again."""
        ...

    def known(self, data: Json, /) -> tuple[bool, Any, Json, int]:
        """Of data: (it is a reference, the object, the data within the mark, its number or 0)."""
        ...

    def remember(self, number: int, value: Any, /) -> None:
        """The object of a number."""
        ...


class Book(Protocol):
    """The registry, as shapes need it: values of registered classes by name."""

    def tag(self, value: Any, marks: Marks | None, /) -> Json:
        """`{"$type": name, ...}` of a value of any registered class. Misfit for others."""
        ...

    def untag(self, data: dict[str, Json], marks: Marks | None, /) -> Any:
        """The value of `{"$type": name, ...}`."""
        ...


class Shape:
    """Values of one type, to plain data and back."""

    text: str = ""
    """The type as people write it."""
    tag: str = ""
    """Its name in `$type`."""
    frozen: bool = True
    """Values never change, whatever they hold."""
    token: Any = None
    """Of a mutable type: what two slots that may share an object have in common (`codec.marks.may_share`)."""
    kinds: frozenset[str] = frozenset()
    """What its data may be in JSON: null bool int float string array object."""
    natural: frozenset[str] = frozenset()
    """The kinds that need no `$type` in a union."""
    merges: ClassVar[bool] = False
    """Its data is an object into which `$type` goes as a key."""

    def classes(self) -> tuple[type, ...]:
        """The exact classes of its values."""
        return ()

    def pack(self, value: Any, marks: Marks | None) -> Json:
        """Plain data; Misfit when the value is not of the type."""
        raise NotImplementedError

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        """The value, built anew; Misfit when the data does not fit."""
        raise NotImplementedError

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        """The shapes within, and whether there may be several values of it."""
        return ()

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        """Show `met` every mutable object within; it answers whether to look into it."""

    def misfit(self, got: Any) -> Misfit:
        """The value or data is not of this type."""
        return Misfit(f"expected {self.text}, got {short(got)}", expected=self.text, got=named(got))


class Scalar(Shape):
    """What is its own JSON: text, whole numbers, truth, nothing. A subclass's value goes by registered name."""

    def __init__(self, cls: type, kinds: set[str], also: tuple[type, ...], book: Book) -> None:
        self.text = self.tag = "None" if cls is type(None) else cls.__name__
        self.cls: Any = cls
        self.also = frozenset({cls, *also})
        self.kinds = self.natural = frozenset(kinds)
        self.book = book

    def classes(self) -> tuple[type, ...]:
        return (self.cls,)

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if value.__class__ in self.also:
            return value
        if isinstance(value, self.cls):
            return self.book.tag(value, marks)
        raise self.misfit(value)

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        if data.__class__ in self.also:
            return data
        if data.__class__ is dict and "$type" in data:
            return self.book.untag(data, marks)
        raise self.misfit(data)


class Float(Scalar):
    """A float; an int where one was put (a type checker allows it); NaN and the infinities as text."""

    NAMES: ClassVar[dict[str, float]] = {
        "NaN": float("nan"),
        "Infinity": float("inf"),
        "-Infinity": float("-inf"),
    }

    def __init__(self, book: Book) -> None:
        super().__init__(float, {"float", "int"}, (int, bool), book)
        self.kinds = frozenset({"float", "int", "string"})
        self.natural = frozenset({"float"})

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if value.__class__ is float:
            if value - value == 0.0:
                return value
            return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return super().pack(value, marks)

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        if data.__class__ is str and data in self.NAMES:
            return self.NAMES[data]
        return super().unpack(data, marks)


class Text(Shape):
    """A value written as text (or a number) by one function and read by another: Decimal, datetime, bytes, UUID, enums."""

    def __init__(
        self,
        cls: type,
        text: str,
        write: Callable[[Any], Json],
        read: Callable[[Any], Any],
        *,
        kind: str = "string",
        plain: bool = False,
    ) -> None:
        self.cls: Any = cls
        self.plain = plain
        """Pydantic writes it alike."""
        self.text = self.tag = text
        self.write = write
        self.read = read
        self.kinds = frozenset({kind})

    def classes(self) -> tuple[type, ...]:
        return (self.cls,)

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if not isinstance(value, self.cls):
            raise self.misfit(value)
        return self.write(value)

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        try:
            return self.read(data)
        except (ValueError, TypeError, ArithmeticError, KeyError, AttributeError):
            raise self.misfit(data) from None


class Sequence(Shape):
    """`list[T]`, `tuple[T, ...]`, `set[T]`, `frozenset[T]`, `deque[T]`: an array; a set sorted by the JSON text of its items."""

    kinds = frozenset({"array"})

    def __init__(self, cls: type, item: Shape, *, name: str = "", frozen: bool = False) -> None:
        self.cls: Any = cls
        self.item = item
        word = name or cls.__name__
        self.text = self.tag = f"{word}[{item.text}, ...]" if cls is tuple else f"{word}[{item.text}]"
        self.natural = self.kinds if cls is list else frozenset()
        self.frozen = frozen
        self.token = None if frozen else (cls, item.text)
        self.sorts = cls in (set, frozenset)
        self.same = item.also if type(item) is Scalar else None

    def classes(self) -> tuple[type, ...]:
        return (self.cls,)

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        return ((self.item, True),)

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if value.__class__ is not self.cls:
            raise self.misfit(value)
        mutable = marks is not None and not self.frozen
        if mutable and marks is not None and (ref := marks.seen(value)) is not None:
            return ref
        if self.same is not None and self.same.issuperset(map(type, value)):
            data: list[Json] = list(value)
        else:
            data = []
            place = 0
            try:
                for place, item in enumerate(value):
                    data.append(self.item.pack(item, marks))
            except Misfit as why:
                why.parts.append(place)
                raise
        if self.sorts:
            data.sort(key=to_json)
        return marks.mark(value, data) if mutable and marks is not None else data

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        number = 0
        if marks is not None and not self.frozen:
            done, value, data, number = marks.known(data)
            if done:
                return value
        if data.__class__ is not list:
            raise self.misfit(data)
        if self.same is not None and self.same.issuperset(map(type, data)):
            value = data if self.cls is list else self.cls(data)
        else:
            items: list[Any] = []
            place = 0
            try:
                for place, item in enumerate(data):
                    items.append(self.item.unpack(item, marks))
            except Misfit as why:
                why.parts.append(place)
                raise
            value = items if self.cls is list else self.cls(items)
        if number and marks is not None:
            marks.remember(number, value)
        return value

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        if value.__class__ is self.cls and (self.frozen or met(value)) and self.same is None:
            for item in value:
                self.item.visit(item, met)


class Tuple(Shape):
    """`tuple[A, B]` and named tuples: an array by position."""

    kinds = frozenset({"array"})

    def __init__(
        self, cls: type, items: tuple[Shape, ...], text: str, make: Callable[[list[Any]], Any]
    ) -> None:
        self.cls: Any = cls
        self.items = items
        self.text = self.tag = text
        self.make = make

    def classes(self) -> tuple[type, ...]:
        return (self.cls,)

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        return [(item, False) for item in self.items]

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if value.__class__ is not self.cls or len(value) != len(self.items):
            raise self.misfit(value)
        return _each(self.items, value, marks, pack=True)

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        if data.__class__ is not list or len(data) != len(self.items):
            raise self.misfit(data)
        return self.make(_each(self.items, data, marks, pack=False))

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        if value.__class__ is self.cls:
            for shape, item in zip(self.items, value, strict=False):
                shape.visit(item, met)


def _each(shapes: tuple[Shape, ...], values: Any, marks: Marks | None, *, pack: bool) -> list[Any]:
    out: list[Any] = []
    place = 0
    try:
        for place, shape in enumerate(shapes):
            out.append(shape.pack(values[place], marks) if pack else shape.unpack(values[place], marks))
    except Misfit as why:
        why.parts.append(place)
        raise
    return out


class Dict(Shape):
    """`dict[K, V]`: an object under string keys (a leading `$` doubled), else pairs; the order of insertion is kept."""

    def __init__(
        self,
        key: Shape,
        value: Shape,
        *,
        cls: type = dict,
        make: Callable[[Any], Any] | None = None,
        text: str = "",
    ) -> None:
        self.cls: Any = cls
        self.key = key
        self.value = value
        self.text = self.tag = text or f"{cls.__name__}[{key.text}, {value.text}]"
        self.make = make
        self.frozen = False
        self.token = (cls, f"{key.text}, {value.text}")
        self.plain_keys = type(key) is Scalar and key.text == "str"
        self.kinds = frozenset({"object"}) if self.plain_keys else frozenset({"array"})
        self.natural = self.kinds if cls is dict and self.plain_keys else frozenset()
        self.same = value.also if type(value) is Scalar else None

    def classes(self) -> tuple[type, ...]:
        return (self.cls,)

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        return ((self.key, True), (self.value, True))

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if value.__class__ is not self.cls:
            raise self.misfit(value)
        if marks is not None and (ref := marks.seen(value)) is not None:
            return ref
        data: Json = self._object(value, marks) if self.plain_keys else self._pairs(value, marks)
        return marks.mark(value, data) if marks is not None else data

    def _object(self, value: dict[str, Any], marks: Marks | None) -> dict[str, Json]:
        data: dict[str, Json] = {}
        same = self.same
        key: Any = ""
        try:
            for key, item in value.items():
                if key.__class__ is not str:
                    raise self.key.misfit(key)
                name = "$" + key if key[:1] == "$" else key
                data[name] = (
                    item if same is not None and item.__class__ in same else self.value.pack(item, marks)
                )
        except Misfit as why:
            why.parts.append(str(key))
            raise
        return data

    def _pairs(self, value: dict[Any, Any], marks: Marks | None) -> list[Json]:
        pairs: list[Json] = []
        key: Any = ""
        try:
            for key, item in value.items():
                pairs.append([self.key.pack(key, marks), self.value.pack(item, marks)])
        except Misfit as why:
            why.parts.append(str(key))
            raise
        return pairs

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        number = 0
        if marks is not None:
            done, value, data, number = marks.known(data)
            if done:
                return value
        if data.__class__ is not (dict if self.plain_keys else list):
            raise self.misfit(data)
        found: dict[Any, Any] = {}
        name: Any = ""
        entries: Any = data
        try:
            if self.plain_keys:
                for name, item in entries.items():
                    found[name[1:] if name[:2] == "$$" else name] = self.value.unpack(item, marks)
            else:
                for place, pair in enumerate(entries):
                    name = place
                    key, item = pair
                    found[self.key.unpack(key, marks)] = self.value.unpack(item, marks)
        except Misfit as why:
            why.parts.append(name)
            raise
        except (TypeError, ValueError):
            raise self.misfit(data) from None
        value = found if self.make is None else self.make(found)
        if number and marks is not None:
            marks.remember(number, value)
        return value

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        if value.__class__ is self.cls and met(value):
            if not self.plain_keys:
                for key in value:
                    self.key.visit(key, met)
            if self.same is None:
                for item in value.values():
                    self.value.visit(item, met)


def null(shape: Shape) -> bool:
    """Whether it is stored as null and nothing else."""
    return "null" in shape.kinds and len(shape.kinds) == 1


class Union(Shape):
    """One of several types. None is null; where JSON alone does not tell, `{"$type": name, ...}` does."""

    def __init__(self, members: tuple[Shape, ...], book: Book) -> None:
        self.members = members
        self.book = book
        self.text = self.tag = " | ".join([m.text for m in members])
        self.frozen = all(m.frozen for m in members)
        self.kinds = frozenset[str]().union(*[m.kinds for m in members])
        self.exact: dict[type, list[Shape]] = {}
        for member in members:
            for cls in member.classes():
                self.exact.setdefault(cls, []).append(member)
        self.owner: dict[str, Shape] = {}
        for prefer in (True, False):
            for member in members:
                for kind in member.natural if prefer else member.kinds:
                    if kind not in self.owner and (prefer or not (member.merges and len(self._solid()) > 1)):
                        self.owner[kind] = member
        self.by_tag = {m.tag: m for m in members}

    def _solid(self) -> list[Shape]:
        return [m for m in self.members if not null(m)]

    def classes(self) -> tuple[type, ...]:
        return tuple(self.exact)

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        return [(m, False) for m in self.members]

    def pack(self, value: Any, marks: Marks | None) -> Json:
        candidates = self.exact.get(value.__class__) or self.members
        why: Misfit | None = None
        for member in candidates:
            try:
                data = member.pack(value, marks)
            except Misfit as found:
                if why is None or len(found.parts) > len(why.parts):
                    why = found
                continue
            if self.owner.get(kind_of(data)) is member or (
                data.__class__ is dict and ("$type" in data or "$ref" in data)
            ):
                return data
            return tagged(member, data)
        if len(candidates) == 1 and why is not None:
            raise why
        raise self.misfit(value)

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        if data.__class__ is dict and "$type" in data:
            member = self.by_tag.get(data["$type"])
            if member is None:
                return self.book.untag(data, marks)
            return member.unpack(untagged(data), marks)
        if marks is not None and data.__class__ is dict and ("$ref" in data or "$id" in data):
            done, value, inner, _ = marks.known(data)
            if done:
                return value
            owner = self.owner.get(kind_of(inner))
        else:
            owner = self.owner.get(kind_of(data))
        if owner is not None:
            return owner.unpack(data, marks)
        for member in self.members:
            try:
                return member.unpack(data, marks)
            except Misfit:
                continue
        raise self.misfit(data)

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        for member in self.exact.get(value.__class__, self.members):
            member.visit(value, met)


class Later(Shape):
    """A type that mentions itself: its shape, once it is known."""

    def __init__(self, text: str) -> None:
        self.text = self.tag = text
        self.target: Shape | None = None

    def _known(self) -> Shape:
        if self.target is None:
            raise Misfit(f"{self.text} is not known yet")
        return self.target

    def classes(self) -> tuple[type, ...]:
        return () if self.target is None else self.target.classes()

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        return ((self._known(), False),)

    def pack(self, value: Any, marks: Marks | None) -> Json:
        return self._known().pack(value, marks)

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        return self._known().unpack(data, marks)

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        self._known().visit(value, met)


def tagged(shape: Shape, data: Json) -> dict[str, Json]:
    """`{"$type": name, ...}`: merged into an object of fields, beside any other data as `$value`."""
    if shape.merges and data.__class__ is dict and "$id" not in data:
        return {"$type": shape.tag, **data}
    return {"$type": shape.tag, "$value": data}


def untagged(data: dict[str, Json]) -> Json:
    """The data within `{"$type": name, ...}`."""
    if "$value" in data and "$id" not in data:
        return data["$value"]
    return {name: item for name, item in data.items() if name != "$type"}


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "string",
    list: "array",
    dict: "object",
}


def kind_of(data: Json) -> str:
    """What data is in JSON."""
    return _KINDS.get(data.__class__, "")


def named(value: Any) -> str:
    """The class of a value, for people."""
    return type(value).__name__


def short(value: Any) -> str:
    """A value for an error text: its class and at most 60 characters of it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  somebody's __repr__ may raise anything
        text = "…"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def write_bytes(value: bytes) -> str:
    """Base64."""
    return base64.b64encode(value).decode()


def read_bytes(data: Json) -> bytes:
    """Base64, strictly."""
    return base64.b64decode(data, validate=True)
