"""The log of a simulated world: both fences, unclear and late writes by chance, errors of the disk, a cleaner.

It is `MemoryStore` with faster ways where a simulation spends its time, and with eyes: whoever watches sees every record
at the moment it is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from contrapas.core.lane import Commit, Control, Draft, Headers, Lane, Record, Topic
from contrapas.core.partition import partition as partition_of
from contrapas.errors import Fenced, Indeterminate, LogError, Retriable
from contrapas.log.checks import epoch_of
from contrapas.log.faults import Faults
from contrapas.log.memory_store import Claim, Hold, MemoryStore, Shelf
from contrapas.testing.simulation.disk import Disk
from contrapas.testing.simulation.universe import Universe, Wrong

_tuple = tuple[Any, ...].__new__
"""Once per record: a named tuple called by its name takes a detour through Python."""
SMALL = 100_000
"""Bytes of a value below which nobody need look at a record's size."""
UNKNOWN = ("lost-before", "lost-after", "late", "cut")


class Eyes(Protocol):
    """Who watches a log."""

    def stored(self, lane: Lane, record: Record) -> None:
        """A record was stored."""
        ...

    def controls(self, partition: int, control: Control) -> None:
        """A control record is about to be written."""
        ...

    def cleaned(self, partition: int, before: list[Record]) -> None:
        """A cleaner went over a partition of the log lane; `before`: its newest records as they were."""
        ...


class SimFaults(Faults):
    """What goes wrong with calls of the log, as the options' rates say."""

    def __init__(self, universe: Universe, fence: str) -> None:
        super().__init__()
        self.universe = universe
        self.fence = fence
        self.sick: dict[int, int] = {}
        """Partitions whose disk is full or broken, and until when."""
        self.fates: list[str] = []

    def take(self, call: str, partition: int) -> str:
        """As `Faults.take`, by chance."""
        u = self.universe
        chance, rates = u.chance, u.rates
        if self.sick and self.sick.get(partition, 0) > u.now and call in ("commit", "acquire"):
            return "retriable"
        if chance.fault("retriable", rates.retriable):
            return "retriable"
        if call == "commit":
            weight = u.weight
            if chance.fault("io", min(0.2, rates.io * weight)):
                self.sick[partition] = u.now + int(chance.bad() * 90_000)
                return "retriable"
            kind = self._kind() if chance.fault("unknown commit", min(0.5, rates.unknown * weight)) else ""
        elif call == "acquire":
            kind = self._kind() if chance.fault("unknown claim", rates.claim) else ""
        else:
            kind = self._kind() if chance.fault("unknown publish", rates.publish) else ""
        if kind:
            chance.faults[f"{call}: {kind}"] += 1
            u.note(f"{call} of partition {partition}: {kind}")
        return kind

    def _kind(self) -> str:
        return UNKNOWN[int(self.universe.chance.bad() * 4)]

    def call(self, call: str, partition: int) -> None:
        """As `Faults.call`."""
        u = self.universe
        if u.chance.fault("retriable read", u.rates.retriable / 4):
            raise Retriable("the log did not answer")

    def gap(self) -> int:
        """As `Faults.gap`."""
        return 1 + int(self.universe.chance.bad() * 3) if self.universe.chance.fault("gap", self.gaps) else 0

    def cut(self, length: int) -> int:
        """As `Faults.cut`."""
        return int(self.universe.chance.bad() * length)


class SimStore(MemoryStore):
    """One simulated log."""

    def __init__(self, namespace: str, universe: Universe) -> None:
        options = universe.options
        super().__init__(namespace, options.partitions, clock=universe, fence=options.fence)
        self.universe = universe
        self.faults: SimFaults = SimFaults(universe, options.fence)
        self.caps = self.caps._replace(atomic_external=options.atomic)
        self.eyes: Eyes | None = None
        self.on_record: Callable[[Lane, Record], None] = lambda lane, record: None
        self.torn: set[int] = set()
        """Partitions in which a prefix of a commit stands that nobody has gone on from."""
        self.on_stranger: Callable[[int], None] = lambda number: None
        """A record that does not count was stored."""
        self.rival: Callable[[int], None] = lambda number: None
        """Somebody else takes a partition now."""
        self.disk = Disk(self)
        self._newest = [dict[bytes, Record]() for _ in range(options.partitions)]
        self._losers = [dict[bytes, Record]() for _ in range(options.partitions)]
        self._high = [0] * options.partitions

    def append(self, lane: Lane, partition: int, key: bytes, value: bytes | None, headers: Headers) -> Record:
        """As `MemoryStore.append`; whoever watches sees it."""
        shelf = self.lanes[lane][partition]
        if self.faults.gaps:
            shelf.end += self.faults.gap()
        now = self.universe.now
        records = shelf.records
        if records and records[-1].timestamp_ms > now:
            now = records[-1].timestamp_ms
        record = _tuple(Record, (partition, shelf.end, key, value, headers, now))
        records.append(record)
        shelf.end += 1
        self.universe.hashed(lane, record)
        if lane == "log":
            self._index(partition, record)
        if self.eyes is not None:
            self.eyes.stored(lane, record)
        if lane != "log":
            self.on_record(lane, record)
        return record

    def _index(self, partition: int, record: Record) -> None:
        losers = self._losers[partition]
        if self.fence == "order":
            epoch = epoch_of(record)
            if epoch < self._high[partition]:
                losers[record.key] = record
                self.on_stranger(partition)
                return
            self._high[partition] = epoch
        self._newest[partition][record.key] = record
        if losers:
            losers.pop(record.key, None)

    def latest(self, partition: int, after: int = 0, upto: int | None = None) -> list[Record]:
        """As `MemoryStore.latest`, from an index where all is asked for."""
        shelf = self.lanes["log"][partition]
        if after > 0 or (upto is not None and upto < shelf.end):
            return super().latest(partition, after, upto)
        losers = self._losers[partition]
        kept = [r for r in self._newest[partition].values() if r.value is not None or r.key in losers]
        return sorted([*kept, *losers.values()], key=lambda r: r.offset)

    def clean(self, partition: int, below: int, choose: Callable[[Record], bool] = lambda r: True) -> int:
        """As `MemoryStore.clean`, between two looks."""
        before = super().latest(partition)
        removed = super().clean(partition, below, choose)
        if self.fence == "order":
            removed += self._forget(partition, below, choose)
        self.universe.sometimes["superseded record compacted"] += removed > 0
        self.reindex(partition)
        if self.eyes is not None:
            self.eyes.cleaned(partition, before)
        return removed

    def _forget(self, partition: int, below: int, choose: Callable[[Record], bool]) -> int:
        """A broker's cleaner removes tombstones too, once they are as old as the history and nothing lies under them."""
        shelf = self.lanes["log"][partition]
        known: dict[bytes, int] = {}
        for record in shelf.records:
            known[record.key] = known.get(record.key, 0) + 1
        old = self.universe.now - self.universe.options.history_ms
        kept = [
            r for r in shelf.records
            if r.value is not None or r.offset >= below or r.timestamp_ms >= old or known[r.key] > 1 or not choose(r)
        ]  # fmt: skip
        gone = len(shelf.records) - len(kept)
        self.universe.sometimes["a tombstone was removed"] += gone > 0
        shelf.records = kept
        return gone

    def reindex(self, partition: int) -> None:
        """Make the index anew from what is there."""
        self._newest[partition].clear()
        self._losers[partition].clear()
        self._high[partition] = 0
        for record in self.lanes["log"][partition].records:
            self._index(partition, record)

    def commit(self, hold: Hold, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As `MemoryStore.commit`; what arrives late arrives at a moment of chance."""
        waiting, u = len(self.in_flight), self.universe
        u.weight = len(log) or 0.3
        if out and u.chance.fault("topic refuses", min(0.2, u.rates.refuses * u.weight)):
            topic = out[0].to
            if topic not in ("in", f"{self.namespace}.dlq"):
                u.sometimes["memory rolled back after a refused batch"] += 1
                raise LogError("CP505", f"topic {topic} does not exist", place=f"{topic}/0")
        end = self.lanes["log"][hold.partition].end
        try:
            return super().commit(hold, log, out, control)
        except Indeterminate:
            if end < self.lanes["log"][hold.partition].end < end + len(log) + 1 and self.fence == "order":
                self.torn.add(hold.partition)
            raise
        finally:
            if len(self.in_flight) > waiting:
                self._later(hold)

    def publish(self, drafts: Sequence[Draft]) -> None:
        """As `MemoryStore.publish`."""
        waiting = len(self.in_flight)
        try:
            super().publish(drafts)
        finally:
            if len(self.in_flight) > waiting:
                self._later(None)

    def acquire(self, partition: int, owner: str) -> Hold:
        """As `MemoryStore.acquire`."""
        waiting = len(self.in_flight)
        try:
            return super().acquire(partition, owner)
        finally:
            if len(self.in_flight) > waiting:
                self._later(None)

    def _later(self, hold: Hold | None) -> None:
        u = self.universe
        write = self.in_flight.pop()
        u.at(int(u.chance.bad() ** 3 * 20_000), lambda: self._land(hold, write))

    def _land(self, hold: Hold | None, write: Callable[[], None]) -> None:
        u = self.universe
        if hold is not None:
            fenced = self.parts[hold.partition].hold is not hold
            if self.fence == "refuse":
                u.sometimes[
                    "former owner's commit refused" if fenced else "late commit before the fence"
                ] += 1
            else:
                u.sometimes["late batch after a claim" if fenced else "late batch before a claim"] += 1
        write()

    def place_claim(self, claim: Claim) -> None:
        """As `MemoryStore.place_claim`; between the end that was read and the claim another may come."""
        u = self.universe
        if u.chance.fault("rival claim", u.rates.rival):
            before = self.lanes["log"][claim.partition].end
            self.rival(claim.partition)
            if self.lanes["log"][claim.partition].end > before:
                u.sometimes["equal claims"] += 1
        super().place_claim(claim)

    def _write_rows(self, partition: int, rows: Sequence[tuple[bytes, bytes | None, Headers]]) -> list[int]:
        """As `MemoryStore._write_rows`; another's claim may come in between."""
        u = self.universe
        at = (
            int(u.chance.bad() * len(rows))
            if u.chance.fault("claim inside", min(0.2, u.rates.inside * u.weight))
            else -1
        )
        if at < 0:
            return super()._write_rows(partition, rows)
        found = super()._write_rows(partition, rows[:at])
        before = self.lanes["log"][partition].end
        self.rival(partition)
        if self.lanes["log"][partition].end > before:
            u.sometimes["a claim inside another's commit"] += 1
        return found + super()._write_rows(partition, rows[at:])

    def _check_commit(self, hold: Hold, log: Sequence[Draft], out: Sequence[Draft]) -> None:
        """As `MemoryStore._check_commit`, of what may be too large."""
        large = [d for d in log if d.value is not None and len(d.value) > SMALL]
        super()._check_commit(hold, large, out)
        if len(log) + len(out) + 1 > self.caps.max_commit_records:
            raise Retriable(f"a commit holds at most {self.caps.max_commit_records} records")

    def _judge_gap(self, hold: Hold, upto: int, mine: Collection[int]) -> tuple[Record, ...]:
        """As `MemoryStore._judge_gap`; now and then what stands there cannot be read."""
        u = self.universe
        if hold.expected < upto and u.chance.fault("gap unread", u.rates.unread):
            hold.lose()
            raise Indeterminate("what stands before a commit is not read")
        return super()._judge_gap(hold, upto, mine)

    def partition_of(self, instance: str) -> int:
        """Where an instance lives."""
        return partition_of(instance.partition("/")[2].encode(), self.partitions)

    def swap(self, partition: int, index: int, record: Record) -> None:
        """Put another record in a stored one's place: damage, and its repair."""
        shelf: Shelf = self.lanes["log"][partition]
        shelf.records[index] = record
        self.reindex(partition)

    def create(self, topics: Mapping[str, int]) -> None:
        """Topics of the app."""
        self.create_topics({name: count for name, count in topics.items() if name not in self.lanes})


class SimLog:
    """What a worker's takeover reads: the seam's calls over a store, which never wait."""

    def __init__(self, store: SimStore) -> None:
        self.store = store
        self.partitions = store.partitions
        self.caps = store.caps
        self.namespace = store.namespace
        self.history_ms = store.universe.options.history_ms

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """As `Log.offset_at`."""
        return self.store.offset_at(lane, partition, timestamp_ms)

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """As `Log.bounds`."""
        return self.store.bounds(lane, partition)

    async def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """As `Log.latest`."""
        yield self.store.latest(partition, after, upto)

    async def topic(self, lane: Lane) -> Topic | None:
        """As `Log.topic`."""
        return self.store.topic(lane)


class SimLease:
    """Ownership of one partition, as the runtime holds it."""

    def __init__(self, store: SimStore, hold: Hold) -> None:
        self.store = store
        self.hold = hold
        self.partition = hold.partition
        self.epoch = hold.epoch
        self.control = hold.control
        self.on_commit: Callable[[int, int], None] = lambda first, last: None
        self.fenced = False
        """A commit was refused: somebody else owns the partition, and this owner knows."""

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As `Lease.commit`. What is busy for long is given up (`Busy`), for nobody sleeps here."""
        if self.store.eyes is not None:
            self.store.eyes.controls(self.partition, control)
        if self.fenced:
            raise Wrong(
                "I-14", f"partition {self.partition} goes on under epoch {self.epoch}, which was fenced"
            )
        for attempt in range(3):
            try:
                done = self.store.commit(self.hold, log, out, control)
            except Retriable as why:
                if attempt == 2:
                    raise Busy(str(why)) from why
                continue
            except Fenced:
                self.fenced = True
                raise
            self.control = self.hold.control
            self.on_commit(done.first, done.last)
            return done
        raise Indeterminate("unreachable")

    async def compact(self, horizon: int, *, budget_ms: int) -> int:
        """As `Lease.compact`."""
        reached = self.store.compact(self.hold, horizon)
        self.control = self.hold.control
        return reached

    async def look(self) -> Sequence[Record]:
        """As `Lease.look`."""
        return self.store.look(self.hold)

    async def lost(self) -> None:
        """Nobody waits for it here: a holder is told by `Hold.on_lost`."""

    async def release(self) -> None:
        """As `Lease.release`."""
        self.store.release(self.hold)


class Busy(Exception):
    """The log was busy for as long as the runtime waits: the partition is given back."""
