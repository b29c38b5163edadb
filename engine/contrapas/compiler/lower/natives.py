"""Statements without await stay the author's; only jumps that leave them for exploded code are rewritten (L3).

A jump inside a native loop cannot reach the dispatch loop in one step: it breaks out of each native loop, and behind each
of them stands a statement that goes on jumping. What a `finally` or a `with` on the way does happens meanwhile.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Final

from contrapas.compiler import trees
from contrapas.machine.ir import Exit

_BODIES: Final = ("body", "handlers", "orelse", "finalbody", "cases")
Leave = Callable[[str, ast.expr | None, ast.stmt, bool], ast.stmt]


class Natives(ast.NodeTransformer):
    """Rewrites one native statement; `left` says afterwards whether a jump out of it was found."""

    def __init__(self, leave: Leave, *, returns: bool, loops: bool) -> None:
        self.leave = leave
        self.returns = returns
        """`return` crosses something that wants a say."""
        self.loops = loops
        """An exploded loop stands around: `break` and `continue` at this level leave the statement."""
        self.depth = 0
        self.left = 0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Only statements hold jumps, and only where statements stand in a list."""
        held = node.__dict__
        for name in _BODIES:
            if name in held:
                held[name] = self._several(held[name])
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if not self.returns:
            return node
        self.left += 1
        return self.leave("return", node.value, node, self.depth > 0)

    def visit_Break(self, node: ast.Break) -> ast.AST:
        return self._jump("break", node)

    def visit_Continue(self, node: ast.Continue) -> ast.AST:
        return self._jump("continue", node)

    def _jump(self, kind: str, node: ast.stmt) -> ast.AST:
        if self.depth or not self.loops:
            return node
        self.left += 1
        return self.leave(kind, None, node, False)

    def visit_For(self, node: ast.For | ast.While) -> ast.AST | list[ast.stmt]:
        before = self.left
        self.depth += 1
        node.body = self._several(node.body)
        self.depth -= 1
        inside = self.left > before
        node.orelse = self._several(node.orelse)
        if not inside:
            return node
        return [node, follow(deeper=self.depth > 0)]

    visit_While = visit_For

    def visit_Try(self, node: ast.Try) -> ast.AST | list[ast.stmt]:
        return self._try(node)

    def visit_TryStar(self, node: ast.TryStar) -> ast.AST | list[ast.stmt]:
        return self._try(node)

    def _try(self, node: ast.Try | ast.TryStar) -> ast.AST | list[ast.stmt]:
        before = self.left
        self.generic_visit(node)
        if self.left == before:
            return node
        for handler in node.handlers:
            handler.body.insert(0, forget())
        return [node, forget()]

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        before = self.left
        self.generic_visit(node)
        return node if self.left == before else [node, forget()]

    def _several(self, body: list[Any]) -> list[Any]:
        done: list[Any] = []
        for stmt in body:
            made: Any = self.visit(stmt)
            if made.__class__ is list:
                done.extend(made)
            elif made is not None:
                done.append(made)
        return done


def follow(*, deeper: bool) -> ast.stmt:
    """Behind a native loop: if a jump is under way, go on jumping."""
    test = ast.Compare(ast.Name("@jump", ast.Load()), [ast.IsNot()], [ast.Constant(None)])
    onward: ast.stmt = ast.Break() if deeper else ast.Continue()
    return ast.If(test, [onward], [])


def forget() -> ast.stmt:
    """A jump that a handler or a `with` has stopped is none any more."""
    return ast.Assign([ast.Name("@jump", ast.Store())], ast.Constant(None))


def exits(stmts: list[ast.stmt]) -> tuple[int, ...]:
    """Blocks to which jumps out of native statements lead."""
    found: dict[int, None] = {}
    for stmt in stmts:
        for node in trees.walk(stmt):
            if isinstance(node, Exit):
                found.setdefault(node.to)
    return tuple(found)
