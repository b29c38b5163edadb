"""A log of our own over topics that are somebody else's: lanes in a file here, the users' topics read where they are.

What may be asked of those topics is `Reading`, which has no way to write: nothing is published, no group is joined, no
position is stored there. What the engine would send to a topic is refused here (CP526), before any connector is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NoReturn, Protocol

from contrapas.core.lane import Commit, Control, Draft, Known, Lane, Record, Source, Topic
from contrapas.errors import Refused
from contrapas.log import Lease, Membership, TopicKeeper

__all__ = ["OverlayLease", "OverlayLog", "Reading"]

Place = tuple[str, int]


class Reading(Protocol):
    """Topics of a server, to be read and nothing else; each call as `Log` has it."""

    place: str
    """The server, as an error names it."""

    async def topic(self, lane: Lane) -> Topic | None:
        """A topic's id and partition count; None when it does not exist."""
        ...

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """[start, stable end) of a partition."""
        ...

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
        """Records from `offset` on, and the offset to ask for next."""
        ...

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """First offset with a timestamp at or after the given one; the stable end if there is none."""
        ...

    async def close(self) -> None:
        """Let the connection go."""
        ...


class OverlayLog:
    """Lanes and dead letters of `lanes`, topics of `topics`. Offsets below `floors` count as not there."""

    def __init__(
        self, lanes: TopicKeeper, topics: Reading, namespace: str, floors: Mapping[Place, int] | None = None
    ) -> None:
        """lanes: made for this one use. floors: (topic, partition) -> where reading begins."""
        self.lanes = lanes
        self.topics = topics
        self.namespace = namespace
        self.floors = dict(floors or {})
        self.came: dict[str, int] = {}
        """Topic -> records that were handed out."""
        self.partitions = lanes.partitions
        self.caps = lanes.caps
        self.place = topics.place
        self.own = frozenset({"", "in", "log", f"{namespace}.in", f"{namespace}.log", f"{namespace}.dlq"})

    # ---- what is ours

    async def acquire(self, partition: int, owner: str, *, known: Known | None = None) -> OverlayLease:
        return OverlayLease(self, await self.lanes.acquire(partition, owner, known=known))

    def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        return self.lanes.latest(partition, after=after, upto=upto)

    async def publish(self, drafts: Sequence[Draft]) -> None:
        """To the inbound lane and the dead letters, which lie here. Refused CP526 for any other topic, before anything
        is stored."""
        self.check(drafts)
        await self.lanes.publish(drafts)

    def check(self, drafts: Sequence[Draft]) -> None:
        """Refused CP526 when one of them would go to a topic that is not ours."""
        for draft in drafts:
            if draft.to not in self.own:
                self._refuse(f"nothing is sent to {draft.to}", draft.to)

    def membership(self, group: str, lanes: Sequence[Lane]) -> Membership:
        """Over our own lanes. Refused CP526 for a group over somebody's topics."""
        for lane in lanes:
            if lane not in self.own:
                self._refuse(f"no group is joined over {lane}", lane)
        return self.lanes.membership(group, lanes)

    async def positions(self, group: str) -> Mapping[Source, int]:
        return await self.lanes.positions(group)

    async def save_positions(self, group: str, at: Mapping[Source, int]) -> None:
        """Of our own lanes only. Refused CP526."""
        for source, _ in at:
            if source.partition("@")[0] not in self.own:
                self._refuse(f"no position is stored for {source}", source)
        await self.lanes.save_positions(group, at)

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make the dead letters, here. A topic that is missing over there stays so: nothing can come from it."""
        await self.lanes.create_topics({name: count for name, count in topics.items() if name in self.own})

    def _refuse(self, words: str, place: str) -> NoReturn:
        raise Refused(
            "CP526",
            f"{words}: {self.topics.place} is only read",
            fix="run it without --read-only",
            place=place,
        )

    # ---- what is read where it is

    async def topic(self, lane: Lane) -> Topic | None:
        return await (self.lanes if lane in self.own else self.topics).topic(lane)

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        if lane in self.own:
            return await self.lanes.bounds(lane, partition)
        start, end = await self.topics.bounds(lane, partition)
        return max(start, min(end, self.floors.get((lane, partition), start))), end

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
        source = self.lanes if lane in self.own else self.topics
        found = await source.read(
            lane, partition, offset, max_records=max_records, max_bytes=max_bytes, wait_ms=wait_ms
        )
        if found[0] and lane not in self.own:
            self.came[lane] = self.came.get(lane, 0) + len(found[0])
        return found

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        source = self.lanes if lane in self.own else self.topics
        return await source.offset_at(lane, partition, timestamp_ms)

    async def close(self) -> None:
        """Let go of both."""
        await self.lanes.close()
        await self.topics.close()


class OverlayLease:
    """A lease of our own lane whose commits cannot hold a message for somebody's topic."""

    def __init__(self, log: OverlayLog, lease: Lease) -> None:
        self._log = log
        self._lease = lease
        self.partition = lease.partition
        self.epoch = lease.epoch
        self.control = lease.control

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As `Lease`. Refused CP526, with nothing written, when something would leave."""
        self._log.check(out)
        done = await self._lease.commit(log, out, control)
        self.control = self._lease.control
        return done

    async def compact(self, horizon: int, *, budget_ms: int) -> int:
        reached = await self._lease.compact(horizon, budget_ms=budget_ms)
        self.control = self._lease.control
        return reached

    async def look(self) -> Sequence[Record]:
        return await self._lease.look()

    async def lost(self) -> None:
        await self._lease.lost()

    async def release(self) -> None:
        await self._lease.release()
        self.control = self._lease.control
