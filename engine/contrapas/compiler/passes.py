"""The passes between analyses and emission, behind one call each: names, types with slots, sharing, fingerprints."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contrapas.codec.registry import Registry
from contrapas.compiler import sharing, types
from contrapas.compiler.refusals import Refusals
from contrapas.machine import Slot
from contrapas.machine.ir import Facts, Program, Site, UndoSite


def _module(name: str) -> Any:
    if importlib.util.find_spec(f"contrapas.compiler.{name}") is None:
        return None
    return importlib.import_module(f"contrapas.compiler.{name}")


def align(program: Program, facts: Facts, lock: Any, refusals: Refusals) -> None:
    """Give every await, undo and hidden slot its stable name."""
    taken: set[str] = set()

    def mint(text: str, mark: str) -> str:
        name, serial = text, 1
        while name in taken:
            serial += 1
            name = f"{text}{mark}{serial}"
        taken.add(name)
        return name

    for site in program.sites:
        site.label = mint(site.explicit or site.text, "#")
    for undo in program.undos:
        whose = program.sites[undo.site - 1] if undo.site else None
        undo.of = whose.label if whose is not None and not whose.children else undo.of
        undo.label = mint(f"undo({undo.of})", "#")
    live = frozenset[str]().union(*facts.live.values())
    for hidden in program.hidden.values():
        if hidden.name in live:
            hidden.slot = mint(f"{hidden.role}.{hidden.hint or hidden.path}", ".")


def slots_of(
    program: Program, facts: Facts, registry: Registry, refusals: Refusals, *, strict: bool
) -> tuple[dict[str, Slot], Mapping[str, Any]]:
    """Slots by variable, named as they are stored, and the types behind them."""
    inferred = types.infer(program)
    types.check_operations(program, registry, refusals)
    slots = types.make_slots(program, facts, inferred, registry, refusals, strict=strict)
    done = {
        n: replace(s, name=program.hidden[n].slot or n) if n in program.hidden else s
        for n, s in slots.items()
    }
    return done, inferred


def captures_of(
    program: Program, site: UndoSite, inferred: Mapping[str, Any], registry: Registry, refusals: Refusals
) -> tuple[Slot, ...]:
    """Slots of what an undo captured."""
    return tuple(
        Slot(name=n, codec=registry.codec(inferred.get(n, Any)) if inferred.get(n) is not None else None)
        for n in site.captures
    )


def shared(names: tuple[str, ...], slots: Mapping[str, Slot]) -> tuple[tuple[str, ...], ...]:
    """Groups of stored slots that may hold one object between them."""
    return sharing.groups(names, slots)


def graph_print(program: Program, slots: Mapping[str, Slot]) -> str:
    """Fingerprint of the machine."""
    return _digest(program.name, *(s.label for s in program.sites))


def shape_print(program: Program, site: Site, slots: Mapping[str, Slot], stored: tuple[str, ...]) -> str:
    """Fingerprint of a state."""
    return _digest(site.label, *stored)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
