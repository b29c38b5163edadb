"""From syntax tree to blocks: code without await stays as it is, code with one becomes blocks joined by terminators."""

from __future__ import annotations

import ast

from contrapas.compiler import scopes
from contrapas.compiler.inflight import register
from contrapas.compiler.lower.builder import Unknown
from contrapas.compiler.lower.regions import Lowerer
from contrapas.compiler.lower.undos import replace_undos
from contrapas.compiler.operations import Found
from contrapas.machine.ir import Program


def lower(program: Program, found: dict[int, Found]) -> None:
    """Fill `program` with blocks, sites, hidden variables and undos. Raises `Unknown` for a form without a rule."""
    replace_undos(program, found)
    register(program, found)
    nonlocals = any(node.__class__ is ast.Nonlocal for node in program.nodes)
    lowerer = Lowerer(program, found, scopes.rebound_inside(program.node.body) if nonlocals else frozenset())
    lowerer.function(program.node)


__all__ = ["Unknown", "lower"]
