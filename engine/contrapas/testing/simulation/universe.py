"""Virtual time: what is to happen, in its order, and the hash of all that happened."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable

from contrapas.core.lane import Record
from contrapas.testing.simulation.chance import Chance
from contrapas.testing.simulation.options import Options

BEGIN_MS = 1_700_000_000_000
LAST = 200


class Wrong(AssertionError):
    """An invariant does not hold. `name` is its number: `I-02`."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class Universe:
    """One simulated world: its clock, its chance, its diary."""

    def __init__(self, options: Options, chance: Chance) -> None:
        self.options = options
        self.chance = chance
        self.rates = options.rates
        self.now = BEGIN_MS
        """ms, the log's clock."""
        self.seen = Counter[str]()
        """How often each invariant was looked at, by name."""
        self.sometimes = Counter[str]()
        """How often each rare thing came about, by name."""
        self.events: deque[str] = deque(maxlen=LAST)
        self.written = 0
        """Records appended to any lane."""
        self.transitions = 0
        """Records of instances that count."""
        self.weight = 1.0
        """Transitions of the commit in hand: so often something may go wrong with it."""
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def __call__(self) -> int:
        """The clock, as a log wants it."""
        return self.now

    def at(self, delay_ms: int, act: Callable[[], None]) -> None:
        """Let something happen later."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay_ms, self._count, act))

    def next_at(self) -> int | None:
        """When something happens next."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> bool:
        """Let the next thing happen; False when nothing is left."""
        if not self._heap:
            return False
        at, _, act = heapq.heappop(self._heap)
        self.now = max(self.now, at)
        act()
        return True

    def note(self, what: str) -> None:
        """A line of the diary; the last of them are told when a run fails."""
        self.events.append(f"{self.now - BEGIN_MS:>9} {what}")

    def hashed(self, lane: str, record: Record) -> None:
        """Every record is part of the trace."""
        self.written += 1
        partition, offset, key, value, _, at = record
        self._hash.update(b"%d %d %d %b%b" % (partition, offset, at, key, value or b"-"))

    def trace(self) -> str:
        """Hash of the whole trace so far."""
        self._hash.update(lane_free(self.chance))
        return self._hash.copy().hexdigest()


def lane_free(chance: Chance) -> bytes:
    """The faults as part of the trace."""
    return b" ".join(b"%d" % n for _, n in sorted(chance.faults.items()))
