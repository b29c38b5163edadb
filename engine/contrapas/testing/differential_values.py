"""Values and exceptions as plain text-like data for comparison, and values made up for a type from a seed."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import types
import typing
from collections.abc import Callable
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from contrapas.author.event import Event
from contrapas.author.flight import Pending
from contrapas.author.op import MISSING, Op, UndoRef
from contrapas.codec.exceptions import OWN

WORDS: Final = ("", "a", "mug", "zoë", "$x", "x/y")
_PLAIN: Final = frozenset((int, str, bool, type(None), float, bytes))
Undoing = Callable[[Any, Any], Any]
"""(`undo=` of an operation, a sample reply) -> the operation or command that takes it back."""


def picture(value: Any, seen: dict[int, int] | None = None) -> Any:
    """A value as nested tuples of names and texts: equal pictures mean equal values of equal classes.

    Objects that are met twice are told, so that sharing within a value shows; sets lose their order.
    """
    if value.__class__ in _PLAIN:
        return (value.__class__.__name__, repr(value))
    seen = {} if seen is None else seen
    if _is(value, BaseException):
        return describe(value, seen)
    if value is None or _is(value, str, int, float, bytes, complex, enum.Enum):
        return (_name(value), repr(value))
    if _is(value, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType):
        return ("named", getattr(value, "__name__", "?"))
    if _is(value, Op):
        return told(value, None, None)
    if _is(value, Pending):
        return ("Pending",)  # what it says is different in the two forms
    if _is(value, list, dict, set, BaseModel) or _is_dataclass(value):
        frozen = _is(value, BaseModel) and bool(value.model_config.get("frozen"))
        if not frozen and id(value) in seen:
            return ("again", seen[id(value)])
        seen[id(value)] = len(seen)
    return (_name(value), _inside(value, seen))


def _inside(value: Any, seen: dict[int, int]) -> Any:
    """The parts of a value."""
    if _is(value, dict):
        return tuple([(picture(k, seen), picture(v, seen)) for k, v in value.items()])
    if _is(value, set, frozenset):
        return tuple(sorted(repr(picture(v, {})) for v in value))
    if _is(value, list, tuple):
        return tuple([picture(v, seen) for v in value])
    if _is(value, BaseModel):
        return tuple([(k, picture(v, seen)) for k, v in value.__dict__.items()])
    if _is_dataclass(value):
        fields = dataclasses.fields(value)
        return tuple([(f.name, picture(getattr(value, f.name, None), seen)) for f in fields])
    own: Any = getattr(value.__class__, "__repr__", None)
    return repr(value) if own is not object.__repr__ else ""


def _is(value: Any, *classes: type) -> bool:
    return isinstance(value, classes)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value)


def _name(value: Any) -> str:
    return type(value).__name__


def describe(exc: Any, seen: dict[int, int] | None = None) -> Any:
    """An exception: type, arguments, attributes, notes, cause, context, suppress flag, members of a group."""
    if exc is None:
        return None
    seen = {} if seen is None else seen
    if id(exc) in seen:
        return ("again", seen[id(exc)])
    seen[id(exc)] = len(seen)
    held: dict[str, Any] = exc.__dict__
    attributes = {k: v for k, v in held.items() if k not in OWN}
    notes = [n for n in getattr(exc, "__notes__", ()) if not str(n).startswith("raised at ")]
    inner: tuple[BaseException, ...] = ()
    if _is(exc, BaseExceptionGroup):
        inner = exc.exceptions
    arguments: tuple[Any, ...] = exc.args[:1] if inner else exc.args
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
        picture(op.many),
        (op.fresh, op.undo_failed),
        tuple([told(c, undoing, sample) for c in op.children]),
    )


def _undone(op: Op[Any], undoing: Undoing | None, sample: Callable[[Op[Any]], Any] | None) -> Any:
    made = op.undo
    try:
        if _is(made, UndoRef) or callable(made):
            if undoing is None or sample is None:
                return "lambda"
            made = undoing(made, sample(op))
    except Exception as why:  # noqa: BLE001  whatever the author's code raises
        return ("raises", type(why).__name__, why.args)
    return told(made, None, None) if _is(made, Op) else picture(made)


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
        several: Any = origin
        return several([make(args[0], chance, depth - 1) for _ in range(size)])
    if origin is dict:
        return {make(args[0], chance, depth - 1): make(args[1], chance, depth - 1) for _ in range(size)}
    if isinstance(tp, type) and issubclass(tp, enum.Enum):
        return chance.one(list(tp))
    return _composed(tp, chance, depth)


def _composed(tp: Any, chance: Chance, depth: int) -> Any:
    kind: Any = tp
    if isinstance(tp, type) and issubclass(tp, BaseModel):
        key = getattr(tp, "__contrapas_key__", "") if issubclass(tp, Event) else ""
        fields = {
            n: "k" if n == key else make(f.annotation, chance, depth - 1) for n, f in tp.model_fields.items()
        }
        return tp(**fields)
    hints = _hints(kind)
    if _is_dataclass(kind):
        return kind(**{f.name: make(hints[f.name], chance, depth - 1) for f in dataclasses.fields(kind)})
    if isinstance(tp, type) and issubclass(tp, tuple):
        return kind(*[make(h, chance, depth - 1) for h in hints.values()])
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
