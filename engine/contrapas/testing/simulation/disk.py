"""Checkpoints of a simulated world: kept now and then by somebody, several generations of one, so that some are old."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from contrapas.core.lane import Record
from contrapas.errors import ContrapasError
from contrapas.runtime.checkpoint import EMPTY, State
from contrapas.runtime.keeper import changes

if TYPE_CHECKING:
    from contrapas.testing.simulation.store import SimStore

GENERATIONS = 3
"""A worker that was away for long comes back with an old one."""
USED = 0.6


class SimSaved:
    """One checkpoint of one partition."""

    def __init__(self, state: State, records: dict[bytes, Record]) -> None:
        self.state = state
        self.records = records

    async def batches(self) -> AsyncIterator[list[Record]]:
        """As `Checkpoint.batches`."""
        yield list(self.records.values())


class Disk:
    """All checkpoints of a world."""

    def __init__(self, store: SimStore) -> None:
        self.store = store
        self.saved: dict[int, list[SimSaved]] = {}

    def pick(self, number: int) -> SimSaved | None:
        """The one that lies where this worker runs, if there is one."""
        chance = self.store.universe.chance
        kept = self.saved.get(number)
        return chance.pick(kept) if kept and chance.order() < USED else None

    def keep(self, number: int) -> None:
        """As `Keeper.catch_up`: what was written since goes into a new one, or all of it."""
        store, u = self.store, self.store.universe
        kept = self.saved.setdefault(number, [])
        old = u.chance.pick(kept) if kept and u.chance.order() < USED else SimSaved(EMPTY, {})
        state, end = old.state, store.lanes["log"][number].end
        if state.upto < self._floor(number) or state.upto == end:
            return
        lane = f"{store.namespace}.log"
        judge = state.fold(lane, end)
        found = store.latest(number, state.upto, end)
        try:
            changed = changes(judge, found, lane)
        except ContrapasError:
            return  # damaged: its owner says so
        records = {**old.records}
        for key, record in changed.items():
            if record is None:
                records.pop(key, None)
            else:
                records[key] = record
        newest = max((r.timestamp_ms for r in found), default=state.at_ms)
        at = max(newest, state.at_ms)
        kept.append(SimSaved(State(end, judge.epoch, judge.control, dict(judge.owed), at), records))
        del kept[:-GENERATIONS]
        u.sometimes["a checkpoint was kept"] += 1

    def _floor(self, number: int) -> int:
        store = self.store
        if store.fence == "refuse":
            return store.parts[number].control.horizon if self.saved.get(number) else 0
        return 0
