"""Offsets of partitions by what is looked for, as one question to the cluster that whoever asks may ask again."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition

from contrapas_kafka.explain import FAILURES, code_of

Spot = tuple[str, int]
"""(topic as the cluster calls it, partition)."""

STALE: Final = frozenset(
    [
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    ]
)
"""Who leads a partition is not what the client thinks."""
NONE: Final = -1
"""No record has such a timestamp."""


def offsets_of(
    client: Any, wanted: Mapping[Spot, Any], *, committed: bool, seconds: float
) -> dict[Spot, int | Exception]:
    """Offsets by spec, -1 where no record is so young; or why there is none, for `explain`. Blocks, for seconds at most.

    An answer that is to be asked for again explains itself as Retriable, and then the client has looked anew who leads.
    committed: below any open transaction.
    """
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    places = {TopicPartition(topic, p): spec for (topic, p), spec in wanted.items()}
    futures: Mapping[TopicPartition, Future[Any]] = client.list_offsets(
        places, isolation_level=level, request_timeout=seconds
    )
    found: dict[Spot, int | Exception] = {}
    for place, future in futures.items():
        try:
            at = int(future.result(seconds).offset)
            found[place.topic, place.partition] = at if at >= NONE else _unanswered()
        except FAILURES as why:
            found[place.topic, place.partition] = why
    if any(code_of(answer) in STALE for answer in found.values() if isinstance(answer, Exception)):
        with suppress(*FAILURES):  # it would believe what it knows for minutes
            client.list_topics(timeout=seconds)
    return found


def _unanswered() -> KafkaException:
    """Of a broker that has just started the client passes on an answer without an offset, -1001, and no error."""
    return KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
