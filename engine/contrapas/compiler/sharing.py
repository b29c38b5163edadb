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
from contrapas.machine.ir import Facts

Groups = tuple[tuple[str, ...], ...]


def held(groups: Groups, names: Iterable[str]) -> Groups:
    """Of these groups, those of which two or more of these names are members, each in its order.

    groups: of the whole machine, so that a slot has the same company in every state: what is encoded together stays
    together.
    """
    if not groups:
        return ()
    here = set(names)
    found = [tuple(n for n in group if n in here) for group in groups]
    return tuple(group for group in found if len(group) > 1)


def close(facts: Facts, slots: Mapping[str, Slot]) -> None:
    """What is touched, with all that may share an object with it; in place. slots: by variable."""
    variable = {slot.name: name for name, slot in slots.items()}
    for group in among(slots.values()):
        names = frozenset(variable[n] for n in group)
        for site, touched in facts.touches.items():
            if not touched.isdisjoint(names):
                facts.touches[site] = touched | names


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
