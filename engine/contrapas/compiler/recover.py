"""What else is wrong: a function whose first pass was refused is read once more without the refused statements.

Whatever hangs on a statement that was left out is not judged: a name that it binds, and every name that is computed from
such a name. So what is said besides is true, and what is not said here is said by the next run.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Collection, Iterator

from contrapas.compiler import scopes
from contrapas.machine import Refusal

_HEADS = (
    ast.If, ast.While, ast.For, ast.AsyncFor, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match, ast.FunctionDef,
    ast.AsyncFunctionDef, ast.ClassDef,
)  # fmt: skip


def mended(node: ast.AsyncFunctionDef, found: Collection[Refusal]) -> tuple[ast.AsyncFunctionDef, set[str]]:
    """A copy without the statements in which something was refused; names of which nothing is known then."""
    whole = copy.deepcopy(node)
    places = {(r.line, r.column) for r in found if not r.warning}
    doubtful: set[str] = set()
    for arg in [*whole.args.posonlyargs, *whole.args.args, *whole.args.kwonlyargs]:
        if arg.annotation is None:
            doubtful.add(arg.arg)
    source = {line for line, _ in places}
    for body in list(_bodies(whole)):
        for at, stmt in enumerate(body):
            if not _refused(stmt, source):
                continue
            doubtful |= set(scopes.bound([stmt]))
            body[at] = ast.copy_location(ast.Pass(), stmt)
    return whole, _closure(whole, doubtful)


def sure(refusal: Refusal, doubtful: Collection[str]) -> bool:
    """Whether a further refusal speaks of nothing that hangs on what was left out."""
    words = set(re.findall(r"\w+", f"{refusal.text} {refusal.source}"))
    return not refusal.warning and not words & set(doubtful)


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Blocks of statements, the inner ones first."""
    for child in ast.iter_child_nodes(node):
        yield from _bodies(child)
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
            yield block  # pyright: ignore[reportUnknownVariableType]


def _refused(stmt: ast.stmt, lines: set[int]) -> bool:
    """A simple statement on one of these lines; of a compound one, its head."""
    last = stmt.end_lineno or stmt.lineno
    if isinstance(stmt, _HEADS):
        first = getattr(stmt, "body", None) or getattr(stmt, "cases", None)
        inner = first[0] if first else stmt
        start = inner.lineno if isinstance(inner, ast.stmt) else stmt.lineno + 1
        last = max(stmt.lineno, start - 1)
    return any(stmt.lineno <= line <= last for line in lines)


def _receiver(node: ast.expr) -> set[str]:
    """`xs.append(x)` says what is in xs."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return set()
    return {n.id for n in ast.walk(node.func) if isinstance(n, ast.Name)}


def _closure(node: ast.AsyncFunctionDef, doubtful: set[str]) -> set[str]:
    """These names, and all that are computed from one of them."""
    if not doubtful:
        return doubtful
    grew = True
    while grew:
        grew = False
        for stmt in ast.walk(node):
            if not isinstance(stmt, ast.stmt) or isinstance(stmt, ast.AsyncFunctionDef):
                continue
            heads = [c for c in ast.iter_child_nodes(stmt) if not isinstance(c, ast.stmt)]
            names = [n for head in heads for n in ast.walk(head) if isinstance(n, ast.Name)]
            reads = {n.id for n in names if isinstance(n.ctx, ast.Load)}
            binds: set[str] = {n.id for n in names if not isinstance(n.ctx, ast.Load)} | (
                set(scopes.bound([stmt])) if isinstance(stmt, ast.Match | ast.FunctionDef) else set()
            )
            if isinstance(stmt, ast.Expr):
                binds = _receiver(stmt.value)
            if reads & doubtful and binds - doubtful:
                doubtful |= binds
                grew = True
    return doubtful
