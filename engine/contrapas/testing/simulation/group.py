"""Membership by script: who should own what, found out late, and sometimes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrapas.log.sharing import share

if TYPE_CHECKING:
    from contrapas.testing.simulation.play import Play
    from contrapas.testing.simulation.worker import SimWorker

SESSION_MS = 10_000


class Group:
    """The group of a world's workers."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.members: list[SimWorker] = []

    def join(self, worker: SimWorker) -> None:
        """A worker comes."""
        self.members.append(worker)
        self.deal()

    def lost(self, worker: SimWorker) -> None:
        """A worker died or stood still too long: the group finds out after a while."""
        u = self.play.universe
        u.at(u.chance.below(SESSION_MS), lambda: self.leave(worker))

    def leave(self, worker: SimWorker) -> None:
        """It is no member any more."""
        if worker in self.members:
            self.members.remove(worker)
            self.deal()

    def deal(self) -> None:
        """Who should own what, as it should be."""
        names = {w.name: ("in",) for w in self.members}
        slots = [("in", n) for n in range(self.play.options.partitions)]
        dealt = share(names, slots)
        for worker in self.members:
            mine = frozenset(n for _, n in dealt.get(worker.name, frozenset()))
            self._tell(worker, mine)

    def _tell(self, worker: SimWorker, mine: frozenset[int]) -> None:
        u = self.play.universe
        u.at(u.chance.below(40), lambda: worker.assign(mine) if worker in self.members else None)

    def shuffle(self) -> None:
        """A rebalance for no reason, and for a while perhaps with two owners of one partition."""
        u = self.play.universe
        if not self.members:
            return
        number = u.chance.below(self.play.options.partitions)
        worker = u.chance.pick(self.members)
        if u.chance.order() < 0.4:
            u.sometimes["membership was wrong: two owners"] += 1
            self._tell(worker, worker.wanted | {number})
            if u.chance.order() < 0.5:
                u.sometimes["two takeovers back to back"] += 1
                self._tell(u.chance.pick(self.members), worker.wanted | {number})
        else:
            for other in self.members:
                if other is not worker:
                    self._tell(other, other.wanted - {number})
            self._tell(worker, worker.wanted | {number})
        u.at(200 + u.chance.below(5_000), self.deal)
