"""Racing owners: a seeded model of one partition whose order is its fence, over the product's own fold, claim, comparison,
restore, heal and checkpoint code.

Several processes claim the partition, commit, look, keep checkpoints, stop, are killed and come back, one small step of
one process at a time; what they send arrives at once, in pieces, late, as a prefix, or never; strangers write; a cleaner
takes what may be taken. How much of each there is differs from run to run. A referee sees every record as it arrives and
knows its writer. A run is wrong when the fold of what is left differs from the referee's, when an effect was let out for a
commit that does not count, when a heal says something else, or when the fold stops. `races_broken` breaks each rule in turn.
"""

from __future__ import annotations

import random
from collections import Counter

from contrapas.core.fold import fold
from contrapas.core.lane import Draft
from contrapas.errors import ContrapasError
from contrapas.log.memory_store import MemoryStore
from contrapas.testing.races_process import Process
from contrapas.testing.races_referee import Habits, Referee, Weather, Wrong, key_of, token_of

__all__ = ["Habits", "Race", "Weather", "Wrong"]


class Race:
    """One run. weather: this one instead of the seed's."""

    def __init__(self, seed: int, habits: type[Habits] = Habits, weather: Weather | None = None) -> None:
        self.chance = random.Random(seed)
        self.weather = weather or Weather.drawn(self.chance)
        self.habits = habits
        self.now = 1_000
        self.store = MemoryStore("races", 1, clock=lambda: self.now, fence="order")
        self.shelf = self.store.shelf("log", 0)
        self.seen: Counter[str] = Counter()
        self.referee = Referee(self.seen)
        self.floor = 0
        """How far the cleaner has been."""
        self.safe = 0
        """What lies below had an owner that looked at it and has committed since: every heal is written."""
        self.effects: list[tuple[str, int]] = []
        self.late: list[list[tuple[Draft, str]]] = []
        """In flight: whole pieces, in order."""
        self.token = 0
        self.blind = False
        """Whether somebody read from the middle, where a record of a former owner may pass for one that counts: it may hide
        a loser of a higher version, and then a heal is written that is above one of the two only."""

    def run(self) -> Counter[str]:
        """To its end. Wrong when it is."""
        chance, weather = self.chance, self.weather
        processes = [Process(self, f"w{n}") for n in range(weather.processes)]
        lives = [p.life() for p in processes]
        for _ in range(weather.steps):
            self.now += 1
            roll = chance.random()
            if roll < 0.06 and self.late:
                self.land(chance.randrange(len(self.late)))
            elif roll < 0.06 + weather.cleaning:
                self.clean()
            elif chance.random() < weather.strangers:
                self.stranger()
            else:
                # one process moves for a while, then another: a pause is a turn that does not come
                which = chance.randrange(len(lives))
                process = processes[which]
                for _ in range(chance.choice((1, 1, 2, 5, 12))):
                    if process.asleep > self.now:
                        break
                    next(lives[which])
        self.judge()
        return self.seen

    def append(self, draft: Draft, writer: str) -> int:
        """A record arrives."""
        record = self.store.append("log", 0, draft.key, draft.value, draft.headers)
        self.referee.see(record, writer)
        return record.offset

    def land(self, at: int) -> None:
        """What was in flight arrives, or some of it and the rest later."""
        rows = self.late.pop(at)
        count = self.chance.randint(1, len(rows))
        for draft, writer in rows[:count]:
            self.append(draft, writer)
        if rows[count:]:
            self.seen["prefixes"] += 1
            if self.habits.no_prefix and len(rows) > count + 1:
                for draft, writer in rows[count + 1 :]:
                    self.append(draft, writer)
            elif self.chance.random() < 0.8:
                self.late.append(rows[count:])
        self.seen["late batches"] += 1

    def stranger(self) -> None:
        """A record without an epoch, or an empty value, on a key of ours."""
        number = self.chance.randrange(self.weather.keys)
        key = key_of(number).encode()
        value = None if self.chance.random() < 0.5 else b"what I think"
        self.append(Draft("", 0, key, value, ()), "stranger")
        self.seen["strangers"] += 1

    def clean(self) -> None:
        """The cleaner, and the end of tombstones."""
        below = self.shelf.end if self.habits.no_lag else self.safe
        chance = self.chance
        removed = self.store.clean(0, below, lambda r: chance.random() < 0.8)
        count = Counter(r.key for r in self.shelf.records)
        kept = [  # a tombstone outlives what it removes
            r
            for r in self.shelf.records
            if r.value is not None or r.offset >= below or count[r.key] > 1 or chance.random() < 0.5
        ]
        removed += len(self.shelf.records) - len(kept)
        self.shelf.records = kept
        self.floor = max(self.floor, below)
        self.seen["records removed"] += removed

    def judge(self) -> None:
        """The last look."""
        for key, offset in self.effects:
            if offset not in self.referee.counts:
                raise Wrong(f"an effect of {key} @{offset} was let out, its record does not count")
        try:
            judge, states = fold(self.shelf.records, floor=self.floor)
        except ContrapasError as why:
            raise Wrong(f"the fold stops: {why}") from why
        mine = {k: token_of(r) for k, r in self.referee.states.items()}
        theirs = {k: token_of(r) for k, r in states.items()}
        if mine != theirs:
            raise Wrong(f"the fold of what is left says {theirs}, counted has {mine}")
        newest = {r.key: r.offset for r in self.shelf.records}
        for owed in judge.owed:
            hidden = self.blind and newest[owed] in self.referee.counts
            if not hidden and self.referee.tops[owed] < self.safe:
                raise Wrong(f"a heal of {owed!r} is owed and will not come")
