"""CP119: a point of no return in a parallel branch, also in a saga that is called there: it cannot hold for the whole."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any, Final

from contrapas.author.saga import SagaDef
from contrapas.compiler.refusals import Refusals
from contrapas.machine import Refusal
from contrapas.machine.ir import Program, Site

PARALLEL: Final = frozenset({"all", "first", "some", "begin"})


def in_branches(programs: Mapping[str, Program]) -> list[Refusal]:
    """A refusal for every await or `s.begin` that runs a saga with a pivot beside others."""
    pivoting = _pivoting(programs)
    found: list[Refusal] = []
    for program in programs.values():
        refusals = Refusals(program.file, program.source)
        for site in program.sites:
            names = {n for n in _branches(site, inside=False) if n in pivoting}
            for name in sorted(names):
                at = ast.Pass(lineno=site.line, col_offset=site.column)
                refusals.add(
                    at,
                    "CP119",
                    f"{name} passes a point of no return, and is a parallel branch here",
                    "put the point of no return on a line of the saga itself",
                )
        found += refusals.found
    return found


def _branches(site: Site, *, inside: bool) -> Iterator[str]:
    """Sagas that run as branches of an operation."""
    target: Any = site.target
    if (inside or site.kind == "map") and target.__class__ is SagaDef:
        yield str(target.name)
    for child in site.children:
        yield from _branches(child, inside=inside or site.kind in PARALLEL)


def _pivoting(programs: Mapping[str, Program]) -> set[str]:
    """Sagas that pass a pivot, or call one as a part of themselves that does."""
    found = {name for name, program in programs.items() if _says_so(program)}
    more = True
    while more:
        more = False
        for name, program in programs.items():
            calls = {t.name for t in _parts(program)}
            if name not in found and calls & found:
                found.add(name)
                more = True
    return found


def _parts(program: Program) -> Iterator[Any]:
    for site in program.sites:
        target: Any = site.target
        if site.kind == "frame" and target.__class__ is SagaDef:
            yield target


def _says_so(program: Program) -> bool:
    first, last = program.node.lineno - 1, program.node.end_lineno
    if not any("point_of_no_return" in line for line in program.source[first:last]):
        return False
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "point_of_no_return"
        and isinstance(node.value, ast.Name)
        and node.value.id == program.saga_name
        for node in program.nodes
    )
