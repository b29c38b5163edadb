"""What the names of a function are bound to, as far as one look at its source tells."""

from __future__ import annotations

import ast
from typing import Any, Final

from contrapas.compiler import scopes


def assignments(body: list[ast.stmt]) -> dict[str, list[tuple[ast.expr | None, ast.expr | None]]]:
    """name -> (value, annotation) of each binding; the value is None where a binding is no plain assignment.

    `ops.append(op)` and `ops += [op]` count as bindings of `ops`, so that a list of operations can be told.
    """
    found: dict[str, list[tuple[ast.expr | None, ast.expr | None]]] = {}

    def note(target: ast.AST, value: ast.expr | None, annotation: ast.expr | None = None) -> None:
        if isinstance(target, ast.Name):
            found.setdefault(target.id, []).append((value, annotation))
        else:
            for inner in ast.walk(target):
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                    found.setdefault(inner.id, []).append((None, None))

    for stmt in body:
        for node in scopes.walk(stmt):
            if node.__class__ not in _BINDING:
                continue
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    note(target, node.value)
            elif isinstance(node, ast.AnnAssign):
                note(node.target, node.value, node.annotation)
            elif isinstance(node, ast.AugAssign | ast.NamedExpr):
                note(node.target, node.value)
            elif isinstance(node, ast.For | ast.AsyncFor):
                note(node.target, None)
            elif isinstance(node, ast.withitem) and node.optional_vars is not None:
                note(node.optional_vars, None)
            elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
                found.setdefault(node.name, []).append((None, None))
            elif _append(node) is not None:
                call: Any = getattr(node, "value", None)
                note(call.func.value, call.args[0])
    return found


_BINDING: Final = frozenset(
    (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr, ast.For, ast.AsyncFor, ast.withitem, ast.MatchAs,
     ast.MatchStar, ast.Expr)
)  # fmt: skip
"""Nodes that bind a name, or add to what one holds."""


def _append(node: ast.AST) -> ast.Call | None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and len(node.value.args) == 1:
        func = node.value.func
        if isinstance(func, ast.Attribute) and func.attr == "append" and isinstance(func.value, ast.Name):
            return node.value
    return None
