"""`MemoryLog`: the seam over a `MemoryStore`; the reference twin of every backend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from contrapas.core.lane import Commit, Control, Draft, Known, Lane, Record, Source, Topic
from contrapas.log.checks import check_source
from contrapas.log.faults import Faults
from contrapas.log.memory_store import Fence, Hold, MemoryStore, VirtualClock
from contrapas.log.sharing import Slot

__all__ = ["Faults", "MemoryLease", "MemoryLog", "MemoryMembership", "MemoryStore", "VirtualClock"]


class MemoryLog:
    """A log in memory. Several clients share one store: `MemoryLog(store=first.store)` or `first.peer()`."""

    def __init__(
        self,
        namespace: str = "dev",
        partitions: int = 8,
        *,
        clock: Callable[[], int] | None = None,
        fence: Fence = "refuse",
        faults: Faults | None = None,
        store: MemoryStore | None = None,
    ) -> None:
        self.store = store or MemoryStore(namespace, partitions, clock=clock, fence=fence, faults=faults)
        self.namespace = self.store.namespace
        self.partitions = self.store.partitions
        self.caps = self.store.caps
        self.history_ms = self.store.history_ms
        self._leases: list[MemoryLease] = []
        self._members: list[MemoryMembership] = []

    def peer(self) -> MemoryLog:
        """Another client of the same store, as another process would be."""
        return MemoryLog(store=self.store)

    async def acquire(self, partition: int, owner: str, *, known: Known | None = None) -> MemoryLease:
        await asyncio.sleep(0)
        lease = MemoryLease(self.store, self.store.acquire(partition, owner))
        self._leases.append(lease)
        return lease

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        return self.store.bounds(lane, partition)

    async def read(
        self,
        lane: Lane,
        partition: int,
        offset: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 4 << 20,
        wait_ms: int = 0,
    ) -> tuple[Sequence[Record], int]:
        records, after = self.store.read(lane, partition, offset, max_records, max_bytes)
        if records or wait_ms <= 0:
            return records, after
        await self._more(lane, partition, wait_ms)
        return self.store.read(lane, partition, after, max_records, max_bytes)

    async def _more(self, lane: Lane, partition: int, wait_ms: int) -> None:
        loop = asyncio.get_running_loop()
        came: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not came.done():
                came.set_result(None)

        watchers = self.store.shelf(lane, partition).watchers
        watchers.add(wake)
        timer = loop.call_later(wait_ms / 1000, wake)
        try:
            await came
        finally:
            timer.cancel()
            watchers.discard(wake)

    async def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        records = self.store.latest(partition, after, upto)
        for at in range(0, len(records), 1000):
            yield records[at : at + 1000]

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        return self.store.offset_at(lane, partition, timestamp_ms)

    async def publish(self, drafts: Sequence[Draft]) -> None:
        await asyncio.sleep(0)
        self.store.publish(drafts)

    async def topic(self, lane: Lane) -> Topic | None:
        return self.store.topic(lane)

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create what is missing; Refused CP504 when one exists with another count."""
        self.store.create_topics(topics)

    def membership(self, group: str, lanes: Sequence[Lane]) -> MemoryMembership:
        member = MemoryMembership(self.store, group, lanes)
        self._members.append(member)
        return member

    async def positions(self, group: str) -> Mapping[Source, int]:
        return dict(self.store.saved.get(group, {}))

    async def save_positions(self, group: str, at: Mapping[Source, int]) -> None:
        for source, _ in at:
            check_source(source, self.store.topic(source.rpartition("@")[0]))
        self.store.saved.setdefault(group, {}).update(at)

    async def close(self) -> None:
        for member in self._members:
            await member.leave()
        for lease in self._leases:  # what was not released is given up as by a crash
            lease.hold.lose()


class MemoryLease:
    """Ownership of one partition of a `MemoryLog`."""

    def __init__(self, store: MemoryStore, hold: Hold) -> None:
        self.store = store
        self.hold = hold
        self.partition = hold.partition
        self.epoch = hold.epoch
        self.control: Control = hold.control
        """As found at first; later as last committed."""

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        await asyncio.sleep(0)
        done = self.store.commit(self.hold, log, out, control)
        self.control = self.hold.control
        return done

    async def compact(self, horizon: int, *, budget_ms: int) -> int:
        reached = self.store.compact(self.hold, horizon)
        self.control = self.hold.control
        return reached

    async def look(self) -> Sequence[Record]:
        return self.store.look(self.hold)

    async def lost(self) -> None:
        if self.hold.gone:
            return
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hold.on_lost.append(lambda: None if gone.done() else gone.set_result(None))
        await gone

    async def release(self) -> None:
        self.store.release(self.hold)


class MemoryMembership:
    """One member of a group on a `MemoryLog`."""

    def __init__(self, store: MemoryStore, group: str, lanes: Sequence[Lane]) -> None:
        self.store = store
        self.group = group
        self.member = os.urandom(8).hex()
        self._changed = asyncio.Event()
        self._left = False
        store.on_groups.add(self._changed.set)
        store.join(group, self.member, lanes)

    async def assignments(self) -> AsyncIterator[frozenset[Slot]]:
        last: frozenset[Slot] | None = None
        while not self._left:
            self._changed.clear()
            now = self.store.assigned(self.group, self.member)
            if now != last:
                last = now
                yield now
            else:
                await self._changed.wait()

    async def leave(self) -> None:
        self._left = True
        self.store.leave(self.group, self.member)
        self.store.on_groups.discard(self._changed.set)
