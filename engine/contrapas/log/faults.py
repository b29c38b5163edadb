"""Faults for the in-memory log: scripted one by one, or drawn from a seed at given rates."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping

from contrapas.errors import Retriable

KINDS = ("retriable", "lost-before", "lost-after", "late", "cut")
"""Nothing written; not written and not answered; written and not answered; arrives later; a prefix arrives.

On a refusing log `cut` is `lost-before`: a batch there is whole or absent. `late` is judged when it lands.
"""


class Faults:
    """What goes wrong, and when.

    rates: `{"commit:late": 0.01}`, probability per call of `commit`, `acquire`, `publish`, `read`. Same seed, same
    calls: same faults. `gaps`: probability of a hole before a record.
    """

    def __init__(self, seed: int = 0, rates: Mapping[str, float] | None = None, *, gaps: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.rates = dict(rates or {})
        self.gaps = gaps
        self.count = 0
        """Faults injected so far."""
        self.on_between: Callable[[int, int], None] | None = None
        """Order: called before each record of a commit, (partition, number): the place for another's claim."""
        self._script: dict[str, deque[str]] = {}
        self._calls = sorted({name.partition(":")[0] for name in self.rates})

    def script(self, call: str, *kinds: str) -> None:
        """Make the next calls of `call` end as told; "" lets one pass."""
        self._script.setdefault(call, deque()).extend(kinds)

    def take(self, call: str, partition: int) -> str:
        """What happens to this call."""
        if self._script and (queue := self._script.get(call)):
            kind = queue.popleft()
        elif call in self._calls:
            kind = next((k for k in KINDS if self.random.random() < self.rates.get(f"{call}:{k}", 0.0)), "")
        else:
            return ""
        if kind:
            self.count += 1
        return kind

    def call(self, call: str, partition: int) -> None:
        """For calls that change nothing: any fault is Retriable."""
        if (self._script or self._calls) and self.take(call, partition):
            raise Retriable("the log did not answer")

    def gap(self) -> int:
        """How many offsets to leave out before the next record."""
        if self.gaps and self.random.random() < self.gaps:
            return self.random.randint(1, 3)
        return 0

    def cut(self, length: int) -> int:
        """How much of a batch arrives: 0 … length - 1."""
        return self.random.randrange(length) if length else 0

    def between(self, partition: int, number: int) -> None:
        """Called before each record of a commit under the order fence."""
        if self.on_between is not None:
            self.on_between(partition, number)
