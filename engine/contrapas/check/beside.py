"""What a called saga that runs as a branch may leave to be taken back: how it ends, with which undos on its stack.

Branches meet only where they are joined, and until then none sees what another does. So each is explored by itself, and
the join takes every combination of their ends: that is the product of their states as far as anybody can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from contrapas.check.explore import Exploration, explore
from contrapas.check.study import flat
from contrapas.draw.config import Config
from contrapas.draw.native import type_name
from contrapas.draw.outcomes import FAILED, Branch, Issued, Outcome, of_saga
from contrapas.draw.segment import Walker

ENDS_MAX = 16
"""Ends of one branch, well or not: of more the combinations are too many, and it stays one step."""
ENTRIES_MAX = 24
_KEPT = frozenset({"done", "unknown"})


class Beside:
    """The branches of an app, each looked into once, when it is first met."""

    def __init__(self, walkers: Mapping[str, Walker], limit: int) -> None:
        self.walkers = walkers
        self.limit = limit
        self.found: dict[str, Branch] = {}
        self._met: set[str] = set()
        self._under: set[str] = set()
        self._loops: set[str] = set()
        """Sagas that run beside themselves."""

    def of(self, name: str) -> Mapping[str, Branch]:
        """All that is known once the branches below saga `name` were looked into."""
        for called in self._below(name, set()):
            self._look(called)
        return self.found

    def _below(self, name: str, seen: set[str]) -> Iterator[str]:
        """Sagas that run beside others in a saga, or in one that it awaits."""
        if name in seen or name not in self.walkers:
            return
        seen.add(name)
        for top in self.walkers[name].program.sites:
            for site in flat(top):
                called = type_name(site.target) if site.kind == "frame" or of_saga(site) else ""
                if called in self.walkers and (site is not top or of_saga(site)):
                    yield called
                elif called:
                    yield from self._below(called, seen)

    def _look(self, name: str) -> None:
        if name in self._under:
            self._loops.add(name)
        if name in self._met:
            return
        self._met.add(name)
        self._under.add(name)
        self.of(name)
        self._under.discard(name)
        explored = explore(
            name, self.walkers, limit=self.limit, first=Config(deadline=True), branches=self.found
        )
        branch = summary(explored)
        if branch is not None and name not in self._loops:
            self.found[name] = branch


def summary(explored: Exploration) -> Branch | None:
    """The ends of a saga that was explored by itself, as ends of a branch; None where they are too many."""
    if not explored.complete:
        return None
    words: dict[tuple[bool, tuple[Issued, ...]], None] = {}
    for source, move in explored.usual():
        after = move.config
        unwinding = after.unwinding
        if after.cancelled or (source is not None and source.unwinding is not None and not source.frames):
            continue
        left = tuple(e for e in after.stack if e.undo and e.status in _KEPT)
        if after.end.startswith("return"):
            words[(True, left)] = None
        elif unwinding is not None and not after.frames and unwinding.then == "raise":
            words[(False, left)] = None
    entries = _merged([word for _, word in words])
    if len(words) > ENDS_MAX or len(entries) > ENTRIES_MAX:
        return None
    ends = [_end(well, word, entries) for well, word in words]
    return Branch(entries, tuple(sorted(ends, key=lambda end: end.failure)))


def _plain(entry: Issued) -> Issued:
    return entry._replace(status="issued")


def _merged(words: list[tuple[Issued, ...]]) -> tuple[Issued, ...]:
    """Every entry of any end, as often as one end has it, in the order of the longest."""
    found: list[Issued] = []
    for word in sorted(words, key=len, reverse=True):
        for entry, count in Counter(_plain(e) for e in word).items():
            found += [entry] * (count - found.count(entry))
    return tuple(found)


def _end(well: bool, word: tuple[Issued, ...], entries: tuple[Issued, ...]) -> Outcome:
    rest = list(word)
    statuses: list[str] = []
    for entry in entries:
        mine = next((e for e in rest if _plain(e) == entry), None)
        if mine is not None:
            rest.remove(mine)
        statuses.append("undone" if mine is None else mine.status)
    if well:
        return Outcome("returned", statuses=tuple(statuses))
    unknown = "unknown" in statuses
    return Outcome("failed", raises=FAILED, statuses=tuple(statuses), failure=True, unknown=unknown)
