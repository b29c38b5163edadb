"""Walks over syntax trees that look only where nodes can be: compiler and checker spend most of their time in them.

`ast.walk` asks every field of every node; names, numbers, contexts and operators are most of them, and hold nothing.
"""

from __future__ import annotations

import ast
from typing import Final

_LEAVES: Final = frozenset(
    [
        "id",
        "attr",
        "ctx",
        "op",
        "ops",
        "kind",
        "lineno",
        "col_offset",
        "end_lineno",
        "end_col_offset",
        "type_comment",
        "conversion",
        "arg",
        "is_async",
        "simple",
        "level",
        "module",
        "asname",
        "rest",
        "kwd_attrs",
        "type_ignores",
    ]
)
"""Fields that hold no node, or only an operator or a context, in every class that has them."""
_NAMED: Final = frozenset(("TypeAlias",))
"""Classes whose `name` is a node; everywhere else it is a text."""
_EMPTY: Final = frozenset(("Constant", "Name", "Global", "Nonlocal", "alias", "MatchSingleton"))
_HOLES: Final = frozenset(("keys", "kw_defaults"))
"""Lists with None where there is nothing; every other list holds only nodes."""


class _Fields(dict[type, tuple[str, ...]]):
    """Class -> its fields that may hold nodes, in order."""

    def __missing__(self, cls: type) -> tuple[str, ...]:
        name = cls.__name__
        fields: tuple[str, ...] = getattr(cls, "_fields", ())
        if name in _EMPTY:
            fields = ()
        fields = tuple(f for f in fields if f not in _LEAVES and (f != "name" or name in _NAMED))
        self[cls] = fields
        return fields


FIELDS: Final = _Fields()


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes directly below, in order, without operators and contexts."""
    found: list[ast.AST] = []
    held = node.__dict__
    for name in FIELDS[node.__class__]:
        value = held.get(name)
        if value is None:
            continue
        if value.__class__ is list:
            found += [v for v in value if v is not None] if name in _HOLES else value
        else:
            found.append(value)
    return found


def walk(node: ast.AST) -> list[ast.AST]:
    """A tree's nodes, breadth first as `ast.walk` gives them, without operators and contexts."""
    found: list[ast.AST] = [node]
    fields = FIELDS
    for each in found:
        held = each.__dict__
        for name in fields[each.__class__]:
            value = held.get(name)
            if value is None:
                continue
            if value.__class__ is not list:
                found.append(value)
            elif name in _HOLES:
                found += [inner for inner in value if inner is not None]
            else:
                found += value
    return found


_BODIES: Final = ("body", "orelse", "handlers", "finalbody", "cases")


def statements(node: ast.AST) -> list[ast.AST]:
    """A tree's statements and what else holds some, breadth first, without their expressions."""
    found: list[ast.AST] = [node]
    for each in found:
        held = each.__dict__
        for name in _BODIES:
            value: list[ast.AST] | ast.AST | None = held.get(name)
            if isinstance(value, list):
                found += value
    return found
