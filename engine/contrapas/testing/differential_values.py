"""Values and exceptions as plain text-like data for comparison, and values made up for a type from a seed."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import types
import typing
from collections.abc import Callable
from typing import Any, Final, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel

from contrapas.author.event import Event
from contrapas.author.op import MISSING, Op, UndoRef
from contrapas.codec.exceptions import OWN

WORDS: Final = ("", "a", "mug", "zoë", "$x", "x/y")
Undoing = Callable[[Any, Any], Any]
"""(`undo=` of an operation, a sample reply) -> the operation or command that takes it back."""


def picture(value: Any, seen: dict[int, int] | None = None) -> Any:
    """A value as nested tuples of names and texts: equal pictures mean equal values of equal classes.

    Objects that are met twice are told, so that sharing within a value shows; sets lose their order.
    """
    seen = {} if seen is None else seen
    if isinstance(value, BaseException):
        return describe(value, seen)
    if (
        value is None
        or isinstance(value, str | int | float | bytes | complex)
        or isinstance(value, enum.Enum)
    ):
        return (type(value).__name__, repr(value))
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
        return ("named", getattr(value, "__name__", "?"))
    if isinstance(value, list | dict | set | BaseModel) or dataclasses.is_dataclass(value):
        frozen = isinstance(value, BaseModel) and bool(value.model_config.get("frozen"))
        if not frozen and id(value) in seen:
            return ("again", seen[id(value)])
        seen[id(value)] = len(seen)
    name = type(value).__name__
    if isinstance(value, dict):
        pairs = cast("dict[Any, Any]", value).items()
        return (name, tuple([(picture(k, seen), picture(v, seen)) for k, v in pairs]))
    if isinstance(value, set | frozenset):
        return (name, tuple(sorted(repr(picture(v, {})) for v in cast("set[Any]", value))))
    if isinstance(value, list | tuple):
        return (name, tuple([picture(v, seen) for v in cast("list[Any]", value)]))
    if isinstance(value, BaseModel):
        return (name, tuple([(k, picture(v, seen)) for k, v in value.__dict__.items()]))
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return (name, tuple([(f.name, picture(getattr(value, f.name, None), seen)) for f in fields]))
    if isinstance(value, Op):
        return told(cast("Op[Any]", value), None, None)
    return (name, repr(value) if type(value).__repr__ is not object.__repr__ else "")


def describe(exc: BaseException | None, seen: dict[int, int] | None = None) -> Any:
    """An exception: type, arguments, attributes, notes, cause, context, suppress flag, members of a group."""
    if exc is None:
        return None
    seen = {} if seen is None else seen
    if id(exc) in seen:
        return ("again", seen[id(exc)])
    seen[id(exc)] = len(seen)
    attributes = {k: v for k, v in vars(exc).items() if k not in OWN}
    notes = [n for n in getattr(exc, "__notes__", ()) if not str(n).startswith("raised at ")]
    inner: tuple[BaseException, ...] = ()
    if isinstance(exc, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", exc).exceptions
    arguments = exc.args[:1] if inner else exc.args
    return (
        type(exc).__name__,
        tuple([picture(a, seen) for a in arguments]),
        tuple([(k, picture(v, seen)) for k, v in sorted(attributes.items())]),
        tuple(notes),
        ("cause", describe(exc.__cause__, seen)),
        ("context", describe(exc.__context__, seen)),
        exc.__suppress_context__,
        tuple([describe(e, seen) for e in inner]),
    )


def told(op: Op[Any], undoing: Undoing | None, sample: Callable[[Op[Any]], Any] | None) -> Any:
    """An operation with its arguments in order, and what its `undo=` gives for a sample reply."""
    undo: Any = "missing"
    if op.undo is None:
        undo = None
    elif op.undo is not MISSING:
        undo = _undone(op, undoing, sample)
    return (
        op.kind,
        op.name,
        picture(op.value) if op.kind != "wait" else tuple(c.__name__ for c in op.value),
        op.within_ms,
        repr(op.retry),
        op.fail_fast,
        op.label,
        picture(op.correlate),
        undo,
        tuple([told(c, undoing, sample) for c in op.children]),
    )


def _undone(op: Op[Any], undoing: Undoing | None, sample: Callable[[Op[Any]], Any] | None) -> Any:
    made = op.undo
    try:
        if isinstance(made, UndoRef) or callable(made):
            if undoing is None or sample is None:
                return "lambda"
            made = undoing(made, sample(op))
    except Exception as why:
        return ("raises", type(why).__name__, why.args)
    return told(cast("Op[Any]", made), None, None) if isinstance(made, Op) else picture(made)


class Chance:
    """Numbers from a seed and some words; the same on every platform and Python."""

    def __init__(self, *words: object) -> None:
        self._text = "\0".join(map(str, words)).encode()
        self._count = 0

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        self._count += 1
        digest = hashlib.blake2b(self._text + b"\0%d" % self._count, digest_size=8).digest()
        return int.from_bytes(digest, "big") % limit

    def one(self, several: Any) -> Any:
        """One of several."""
        return several[self.below(len(several))]

    def share(self, part: float) -> bool:
        """True for about this part of all calls."""
        return self.below(10_000) < part * 10_000


def make(tp: Any, chance: Chance, depth: int = 3) -> Any:
    """A value of a type, built anew."""
    simple = _SIMPLE.get(tp) if isinstance(tp, type) else None
    if simple is not None:
        return simple(chance)
    origin, args = get_origin(tp), get_args(tp)
    if tp is None or tp is types.NoneType:
        return None
    if tp is Any:
        return chance.one((0, 1, "a", None, True))
    if origin in (Union, types.UnionType):
        return make(chance.one(args), chance, depth - 1)
    if origin is typing.Annotated:
        return make(args[0], chance, depth)
    if origin is Literal:
        return chance.one(args)
    size = chance.below(4) if depth > 0 else 0
    if origin is tuple and Ellipsis not in args:
        return tuple([make(a, chance, depth - 1) for a in args if a != ()])
    if origin in (list, tuple, set, frozenset):
        return origin([make(args[0], chance, depth - 1) for _ in range(size)])
    if origin is dict:
        return {make(args[0], chance, depth - 1): make(args[1], chance, depth - 1) for _ in range(size)}
    if isinstance(tp, type) and issubclass(tp, enum.Enum):
        return chance.one(list(tp))
    return _composed(tp, chance, depth)


def _composed(tp: Any, chance: Chance, depth: int) -> Any:
    if isinstance(tp, type) and issubclass(tp, BaseModel):
        key = getattr(tp, "__contrapas_key__", "") if issubclass(tp, Event) else ""
        fields = {
            n: "k" if n == key else make(f.annotation, chance, depth - 1) for n, f in tp.model_fields.items()
        }
        return tp(**fields)
    if dataclasses.is_dataclass(tp):
        hints = _hints(tp)
        return cast("type[Any]", tp)(
            **{f.name: make(hints[f.name], chance, depth - 1) for f in dataclasses.fields(tp)}
        )
    if isinstance(tp, type) and issubclass(tp, tuple):
        return tp(*[make(h, chance, depth - 1) for h in _hints(tp).values()])
    raise TypeError(f"no value can be made up for {tp!r}")


@functools.cache
def _hints(tp: Any) -> dict[str, Any]:
    return typing.get_type_hints(tp)


_SIMPLE: Final[dict[Any, Callable[[Chance], Any]]] = {
    int: lambda c: c.below(12) - 3,
    bool: lambda c: c.share(0.5),
    str: lambda c: c.one(WORDS),
    float: lambda c: c.below(40) / 8,
    bytes: lambda c: c.one((b"", b"\x00\xff")),
}
