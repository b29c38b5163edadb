"""The recorded permit process on a real Kafka: every event meets its fate, every case travels what its rows say."""

from __future__ import annotations

import pytest

from contrapas_kafka import connector
from sagas.permits import census, run
from tests.connectors.kafka_running import fresh, gone
from tests.connectors.test_kafka_topics import client, delete
from tests.kafka import Broker


@pytest.mark.slow
async def test_the_permit_log_is_followed_on_kafka_with_an_exact_census(kafka: Broker) -> None:
    file = run.recording()
    if file is None:
        pytest.skip(f"the recorded permit process is not on this machine ({run.SOURCE})")
    there = [t for t in client(kafka).list_topics(timeout=10).topics if t.startswith("permits.")]
    if there:
        delete(kafka, *there)
        gone(kafka, there)
    url = f"{kafka.url}?contrapas.dev=true"
    try:
        log = await connector.open(url, "permits", partitions=4, make=True, dev=True)
        await log.close()
        fresh(kafka, {"permits.events": 4, "permits.outcomes": 1, "permits.dlq": 1})
        found, _ = await run.follow(file, url, timeout_s=400)
    finally:
        left = [t for t in client(kafka).list_topics(timeout=10).topics if t.startswith("permits.")]
        delete(kafka, *left)
    rows = census.recorded(file)
    assert found.total == sum(len(kinds) for kinds in rows.values()) == 8577
    assert found.paths == rows and len(found.paths) == 1434
    assert found.fates == {"applied": 8577}
