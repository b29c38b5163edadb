"""Rules on types alone: what a union, an element, a part, a sum or an attribute of some types is (A6).

Two answers are no types: `BOTTOM`, not known yet (a later round of the analysis may tell), and `UNKNOWN`, not known.
An element type that nothing has told yet is `Never`, as in `[]`.
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, Never, Self, TypeVar, Union, get_args, get_origin

from contrapas.author.annotations import annotations_of
from contrapas.codec.builder import item_type, substitute
from contrapas.codec.cursor import Cursor
from contrapas.codec.kinds import generic, is_kind, is_model, is_named_tuple, model_fields
from contrapas.compiler import builtin_types as table


class _Word:
    """An answer that is no type."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __repr__(self) -> str:
        return self.word


BOTTOM: Final = _Word("BOTTOM")
UNKNOWN: Final = _Word("UNKNOWN")


def iterated(tp: Any) -> Any:
    """What a `for` over values of a type gives."""
    if tp is BOTTOM or tp is UNKNOWN:
        return tp
    found: list[Any] = []
    for member in members(tp):
        origin = get_origin(member) or member
        if origin in (Cursor,):
            found.append(iterated(get_args(member)[0]))
        elif origin in table.ITERABLES or get_args(member):
            found.append(item_type(member))
        elif is_kind(member, list, dict, set, tuple):
            bases = [b for b in getattr(member, "__orig_bases__", ()) if get_args(b)]
            found.append(item_type(bases[0]) if bases else Any)
        elif isinstance(member, type) and issubclass(member, enum.Enum):
            found.append(member)
        elif member is Any:
            found.append(Any)
        else:
            return UNKNOWN
    kind = merge(found)
    return BOTTOM if kind is Never else kind


def members(tp: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    if tp.__class__ is type:
        return (tp,)
    origin = get_origin(tp)
    if origin is Union or origin is types.UnionType:
        return get_args(tp)
    if origin is typing.Annotated:
        return members(get_args(tp)[0])
    if isinstance(tp, typing.NewType):
        return members(tp.__supertype__)
    return (types.NoneType,) if tp is None else (tp,)


def merge(found: list[Any]) -> Any:
    """One type for values of several; containers of one kind are merged by their elements."""
    if UNKNOWN in found:
        return UNKNOWN
    flat = [m for f in found if f is not BOTTOM for m in members(f) if m is not Never]
    if not flat:
        return BOTTOM if BOTTOM in found else Never
    if Any in flat:
        return Any
    kept: list[Any] = []
    for tp in flat:
        origin, args = get_origin(tp), get_args(tp)
        for place, other in enumerate(kept):
            if tp == other:
                break
            mergeable = origin in (list, set, frozenset, dict) or (origin is tuple and Ellipsis in args)
            if mergeable and get_origin(other) is origin and len(get_args(other)) == len(args):
                kept[place] = _elementwise(origin, other, tp)
                break
        else:
            kept.append(tp)
    return functools.reduce(_or, kept) if len(kept) > 1 and all(_joinable(k) for k in kept) else _union(kept)


def _or(a: Any, b: Any) -> Any:
    return a | b


def _joinable(tp: Any) -> bool:
    return hasattr(tp.__class__, "__or__") and not isinstance(tp, str)


def _union(kept: list[Any]) -> Any:
    return kept[0] if len(kept) == 1 else Union[tuple(kept)]  # noqa: UP007


def _elementwise(origin: Any, a: Any, b: Any) -> Any:
    args = [x if x is Ellipsis else merge([x, y]) for x, y in zip(get_args(a), get_args(b), strict=True)]
    return origin[tuple(args)]


def settle(tp: Any) -> Any:
    """The type with `Any` for elements that nothing told."""
    if tp is Never or tp is BOTTOM:
        return Any
    args = get_args(tp)
    origin = get_origin(tp)
    if not args or origin is Literal or origin is None:
        return tp
    new = tuple(a if a is Ellipsis else settle(a) for a in args)
    if new == args:
        return tp
    if origin in (Union, types.UnionType):
        return merge(list(new))
    return origin[new]


def bind_target(target: ast.expr, tp: Any, names: dict[str, Any]) -> None:
    """Give the names of a target the types of its parts."""
    if isinstance(target, ast.Name):
        names[target.id] = tp
    elif isinstance(target, ast.Starred):
        bind_target(target.value, tp, names)
    elif isinstance(target, ast.Tuple | ast.List):
        for place, inner in enumerate(target.elts):
            bind_target(inner, part_type(tp, place, target.elts), names)


def part_type(tp: Any, place: int, elts: list[ast.expr]) -> Any:
    """The type of one part of an unpacked value."""
    if tp is BOTTOM or tp is UNKNOWN:
        return tp
    star = next((i for i, e in enumerate(elts) if isinstance(e, ast.Starred)), None)
    found: list[Any] = []
    for member in members(tp):
        args = get_args(member)
        fixed = get_origin(member) is tuple and Ellipsis not in args
        if is_named_tuple(member):
            hints = typing.get_type_hints(member)
            args, fixed = tuple(hints.get(n, Any) for n in member._fields), True
        if not fixed:
            item = iterated(member)
            found.append(_list_of(item) if place == star else item)
        elif star is not None and place == star:
            rest = list(args[star : len(args) - (len(elts) - star - 1)])
            found.append(generic(list, merge(rest) if rest else Never))
        else:
            index = place if star is None or place < star else place - len(elts)
            found.append(args[index] if -len(args) <= index < len(args) else UNKNOWN)
    return merge(found)


def _list_of(item: Any) -> Any:
    return if_known([item], lambda: generic(list, item))


def type_of_value(value: Any) -> Any:
    """The type of a global value: a constant's class, a display's elements."""
    if isinstance(value, types.ModuleType):
        return types.ModuleType
    if isinstance(value, type):
        return type
    kind: Any = value.__class__
    if kind in (list, set, frozenset, tuple) and len(value) <= 1000:
        items = [type_of_value(v) for v in value]
        if kind is tuple:
            return if_known(items, lambda: generic(tuple, *items))
        return if_known(items, lambda: generic(kind, merge(items)))
    if kind is dict and len(value) <= 1000:
        keys, values = [type_of_value(k) for k in value], [type_of_value(v) for v in value.values()]
        return if_known([*keys, *values], lambda: generic(dict, merge(keys), merge(values)))
    return kind


def if_known(parts: list[Any], make: Callable[[], Any]) -> Any:
    if UNKNOWN in parts:
        return UNKNOWN
    return BOTTOM if BOTTOM in parts else make()


def arithmetic(a: Any, op: type[ast.operator], b: Any) -> Any:
    if a in table.NUMBERS and b in table.NUMBERS:
        if op in (ast.BitAnd, ast.BitOr, ast.BitXor) and a is b is bool:
            return bool
        if op is ast.Div:
            return complex if complex in (a, b) else float
        if op is ast.Pow and a in (bool, int) and b in (bool, int):
            return int | float
        for kind in (complex, float):
            if kind in (a, b):
                return kind
        return int
    left, right = get_origin(a) or a, get_origin(b) or b
    if op is ast.Mod and a in (str, bytes):
        return a
    if op is ast.Mult and int in (left, right) and {left, right} & {str, bytes, list, tuple}:
        kept = b if left is int else a
        args = get_args(kept)
        if get_origin(kept) is tuple and Ellipsis not in args:
            return generic(tuple, merge(list(args)), ...)
        return kept
    if op is ast.Add and left is right and left in (str, bytes):
        return left
    if op is ast.Add and left is right is tuple and Ellipsis not in (*get_args(a), *get_args(b)):
        return generic(tuple, *get_args(a), *get_args(b))
    if (
        left is right
        and left in (list, tuple, set, frozenset, dict)
        and op in (ast.Add, ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
    ):
        if left is tuple:
            return generic(tuple, merge([iterated(a), iterated(b)]), ...)
        return merge([a, b])
    if Decimal in (left, right) and {left, right} <= {Decimal, int, bool}:
        return Decimal
    return _dunder(a, op, b)


def _dunder(a: Any, op: type[ast.operator], b: Any) -> Any:
    pair: Any = (a, op, b)
    moments: dict[Any, Any] = {
        (datetime, ast.Sub, datetime): timedelta,
        (datetime, ast.Add, timedelta): datetime,
        (datetime, ast.Sub, timedelta): datetime,
        (timedelta, ast.Add, datetime): datetime,
        (date, ast.Sub, date): timedelta,
        (date, ast.Add, timedelta): date,
        (date, ast.Sub, timedelta): date,
        (timedelta, ast.Add, timedelta): timedelta,
        (timedelta, ast.Sub, timedelta): timedelta,
        (timedelta, ast.Mult, int): timedelta,
        (timedelta, ast.Div, timedelta): float,
        (timedelta, ast.FloorDiv, timedelta): int,
    }
    if hashable(pair) and pair in moments:
        return moments[pair]
    words: dict[Any, str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.Mod: "mod", ast.FloorDiv: "floordiv",
            ast.BitOr: "or", ast.BitAnd: "and", ast.BitXor: "xor", ast.Pow: "pow"}  # fmt: skip
    word = words.get(op)
    if word is None:
        return UNKNOWN
    found = declared_method(a, f"__{word}__")
    return declared_method(b, f"__r{word}__") if found is UNKNOWN else found


def field(tp: Any, name: str) -> Any:
    """The type of an attribute of a model, dataclass, named tuple, enum, exception or built-in."""
    if tp is Any:
        return Any
    origin = get_origin(tp) or tp
    row = table.ATTRIBUTES.get(origin)
    if row is not None and name in row:
        return row[name]
    if not isinstance(origin, type):
        return UNKNOWN
    kind: Any = origin
    if name in ("value", "name") and is_kind(origin, enum.Enum):
        return str if name == "name" else merge([m.value.__class__ for m in kind])
    if is_model(origin) and name in kind.model_fields:
        return model_fields(origin)[name]
    if name == "args" and is_kind(origin, BaseException):
        return tuple[Any, ...]
    hint = _class_hints(kind).get(name)
    if hint is not None:
        env = dict(zip(getattr(origin, "__parameters__", ()), get_args(tp), strict=False))
        return substitute(hint, env)
    found = inspect.getattr_static(origin, name, None)
    if isinstance(found, property) and found.fget is not None:
        return returned(found.fget, UNKNOWN)
    if isinstance(found, functools.cached_property):
        return returned(found.func, UNKNOWN)
    return UNKNOWN


@functools.lru_cache(maxsize=1024)
def _class_hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError, AttributeError):
        return {}


def item(tp: Any, index: ast.expr) -> Any:
    """The type of `value[index]`."""
    if tp is Any:
        return Any
    origin, args = get_origin(tp) or tp, get_args(tp)
    if tp in (str, bytes):
        return int if tp is bytes and not isinstance(index, ast.Slice) else tp
    if origin is tuple:
        if isinstance(index, ast.Slice):
            return generic(tuple, iterated(tp), ...) if args else generic(tuple)
        number = _number(index)
        if Ellipsis in args:
            return args[0]
        if number is not None:
            return args[number] if -len(args) <= number < len(args) else UNKNOWN
        return iterated(tp)
    if origin is list:
        return tp if isinstance(index, ast.Slice) else (args[0] if args else Any)
    if origin is dict or (len(args) == 2 and is_kind(origin, dict)):
        return args[1] if len(args) == 2 else Any
    if isinstance(tp, type) and hasattr(tp, "__required_keys__") and isinstance(index, ast.Constant):
        return typing.get_type_hints(tp).get(str(index.value), UNKNOWN)
    if is_named_tuple(tp):
        return part_type(tp, _number(index) or 0, [])
    if origin is range:
        return range if isinstance(index, ast.Slice) else int
    if args:
        return args[-1]
    return declared_method(tp, "__getitem__")


def _number(index: ast.expr) -> int | None:
    if (
        isinstance(index, ast.UnaryOp)
        and isinstance(index.op, ast.USub)
        and isinstance(index.operand, ast.Constant)
    ):
        return -index.operand.value if isinstance(index.operand.value, int) else None
    return index.value if isinstance(index, ast.Constant) and isinstance(index.value, int) else None


def declared_method(tp: Any, name: str) -> Any:
    origin = get_origin(tp) or tp
    if not is_kind(origin, object):
        return UNKNOWN
    if is_model(origin):
        if name in ("model_copy", "copy", "__copy__", "__deepcopy__"):
            return tp
        if name == "model_dump_json":
            return str
        if name == "model_dump":
            return dict[str, Any]
    found: Any = inspect.getattr_static(origin, name, None)
    if is_kind(found.__class__, staticmethod, classmethod):
        found = found.__func__
    result = returned(found, UNKNOWN, owner=origin)
    if isinstance(result, TypeVar):
        env: dict[Any, Any] = dict(zip(getattr(origin, "__parameters__", ()), get_args(tp), strict=False))
        return env.get(result, UNKNOWN)
    return result


def returned(func: Any, otherwise: Any, owner: type | None = None) -> Any:
    """The return annotation of a function."""
    try:
        hints = _annotations(func)
    except (NameError, TypeError, AttributeError):
        return otherwise
    if inspect.iscoroutinefunction(func) or "return" not in hints:
        return UNKNOWN
    found = hints["return"]
    if found is Self and owner is not None:
        return owner
    return (
        UNKNOWN
        if isinstance(found, TypeVar) and owner is None
        else types.NoneType
        if found is None
        else found
    )


def _annotations(func: Any) -> dict[str, Any]:
    if func.__class__ is types.FunctionType:
        hints = annotations_of(func)
        if hints.get("return").__class__ is type:  # else it may hold what `Annotated` adds
            return hints
    return typing.get_type_hints(func)


def hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
