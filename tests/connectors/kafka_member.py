"""A member of a group as a process of its own, to be killed and stopped: a line of JSON per assignment.

python -m tests.connectors.kafka_member URL GROUP TOPIC
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping

from contrapas.log import Lane
from contrapas_kafka.membership import KafkaMembership, Owned
from contrapas_kafka.options import Cluster


class Place:
    """As much of a log as a member needs."""

    def __init__(self, url: str, namespace: str) -> None:
        self.cluster = Cluster(url)
        self.namespace = namespace
        self.leases: dict[int, Owned] = {}

    def topic_of(self, lane: Lane) -> str:
        return f"{self.namespace}.{lane}" if lane in ("in", "log") else lane

    def held(self) -> Mapping[int, Owned]:
        return self.leases


async def main(url: str, group: str, topic: str) -> None:
    member = KafkaMembership(Place(url, group.rpartition(".")[0]), group, (topic,))
    async for share in member.assignments():
        print(json.dumps([time.monotonic(), sorted(p for _, p in share)]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
