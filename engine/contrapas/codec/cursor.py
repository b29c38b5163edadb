"""Loop cursors: how far a `for` with awaits inside has come, as plain data. Never a pickled iterator.

A list is followed by position, so that what is appended while iterating is met; views of dicts and sets are copied when
the loop begins. `more()` says whether there is a further item and gets it ready, `take()` gives it.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, KeysView, ValuesView
from collections.abc import Sequence as AnySequence
from typing import Any, Final, Generic, TypeVar, cast

from contrapas.codec.shapes import Json, Marks, Misfit, Shape

T = TypeVar("T")
END: Final = object()


class Cursor(Generic[T]):
    """Where a loop over a `T` stands. As an annotation, `Cursor[list[str]]`, it is the type of the hidden slot."""

    __slots__ = ()

    def more(self) -> bool:
        """Whether there is a further item."""
        raise NotImplementedError

    def take(self) -> Any:
        """The next item, after `more`."""
        raise NotImplementedError


class Enumerated(Generic[T]):
    """In `Cursor[Enumerated[list[str]]]`: the loop is over `enumerate(...)`."""


class Backward(Generic[T]):
    """In `Cursor[Backward[list[str]]]`: the loop is over `reversed(...)`."""


class Zipped(Generic[T]):
    """In `Cursor[Zipped[tuple[list[str], range]]]`: the loop is over `zip(...)`."""


class SequenceCursor(Cursor[Any]):
    """A list, tuple, text or bytes, by position."""

    __slots__ = ("position", "sequence")

    def __init__(self, sequence: AnySequence[Any], position: int = 0) -> None:
        self.sequence = sequence
        self.position = position

    def more(self) -> bool:
        return self.position < len(self.sequence)

    def take(self) -> Any:
        item = self.sequence[self.position]
        self.position += 1
        return item


class NameCursor(Cursor[Any]):
    """Only the position in a sequence that a local holds and the loop does not rebind; the local is passed each time."""

    __slots__ = ("position",)

    def __init__(self, position: int = 0) -> None:
        self.position = position

    def more(self, sequence: Any = (), /) -> bool:
        return self.position < len(sequence)

    def take(self, sequence: Any = (), /) -> Any:
        self.position += 1
        return sequence[self.position - 1]


class BackwardCursor(Cursor[Any]):
    """A sequence from its end. What is appended meanwhile is not met; what is cut off ends the loop, as in Python."""

    __slots__ = ("position", "sequence")

    def __init__(self, sequence: AnySequence[Any], position: int | None = None) -> None:
        self.sequence = sequence
        self.position = len(sequence) - 1 if position is None else position

    def more(self) -> bool:
        return 0 <= self.position < len(self.sequence)

    def take(self) -> Any:
        item = self.sequence[self.position]
        self.position -= 1
        return item


class RangeCursor(Cursor[Any]):
    """A range: what is left of it."""

    __slots__ = ("left",)

    def __init__(self, left: range) -> None:
        self.left = left

    def more(self) -> bool:
        return len(self.left) > 0

    def take(self) -> Any:
        item = self.left[0]
        self.left = self.left[1:]
        return item


class CopyCursor(Cursor[Any]):
    """What is left of a copy of a dict's view or a set."""

    __slots__ = ("items", "position")

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.position = 0

    def more(self) -> bool:
        return self.position < len(self.items)

    def take(self) -> Any:
        item = self.items[self.position]
        self.position += 1
        return item


class EnumerateCursor(Cursor[Any]):
    """`enumerate(...)`: the next number and another cursor."""

    __slots__ = ("count", "inner")

    def __init__(self, inner: Cursor[Any], count: int = 0) -> None:
        self.inner = inner
        self.count = count

    def more(self) -> bool:
        return self.inner.more()

    def take(self) -> Any:
        pair = (self.count, self.inner.take())
        self.count += 1
        return pair


class ZipCursor(Cursor[Any]):
    """`zip(...)`: several cursors; with `strict`, unequal lengths are an error."""

    __slots__ = ("inner", "strict")

    def __init__(self, inner: list[Cursor[Any]], strict: bool = False) -> None:
        self.inner = inner
        self.strict = strict

    def more(self) -> bool:
        for place, cursor in enumerate(self.inner):
            if cursor.more():
                continue
            if self.strict:
                self._unequal(place)
            return False
        return bool(self.inner)

    def _unequal(self, place: int) -> None:
        if place:
            before = "argument 1" if place == 1 else f"arguments 1-{place}"
            raise ValueError(f"zip() argument {place + 1} is shorter than {before}")
        for other, cursor in enumerate(self.inner[1:], 2):
            if cursor.more():
                before = "argument 1" if other == 2 else f"arguments 1-{other - 1}"
                raise ValueError(f"zip() argument {other} is longer than {before}")

    def take(self) -> Any:
        return tuple([cursor.take() for cursor in self.inner])


def cursor(items: Any, /) -> Cursor[Any]:
    """The cursor of what a `for` goes over.

    `enumerate`, `zip` and `reversed` objects are taken apart before they give their first item. TypeError for what
    cannot be iterated, or only as an iterator that cannot be stored (a generator, `map`, a file).
    """
    value: Any = items
    kind: Any = value.__class__
    if isinstance(items, Cursor):
        return value  # type: ignore[no-any-return]
    if kind is range:
        return RangeCursor(value)
    if kind in _EXACT:
        return SequenceCursor(value)
    if isinstance(items, dict | set | frozenset | KeysView | ValuesView | ItemsView):
        return CopyCursor(list(value))
    if hasattr(items, "__next__"):
        return _taken_apart(value)
    if isinstance(items, AnySequence) and getattr(kind, "__iter__", None) in _SAME_WALK:
        return SequenceCursor(value)
    return CopyCursor(list(value))


_EXACT: Final = frozenset({list, tuple, str, bytes, bytearray, range})
_SAME_WALK: Final[tuple[Any, ...]] = tuple([getattr(kind, "__iter__") for kind in (list, tuple, str)])  # noqa: B009
"""A subclass that is walked as its built-in base is."""


def _taken_apart(items: Any) -> Cursor[Any]:
    """The cursor that goes on where a fresh built-in iterator stands."""
    kind: Any = items.__class__
    if kind in (enumerate, zip) or kind.__name__ in _ITERATORS:
        made, parts, *state = items.__reduce__()
        if made is enumerate:
            inner, count = parts
            return EnumerateCursor(cursor(inner), count)
        if made is zip:
            return ZipCursor([cursor(p) for p in parts], bool(state and state[0]))
        position = state[0] if state and state[0].__class__ is int else 0
        if made is reversed:
            return BackwardCursor(parts[0], position)
        if isinstance(parts[0], range):
            return RangeCursor(parts[0][position:])
        return SequenceCursor(parts[0], position)
    raise TypeError(
        f"a loop with awaits cannot go over a started {kind.__name__}, which cannot be stored: write list(...) (CP125)"
    )


_ITERATORS: Final = frozenset(
    {
        "list_iterator",
        "tuple_iterator",
        "str_iterator",
        "str_ascii_iterator",
        "bytes_iterator",
        "bytearray_iterator",
        "range_iterator",
        "longrange_iterator",
        "list_reverseiterator",
        "reversed",
        "set_iterator",
        "dict_keyiterator",
        "dict_valueiterator",
        "dict_itemiterator",
        "dict_reversekeyiterator",
        "dict_reversevalueiterator",
        "dict_reverseitemiterator",
    }
)
"""Built-in iterators that say where they stand."""


def enumerate_cursor(items: Any, start: Any = 0) -> Cursor[Any]:
    """`enumerate(items, start)`."""
    return EnumerateCursor(cursor(items), start)


def zip_cursor(*items: Any, strict: bool = False) -> Cursor[Any]:
    """`zip(*items)`."""
    return ZipCursor([cursor(i) for i in items], strict)


def reversed_cursor(items: Any, /) -> Cursor[Any]:
    """`reversed(items)`; TypeError for what has no end."""
    if isinstance(items, list | tuple | str | bytes | bytearray):
        return BackwardCursor(cast("AnySequence[Any]", items))
    if isinstance(items, range):
        return RangeCursor(items[::-1])
    turned = reversed(items)
    return cursor(turned) if type(turned).__name__ in _ITERATORS else CopyCursor(list(turned))


class CursorShape(Shape):
    """A cursor over values of one type. The kind is named by the key of its data."""

    frozen = False
    kinds = frozenset({"object"})

    def __init__(
        self, text: str, sequence: Shape | None, item: Shape, inner: tuple[CursorShape, ...] = ()
    ) -> None:
        self.text = self.tag = f"Cursor[{text}]"
        self.sequence = sequence
        """Of a list, tuple or text: followed by position."""
        self.item = item
        self.inner = inner
        """Of `enumerate` (one) and `zip`."""

    def classes(self) -> tuple[type, ...]:
        return (Cursor,)

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        sequence = [] if self.sequence is None else [(self.sequence, False)]
        return [*sequence, (self.item, True), *[(i, False) for i in self.inner]]

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if isinstance(value, NameCursor):
            return {"at": value.position}
        if isinstance(value, RangeCursor):
            return {"range": [value.left.start, value.left.stop, value.left.step]}
        if isinstance(value, SequenceCursor) and self.sequence is not None:
            return {"of": self.sequence.pack(value.sequence, marks), "at": value.position}
        if isinstance(value, BackwardCursor) and self.sequence is not None:
            return {"back": self.sequence.pack(value.sequence, marks), "at": value.position}
        if isinstance(value, CopyCursor):
            return {"left": [self.item.pack(i, marks) for i in value.items[value.position :]]}
        if isinstance(value, EnumerateCursor) and len(self.inner) == 1:
            return {"enumerate": self.inner[0].pack(value.inner, marks), "count": value.count}
        if isinstance(value, ZipCursor) and len(self.inner) == len(value.inner):
            parts = [s.pack(c, marks) for s, c in zip(self.inner, value.inner, strict=True)]
            return {"zip": parts, "strict": True} if value.strict else {"zip": parts}
        raise self.misfit(value)

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        if data.__class__ is not dict:
            raise self.misfit(data)
        try:
            return self._made(data, marks)
        except (KeyError, TypeError, ValueError):
            raise self.misfit(data) from None

    def _made(self, data: dict[str, Json], marks: Marks | None) -> Cursor[Any]:
        if "range" in data:
            return RangeCursor(range(*data["range"]))
        if "left" in data:
            return CopyCursor([self.item.unpack(i, marks) for i in data["left"]])
        if "enumerate" in data:
            return EnumerateCursor(self.inner[0].unpack(data["enumerate"], marks), int(data["count"]))
        if "zip" in data:
            parts = [s.unpack(d, marks) for s, d in zip(self.inner, data["zip"], strict=True)]
            return ZipCursor(parts, bool(data.get("strict", False)))
        position = data["at"]
        if position.__class__ is not int:
            raise Misfit(f"expected a position, got {position!r}", expected="int", got=str(position))
        if self.sequence is not None and "of" in data:
            return SequenceCursor(self.sequence.unpack(data["of"], marks), position)
        if self.sequence is not None and "back" in data:
            return BackwardCursor(self.sequence.unpack(data["back"], marks), position)
        if len(data) == 1:
            return NameCursor(position)
        raise self.misfit(data)

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        if isinstance(value, SequenceCursor | BackwardCursor) and self.sequence is not None:
            self.sequence.visit(value.sequence, met)
        elif isinstance(value, CopyCursor):
            for item in value.items[value.position :]:
                self.item.visit(item, met)
        elif isinstance(value, EnumerateCursor) and self.inner:
            self.inner[0].visit(value.inner, met)
        elif isinstance(value, ZipCursor):
            for shape, inner in zip(self.inner, value.inner, strict=False):
                shape.visit(inner, met)
