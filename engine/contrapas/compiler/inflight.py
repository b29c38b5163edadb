"""Operations in flight in the source: `s.begin(op)`, an awaited handle, `s.next(…)`, `s.some(k, …)`."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from contrapas.author.flight import Pending
from contrapas.author.limits import SCOPED
from contrapas.author.saga import SagaDef
from contrapas.codec.kinds import generic
from contrapas.compiler import scopes, trees
from contrapas.machine.ir import Block, Program, Site

if TYPE_CHECKING:
    from contrapas.compiler.operations import Found, Operations

FORMS: Final = frozenset({"next", "some"})
BEGIN: Final = "@begin"
"""Placeholder of a label that `s.begin` gets as a hidden argument, with the site's index."""


def scoped(site: Site) -> bool:
    """Awaited with `within=` or `until=`, does it stand in a scope of its own?"""
    return site.kind in SCOPED or (site.kind == "map" and site.target.__class__ is SagaDef)


def classify(ops: Operations, method: str, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    """`s.next(…)` or `s.some(…)`."""
    return _some(ops, node, path, at) if method == "some" else _next(ops, node, path, at)


def begin(ops: Operations, node: ast.Call) -> Found | None:
    """`s.begin(op, …)`: a site that nothing awaits, with the operation as its child."""
    if len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
        ops.refusals.add(
            node, "CP101", "s.begin takes one operation", "s.begin(Command(…)) or s.begin(fn(…))"
        )
        return None
    inner = node.args[0]
    found = (
        ops.classify(inner, "")
        if ops.is_operation(inner)
        else ops.command(inner, "", "command", "step", node)
    )
    if found is None or not allowed(ops, found, inner):
        return None
    ops.options(node, found)
    one = found.site
    site = ops.site(node, "", "begin", f"begin({one.text})", f"begin {one.operation}")
    site.children = (one,)
    site.result = one.result
    site.explicit, one.explicit = one.explicit, ""
    for name in ("undo", "undo_text", "forever", "within", "has_within", "limit"):
        setattr(site, name, getattr(one, name))
    found.site = site
    found.node = node
    return found


def allowed(ops: Operations, found: Found, node: ast.AST) -> bool:
    """May an operation be a branch? One that waits for handles belongs to the line of its function."""
    if found.site.kind in ("next", "result"):
        ops.refusals.add(
            node, "CP115", f"{found.site.text} as a branch: handles stay in their function", "await it here"
        )
        return False
    if found.site.kind in ("compensate", "unwind"):
        ops.refusals.add(node, "CP101", f"{found.site.text} as a branch", "await it on a line of its own")
        return False
    return True


def result(ops: Operations, node: ast.expr, path: str, at: ast.AST) -> Found | None:
    """An awaited name, attribute or subscript: a handle, as far as can be told here; None for what is none."""
    from contrapas.compiler.operations import Found

    root: ast.expr = node
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    if not isinstance(node, ast.Name | ast.Attribute | ast.Subscript) or not isinstance(root, ast.Name):
        return None
    if root.id == ops.saga:
        return None
    site = ops.site(at, path, "result", "result", "result")
    site.operand = node
    return Found(site)


def _next(ops: Operations, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    from contrapas.compiler.operations import Found

    if not node.args:
        ops.refusals.add(
            at, "CP101", "s.next names no operation in flight", "s.next(a, b) or s.next(*several)"
        )
        return None
    site = ops.site(at, path, "next", "next", "next")
    return ops.options(node, Found(site))


def _some(ops: Operations, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    if not node.args or isinstance(node.args[0], ast.Starred):
        ops.refusals.add(at, "CP101", "s.some says first how many", "s.some(2, …)")
        return None
    found = ops.join(node, path, at, "some", node.args[1:])
    if found is not None:
        members = tuple(c.result for c in found.site.children)
        inner = ops.union(members) if members else Any
        found.site.result = types.GenericAlias(list, (generic(tuple, int, inner),))
        rest = next((k.value for k in node.keywords if k.arg == "rest"), None)
        found.site.ignores = rest is not None and not (
            isinstance(rest, ast.Constant) and rest.value == "cancel"
        )
    return found


def begins(node: ast.AST, found: dict[int, Any]) -> Iterator[Site]:
    """Sites of the operations begun in a statement."""
    if not found:
        return
    for inner in scopes.walk(node):
        if isinstance(inner, ast.Call) and id(inner) in found:
            yield found[id(inner)].site


def register(program: Program, found: dict[int, Found]) -> None:
    """Before lowering: each `s.begin(…)` gets its site, and the site's label as a hidden argument (L25)."""
    for one in list(found.values()):
        if one.site.kind != "begin" or not isinstance(one.node, ast.Call):
            continue
        site = one.site
        site.index = len(program.sites) + 1
        program.sites.append(site)
        for number in one.undo_numbers:
            program.undos[number].site = site.index
        call = one.node
        call.keywords = [k for k in call.keywords if k.arg != "label"]
        hidden = ast.Constant(f"{BEGIN}{site.index}", "@")
        hidden.lineno, hidden.col_offset = call.lineno, call.col_offset
        hidden.end_lineno, hidden.end_col_offset = call.end_lineno, call.end_col_offset
        call.keywords.append(ast.keyword("label", hidden, lineno=call.lineno, col_offset=call.col_offset))


def begun_in(block: Block) -> Iterator[int]:
    """Indexes of the sites begun in a block."""
    parts: list[Any] = [
        *block.native,
        *(getattr(block.term, w, None) for w in ("op", "value", "stmt", "test")),
    ]
    for tree in parts:
        if isinstance(tree, ast.AST):
            for node in trees.walk(tree):
                if isinstance(node, ast.Constant) and node.kind == "@" and str(node.value).startswith(BEGIN):
                    yield int(str(node.value).removeprefix(BEGIN))


def begun_type(call: ast.Call, sites: list[Site]) -> Any:
    """The type of `s.begin(…)`: a handle of what its operation gives."""
    for keyword in call.keywords:
        value = keyword.value
        if keyword.arg == "label" and isinstance(value, ast.Constant) and value.kind == "@":
            given = sites[int(str(value.value).removeprefix(BEGIN)) - 1].result
            return generic(Pending, type(None) if given is None else given)
    return Pending


def own_flights(body: list[ast.stmt], found: dict[int, Any]) -> bool:
    """Is something begun, or left to go on, directly in these statements: not in a scope within them?"""
    if not any(one.site.kind == "begin" or _ignores(one.site) for one in found.values()):
        return False
    for stmt in body:
        stack: list[ast.AST] = [stmt]
        while stack:
            node = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
                continue
            one = found.get(id(node))
            if one is not None and (one.site.kind == "begin" or _ignores(one.site)):
                return True
            if isinstance(node, ast.AsyncWith):
                stack.extend(item.context_expr for item in node.items)
                continue
            stack.extend(trees.children(node))
    return False


def _ignores(site: Site) -> bool:
    return site.ignores or any(_ignores(child) for child in site.children)
