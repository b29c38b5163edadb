"""A log on Kafka for commands that only look: newest records, histories, owners, topics, lag. It produces nothing, joins nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from contrapas.errors import ContrapasError
from contrapas.log import Control, Lane, Record, Topic
from contrapas.log.checks import check_position, epoch_of
from contrapas.log.control import new_control
from contrapas.log.order import Seen, is_control
from contrapas_kafka import topics
from contrapas_kafka.explain import FAILURES, explain, is_groups
from contrapas_kafka.inquiry import CALL_S, Inquiry, patiently, places_of
from contrapas_kafka.marker import Marker
from contrapas_kafka.options import Cluster
from contrapas_kafka.streams import record_of

Place = tuple[str, int]

TAIL: Final = 1_100
"""Records within which the last commit's control record lies: a commit has at most a thousand."""
BATCH: Final = 1_000
GROUPS: Final = 100
"""Groups whose lag is looked up, the namespace's own first."""


class Part(NamedTuple):
    """A partition of the lanes."""

    partition: int
    epoch: int
    owner: str
    log_end: int
    in_end: int
    in_start: int
    horizon: int
    relayed: int
    control: Control
    silent_ms: int | None
    """0 while a member of the workers' group has it, None while nobody does."""


@dataclass(slots=True)
class _Lane:
    """What was read of one partition of the log lane: records that count, by the one rule of every reader."""

    at: int = 0
    seen: Seen = field(default_factory=Seen)
    states: dict[bytes, Record] = field(default_factory=dict[bytes, Record])
    histories: dict[bytes, list[Record]] = field(default_factory=dict[bytes, list[Record]])

    def take(self, record: Record) -> None:
        """The next record: one below the highest epoch is ignored."""
        self.at = record.offset + 1
        self.seen.take(record)
        if epoch_of(record) < self.seen.epoch or is_control(record):
            return
        if record.value is None:
            self.states.pop(record.key, None)
        else:
            self.states[record.key] = record
        if record.key in self.histories:
            self.histories[record.key].append(record)


class KafkaLook:
    """One namespace's log, read-only. Calls of the client run in a thread, one at a time."""

    def __init__(self, asked: Inquiry, marker: Marker) -> None:
        self.asked = asked
        self.cluster = asked.cluster
        self.namespace = marker.namespace
        self.partitions = marker.partitions
        self.id = marker.log
        self._inbound, self._log = topics.lanes_of(marker.namespace)
        self._lanes: dict[int, _Lane] = {}
        self._turn = asyncio.Lock()
        self._lane_reader: Any = None
        self._readers: dict[bool, Any] = {}

    # ---- reading

    def _consumer(self, *, committed: bool) -> Any:
        settings = self.cluster.reader(f"{self.namespace}.reader", committed=committed)
        consumer = Consumer(settings | {"enable.partition.eof": True, "fetch.wait.max.ms": 50})
        consumer.list_topics(self._log, timeout=CALL_S)
        return consumer

    def topic_of(self, lane: Lane) -> str:
        """As the cluster calls it."""
        return f"{self.namespace}.{lane}" if lane in ("in", "log") else lane

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """[start, stable end) of a partition; the log lane's as it stands."""
        place = (self.topic_of(lane), partition)
        found = await self.whole([place])
        return found[place]

    async def whole(self, places: Sequence[Place]) -> dict[Place, tuple[int, int]]:
        """Bounds of many partitions in two questions."""
        starts = await patiently(lambda: self.asked.starts(places))
        own = [place for place in places if place[0] == self._log]
        others = [place for place in places if place[0] != self._log]
        ends = await patiently(lambda: self.asked.ends(own, committed=False))
        ends |= await patiently(lambda: self.asked.ends(others, committed=True))
        return {place: (starts[place], ends[place]) for place in places}

    async def read(
        self, lane: Lane, partition: int, offset: int, *, max_records: int = 1000, **_: object
    ) -> tuple[Sequence[Record], int]:
        """Records from an offset on, and the offset to ask for next."""
        start, end = await self.bounds(lane, partition)
        check_position(self.namespace, lane, partition, offset, start, end)
        place = (self.topic_of(lane), partition)
        if offset >= end:
            return (), offset
        async with self._turn:
            return await asyncio.to_thread(self._read, place, offset, end, max_records)

    def _read(self, place: Place, offset: int, end: int, most: int) -> tuple[list[Record], int]:
        committed = place[0] != self._log
        found: list[Record] = []
        at = [offset]
        try:
            consumer = self._readers.get(committed)
            if consumer is None:
                consumer = self._readers[committed] = self._consumer(committed=committed)
            consumer.assign([TopicPartition(*place, offset)])
            for message in self._messages(consumer, lambda: at[0] < end and len(found) < most):
                at[0] = _next_of(message)
                if message.error() is None and at[0] <= end:
                    found.append(record_of(message))
        except FAILURES as why:
            raise explain(why, self.cluster, sent=False, resource=place[0], operation="Read") from why
        if len(found) >= most:
            return found[:most], found[most - 1].offset + 1
        return found, max(at[0], end)

    def _messages(self, consumer: Any, more: Any) -> Iterable[Message]:
        """Messages and ends of partitions, for as long as more are wanted; the deadline is for silence."""
        heard = time.monotonic()
        while more():
            message = consumer.poll(0.1)
            batch = [] if message is None else [message, *consumer.consume(BATCH, 0)]
            if not batch and time.monotonic() - heard > CALL_S:
                raise TimeoutError
            for one in batch:
                heard = time.monotonic()
                error = one.error()
                if error is not None and is_groups(error):
                    continue
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                yield one

    # ---- the log lane

    async def catch_up(self, wanted: Iterable[int] | None = None) -> None:
        """Read partitions of the log lane up to their ends of now; only what is new since the last time."""
        numbers = list(range(self.partitions) if wanted is None else wanted)
        ends = await patiently(lambda: self.asked.ends([(self._log, p) for p in numbers], committed=False))
        async with self._turn:
            await asyncio.to_thread(self._catch_up, {p: ends[self._log, p] for p in numbers})

    def _catch_up(self, ends: dict[int, int]) -> None:
        fresh = [p for p in ends if p not in self._lanes]
        try:
            if self._lane_reader is None:
                self._lane_reader = self._consumer(committed=False)
            if fresh:
                starts = [TopicPartition(self._log, p, -2) for p in fresh]  # from the beginning
                self._lane_reader.incremental_assign(starts)
                self._lanes |= {p: _Lane() for p in fresh}
            open_ = {p for p, end in ends.items() if self._lanes[p].at < end}
            for message in self._messages(self._lane_reader, lambda: open_):
                p = int(message.partition() or 0)
                lane = self._lanes[p]
                if message.error() is not None:
                    lane.at = max(lane.at, _next_of(message))
                else:
                    lane.take(record_of(message))
                if p in open_ and lane.at >= ends[p]:
                    open_.discard(p)
        except FAILURES as why:
            raise explain(why, self.cluster, sent=False, resource=self._log, operation="Read") from why

    async def latest(self, partition: int) -> AsyncIterator[Sequence[Record]]:
        """The newest record that counts of each key, by offset."""
        await self.catch_up([partition])
        states = self._lanes[partition].states
        yield sorted(states.values(), key=lambda record: record.offset)

    async def newest(self, partition: int, key: bytes) -> Record | None:
        """The newest record of one key."""
        await self.catch_up([partition])
        return self._lanes[partition].states.get(key)

    async def between(self, partition: int, low: bytes, high: bytes) -> list[Record]:
        """Newest records of the keys with low < key < high."""
        await self.catch_up([partition])
        states = self._lanes[partition].states
        found = [record for key, record in states.items() if low < key < high]
        return sorted(found, key=lambda record: record.offset)

    async def history(self, partition: int, key: bytes) -> list[Record]:
        """Every record of a key that counts and is still there, oldest first."""
        await self.catch_up([partition])
        lane = self._lanes[partition]
        if key not in lane.histories:
            start, _ = await self.bounds("log", partition)
            judge, end = _Lane(), lane.at
            judge.histories[key] = []
            while start < end:
                records, start = await self.read("log", partition, start, max_records=5_000)
                for record in records:
                    if record.offset < end:
                        judge.take(record)
            lane.histories[key] = judge.histories[key]
        return list(lane.histories[key])

    async def version(self) -> int:
        """A number that grows when something was written to a lane."""
        places = places_of({self._log: self.partitions, self._inbound: self.partitions})
        return sum((await patiently(lambda: self.asked.ends(places, committed=False))).values())

    async def parts(self) -> list[Part]:
        """Every partition of the lanes: the control record of the last commit, and whether a worker has it."""
        numbers = range(self.partitions)
        bounds = await self.whole([(name, p) for name in (self._log, self._inbound) for p in numbers])
        tails = await self._tails({p: bounds[self._log, p] for p in numbers})
        floors = await self._floors()
        try:
            given = (await self.asked.group(f"{self.namespace}.workers")).assigned
        except ContrapasError:  # not ours to see
            given = frozenset[Place]()
        found: list[Part] = []
        for p in numbers:
            seen = tails[p].seen
            control = seen.control or new_control(self.partitions)
            in_start, in_end = bounds[self._inbound, p]
            log_end = bounds[self._log, p][1]
            silent = 0 if (self._inbound, p) in given else None
            found.append(
                Part(
                    p,
                    max(control.epoch, seen.epoch),
                    control.owner,
                    log_end,
                    in_end,
                    in_start,
                    log_end if floors[p] < 0 else floors[p],
                    control.relayed,
                    control,
                    silent,
                )
            )
        return found

    async def _floors(self) -> dict[int, int]:
        """Below these offsets the cleaner may have been: what is older than the lag."""
        settings = (await self.asked.settings([self._log])).get(self._log, {})
        lag = int(settings.get("min.compaction.lag.ms", "0"))
        places = places_of({self._log: self.partitions})
        ms = max(0, time.time_ns() // 1_000_000 - lag)
        return {p: at for (_, p), at in (await self.asked.at_time(places, ms)).items()}

    async def _tails(self, bounds: dict[int, tuple[int, int]]) -> dict[int, _Lane]:
        """The end of each partition, as much as holds a control record."""
        found: dict[int, _Lane] = {}
        back = TAIL
        while wanted := [p for p in bounds if p not in found]:
            firsts = {p: max(bounds[p][0], bounds[p][1] - back) for p in wanted}
            async with self._turn:
                lanes = await asyncio.to_thread(self._spans, firsts, {p: bounds[p][1] for p in wanted})
            for p, lane in lanes.items():
                if lane.seen.control is not None or firsts[p] <= bounds[p][0]:
                    found[p] = lane
            back *= 16
        return found

    def _spans(self, firsts: dict[int, int], ends: dict[int, int]) -> dict[int, _Lane]:
        """Pieces of several partitions of the log lane at once."""
        lanes = {p: _Lane(at=first) for p, first in firsts.items()}
        open_ = {p for p, end in ends.items() if lanes[p].at < end}
        try:
            consumer = self._readers.get(False)
            if consumer is None:
                consumer = self._readers[False] = self._consumer(committed=False)
            consumer.assign([TopicPartition(self._log, p, firsts[p]) for p in open_])
            for message in self._messages(consumer, lambda: open_):
                p = int(message.partition() or 0)
                if message.error() is not None:
                    lanes[p].at = max(lanes[p].at, _next_of(message))
                elif _next_of(message) <= ends[p]:
                    lanes[p].take(record_of(message))
                else:
                    lanes[p].at = ends[p]
                if lanes[p].at >= ends[p]:
                    open_.discard(p)
        except FAILURES as why:
            raise explain(why, self.cluster, sent=False, resource=self._log, operation="Read") from why
        return lanes

    # ---- topics, groups

    async def topics(self) -> dict[str, Topic]:
        """Topics beside the lanes; the id is empty, nobody asks for it here."""
        await self.asked.refresh()
        return {
            name: Topic("", count)
            for name, count in sorted(self.asked.topics.items())
            if name not in (self._inbound, self._log) and not name.startswith("__")
        }

    async def topic_settings(self, topic: Lane) -> dict[str, str]:
        """Settings of a topic as the cluster has them; empty when they are not ours to see."""
        name = self.topic_of(topic)
        try:
            return dict((await self.asked.settings([name])).get(name, {}))
        except ContrapasError:
            return {}

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """First offset with a time at or after the given one; the end if there is none."""
        place = (self.topic_of(lane), partition)
        found = (await patiently(lambda: self.asked.at_time([place], timestamp_ms)))[place]
        return found if found >= 0 else (await self.bounds(lane, partition))[1]

    async def lag(self, topic: Lane) -> dict[str, int]:
        """Groups with a stored position on a topic, and how far behind they are, in records."""
        name = self.topic_of(topic)
        count = self.asked.topics.get(name, 0)
        names = sorted(await self.asked.groups(), key=lambda g: (not g.startswith(f"{self.namespace}."), g))
        places = places_of({name: count})
        ends = await patiently(lambda: self.asked.ends(places, committed=True))
        found: dict[str, int] = {}
        for group in names[:GROUPS]:
            try:
                at = {p: o for p, o in (await self.asked.group_offsets(group)).items() if p in ends}
            except ContrapasError:
                continue
            if at:
                found[group.removesuffix(".positions")] = sum(max(0, ends[p] - o) for p, o in at.items())
        return found

    async def leave(self) -> None:
        """Let the readers go."""
        for consumer in (self._lane_reader, *self._readers.values()):
            if consumer is not None:
                await asyncio.to_thread(consumer.close)
        self._lane_reader = None
        self._readers.clear()

    async def close(self) -> None:
        """Let everything go."""
        await self.leave()
        await self.asked.close()


def _next_of(message: Message) -> int:
    return int(message.offset() or 0) + (message.error() is None)


async def opened(cluster: Cluster, namespace: str) -> KafkaLook:
    """Look at a namespace's log. As `topics.recorded` refuses; settings are `doctor`'s to judge."""
    asked = Inquiry(cluster)
    await asked.connect()
    marker, _ = await topics.recorded(asked, namespace, None)
    return KafkaLook(asked, marker)
