"""Rows of the catalogue about starts that are old, and bytes that would grow."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from datetime import UTC, datetime

import pytest

from contrapas.core.lane import Headers
from contrapas.runtime.definition import TopicMapping
from tests.catalogue.desk import TOPIC, desk
from tests.catalogue.test_payloads import at_the_door, refused, text


@pytest.mark.parametrize("packed", [gzip.compress(bytes(50_000_000)), zlib.compress(bytes(50_000_000))])
async def test_b26_compressed_bytes_are_never_inflated(packed: bytes) -> None:
    """Whoever compresses is a client of its own; at our doors they are bytes that are no JSON."""
    encoded: Headers = (("content-encoding", b"gzip"),)
    tracemalloc.start()
    try:
        for headers in ((), encoded):
            assert await refused(packed, "CP408", headers=headers)
        await at_the_door(packed, 400, "CP408", **{"content-encoding": "gzip"})
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("days", "dead"), [(29, False), (31, True)])
async def test_b78_a_start_older_than_its_saga_s_retention_is_an_old_duplicate(days: int, dead: bool) -> None:
    async with desk() as d:
        made = datetime.fromtimestamp(d.rig.clock() / 1000 - days * 86_400, UTC)
        await d.put(text(), headers=(("ce_time", made.isoformat().encode()),))
        if dead:
            assert (await d.one_dead()).code == "CP418"
            assert d.record("claim/k-1") is None
        else:
            await d.rig.until(lambda: d.rig.status("claim/k-1") == "waiting")


async def test_b78_an_import_says_that_its_starts_are_old() -> None:
    mapping = TopicMapping(topic=TOPIC, time="at", stale="accept")
    async with desk(topics=(mapping,)) as d:
        made = datetime.fromtimestamp(d.rig.clock() / 1000 - 400 * 86_400, UTC)
        await d.put(text(), headers=(("ce_time", made.isoformat().encode()),))
        await d.rig.until(lambda: d.rig.status("claim/k-1") == "waiting")


async def test_b17_avro_of_no_known_schema_is_a_dead_letter_and_refused_at_the_door() -> None:
    value = b"\xc3\x01\x9a\x0f\x02\x7f\x11\x00\x44\x21\x06k-1\x02"
    assert "9a0f027f11004421" in await refused(value, "CP404")
    problem = await at_the_door(value, 422, "CP401")
    assert "Avro" in str(problem)
