"""Codecs written out for what slots, arguments and results hold most: whole numbers, counted loops, values that are read once.

Each gives the very text or value that the general way gives, and leaves to it whatever it does not know at a glance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pydantic_core import to_json

from contrapas.codec.cursor import CursorShape, NameCursor, RangeCursor
from contrapas.codec.models import Model, plain
from contrapas.codec.registry import Arguments, Codec
from contrapas.codec.shapes import Scalar, Sequence, Shape, Tuple, Union
from contrapas.errors import DataError

Dump = Callable[[Any], str]
Load = Callable[[str], Any]
_LARGE: Final = 1 << 63


def exact(shape: Shape) -> bool:
    """Values of this shape never change and come back as they went, so that one of them may stand for its text (R10)."""
    if type(shape) is Scalar:
        return True
    if type(shape) is Sequence:
        return shape.frozen and shape.cls is tuple and exact(shape.item)
    if type(shape) is Tuple:
        return shape.cls is tuple and all(exact(item) for item in shape.items)
    if type(shape) is Union:
        return all(exact(member) for member in shape.members)
    if type(shape) is Model:
        alone = shape.frozen and plain(shape) and not shape.model.__subclasses__()
        return alone and all(exact(field) for field in shape.fields.values())
    return False


def exact_codec(codec: Any) -> bool:
    """The same of a codec's shape."""
    shape = getattr(codec, "shape", None)
    return isinstance(shape, Shape) and exact(shape)


def exact_arguments(codec: Any) -> int:
    """How many arguments by position of a step may be handed on as they are; by name none."""
    shape = getattr(codec, "shape", None)
    if type(shape) is not Arguments or not all(exact(part) for part in shape.positional):
        return 0
    return len(shape.positional)


def dump_of(codec: Any) -> Dump:
    """The quickest `dump` of a codec."""
    general: Dump = codec.dump
    shape = getattr(codec, "shape", None)
    if type(shape) is Scalar and shape.cls is int:
        return _dump_int(general)
    if type(shape) is Scalar and shape.cls is str:
        return _dump_text(general)
    if type(shape) is CursorShape:
        return _dump_cursor(general)
    if type(shape) is Arguments and exact_arguments(codec):
        return _dump_arguments(general, [dump_of(Codec(part)) for part in shape.positional])
    return general


def load_of(codec: Any) -> Load:
    """The quickest `load` of a codec."""
    general: Load = codec.load
    shape = getattr(codec, "shape", None)
    if type(shape) is Scalar and shape.cls is int:
        return _load_int(general)
    if type(shape) is CursorShape:
        return _load_cursor(general)
    return general


def _dump_int(general: Dump) -> Dump:
    def dump(value: Any) -> str:
        return repr(value) if value.__class__ is int and -_LARGE < value < _LARGE else general(value)

    return dump


def _dump_text(general: Dump) -> Dump:
    def dump(value: Any) -> str:
        if value.__class__ is str and value.isascii():
            return to_json(value).decode()
        return general(value)

    return dump


def _dump_arguments(general: Dump, parts: list[Dump]) -> Dump:
    """Arguments by position that never change: none can be met twice, so each is written by itself."""

    def dump(value: Any) -> str:
        args, kwargs = value
        if kwargs or not 0 < len(args) <= len(parts):
            return general(value)
        try:
            if len(args) == 1:
                return f'{{"args":[{parts[0](args[0])}]}}'
            return f'{{"args":[{",".join([part(item) for part, item in zip(parts, args, strict=False)])}]}}'
        except DataError:
            return general(value)  # its words say where

    return dump


def _load_int(general: Load) -> Load:
    def load(text: str) -> Any:
        if text.isdecimal() and text.isascii() and len(text) < 19 and (text[0] != "0" or len(text) == 1):
            return int(text)
        return general(text)

    return load


def _dump_cursor(general: Dump) -> Dump:
    def dump(value: Any) -> str:
        if value.__class__ is RangeCursor:
            left = value.left
            if (
                -_LARGE < left.start < _LARGE
                and -_LARGE < left.stop < _LARGE
                and -_LARGE < left.step < _LARGE
            ):
                return f'{{"range":[{left.start},{left.stop},{left.step}]}}'
        elif value.__class__ is NameCursor:
            return f'{{"at":{value.position}}}'
        return general(value)

    return dump


def _load_cursor(general: Load) -> Load:
    def load(text: str) -> Any:
        try:
            if text.startswith('{"range":['):
                start, stop, step = text[10:-2].split(",")
                return RangeCursor(range(int(start), int(stop), int(step)))
            if text.startswith('{"at":'):
                return NameCursor(int(text[6:-1]))
        except ValueError:
            pass
        return general(text)

    return load
