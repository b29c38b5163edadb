"""Three brokers: the leader of a lane's partition is killed in mid-load, the others elect, workers go on; nothing acknowledged is cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.kafka.server import Server
from tests.scenarios.kafka_rig import Rig
from tests.scenarios.telling import tell

__all__ = ["election", "kept", "replicas"]

SOON_S = 60.0


def replicas(server: Server, topic: str) -> list[tuple[int, list[int], list[int]]]:
    """Of each partition of a topic: its leader, its replicas, those in sync."""
    admin: Any = AdminClient({"bootstrap.servers": server.address, "log_level": 0})
    found = admin.list_topics(topic, timeout=10).topics[topic].partitions
    return [(found[n].leader, sorted(found[n].replicas), sorted(found[n].isrs)) for n in sorted(found)]


async def kept(rig: Rig) -> None:
    """Wait until every partition of both lanes has all its replicas in sync. TimeoutError."""

    def whole() -> bool:
        for lane in ("log", "in"):
            for leader, all_, synced in replicas(rig.server, f"{rig.namespace}.{lane}"):
                if leader < 0 or len(all_) != 3 or synced != all_:
                    return False
        return True

    await asyncio.to_thread(_until, whole, "the replicas are not in sync")


async def election(rig: Rig, chance: random.Random, number: int) -> str:
    """R-4: the node that leads a partition of `<ns>.log` dies while commits are on their way to it, and comes back when
    its partitions have other leaders and commits go on there."""
    lane = f"{rig.namespace}.log"
    await kept(rig)
    partition = number % len(replicas(rig.server, lane))
    leader = replicas(rig.server, lane)[partition][0]
    assert rig.outside is not None
    await rig.ask(rig.outside, 16, f"d{number}-")
    seen = len(rig.told())
    await rig.until(lambda: len(rig.told()) > seen, SOON_S, "nobody commits")
    tell(rig.tells, "broker killed", -1, 0)
    await asyncio.to_thread(rig.server.kill, leader)

    def elected() -> bool:
        return all(one[0] not in (-1, leader) for one in replicas(rig.server, lane))

    try:
        await asyncio.to_thread(_until, elected, "nobody is elected")
        elected_at = time.time()
        until = time.monotonic() + SOON_S
        while not any(
            line.what == "committed" and line.partition == partition and line.at > elected_at
            for line in rig.told()
        ):
            if time.monotonic() > until:
                raise TimeoutError(f"nobody goes on with partition {partition}: {rig.said()}")
            await rig.ask(rig.outside, 4, f"e{len(rig.asked)}-")
            await asyncio.sleep(0.2)
    finally:
        await asyncio.to_thread(rig.server.start, leader)
    tell(rig.tells, "broker back", -1, 0)
    return f"leader of {partition} killed"


def _until(true: Callable[[], bool], why: str) -> None:
    """The node that is asked may be the one that was killed."""
    end = time.monotonic() + SOON_S
    while True:
        with contextlib.suppress(KafkaException, KeyError):
            if true():
                return
        if time.monotonic() > end:
            raise TimeoutError(why)
        time.sleep(0.1)
