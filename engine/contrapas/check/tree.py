"""The author's syntax tree as lists, each made once: a dozen properties look at the same nodes."""

from __future__ import annotations

import ast
from collections import OrderedDict
from collections.abc import Sequence

from contrapas.compiler import trees
from contrapas.machine.ir import Program

INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
KEPT = 512
"""Lists that are kept, those of the newest trees."""
_lists: OrderedDict[int, tuple[object, list[ast.AST]]] = OrderedDict()
"""By identity of what was walked, which is held so that no other object takes its number."""

_loops: dict[int, tuple[object, list[ast.While | ast.For]]] = {}


def every(program: Program) -> list[ast.AST]:
    """Every node of the function, inner functions and their insides too."""
    found = _lists.get(id(program.node))
    return found[1] if found is not None else _keep(program.node, list(trees.walk(program.node)))


def walked(body: Sequence[ast.AST]) -> list[ast.AST]:
    """Every node of some statements, in order of the source, without the insides of functions and classes."""
    found = _lists.get(id(body))
    if found is not None:
        return found[1]
    nodes: list[ast.AST] = []
    todo = list(body)[::-1]
    while todo:
        node = todo.pop()
        nodes.append(node)
        if not isinstance(node, INNER):
            todo.extend(list(ast.iter_child_nodes(node))[::-1])
    return _keep(body, nodes)


def looping(body: Sequence[ast.AST]) -> list[ast.While | ast.For]:
    """The loops among some statements, outermost first."""
    found = _loops.get(id(body))
    if found is None or found[0] is not body:
        if len(_loops) > KEPT:
            _loops.clear()
        found = _loops[id(body)] = body, [n for n in walked(body) if isinstance(n, ast.While | ast.For)]
    return found[1]


def _keep(key: object, nodes: list[ast.AST]) -> list[ast.AST]:
    _lists[id(key)] = key, nodes
    if len(_lists) > KEPT:
        _lists.popitem(last=False)
    return nodes
