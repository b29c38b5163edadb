"""Which slots of a state may hold one object between them (A7); the encoding of such groups is `codec.slots`.

Two slots can share an object only if the mutable types that theirs reach intersect; frozen values do not count. All other
slots are encoded one by one, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from contrapas.codec.marks import may_share
from contrapas.codec.registry import Codec
from contrapas.machine import Slot
from contrapas.machine.ir import Facts, Program

Groups = tuple[tuple[str, ...], ...]


def groups(
    program: Program, facts: Facts, slots: Mapping[str, Slot], types: Mapping[str, Any]
) -> dict[int, Groups]:
    """Per site, the groups of slots, by their stable names, that may share an object there.

    slots: by variable. A slot that cannot be bound at a site is in none of its groups.
    """
    order = [n for n in (*program.locals, *program.hidden) if n in slots and slots[n].codec is not None]
    found: dict[int, Groups] = {}
    for site in program.sites:
        bound = facts.bound.get(site.index, frozenset())
        live = facts.live.get(site.index, frozenset())
        found[site.index] = among(
            [slots[n] for n in order if n in bound and (n in live or not n.startswith("@"))]
        )
    return found


def among(slots: Iterable[Slot]) -> Groups:
    """Groups of two or more of these slots that may share an object, each in the given order."""
    reach: dict[str, frozenset[Any]] = {}
    for slot in slots:
        if isinstance(slot.codec, Codec) and slot.codec.tokens:
            reach[slot.name] = slot.codec.tokens
    leader = {name: name for name in reach}

    def root(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    held = list(reach)
    for place, one in enumerate(held):
        for other in held[place + 1 :]:
            if root(one) != root(other) and may_share(reach[one], reach[other]):
                leader[root(other)] = root(one)
    found: dict[str, list[str]] = {}
    for name in held:
        found.setdefault(root(name), []).append(name)
    return tuple(tuple(group) for group in found.values() if len(group) > 1)
