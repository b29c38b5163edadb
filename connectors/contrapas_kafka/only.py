"""Topics of a cluster, to be read and nothing else: no producer is ever made, no group joined, no position stored.

A consumer needs the name of a group for its settings; partitions are assigned by us, so the name never reaches the
group's coordinator as a member's.
"""

from __future__ import annotations

from collections.abc import Sequence

from contrapas.errors import LogError
from contrapas.log import Lane, Record, Topic
from contrapas_kafka.asking import Asking
from contrapas_kafka.calls import Calls
from contrapas_kafka.explain import creation
from contrapas_kafka.inquiry import Inquiry
from contrapas_kafka.options import Cluster
from contrapas_kafka.read import Reader


class KafkaTopics:
    """The reading side of `KafkaLog` alone, over a cluster that may hold no log of ours."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Within a running loop. namespace: names the consumer, and is none of the cluster's business."""
        self.place = cluster.place
        self._cluster = cluster
        self._namespace = namespace
        self._calls = Calls(cluster)
        self._ask = Asking(self._calls)
        self._reader = Reader(self._calls, self._ask, namespace, stable=True)
        self._counts: dict[Lane, int] = {}

    async def topic(self, lane: Lane) -> Topic | None:
        """Its id and partition count; None when it does not exist. Asking makes nothing."""
        found = await self._ask.topic(lane)
        if found is None:
            self._counts.pop(lane, None)
        else:
            self._counts[lane] = found.partitions
        return found

    async def _spot(self, lane: Lane, partition: int) -> tuple[str, int]:
        count = self._counts.get(lane)
        if count is None:
            found = await self.topic(lane)
            if found is None:
                fix = creation(self._cluster, self._namespace, f" {lane}")
                raise LogError("CP505", f"topic {lane} does not exist", fix=fix, place=lane)
            count = found.partitions
        if not 0 <= partition < count:
            raise LogError("CP505", f"{lane} has no partition {partition}", place=f"{lane}/{partition}")
        return lane, partition

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """[start, stable end): below any open transaction."""
        return await self._reader.bounds(await self._spot(lane, partition))

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
        """As `Log.read`, without open and aborted transactions."""
        spot = await self._spot(lane, partition)
        return await self._reader.read(lane, spot, offset, max_records, max_bytes, wait_ms)

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """First offset with a time at or after the given one; the stable end if there is none."""
        spot = await self._spot(lane, partition)
        found = await self._ask.offset_at(*spot, timestamp_ms, stable=True)
        end = await self._reader.end(spot)
        return end if found < 0 else min(found, end)

    async def close(self) -> None:
        """Let the clients go."""
        await self._reader.close()
        await self._ask.close()
        self._calls.close()


async def reading(cluster: Cluster, namespace: str) -> KafkaTopics:
    """Reach the cluster, then read. As `Inquiry.connect` refuses."""
    async with Inquiry(cluster):
        return KafkaTopics(cluster, namespace)
