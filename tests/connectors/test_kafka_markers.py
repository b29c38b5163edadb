"""Markers of a stranger's transactions: no reader ever sees them, and every reader's position passes them."""

from __future__ import annotations

import asyncio
import time

import pytest
from confluent_kafka import Producer

from contrapas.log import Draft
from contrapas_kafka import connector
from tests.kafka import Broker


@pytest.mark.parametrize("ending", ["abort", "commit"])
async def test_a_position_passes_the_marker_at_the_end_of_a_lane(kafka: Broker, ending: str) -> None:
    """Timers fire once everything before the end is read: one that stood before a marker would hold them for ever."""
    log = await connector.open(f"{kafka.url}?contrapas.dev=true", kafka.name, partitions=1, make=True)
    stranger = Producer({"bootstrap.servers": kafka.address, "transactional.id": kafka.name})
    try:
        await log.publish([Draft("in", 0, b"k", b"before", (), "m1")])
        at = 0
        records, at = await log.read("in", 0, at, wait_ms=5_000)
        assert [r.value for r in records] == [b"before"]
        await asyncio.to_thread(stranger.init_transactions, 20)
        stranger.begin_transaction()
        stranger.produce(f"{kafka.name}.in", b"theirs", b"x", 0)
        await asyncio.to_thread(stranger.flush, 10)
        assert await log.read("in", 0, at, wait_ms=500) == ([], at)
        await log.publish([Draft("in", 0, b"k", b"after", (), "m2")])
        assert await log.bounds("in", 0) == (0, at), "nothing is stable behind an open transaction"
        await asyncio.to_thread(
            stranger.abort_transaction if ending == "abort" else stranger.commit_transaction
        )
        seen: list[bytes | None] = []
        until = time.monotonic() + 10
        while at < 4 and time.monotonic() < until:
            records, at = await log.read("in", 0, at, wait_ms=500)
            seen += [r.value for r in records]
        assert seen == ([b"theirs", b"after"] if ending == "commit" else [b"after"])
        assert (at, (await log.bounds("in", 0))[1]) == (4, 4)
    finally:
        await log.close()
