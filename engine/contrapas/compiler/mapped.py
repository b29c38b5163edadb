"""CP127: a saga that waits for an event of its key, as an item of a map: all items have the key of the saga that maps."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from contrapas.author.saga import SagaDef
from contrapas.compiler.refusals import Refusals
from contrapas.machine import Refusal
from contrapas.machine.ir import Program, Site


def by_key(programs: Mapping[str, Program]) -> list[Refusal]:
    """A refusal for every map over a saga that, itself or in a saga that it calls, waits for an event by key."""
    found: list[Refusal] = []
    for program in programs.values():
        refusals = Refusals(program.file, program.source)
        for site in program.sites:
            for one in _flat(site):
                waits = _waits(programs, one.target.name, set()) if _maps(one) else None
                if waits is not None:
                    refusals.add(
                        ast.Pass(lineno=site.line, col_offset=site.column),
                        "CP127",
                        f"{one.target.name}, which this maps, waits for {waits} by key: every item has the same key",
                        "s.wait(…, correlate=a value of the item's own), or wait in the saga that maps",
                    )
        found += refusals.found
    return found


def _maps(site: Site) -> bool:
    return site.kind == "map" and site.target.__class__ is SagaDef


def _flat(site: Site) -> Iterator[Site]:
    yield site
    for child in site.children:
        yield from _flat(child)


def _waits(programs: Mapping[str, Program], name: str, seen: set[str]) -> str | None:
    """What a saga waits for by key, in words; None: nothing."""
    program = programs.get(name)
    if program is None or name in seen:
        return None
    seen.add(name)
    for top in program.sites:
        for site in _flat(top):
            if site.kind == "wait" and not site.correlate:
                return site.operation.removeprefix("wait ")
            target: Any = site.target
            if site.kind == "frame" and (found := _waits(programs, target.name, seen)) is not None:
                return found
    return None
