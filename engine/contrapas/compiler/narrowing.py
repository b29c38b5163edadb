"""What a condition says of the types of names: `if not isinstance(v, Failed)` in a comprehension leaves the other members."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable
from typing import Any, cast, get_origin

from contrapas.compiler.type_rules import BOTTOM, UNKNOWN, members, merge

Resolve = Callable[[ast.expr], Any]
"""What a dotted name means outside of the function."""


def narrow(test: ast.expr, names: dict[str, Any], resolve: Resolve) -> None:
    """Leave in `names` the members of unions for which the test can hold; what it says nothing certain of stays."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        for value in test.values:
            narrow(value, names, resolve)
        return
    holds = True
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, holds = test.operand, not holds
    found = _asked(test, resolve)
    if found is None or names.get(found[0], BOTTOM) in (BOTTOM, UNKNOWN, Any):
        return
    name, classes, positive = found
    positive = positive is holds
    kept = [m for m in members(names[name]) if (sure := _below(m, classes)) is None or sure is positive]
    if kept and len(kept) < len(members(names[name])):
        names[name] = merge(kept)


def _asked(test: ast.expr, resolve: Resolve) -> tuple[str, tuple[type, ...], bool] | None:
    """(name, classes, whether it is to be one of them) of `isinstance(v, C)`, `v is None`, `v is not None`."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Is | ast.IsNot):
        right = test.comparators[0]
        if isinstance(test.left, ast.Name) and isinstance(right, ast.Constant) and right.value is None:
            return test.left.id, (types.NoneType,), isinstance(test.ops[0], ast.Is)
    if not (isinstance(test, ast.Call) and len(test.args) == 2 and isinstance(test.args[0], ast.Name)):
        return None
    if resolve(test.func) is not isinstance:
        return None
    asked = test.args[1]
    several = asked.elts if isinstance(asked, ast.Tuple) else [asked]
    classes = [resolve(one) for one in several]
    if not all(isinstance(c, type) for c in classes):
        return None
    return test.args[0].id, cast("tuple[type, ...]", tuple(classes)), True


def _below(member: Any, classes: tuple[type, ...]) -> bool | None:
    """Whether every value of a member is one of these classes; None: some may be, some not."""
    cls = get_origin(member) or member
    if not isinstance(cls, type):
        return None
    if issubclass(cls, classes):
        return True
    return None if any(issubclass(c, cls) for c in classes) else False
