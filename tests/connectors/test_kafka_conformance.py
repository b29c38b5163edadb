"""The conformance suite over a real Kafka."""

from __future__ import annotations

import pytest

from contrapas.testing.conformance import Case, exercise_log
from tests.connectors.kafka_bench import kafka as bench
from tests.kafka import Broker

_brokers: list[Broker] = []
CASES = exercise_log(bench(lambda: _brokers[-1]), "faults", "order", "topics")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_kafka(case: Case, kafka: Broker) -> None:
    _brokers.append(kafka)
    await case()
