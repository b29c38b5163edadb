"""`KafkaLog`: the seam over a Kafka cluster. The partition's order is the fence; no transactions."""

from __future__ import annotations


class KafkaLog:
    """One namespace's lanes on Kafka."""
