"""The newest record of every key, and the order of their timers: what a partition holds of instances that it does not touch.

A million instances may wait, so each costs little more than its bytes. Entries rest as plain tuples: those the garbage
collector stops looking at, while a million named tuples would hold the event loop for half a second at each full
collection. A timer that was moved stays in the heap until it is met; where more are stale than count, the heap is made
anew, or a long wait in a loop would leave one behind at every turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from contrapas.runtime.batch import Entry

_tuple = tuple[object, ...].__new__
_Held = tuple[bytes, int | None, int, int]
SLACK: Final = 1_024
"""Stale timers that are not worth a look."""


class Index(MutableMapping[str, Entry]):
    """Key -> newest record."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def __getitem__(self, key: str) -> Entry:
        return _tuple(Entry, self._held[key])

    def __setitem__(self, key: str, entry: Entry) -> None:
        value, deadline, standing, version = entry
        self._held[key] = (value, deadline, standing, version)

    def hold(self, key: str, held: _Held) -> None:
        """What `index[key] = Entry(*held)` does, without the entry between."""
        self._held[key] = held

    def __delitem__(self, key: str) -> None:
        del self._held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def get(self, key: str, default: Any = None, /) -> Any:
        """The entry, or the default."""
        held = self._held.get(key)
        return default if held is None else _tuple(Entry, held)

    def deadline(self, key: str) -> int | None:
        """ms of log time of a key's next timer; None also where there is no such key."""
        held = self._held.get(key)
        return None if held is None else held[1]


class Timers:
    """(ms of log time, key), earliest first. What the index says otherwise by now does not count."""

    __slots__ = ("_counted", "_heap", "_index")

    def __init__(self, index: Index) -> None:
        self._index = index
        self._heap: list[tuple[int, str]] = []
        self._counted = 0
        """How many counted when that was last looked at."""

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, at: int, key: str) -> None:
        """One more, unordered, until `order`: for a takeover."""
        self._heap.append((at, key))

    def order(self) -> None:
        """All are there."""
        heapq.heapify(self._heap)
        self._counted = len(self._heap)

    def add(self, at: int, key: str) -> None:
        """One more."""
        heapq.heappush(self._heap, (at, key))

    def first(self) -> tuple[int, str] | None:
        """The earliest that counts."""
        heap, index = self._heap, self._index
        while heap:
            at, key = heap[0]
            if index.deadline(key) == at:
                return heap[0]
            heapq.heappop(heap)
        return None

    def pop(self) -> None:
        """Take the first away."""
        heapq.heappop(self._heap)

    def tidy(self) -> None:
        """Let go of what does not count, where that is more than what does."""
        if len(self._heap) <= 2 * self._counted + SLACK:
            return
        index = self._index
        counting = {key: at for at, key in self._heap if index.deadline(key) == at}
        self._heap = [(at, key) for key, at in counting.items()]
        self.order()
