"""From an annotation to its shape. What has none (a connection, a lock, a generator, a function, a class) is CP202."""

from __future__ import annotations

import collections
import enum
import functools
import ipaddress
import pathlib
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, ForwardRef, Literal, TypeVar, Union, cast, get_args, get_origin

import typing_extensions
from pydantic import AnyUrl, BaseModel, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import Url

from contrapas.author.flight import Pending
from contrapas.author.telling import Telling
from contrapas.codec import cursor as cursors
from contrapas.codec import times
from contrapas.codec.anything import Anything, Shapes
from contrapas.codec.exceptions import OpaqueValue, Raised
from contrapas.codec.handles import handle_shape, holds_handles, telling_shape
from contrapas.codec.models import Dataclass, Fields, Model, Typed
from contrapas.codec.shapes import (
    Dict,
    Float,
    Later,
    Misfit,
    Scalar,
    Sequence,
    Shape,
    Text,
    Tuple,
    named,
    read_bytes,
    write_bytes,
)
from contrapas.codec.shapes import Union as UnionShape

Env = dict[Any, Any]
"""Type variable -> what it stands for."""
_SAFE_FACTORIES: dict[Any, str] = {c: c.__name__ for c in (int, str, float, bool, list, dict, set)}
_LISTS = (abc.Sequence, abc.Collection, abc.Iterable, abc.MutableSequence, abc.Reversible)
_REFUSED = (
    types.FunctionType,
    types.ModuleType,
    types.GeneratorType,
    types.CoroutineType,
    types.FrameType,
    types.TracebackType,
    type,
    object,
)


class NoShape(Exception):
    """Values of a type cannot be stored; `text` says which part of it, and why."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Names(Shapes, typing.Protocol):
    """The registry, as building needs it."""

    def claim(self, cls: type, name: str, shape: Shape, /) -> None:
        """Give a name to a class, once and for all. DataError CP208 when another class has it."""
        ...

    def name_of(self, cls: type, /) -> str | None:
        """The registered name of a class."""
        ...

    def subclasses(self, cls: type, /) -> None:
        """Register the known subclasses of a message class."""
        ...


class Builder:
    """Shapes by annotation, each built once."""

    def __init__(self, book: Names) -> None:
        self.book = book
        self.anything = Anything(book)
        self.made: dict[Any, Shape] = {}
        self.open: dict[Any, Later] = {}
        self.leaves = _leaves(book)

    def shape(self, tp: Any, env: Env | None = None) -> Shape:
        """The shape of an annotation. NoShape for what cannot be stored."""
        env = env or {}
        if isinstance(tp, TypeVar):
            return self.shape(env.get(tp, tp.__bound__ or Any))
        if env and get_args(tp):
            tp = substitute(tp, env)
        try:
            found = self.made.get(tp) or self.leaves.get(tp)
        except TypeError:
            return self._build(tp)
        if found is None:
            found = self._build(tp)
            self.made[tp] = found
        return found

    def _build(self, tp: Any) -> Shape:
        origin = get_origin(tp)
        if tp is Any or tp is typing_extensions.Any:
            return self.anything
        if tp is None:
            return self.leaves[type(None)]
        if origin is typing.Annotated:
            return self.shape(get_args(tp)[0])
        if isinstance(tp, typing.NewType):
            return self.shape(tp.__supertype__)
        if isinstance(tp, typing_extensions.TypeAliasType) or type(tp).__name__ == "TypeAliasType":
            return self.shape(tp.__value__)
        if origin in (
            typing.Final,
            typing.Required,
            typing.NotRequired,
            typing_extensions.ReadOnly,
            typing.ClassVar,
        ):
            return self.shape(get_args(tp)[0])
        if origin in (Union, types.UnionType):
            return self._union(get_args(tp))
        if origin is Literal:
            return self._literal(tp)
        if isinstance(tp, str | ForwardRef):
            raise NoShape(f"the name {tp!r} cannot be resolved")
        if isinstance(origin, type):
            return self._generic(tp, origin, get_args(tp))
        if isinstance(tp, type):
            return self._class(tp)
        raise NoShape(f"{type_text(tp)} is no type whose values can be stored")

    def _union(self, args: tuple[Any, ...]) -> Shape:
        members: list[Shape] = []
        for arg in args:
            shape = self.shape(arg)
            for one in shape.members if isinstance(shape, UnionShape) else (shape,):
                if one.text not in [m.text for m in members]:
                    members.append(one)
        if len(members) == 1:
            return members[0]
        if any(isinstance(m, Anything) for m in members):
            return self.anything
        return UnionShape(tuple(members), self.book)

    def _literal(self, tp: Any) -> Shape:
        return self._union(tuple(dict.fromkeys([_class_of(v) for v in get_args(tp)])))

    def _generic(self, tp: Any, origin: Any, args: tuple[Any, ...]) -> Shape:
        if origin is tuple:
            if len(args) == 2 and args[1] is Ellipsis:
                return Sequence(tuple, self.shape(args[0]), frozen=True)
            if args == ((),):
                args = ()
            items = tuple(self.shape(a) for a in args)
            return _tuple(tuple, items, f"tuple[{', '.join([i.text for i in items]) or '()'}]", tuple)
        if origin in (list, set, collections.deque):
            return Sequence(origin, self.shape(args[0]))
        if origin is frozenset:
            return Sequence(frozenset, self.shape(args[0]), frozen=True)
        if origin is dict:
            return Dict(self.shape(args[0]), self.shape(args[1]))
        if origin in (collections.OrderedDict, collections.defaultdict, collections.Counter):
            return self._dict_kin(tp, origin, args)
        if origin in _LISTS:
            item = args[0]
            members = [_generic_of(list, item)]
            if origin is not abc.MutableSequence:
                members.append(_generic_of(tuple, item, ...))
            return self._union(tuple(members))
        if origin in (abc.Mapping, abc.MutableMapping):
            return self.shape(_generic_of(dict, args[0], args[1]))
        if origin in (abc.Set, abc.MutableSet):
            members = [_generic_of(set, args[0])]
            if origin is not abc.MutableSet:
                members.append(_generic_of(frozenset, args[0]))
            return self._union(tuple(members))
        if origin is cursors.Cursor:
            return self.cursor(args[0])
        if origin is Pending:
            return self.leaves[Pending]
        if _is_dataclass(origin):
            return self._dataclass(tp, origin, dict(zip(_parameters(origin), args, strict=False)))
        if _is_named_tuple(origin):
            return self._named_tuple(origin, dict(zip(_parameters(origin), args, strict=False)))
        if typing_extensions.is_typeddict(origin):
            return self._typed_dict(origin, type_text(tp), dict(zip(_parameters(origin), args, strict=False)))
        raise NoShape(f"{type_text(tp)} has no form in which it could be stored")

    def _dict_kin(self, tp: Any, origin: type, args: tuple[Any, ...]) -> Shape:
        key = self.shape(args[0])
        if origin is collections.Counter:
            return Dict(
                key, self.leaves[int], cls=origin, make=collections.Counter, text=f"Counter[{key.text}]"
            )
        value = self.shape(args[1])
        if origin is collections.OrderedDict:
            return Dict(
                key,
                value,
                cls=origin,
                make=collections.OrderedDict,
                text=f"OrderedDict[{key.text}, {value.text}]",
            )
        made = get_origin(args[1]) or args[1]
        if made not in _SAFE_FACTORIES:
            raise NoShape(f"the default factory of {type_text(tp)} cannot be stored")
        return Dict(
            key,
            value,
            cls=origin,
            make=lambda items: collections.defaultdict(made, items),
            text=f"defaultdict[{key.text}, {value.text}]",
        )

    def _class(self, cls: Any) -> Shape:
        if cls in (list, set, frozenset, collections.deque):
            return Sequence(cls, self.anything, frozen=cls is frozenset)
        if cls is tuple:
            return Sequence(tuple, self.anything, frozen=True)
        if cls in (dict, collections.OrderedDict, collections.Counter):
            return (
                self._generic(cls, cls, (str, Any)) if cls is not dict else Dict(self.anything, self.anything)
            )
        if issubclass(cls, BaseException):
            return Raised(cls, self.book, self.anything, self.book.name_of)
        if issubclass(cls, enum.Enum):
            return self._enum(cls)
        if issubclass(cls, BaseModel):
            return self._model(cls)
        if _is_dataclass(cls):
            return self._dataclass(cls, cls, {})
        if typing_extensions.is_typeddict(cls):
            return self._typed_dict(cls, cls.__name__, {})
        if _is_named_tuple(cls):
            return self._named_tuple(cls, {})
        if issubclass(cls, cursors.Cursor):
            return self.cursor(list[Any])
        if cls in _REFUSED or issubclass(cls, _REFUSED[:6]):
            raise NoShape(f"a {cls.__name__} cannot be stored")
        if _is_container(cls) and cls.__module__ != "builtins":
            return self._container_subclass(cls)
        if hasattr(cls, "__get_pydantic_core_schema__"):
            return self._foreign(cls)
        raise NoShape(f"{cls.__name__} is neither a model, a dataclass nor a plain type")

    def _enum(self, cls: type[enum.Enum]) -> Shape:
        by_value = all(type(m.value) in (str, int) for m in cls)
        if by_value:
            kind = "int" if all(type(m.value) is int for m in cls) else "string"
            shape: Shape = Text(cls, cls.__name__, lambda m: m.value, cls, kind=kind, plain=True)
        else:
            shape = Text(cls, cls.__name__, lambda m: m.name, lambda n: cls[n])
        self.book.claim(cls, self.name(cls), shape)
        shape.tag = self.name(cls)
        return shape

    def name(self, cls: type) -> str:
        """The name that a class asks for."""
        own = vars(cls).get("__contrapas_name__")
        return own if isinstance(own, str) else cls.__name__

    def _model(self, cls: type[BaseModel]) -> Shape:
        if "__get_pydantic_core_schema__" in vars(cls):
            return self._foreign(cls)
        shape = Model(cls, self.name(cls), self.book, self.anything)
        self.made[cls] = shape
        self.book.claim(cls, shape.tag, shape)
        if not cls.__pydantic_complete__:
            cls.model_rebuild(raise_errors=False)
        if cls.__name__ in ("Event", "Command") and cls.__module__ == "contrapas.author.event":
            self.book.subclasses(cls)
        shape.settle({n: self._field(cls.__name__, n, f.annotation) for n, f in cls.model_fields.items()})
        return shape

    def _dataclass(self, tp: Any, cls: type, env: Env) -> Shape:
        name = self.name(cls) if tp is cls else type_text(tp)
        shape = Dataclass(cls, name, self.book)
        self.made[tp] = shape
        if tp is cls:
            self.book.claim(cls, name, shape)
        hints = typing.get_type_hints(cls, include_extras=True)
        shape.settle({n: self._field(name, n, substitute(hints[n], env)) for n in shape.specs})
        return shape

    def _typed_dict(self, cls: Any, name: str, env: Env) -> Shape:
        shape = Typed(name, cls, frozenset(cls.__required_keys__))
        self.made[cls] = shape
        hints = typing_extensions.get_type_hints(cls, include_extras=False)
        shape.fields = {n: self._field(name, n, substitute(h, env)) for n, h in hints.items()}
        return shape

    def _named_tuple(self, cls: Any, env: Env) -> Shape:
        hints = typing.get_type_hints(cls)
        items = tuple(self._field(cls.__name__, n, substitute(hints.get(n, Any), env)) for n in cls._fields)
        shape = _tuple(cls, items, cls.__name__, _from_items(cls))
        shape.tag = self.name(cls)
        self.book.claim(cls, shape.tag, shape)
        return shape

    def _field(self, owner: str, name: str, annotation: Any) -> Shape:
        if holds_handles(annotation):
            raise NoShape(f"{owner}.{name}: a handle belongs to the function that began it (CP115)")
        try:
            return self.shape(annotation)
        except NoShape as why:
            raise NoShape(f"{owner}.{name}: {why.text}") from None

    def _container_subclass(self, cls: Any) -> Shape:
        base: Any = next(c for c in cls.__mro__ if c in (list, dict, set))
        declared = [b for b in getattr(cls, "__orig_bases__", ()) if get_origin(b) is base]
        inner = self.shape(declared[0] if declared else base)
        if cls.__dict__.get("__slots__") or cls.__new__ not in (list.__new__, dict.__new__, set.__new__):
            raise NoShape(f"{cls.__name__} keeps more than its items")

        def make(items: Any) -> Any:
            made: Any = cls.__new__(cls)
            fill: Any = getattr(base, "extend" if base is list else "update")
            fill(made, items)
            return made

        if isinstance(inner, Dict):
            shape: Shape = Dict(inner.key, inner.value, cls=cls, make=make, text=cls.__name__)
            shape.natural = frozenset()
        elif isinstance(inner, Sequence):
            shape = _Kin(cls, inner.item, make)
        else:
            raise NoShape(f"{cls.__name__} has no form in which it could be stored")
        shape.tag = self.name(cls)
        self.book.claim(cls, shape.tag, shape)
        return shape

    def _foreign(self, cls: type) -> Shape:
        """A class that brings its own pydantic schema."""
        adapter: TypeAdapter[Any] = TypeAdapter(cls)
        return Text(
            cls,
            cls.__name__,
            lambda v: adapter.dump_python(v, mode="json"),
            adapter.validate_python,
            kind="object",
        )

    def cursor(self, tp: Any) -> cursors.CursorShape:
        """The shape of a loop over values of a type."""
        origin, args = get_origin(tp), get_args(tp)
        if origin is cursors.Enumerated:
            inner = self.cursor(args[0])
            return cursors.CursorShape(f"enumerate[{inner.text[7:-1]}]", None, inner.item, (inner,))
        if origin is cursors.Zipped:
            parts = tuple(self.cursor(a) for a in get_args(args[0]))
            text = ", ".join([p.text[7:-1] for p in parts])
            return cursors.CursorShape(f"zip[{text}]", None, self.anything, parts)
        if origin is cursors.Backward:
            inner = self.cursor(args[0])
            return cursors.CursorShape(f"reversed[{inner.text[7:-1]}]", inner.sequence, inner.item)
        item = self.shape(item_type(tp))
        sequence = None
        try:
            if tp is not range:
                sequence = self.shape(tp)
        except NoShape:
            if origin not in (abc.KeysView, abc.ValuesView, abc.ItemsView):
                raise
        text = "range" if tp is range else type_text(tp) if sequence is None else sequence.text
        return cursors.CursorShape(text, sequence, item)


class _Kin(Sequence):
    """A user's subclass of list or set."""

    def __init__(self, cls: Any, item: Shape, make: Any) -> None:
        super().__init__(cls, item)
        self.text = cls.__name__
        self.natural = frozenset()
        self.make = make
        self.sorts = issubclass(cls, set)

    def unpack(self, data: Any, marks: Any) -> Any:
        plain = Sequence(list, self.item)
        value = plain.unpack(data, marks)
        return value if value.__class__ is self.cls else self.make(value)


def _class_of(value: Any) -> Any:
    return value.__class__


def _is_dataclass(cls: Any) -> bool:
    return is_dataclass(cls)


def _is_named_tuple(cls: Any) -> bool:
    return issubclass(cls, tuple) and getattr(cast("Any", cls), "_fields", None) is not None


def _is_container(cls: Any) -> bool:
    return issubclass(cls, list | dict | set)


def _from_items(cls: Any) -> Callable[[list[Any]], Any]:
    return lambda values: cls(*values)


def _generic_of(origin: Any, *args: Any) -> Any:
    """`origin[args]` of classes that are known at run time only."""
    return types.GenericAlias(origin, args)


def item_type(tp: Any) -> Any:
    """What a `for` over values of a type gives; Any when that is not known."""
    origin, args = get_origin(tp) or tp, get_args(tp)
    if origin is typing.Annotated:
        return item_type(args[0])
    if origin in (Union, types.UnionType):
        items = list(dict.fromkeys(item_type(a) for a in args))
        return items[0] if len(items) == 1 else Union[tuple(items)]  # noqa: UP007  built at run time
    if tp is range or origin in (bytes, bytearray):
        return int
    if tp is str:
        return str
    if origin is cursors.Enumerated:
        return _generic_of(tuple, int, item_type(args[0]))
    if origin is cursors.Zipped:
        return _generic_of(tuple, *[item_type(a) for a in get_args(args[0])])
    if origin is cursors.Backward:
        return item_type(args[0])
    if origin is abc.ItemsView:
        return _generic_of(tuple, args[0], args[1])
    if origin is abc.ValuesView:
        return args[-1]
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return args[0]
        if args in ((), ((),)):
            return Any
        return Union[tuple(dict.fromkeys(args))]  # noqa: UP007
    if args:
        return args[0]
    return Any


def substitute(tp: Any, env: Env) -> Any:
    """An annotation with its type variables replaced."""
    if not env:
        return tp
    if isinstance(tp, TypeVar):
        return env.get(tp, tp)
    args = get_args(tp)
    if not args:
        return tp
    new = tuple(substitute(a, env) for a in args)
    if new == args:
        return tp
    origin = get_origin(tp)
    if origin in (Union, types.UnionType):
        return Union[new]  # noqa: UP007
    if origin is typing.Annotated:
        return new[0]
    return origin[new] if origin is not None else tp


def type_text(tp: Any) -> str:
    """A type as people write it, the same on every Python: `list[str] | None`."""
    if tp is None or tp is type(None):
        return "None"
    if tp is Ellipsis:
        return "..."
    if tp is Any:
        return "Any"
    origin, args = get_origin(tp), get_args(tp)
    if origin in (Union, types.UnionType):
        return " | ".join([type_text(a) for a in args])
    if origin is typing.Annotated:
        return type_text(args[0])
    if origin is Literal:
        return f"Literal[{', '.join([repr(a) for a in args])}]"
    if origin is not None:
        name = getattr(origin, "__name__", str(origin))
        return f"{name}[{', '.join([type_text(a) for a in args])}]" if args else name
    if isinstance(tp, type):
        own = vars(tp).get("__contrapas_name__")
        return own if isinstance(own, str) else tp.__name__
    return getattr(tp, "__name__", None) or str(tp).removeprefix("typing.")


def _tuple(cls: type, items: tuple[Shape, ...], text: str, make: Any) -> Tuple:
    shape = Tuple(cls, items, text, make)
    shape.frozen = all(i.frozen for i in items)
    return shape


def _parameters(origin: Any) -> tuple[Any, ...]:
    return tuple(getattr(origin, "__parameters__", ()))


# Of the standard library's classes: every registry has them, and building one is slow.
_adapter: Callable[[Any], TypeAdapter[Any]] = functools.cache(TypeAdapter)


def _adapted(cls: Any) -> Text:
    adapter = _adapter(cls)
    write = adapter.serializer
    return Text(
        cls,
        cls.__name__,
        lambda v: write.to_python(v, mode="json"),
        adapter.validator.validate_python,
        plain=True,
    )


def _decimal(data: Any) -> Decimal:
    if data.__class__ is not str:
        raise Misfit(f"expected a Decimal as text, got {named(data)}", expected="text", got=named(data))
    return Decimal(data)


def _path(cls: Any) -> Text:
    return Text(cls, cls.__name__, str, lambda data: cls(data) if data.__class__ is str else _fail())


def _fail() -> Any:
    raise ValueError


def _leaves(book: Names) -> dict[Any, Shape]:
    """The shapes of what Python brings and is no container."""
    leaves: dict[Any, Shape] = {
        type(None): Scalar(type(None), {"null"}, (), book),
        bool: Scalar(bool, {"bool"}, (), book),
        int: Scalar(int, {"int", "bool"}, (bool,), book),
        str: Scalar(str, {"string"}, (), book),
        float: Float(book),
        bytes: Text(bytes, "bytes", write_bytes, read_bytes),
        Decimal: Text(Decimal, "Decimal", str, _decimal, plain=True),
        Fraction: Text(Fraction, "Fraction", str, lambda d: Fraction(d) if d.__class__ is str else _fail()),
        complex: Text(
            complex, "complex", lambda c: [repr(c.real), repr(c.imag)], times.read_complex, kind="array"
        ),
        datetime: Text(datetime, "datetime", times.write_datetime, times.read_datetime, plain=True),
        date: Text(date, "date", times.write_date, times.read_date, plain=True),
        time: Text(time, "time", times.write_time, times.read_time, plain=True),
        timedelta: Text(timedelta, "timedelta", times.write_timedelta, times.read_timedelta),
        range: Text(range, "range", lambda r: [r.start, r.stop, r.step], lambda d: range(*d), kind="array"),
        SecretStr: Text(SecretStr, "SecretStr", lambda s: s.get_secret_value(), SecretStr),
        SecretBytes: Text(
            SecretBytes,
            "SecretBytes",
            lambda s: write_bytes(s.get_secret_value()),
            lambda d: SecretBytes(read_bytes(d)),
        ),
        OpaqueValue: Text(OpaqueValue, "OpaqueValue", lambda v: v.text, OpaqueValue),
        Pending: handle_shape(),
        Telling: telling_shape(),
    }
    mutable = Text(
        bytearray, "bytearray", lambda b: write_bytes(bytes(b)), lambda d: bytearray(read_bytes(d))
    )
    mutable.frozen, mutable.token = False, (bytearray, "")
    leaves[bytearray] = mutable
    for cls in (
        uuid.UUID,
        ipaddress.IPv4Address,
        ipaddress.IPv6Address,
        ipaddress.IPv4Network,
        ipaddress.IPv6Network,
    ):
        leaves[cls] = _adapted(cls)
    for url in (AnyUrl, Url):
        leaves[url] = Text(url, url.__name__, str, url)
    for path in (
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.PurePath,
        pathlib.Path,
        pathlib.PosixPath,
    ):
        leaves[path] = _path(path)
    return leaves


def fields_of(shape: Shape) -> dict[str, Shape]:
    """The fields of a model or dataclass."""
    return shape.fields if isinstance(shape, Fields) else {}
