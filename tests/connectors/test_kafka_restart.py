"""A broker that was killed and is back is asked again, though its client would believe for minutes what it knew before."""

from __future__ import annotations

import asyncio
import time

from contrapas.errors import Retriable, Unreachable
from contrapas.log import Draft
from contrapas_kafka import connector
from tests.kafka import StartKafka


async def test_ends_are_known_again_soon_after_a_broker_is_back(own_kafka: StartKafka) -> None:
    server = own_kafka()
    url = f"kafka://{server.address}?contrapas.dev=true"
    log = await connector.open(url, "shop", partitions=2, make=True)
    try:
        await log.publish([Draft("in", 0, b"k", b"v", (), "m")])
        assert await log.bounds("in", 0) == (0, 1)
        for _ in range(2):
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            until = time.monotonic() + 15
            while True:
                try:
                    found = [await log.bounds(lane, 0) for lane in ("in", "log")]
                    break
                except (Retriable, Unreachable):
                    assert time.monotonic() < until, "it is back, and nobody believes it"
                    await asyncio.sleep(0.1)
            assert found[0] == (0, 1), "an end is never one that is none"
    finally:
        await log.close()
