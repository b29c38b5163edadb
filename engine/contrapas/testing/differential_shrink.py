"""Shrinking of a program that fails: what can be left out is left out, what can be taken apart is taken apart (T3)."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any


def shrunk(text: str, fails: Callable[[str], bool]) -> str:
    """The least program, by leaving out and taking apart statements, for which `fails` still holds."""
    text = ast.unparse(ast.parse(text))
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(text):
            if len(smaller) < len(text) and valid(smaller) and fails(smaller):
                text, progress = smaller, True
                break
    return text


def _smaller(text: str) -> Iterator[str]:
    """Programs with one statement less, one replaced by its body, or one expression replaced by a part of it."""
    count = sum(1 for _ in _places(ast.parse(text)))
    for number in range(count):
        for way in range(4):
            tree = ast.parse(text)
            body, place = list(_places(tree))[number]
            if _apply(body, place, way):
                yield ast.unparse(ast.fix_missing_locations(tree))
    total = sum(1 for n in ast.walk(ast.parse(text)) if isinstance(n, ast.expr))
    for number in range(total):
        tree = ast.parse(text)
        node = [n for n in ast.walk(tree) if isinstance(n, ast.expr)][number]
        for part in [c for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)][:3]:
            yield _replaced(text, number, part)


def _places(tree: ast.AST) -> Iterator[tuple[list[ast.stmt], int]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body: Any = getattr(node, name, None)
            if type(body) is list:
                size: int = body.__len__()
                for place in reversed(range(size)):
                    if isinstance(body[place], ast.stmt) and not isinstance(body[place], ast.ImportFrom):
                        yield body, place


def _apply(body: list[ast.stmt], place: int, way: int) -> bool:
    stmt = body[place]
    if way == 0:
        if isinstance(stmt, ast.AsyncFunctionDef) and stmt.name == "main":
            return False
        body[place : place + 1] = [] if len(body) > 1 else [ast.Pass()]
        return not (len(body) == 1 and isinstance(stmt, ast.Pass))
    inner: Any = getattr(stmt, ("", "body", "orelse", "finalbody")[way], None)
    if isinstance(stmt, ast.AsyncFunctionDef | ast.FunctionDef) or not isinstance(inner, list) or not inner:
        return False
    body[place : place + 1] = inner
    return True


def _replaced(text: str, number: int, part: ast.expr) -> str:
    tree = ast.parse(text)
    target = [n for n in ast.walk(tree) if isinstance(n, ast.expr)][number]
    wanted = ast.dump(part)

    class Swap(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            if node is target:
                return next((c for c in ast.iter_child_nodes(node) if ast.dump(c) == wanted), node)
            return self.generic_visit(node)

    try:
        return ast.unparse(ast.fix_missing_locations(Swap().visit(tree)))
    except ValueError:  # a part of an f-string stands nowhere else
        return text


def valid(text: str) -> bool:
    """Whether Python compiles it."""
    try:
        compile(text, "<smaller>", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
