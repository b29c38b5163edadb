"""All chance of one simulated world, from one seed: separate streams, and faults numbered so that a run can be shrunk.

A fault is asked for by name and rate. With `keep` only the faults of those numbers happen: a run that fails is repeated
with ever fewer of them until each one left is needed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """Numbers of one seed. `order` decides when things happen, `bad` what goes wrong, `whim` what capricious code draws."""

    def __init__(self, seed: int, keep: frozenset[int] | None = None) -> None:
        self.seed = seed
        self.order = random.Random(f"{seed}:order").random
        self.bad = random.Random(f"{seed}:bad").random
        self.whim = random.Random(f"{seed}:whim").random
        self.keep = keep
        self.asked = 0
        """Faults that chance wanted, those left out by `keep` included."""
        self.faults: Counter[str] = Counter()
        self.tape: list[tuple[int, str]] = []
        """Number and name of every fault that happened."""
        self.calm = False
        """The liveness phase: nothing goes wrong any more."""

    def fault(self, name: str, rate: float) -> bool:
        """Whether this goes wrong here."""
        if self.calm or not rate or self.bad() >= rate:
            return False
        return self.strike(name)

    def strike(self, name: str) -> bool:
        """The same, decided already: False where it is left out."""
        if self.calm:
            return False
        self.asked += 1
        if self.keep is not None and self.asked not in self.keep:
            return False
        self.faults[name] += 1
        self.tape.append((self.asked, name))
        return True

    def below(self, n: int) -> int:
        """0 … n - 1."""
        return int(self.order() * n)

    def between(self, low: int, high: int) -> int:
        """low … high."""
        return low + int(self.order() * (high - low + 1))

    def pick(self, among: Sequence[T]) -> T:
        """One of them."""
        return among[int(self.order() * len(among))]

    def gap(self, mean: float) -> int:
        """How many visits until the next one, 1 or more, `mean` on average."""
        return 1 + int(self.bad() * 2 * mean)
