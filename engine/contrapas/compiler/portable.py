"""What of a machine outlives its code: the types that records depend on, exits, cursors, what runs above a state."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from contrapas.author.saga import SagaDef
from contrapas.author.step import StepDef
from contrapas.codec.forms import forms_of
from contrapas.codec.registry import Registry
from contrapas.machine import Slot
from contrapas.machine.ir import Branch, Program, Site


def forms(
    program: Program,
    slots: Mapping[str, Slot],
    captures: Iterable[tuple[Slot, ...]],
    registry: Registry,
) -> dict[str, Any]:
    """What the codecs read of slots and captures by type text, of steps, and of the replies that undos need."""
    found: dict[str, Any] = {}
    for slot in (*slots.values(), *[s for several in captures for s in several]):
        if slot.codec is not None:
            found.setdefault(slot.type_text, slot.codec)
    for site in program.sites:
        for name in steps(site):
            step = registry.steps.get(name)
            if step is not None:
                found.setdefault(f"arguments of {name}", step.args)
                found.setdefault(f"result of {name}", step.result)
    for undo in program.undos:
        reply = (
            registry.messages.get(getattr(undo.reply, "__contrapas_name__", "")) if undo.needs_reply else None
        )
        if reply is not None:
            found.setdefault(f"reply {reply.name}", registry.codec(reply.cls))
    return forms_of(sorted(found.items()))


def exits(program: Program, names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Stable name of a `finally`'s slot -> exits that may be pending in it. names: final names of exits."""
    found: dict[str, set[str]] = {}
    for block in program.order():
        term = block.term
        if isinstance(term, Branch) and term.kind == "pend":
            hidden = program.hidden.get(term.slot)
            if hidden is not None and hidden.slot:
                found.setdefault(hidden.slot, {"through", "raise"}).add(names.get(term.exit, term.exit))
    return {slot: tuple(sorted(several)) for slot, several in sorted(found.items())}


def positions(program: Program, slots: Mapping[str, Slot]) -> dict[str, str]:
    """Stable name of a cursor that stores no items of its own -> the local that holds them."""
    found: dict[str, str] = {}
    for block in program.order():
        term = block.term
        if isinstance(term, Branch) and term.kind == "more" and term.slot in slots:
            ask = term.test
            if isinstance(ask, ast.Call) and len(ask.args) == 2 and isinstance(ask.args[1], ast.Name):
                found[slots[term.slot].name] = ask.args[1].id
    return dict(sorted(found.items()))


def steps(site: Site) -> tuple[str, ...]:
    """Registered names of the local steps that an await issues."""
    return tuple(dict.fromkeys(t.name for t in _targets(site) if isinstance(t, StepDef)))


def takes_back(program: Program, site: Site) -> tuple[str, ...]:
    """Names of the commands and steps that undo what an await does, as far as they are known when it is issued."""
    later = any(u.needs_reply for u in program.undos if u.site == site.index)
    own = [site.undo_text] if site.undo in ("op", "lambda") and site.undo_text and not later else []
    return tuple(dict.fromkeys([*own, *[n for c in site.children for n in takes_back(program, c)]]))


def calls(site: Site) -> tuple[str, ...]:
    """Registered names of the sagas that an await runs."""
    return tuple(dict.fromkeys(t.name for t in _targets(site) if isinstance(t, SagaDef)))


def _targets(site: Site) -> Iterator[Any]:
    yield from site.choices or (site.target,)
    for child in site.children:
        yield from _targets(child)
