"""Who should own what: rendezvous hashing with an upper bound per member, the same answer in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from contrapas.core.lane import Lane

Slot = tuple[Lane, int]


def weight(member: str, slot: Slot) -> int:
    """How much a member wants a slot; the largest wins. 64 bits of BLAKE2b over both names."""
    text = f"{member}\0{slot[0]}\0{slot[1]}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def share(members: Iterable[str], slots: Sequence[Slot]) -> dict[str, frozenset[Slot]]:
    """Slots of each member: nobody gets two more than another, and most stay where they are when one comes or goes.

    Each slot goes to the member that wants it most and still has room; when the slots do not divide evenly, the
    members that want the last ones most take one more.
    """
    names = sorted(set(members))
    if not names:
        return {}
    least, more = divmod(len(slots), len(names))
    given: dict[str, set[Slot]] = {name: set() for name in names}
    for slot in sorted(slots):
        for name in sorted(names, key=lambda n: weight(n, slot), reverse=True):
            have = len(given[name])
            if have < least or (have == least and more > 0):
                more -= have == least
                given[name].add(slot)
                break
    return {name: frozenset(mine) for name, mine in given.items()}
