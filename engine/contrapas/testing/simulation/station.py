"""One owned partition of a simulated worker: the runtime's own decisions, called by virtual time instead of a loop.

Decoding, correlation, transition, batches, commit, dispatch and takeover are the runtime's. What stands here is only what
waits there: when to read, when to decide, what to do after a call of the log failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, cast

from contrapas.core.lane import Draft, Record
from contrapas.core.world import Input
from contrapas.errors import Fenced, Indeterminate, Retriable
from contrapas.failpoints import failpoint
from contrapas.log import Lease, Log
from contrapas.runtime import commit, ingress, read
from contrapas.runtime.batch import BATCH_MS_MAX, Batch, Setting
from contrapas.runtime.ingress import Source
from contrapas.runtime.partition import Partition
from contrapas.runtime.processor import decide
from contrapas.runtime.restore import Takeover
from contrapas.runtime.station import Station
from contrapas.testing.bench import at_once
from contrapas.testing.simulation.store import SimLease, SimStore
from contrapas.testing.simulation.universe import Universe, Wrong

if TYPE_CHECKING:
    from contrapas.testing.simulation.worker import SimWorker

SENDING, CLAIMED, RUNNING = 0, 1, 2
SPINS_MAX = 500
"""So many turns of a partition in which nothing is decided: it turns on the spot."""


class StationEyes(Protocol):
    """Who watches what a station does."""

    def offers(self, s: SimStation, batch: Batch | None) -> None:
        """A batch is about to be written; None: the control record alone."""
        ...

    def stands(self, s: SimStation, first: int, last: int) -> None:
        """The log has said that the records of a commit, at these offsets, count."""
        ...

    def passed(self, s: SimStation, batch: Batch) -> None:
        """Nothing of what a batch took had to be written."""
        ...

    def counted(self, s: SimStation, batch: Batch) -> None:
        """The runtime believes that a batch counts."""
        ...

    def taken(self, s: SimStation, taken: Takeover, saved: int) -> None:
        """A partition was restored; saved: from a checkpoint of what stands below this offset."""
        ...

    def sends(self, s: SimStation, drafts: list[Draft]) -> None:
        """Messages of commits are about to be published."""
        ...


class SimStation(Station):
    """A partition under one epoch, moved by `turn`."""

    def __init__(
        self, worker: SimWorker, lease: SimLease, partition: Partition, setting: Setting, taken: Takeover
    ) -> None:
        u = worker.universe
        super().__init__(
            cast(Log, worker.log),
            cast(Lease, lease),
            partition,
            setting,
            clock=worker.clock,
            runner=worker.runner,
            ears=worker,
            chance=u.chance.order,
        )
        self.worker = worker
        self.universe: Universe = u
        self.store: SimStore = worker.store
        self.eyes: StationEyes = worker.eyes
        self.hold = lease.hold
        self.taken = taken
        self.phase = SENDING
        self.gone = False
        self.batch: Batch | None = None
        """Decided, and on its way to the log."""
        self.idle_at = u.now + read.IDLE_MS
        self._turn_at = -1
        self._spins = 0
        self.turning = False
        self.fresh = True
        """A source may have something new."""
        self._sources: list[Source] = []
        self._ends: dict[Source, int] = {}
        self.stranger = False
        """Somebody else's record stands behind our last commit."""
        self._step = BATCH_MS_MAX / worker.universe.options.batch + 1e-9
        lease.hold.on_lost.append(self._told_lost)
        lease.on_commit = lambda first, last: self.eyes.stands(self, first, last)

    # ---- waking

    def soon(self, delay_ms: int = -1) -> None:
        """Have a turn before long; an earlier one that is due already will do."""
        u = self.universe
        at = u.now + (delay_ms if delay_ms >= 0 else u.chance.below(u.options.lag_ms))
        if self._turn_at >= 0 and self._turn_at <= at:
            return
        self._turn_at = at
        u.at(at - u.now, lambda: self.turn(at))

    def stood(self, losers: Sequence[Record]) -> None:
        """As `Station.stood`."""
        self.universe.sometimes["loser met by an owner at work"] += len(losers) > 0
        super().stood(losers)

    def result(self, epoch: int, event: Input) -> None:
        """As `Station.result`."""
        if self.gone:
            return
        before = len(self.partition.results)
        super().result(epoch, event)
        if len(self.partition.results) > before:
            self.worker.eyes.result(self.worker, self.number, epoch, self.partition.epoch)
            self.soon()

    def _told_lost(self) -> None:
        """The log's client finds out that somebody else owns it: at once, later, or at the next commit."""
        u = self.universe
        if not self.gone and not self.worker.letting_go and u.chance.order() < 0.5:
            u.at(u.chance.below(3_000), self._lost)

    def _lost(self) -> None:
        if not self.gone and self.worker.alive:
            self.fail(Fenced(f"partition {self.number} has another owner"))
            self.soon(0)

    # ---- one turn

    def turn(self, at: int) -> None:
        """What a partition's tasks do when they are let."""
        if self._turn_at != at:
            return
        self._turn_at = -1
        if self.gone or not self.worker.alive:
            return
        if self.worker.paused_until > self.universe.now:
            self.soon(self.worker.paused_until - self.universe.now)
            return
        self._spins += 1
        if self._spins > SPINS_MAX:
            raise Wrong("I-31", f"partition {self.number} turns and turns, and decides nothing")
        self.turning = True
        self.worker.guarded(self.number, self._turn)
        self.turning = False

    def _turn(self) -> None:
        if self.batch is not None:
            self._write()
        if self.failure is not None:
            raise self.failure
        if self.phase != RUNNING and not self._begin():
            return
        if self.fresh or self.behind or self.partition.release_at is None:
            self._ingest()
        self._feed()
        self._decide()
        if self.gone or self.batch is not None:
            return
        self.publish()
        self._next()

    def _begin(self) -> bool:
        """What a takeover owes before the first input: messages, heals, the control record, steps."""
        p, taken = self.partition, self.taken
        if self.phase == SENDING:
            if taken.out:
                self.eyes.sends(self, taken.out)
                if not self._publish(taken.out):
                    return False
            self.phase = CLAIMED
            p.relayed = max(p.relayed, 0)
            self._sources = at_once(ingress.sources_of(self))
            for source in self._sources:
                self._ends[source] = self.store.bounds(source.topic, source.number)[1]
            self.behind = set(self._sources)
            self.worker.stations[self.number] = self
        self.eyes.offers(self, None)
        at_once(commit.commit_control(self))
        while p.heal:
            self.eyes.offers(self, None)
            at_once(commit.commit_control(self))
        self.phase = RUNNING
        self.worker.look_timers()
        for call in taken.steps:
            self.runner.start(self.number, p.epoch, call)
        return True

    def _ingest(self) -> None:
        store, p = self.store, self.partition
        self.fresh = False
        for source in self._sources:
            place = (source.name, source.number)
            at = p.settled.get(place, 0)
            shelf = store.lanes[source.topic][source.number]
            if at < shelf.end:
                try:
                    records, after = store.read(source.topic, source.number, at, max_records=200)
                except Retriable:
                    self.fresh = True
                    self.soon(100)
                    continue
                drafts = [d for r in records if (d := ingress.inbound(p, source, r)) is not None]
                p.counts.skipped += len(records) - len(drafts)
                failpoint("ingress.read")
                if drafts:
                    if not self._publish(drafts):
                        self.fresh = True
                        continue
                    failpoint("ingress.published")
                p.settled[place] = at = after
                self.fresh |= after < shelf.end
            if source in self.behind and at >= self._ends[source]:
                self.behind.discard(source)
                if not self.behind:
                    self.worker.look_timers()
        if not self.behind and p.release_at is None:
            self.worker.look_timers()

    def _feed(self) -> None:
        p = self.partition
        shelf = self.store.lanes["in"][self.number]
        if p.fetched >= shelf.end or not p.wants_input() or self.stopping:
            return
        try:
            records, after = self.store.read("in", self.number, p.fetched, max_records=500)
        except Retriable:
            self.soon(100)
            return
        if records:
            failpoint("read.fed")
            self.log_clock.saw(records[-1].timestamp_ms)
            p.feed(records, after)
        else:
            p.fetched = after

    def _decide(self) -> None:
        p = self.partition
        if self.stopping and not p.results:
            self._leave()
            return
        now = self.log_clock.now()
        if not p.ready(now):
            if p.must_confirm(now) and not p.timers_held:
                if p.fetched >= self.store.lanes["in"][self.number].end:
                    p.complete_until = max(p.complete_until, now)
                if not p.ready(now):
                    return
            else:
                return
        if not p.inputs and not p.results:
            failpoint("timer.due")
        tick = count(0.0, self._step)
        due = p.next_timer()
        if due is not None and due <= now and p.inputs and p.inputs[0].timestamp_ms < due:
            self.universe.sometimes["timer held back for an earlier input"] += 1
        batch = decide(p, now, tick.__next__)
        self.universe.seen["decided"] += 1
        self._spins = 0
        self.idle_at = self.universe.now + read.IDLE_MS
        self.worker.trouble(len(batch.log) or 0.3)
        if batch.empty:
            at_once(commit.commit(self, batch))
            self.eyes.passed(self, batch)
            return
        self.batch = batch
        if self.universe.chance.order() < 0.04:
            self.universe.sometimes["others moved while a commit was on its way"] += 1
            self.soon(self.universe.chance.below(50))
            return
        if self.worker.paused_until > self.universe.now:
            self.soon(self.worker.paused_until - self.universe.now)
            return
        self._write()

    def _write(self) -> None:
        """Write what is decided; the rest is `runtime.commit`."""
        batch, self.batch = self.batch, None
        assert batch is not None
        if self.failure is not None:  # known to be lost: nothing of it is tried
            raise self.failure
        self.eyes.offers(self, batch)
        at_once(commit.commit(self, batch))
        self.eyes.counted(self, batch)

    def publish(self) -> None:
        """Send what waits to be sent, oldest first, until a call fails."""
        while self.outgoing:
            drafts = self.outgoing[0]
            failpoint("relay.read")
            answers = dict(drafts[0].headers).get("cp-kind") == b"answer"
            if not answers:
                self.eyes.sends(self, drafts)
            if not self._publish(drafts):
                return
            failpoint("relay.published")
            self.outgoing.popleft()
            if not answers:
                self.partition.left()
            failpoint("relay.marked")

    def _publish(self, drafts: list[Draft]) -> bool:
        try:
            self.store.publish(drafts)
        except (Retriable, Indeterminate):
            self.soon(20 + self.universe.chance.below(200))
            return False
        return True

    def _next(self) -> None:
        """When to look again."""
        p, u = self.partition, self.universe
        more = p.fetched < self.store.lanes["in"][self.number].end and p.wants_input()
        if more or self.fresh or p.ready(self.log_clock.now()):
            self.soon()
            return
        at = p.wakes_at()
        if at is not None:
            self.soon(max(1, int(self.log_clock.until(at) + 0.999)))
        if p.behind():
            if u.now >= self.idle_at:
                self.eyes.offers(self, None)
                at_once(commit.commit_control(self))
                u.seen["idle commits"] += 1
            else:
                self.soon(self.idle_at - u.now)
        if self.stranger:
            self._look()

    def told_stranger(self) -> None:
        """Somebody else wrote to our lane. A real owner looks once a second; here nobody does while there is nothing to
        see, so that a world comes to rest."""
        self.stranger = True
        if self.batch is None and not self.turning:
            self.soon(self._until_look())

    def _until_look(self) -> int:
        return max(0, int(self.look_at - self.clock.ms() + 0.999))

    def _look(self) -> None:
        end = self.store.lanes["log"][self.number].end
        if self.hold.expected < end and self.clock.ms() >= self.look_at:
            at_once(read.look(self))
            self.universe.sometimes["a look found what others wrote"] += self.hold.expected == end
        self.stranger = self.hold.expected < end
        if self.partition.heal:
            self.soon()
        elif self.stranger:
            self.soon(self._until_look())

    # ---- the end

    def leave(self) -> None:
        """Give it up in order, when its turn comes."""
        self.stop()
        self.soon(0)

    def _leave(self) -> None:
        """As the end of an orderly tenure: what was sent is known, the cursor level, the partition free."""
        failpoint("revoke")
        self.runner.drop(self.number)
        self.publish()
        if self.partition.behind():
            self.eyes.offers(self, None)
            at_once(commit.commit_control(self))
        failpoint("release.before")
        at_once(self.lease.release())
        self.universe.note(f"{self.worker.name} releases {self.number}")
        self.drop()
        self.worker.freed(self.number)

    def drop(self) -> None:
        """Nothing of this epoch goes on."""
        self.gone = True
        self.batch = None
        self.outgoing = deque()
        if self.worker.stations.get(self.number) is self:
            del self.worker.stations[self.number]
        self.worker.retire(self)


Act = Callable[[], Any]
