"""Which mutable objects are met twice: numbers for them in the text, so that one object stays one.

Two slots are encoded together only where their types allow that they share an object (`may_share`), and marks appear
only where they really do: `{"$id": 1, "$value": ...}` at the first visit, `{"$ref": 1}` at the others. Everywhere else
the text is the same as without this module.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from typing import Any

from contrapas.codec.shapes import Json, Misfit, Shape

ANYTHING = ("anything", "")
"""Token of a type that may hold whatever the registry knows."""


class Packing:
    """Numbers for the objects in `shared`; and, whatever is shared, an error for a value that holds itself."""

    def __init__(self, shared: set[int]) -> None:
        self._shared = shared
        self._numbers: dict[int, int] = {}
        self._open: set[int] = set()

    def seen(self, value: Any, /) -> Json | None:
        return self.enter(value, cyclic=False)

    def enter(self, value: Any, *, cyclic: bool) -> Json | None:
        """As `seen`; a cyclic one (an exception) may be met again before it is complete."""
        me = id(value)
        if me in self._open and not cyclic:
            raise Misfit("the value holds itself", expected="a tree", got="a cycle")
        if me in self._numbers:
            return {"$ref": self._numbers[me]}
        self._open.add(me)
        if me in self._shared:
            self._numbers[me] = len(self._numbers) + 1
        return None

    def mark(self, value: Any, data: Json, /) -> Json:
        self._open.discard(id(value))
        number = self._numbers.get(id(value))
        return data if number is None else {"$id": number, "$value": data}

    def known(self, data: Json, /) -> tuple[bool, Any, Json, int]:
        raise NotImplementedError

    def remember(self, number: int, value: Any, /) -> None:
        raise NotImplementedError


class Unpacking:
    """The objects by number, as they are read."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}

    def known(self, data: Json, /) -> tuple[bool, Any, Json, int]:
        if data.__class__ is dict:
            if "$ref" in data:
                if data["$ref"] not in self._objects:
                    raise Misfit(
                        f"no object has the number {data['$ref']}", expected="a number", got=str(data["$ref"])
                    )
                return True, self._objects[data["$ref"]], None, 0
            if "$id" in data and "$value" in data:
                return False, None, data["$value"], data["$id"]
        return False, None, data, 0

    def remember(self, number: int, value: Any, /) -> None:
        self._objects[number] = value

    def seen(self, value: Any, /) -> Json | None:
        raise NotImplementedError

    def mark(self, value: Any, data: Json, /) -> Json:
        raise NotImplementedError


def doubles(values: Iterable[tuple[Shape, Any]]) -> set[int]:
    """The `id`s of mutable objects that are met more than once within these values."""
    met: set[int] = set()
    twice: set[int] = set()

    def meet(value: Any) -> bool:
        me = id(value)
        if me in met:
            twice.add(me)
            return False
        met.add(me)
        return True

    for shape, value in values:
        shape.visit(value, meet)
    return twice


def tokens(shape: Shape) -> frozenset[Any]:
    """The mutable types that values of this shape can reach."""
    found: set[Any] = set()
    seen: set[int] = set()
    stack = [shape]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if part.token is not None:
            found.add(part.token)
        stack.extend(inner for inner, _ in part.parts())
    return frozenset(found)


def may_share(left: Iterable[Any], right: Iterable[Any]) -> bool:
    """Whether values of two types can hold one mutable object between them."""
    others = list(right)
    return any(_same(a, b) for a in left for b in others)


def may_alias(shape: Shape) -> bool:
    """Whether one value of this shape can hold a mutable object at two places."""
    return _aliases(shape, ())[0]


def _aliases(shape: Shape, above: tuple[int, ...]) -> tuple[bool, frozenset[Any]]:
    if id(shape) in above:
        return True, tokens(shape)
    mine: set[Any] = set()
    for part, many in shape.parts():
        found, inner = _aliases(part, (*above, id(shape)))
        if found or (many and inner):
            return True, tokens(shape)
        if not getattr(shape, "by_tag", None) and may_share(mine, inner):
            return True, tokens(shape)
        mine |= inner
    if shape.token is not None:
        mine.add(shape.token)
    return shape.token == ANYTHING, frozenset(mine)


def _same(a: Any, b: Any) -> bool:
    if a == b or ANYTHING in (a, b):
        return True
    if a[1] or b[1]:
        return bool(a[0] is b[0] and ("Any" in a[1] or "Any" in b[1] or _overlap(a[1], b[1])))
    return issubclass(a[0], b[0]) or issubclass(b[0], a[0])


@functools.cache
def _overlap(one: str, other: str) -> bool:
    """Whether two element types, as text, have a member in common.

    `ys = xs; ys.append(found)` makes `ys` a list of what was found too, and it is still the list of `xs`.
    """
    try:
        return _meet(ast.parse(one, mode="eval").body, ast.parse(other, mode="eval").body)
    except SyntaxError:  # a name with an address in it, say: then it may be anything
        return True


def _meet(one: ast.expr, other: ast.expr) -> bool:
    several, others = _members(one), _members(other)
    if len(several) > 1 or len(others) > 1:
        return any(_meet(a, b) for a in several for b in others)
    if isinstance(one, ast.Tuple) and isinstance(other, ast.Tuple):
        pairs = zip(one.elts, other.elts, strict=False)
        return len(one.elts) == len(other.elts) and all(_meet(a, b) for a, b in pairs)
    if isinstance(one, ast.Subscript) and isinstance(other, ast.Subscript):
        return ast.dump(one.value) == ast.dump(other.value) and _meet(one.slice, other.slice)
    return ast.dump(one) == ast.dump(other)


def _members(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [*_members(node.left), *_members(node.right)]
    return [node]
