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

Groups = tuple[tuple[str, ...], ...]


def groups(names: Iterable[str], slots: Mapping[str, Slot]) -> Groups:
    """Groups of two or more slots that may share an object, each in the order of `names`; slots without codec are left out."""
    reach: dict[str, frozenset[Any]] = {}
    for name in names:
        codec = slots[name].codec
        if isinstance(codec, Codec) and codec.tokens:
            reach[name] = codec.tokens
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
