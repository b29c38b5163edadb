"""`KafkaLog`: the seam over a Kafka cluster. The partition's order is the fence; no transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from contrapas.errors import ContrapasError, DataError, Indeterminate, LogError
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Capabilities, Draft, Known, Lane, Record, Source, Topic
from contrapas.log import partition as partition_of
from contrapas.log.checks import check_position, check_size, check_source
from contrapas_kafka.asking import Asking
from contrapas_kafka.calls import Calls
from contrapas_kafka.claim import Scan, claim
from contrapas_kafka.explain import creation
from contrapas_kafka.lease import KafkaLease
from contrapas_kafka.membership import KafkaMembership, Owned
from contrapas_kafka.options import Cluster
from contrapas_kafka.producer import LARGER, Row, Senders, Stored
from contrapas_kafka.read import Reader
from contrapas_kafka.streams import Spot
from contrapas_kafka.stuck import Stuck

__all__ = ["KafkaLease", "KafkaLog"]

NAMES.update(
    {
        "kafka.publish.before": "kafka: messages are about to be handed over",
        "kafka.publish.handed": "kafka: messages are handed over, none is answered",
        "kafka.publish.between": "kafka: messages for one partition are handed over, those for the next are not",
    }
)
DAY_MS: Final = 86_400_000
COMMIT_S: Final = 10.0
"""How long an append waits for its answer."""
KNOWN_S: Final = 10.0
"""How old a topic's id may be when positions are saved."""
ROOM: Final = 65_536
BATCH_ROOM: Final = 1_000
"""What a batch of one record is larger than the record, and more."""
CAPS: Final = Capabilities(
    atomic_external=False,
    max_commit_records=1000,
    max_record_bytes=990_000,
    compaction="broker",
    joins_user_sql=False,
)


class KafkaLog:
    """One namespace's lanes on Kafka. `contrapas_kafka.connector.open` checks topics and settings first."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        partitions: int,
        *,
        durable: bool = True,
        history_ms: int = 7 * DAY_MS,
    ) -> None:
        """Within a running loop. partitions: of either lane, as recorded. durable: the lanes' settings were seen to keep
        what they acknowledge. history_ms: `min.compaction.lag.ms` of `<ns>.log`."""
        self.cluster = cluster
        self.place = cluster.place
        self.namespace = namespace
        self.partitions = partitions
        self.durable = durable
        self.history_ms = history_ms
        self.caps = CAPS
        self.commit_s = COMMIT_S
        self.calls = Calls(cluster)
        self.admin = Asking(self.calls)
        self.lanes = Senders(self.calls, {})
        """The producer of the log lane, and of nothing else: a destination that refuses a record would end it."""
        self.out = Senders(self.calls, LARGER)
        self.raw = Reader(self.calls, self.admin, namespace, stable=False)
        self.committed = Reader(self.calls, self.admin, namespace, stable=True)
        self.stuck = Stuck(self)
        self._leases: dict[int, KafkaLease] = {}
        self._members: list[KafkaMembership] = []
        self._topics: dict[str, tuple[float, Topic]] = {}
        self._awaited: dict[asyncio.Future[Stored], tuple[float, str]] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._closed = False

    # ---- lanes and topics

    def name_of(self, lane: Lane) -> Lane:
        """`<ns>.in` and `<ns>.log` are `in` and `log`."""
        if lane == f"{self.namespace}.in":
            return "in"
        return "log" if lane == f"{self.namespace}.log" else lane

    def topic_of(self, lane: Lane) -> str:
        """As the cluster calls it."""
        return f"{self.namespace}.{lane}" if lane in ("in", "log") else lane

    def spot(self, lane: Lane, partition: int) -> Spot:
        """A lane's partition. LogError CP505 when the lane has none of that number."""
        if lane in ("in", "log") and not 0 <= partition < self.partitions:
            raise LogError("CP505", f"{lane} has no partition {partition}", place=f"{lane}/{partition}")
        return self.topic_of(lane), partition

    async def _spot(self, lane: Lane, partition: int) -> Spot:
        """The same for topics too; LogError CP505 when there is no such topic."""
        lane = self.name_of(lane)
        if lane not in ("in", "log") and not 0 <= partition < await self._count(lane):
            raise LogError("CP505", f"{lane} has no partition {partition}", place=f"{lane}/{partition}")
        return self.spot(lane, partition)

    async def _count(self, lane: Lane) -> int:
        if lane in ("in", "log"):
            return self.partitions
        found = self._topics.get(lane)
        topic = found[1] if found is not None else await self.topic(lane)
        if topic is None:
            raise self._absent(lane)
        return topic.partitions

    def _absent(self, topic: str) -> LogError:
        fix = creation(self.cluster, self.namespace, f" {topic}")
        return LogError("CP505", f"topic {topic} does not exist", fix=fix, place=topic)

    async def topic(self, lane: Lane) -> Topic | None:
        lane = self.name_of(lane)
        found = await self.admin.topic(self.topic_of(lane))
        if found is None:
            self._topics.pop(lane, None)
        else:
            self._topics[lane] = (time.monotonic(), found)
        return found

    async def _known(self, lane: Lane) -> Topic | None:
        found = self._topics.get(self.name_of(lane))
        if found is not None and found[0] > time.monotonic() - KNOWN_S:
            return found[1]
        return await self.topic(lane)

    def now_ms(self) -> int:
        """About the log's time."""
        return time.time_ns() // 1_000_000

    # ---- reading

    def reader(self, lane: Lane) -> Reader:
        """The log lane as it stands, everything else without open and aborted transactions."""
        return self.raw if lane == "log" else self.committed

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        lane = self.name_of(lane)
        return await self.reader(lane).bounds(await self._spot(lane, partition))

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
        lane = self.name_of(lane)
        spot = await self._spot(lane, partition)
        if lane != "log":
            self.stuck.begin()
        return await self.reader(lane).read(lane, spot, offset, max_records, max_bytes, wait_ms)

    def held_back(self) -> Sequence[str]:
        """Partitions that somebody's open transaction holds back, for health: each with its producer and age."""
        return self.stuck.words()

    async def range_of(self, partition: int, first: int, upto: int) -> list[Record]:
        """Every record of the log lane with first <= offset < upto. Retriable: not to be had now."""
        spot = self.spot("log", partition)
        return [r async for some in self.raw.span("log", spot, first, upto) for r in some]

    async def scanned(self, scan: Scan, partition: int, upto: int) -> None:
        """Bring a scan up to an offset."""
        spot = self.spot("log", partition)
        start, end = await self.raw.bounds(spot)
        first = max(start, scan.seen.upto) if not scan.after else scan.seen.upto
        if scan.after:
            check_position(self.namespace, "log", partition, scan.seen.upto, start, max(end, upto))
        async for records in self.raw.span("log", spot, first, upto):
            scan.take(records)
            await asyncio.sleep(0)
        scan.seen.upto = max(scan.seen.upto, upto)

    async def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        spot = self.spot("log", partition)
        end = await self.raw.end(spot) if upto is None else upto
        scan = None
        lease = self._leases.get(partition)
        if lease is not None:  # what the claim has read is not read once more
            scan, lease.scan = lease.scan, None
        if scan is None or scan.after != after or scan.seen.upto > end:
            scan = Scan(Known(after, 0, None) if after else None)
        await self.scanned(scan, partition, end)
        living = scan.living()
        del scan
        for at in range(0, len(living), 1000):
            yield living[at : at + 1000]

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        lane = self.name_of(lane)
        spot = await self._spot(lane, partition)
        stable = lane != "log"
        found = await self.admin.offset_at(*spot, timestamp_ms, stable=stable)
        end = await self.reader(lane).end(spot)
        return end if found < 0 else min(found, end)

    # ---- writing

    async def publish(self, drafts: Sequence[Draft]) -> None:
        groups: dict[Spot, list[Row]] = {}
        known: dict[Lane, tuple[str, int, int]] = {}
        for draft in drafts:
            if (found := known.get(draft.to)) is None:
                found = known[draft.to] = await self._destination(draft.to)
            topic, count, limit = found
            check_size(draft, limit)
            at = draft.partition if draft.partition >= 0 else partition_of(draft.key, count)
            if at >= count:
                raise LogError("CP505", f"{draft.to} has no partition {at}", place=f"{draft.to}/{at}")
            groups.setdefault((topic, at), []).append(draft[2:5])
        if not groups:
            return
        sender = await self.out.ready()
        failpoint("kafka.publish.before")
        sending: list[tuple[str, asyncio.Future[Stored]]] = []
        for (topic, at), rows in groups.items():
            if sending:
                failpoint("kafka.publish.between")
            try:
                sending.append((topic, await sender.send(topic, at, rows, nulls=True)))
            except LogError as refused:
                raise await self._settled(topic, refused) from refused
        failpoint("kafka.publish.handed")
        wrong = [why for topic, one in sending if (why := await self._published(topic, one)) is not None]
        for why in wrong:  # what one topic refuses for good is said before what is not known of the others
            if not isinstance(why, Indeterminate):
                raise why
        if wrong:
            raise wrong[0]

    async def _destination(self, to: Lane) -> tuple[str, int, int]:
        """A topic as the cluster calls it, its partitions, and how large a record there may be."""
        lane = self.name_of(to)
        if lane in ("", "log"):
            raise DataError("CP522", "the log lane takes records only through a lease")
        limit = self.caps.max_record_bytes + (0 if lane == "in" else ROOM)
        return self.topic_of(lane), await self._count(lane), limit

    async def _published(self, topic: str, one: asyncio.Future[Stored]) -> ContrapasError | None:
        try:
            await self.answered(one, "messages were not answered in time")
        except ContrapasError as why:
            return await self._settled(topic, why)
        return None

    async def _settled(self, topic: str, why: ContrapasError) -> ContrapasError:
        """What became of messages for a topic that may have gone, or have been made anew.

        The client learns either late (`topic.metadata.propagation.max.ms`), and is silent or refuses until then. So the
        cluster is asked: within our own deadline and one question whoever sends to a topic that is not there is told so.
        """
        if why.code not in ("CP505", "CP506") and not isinstance(why, Indeterminate):
            return why
        try:
            found = await self.topic(topic)
        except ContrapasError:
            return why
        if found is None:
            return self._absent(topic)
        if isinstance(why, Indeterminate):
            return why
        return Indeterminate(f"the client has not seen yet that {topic} is there", place=topic)

    async def answered(self, sending: asyncio.Future[Stored], late: str) -> Stored:
        """The answer to what was handed over. Indeterminate after our deadline, whatever the client does."""
        loop = asyncio.get_running_loop()
        self._awaited[sending] = (loop.time() + self.commit_s, late)
        if self._looking is None:  # one timer for all: a commit is too short for one of its own
            self._looking = loop.call_later(self.commit_s / 20, self._look_late)
        try:
            return await sending
        finally:
            del self._awaited[sending]

    def _look_late(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for sending, (until, late) in self._awaited.items():
            if until <= now and not sending.done():
                sending.set_exception(Indeterminate(late, place=self.place))
        self._looking = loop.call_later(self.commit_s / 20, self._look_late) if self._awaited else None

    async def positions(self, group: str) -> Mapping[Source, int]:
        return await self.admin.positions(f"{group}.positions")

    async def save_positions(self, group: str, at: Mapping[Source, int]) -> None:
        stored: dict[tuple[str, Source], int] = {}
        for (source, partition), offset in at.items():
            lane = source.rpartition("@")[0]
            check_source(source, await self._known(lane))
            stored[self.topic_of(self.name_of(lane)), (source, partition)] = offset
        await self.admin.save_positions(f"{group}.positions", stored)
        for member in self._members:
            if member.group == group:
                member.note({(topic, source[1]): offset for (topic, source), offset in stored.items()})

    # ---- owning

    async def acquire(self, partition: int, owner: str, *, known: Known | None = None) -> KafkaLease:
        self.spot("log", partition)
        former = self._leases.get(partition)
        if former is not None:
            former.lose()
        lease = await claim(self, partition, owner, known)
        self._leases[partition] = lease
        return lease

    async def shrunk(self) -> bool:
        """After the log lane's topic refused a record as too large: whether it takes less than was known. From now on that
        is known, and batches are made so that each is taken if its records are."""
        fits = await self.admin.largest(self.topic_of("log")) - BATCH_ROOM
        if fits >= self.caps.max_record_bytes:
            return False
        self.caps = self.caps._replace(max_record_bytes=fits)
        self.lanes.settings["batch.size"] = fits
        return True

    def forget(self, lease: KafkaLease) -> None:
        """A lease ended."""
        if self._leases.get(lease.partition) is lease:
            del self._leases[lease.partition]

    def held(self) -> Mapping[int, Owned]:
        """Leases that are held now, by partition."""
        return self._leases

    def membership(self, group: str, lanes: Sequence[Lane]) -> KafkaMembership:
        member = KafkaMembership(self, group, lanes)
        self._members.append(member)
        return member

    async def close(self) -> None:
        """Let go of everything. A partition that was not released is given up as by a crash."""
        if self._closed:
            return
        self._closed = True
        self.stuck.close()
        for lease in list(self._leases.values()):
            lease.lose()
        await asyncio.gather(*(member.leave() for member in self._members))
        await asyncio.gather(
            self.lanes.close(), self.out.close(), self.raw.close(), self.committed.close(), self.admin.close()
        )
        self.calls.close()
