"""The network before Kafka: it knows who asks for what, and strikes that one alone."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.kafka import StartKafka
from tests.kafka_lines import Ambush, Lines

PATIENT: dict[str, Any] = {"acks": "all", "enable.idempotence": True, "linger.ms": 0, "log_level": 0}


class Writer:
    """A producer that tells of each record where it stands."""

    def __init__(self, address: str, name: str) -> None:
        self.offsets: list[int | None] = []
        self.producer = Producer({"bootstrap.servers": address, "client.id": name, **PATIENT})
        self.producer.list_topics("t", timeout=10)

    def send(self, value: bytes, seconds: float = 10) -> bool:
        """Whether it was acknowledged by then."""
        self.producer.produce("t", value, partition=0, on_delivery=self._told)
        return self.flush(seconds)

    def flush(self, seconds: float = 20) -> bool:
        return self.producer.flush(seconds) == 0

    def _told(self, why: KafkaError | None, message: Message) -> None:
        self.offsets.append(message.offset() if why is None else None)


def records(address: str) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "x", "enable.auto.commit": False})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition("t", 0), timeout=10)
        consumer.assign([TopicPartition("t", 0, 0)])
        found: list[bytes | None] = []
        until = time.monotonic() + 20
        while len(found) < end and time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                found.append(message.value())
        return found
    finally:
        consumer.close()


def test_one_client_is_struck_and_the_other_is_not(own_kafka: StartKafka) -> None:
    server = own_kafka()
    admin: Any = AdminClient({"bootstrap.servers": server.address})
    admin.create_topics([NewTopic("t", 1)])["t"].result(20)
    with Lines(server) as lines:
        one, other = Writer(lines.address, "w1"), Writer(lines.address, "w2")
        assert one.send(b"1") and other.send(b"2")

        lost = lines.ambush(Ambush(b"t", "lost answer", "w1"))
        assert other.send(b"3")
        assert one.send(b"4", 20), "the client asks again, and the broker knows the batch"
        assert (lost.struck, one.offsets, other.offsets) == (1, [0, 3], [1, 2])

        late = lines.ambush(Ambush(b"t", "late answer", "w2", seconds=1.0))
        assert not other.send(b"5", 0.3)
        assert one.send(b"6")
        assert other.flush()
        assert (late.struck, other.offsets[-1], one.offsets[-1]) == (1, 4, 5)

        never = lines.ambush(Ambush(b"t", "lost request", "w2"))
        assert other.send(b"7", 20)
        assert (never.struck, other.offsets[-1]) == (1, 6)

        lines.hold("up", "w1")
        assert not one.send(b"8", 0.3)
        assert other.send(b"9")
        lines.heal()
        assert one.flush()
        assert (one.offsets[-1], other.offsets[-1]) == (8, 7), "what was held back came after the other's"

        lines.slow((0.01, 0.03), rate=64_000, slices=64)
        assert one.send(b"10", 20)
        lines.slow()
        lines.reset("w1")
        assert one.send(b"11", 20)
        lines.refuse(True)
        assert not one.send(b"12", 0.3)
        lines.refuse(False)
        assert one.flush() and other.send(b"13", 20)
    assert records(server.address) == [b"%d" % n for n in (1, 2, 3, 4, 5, 6, 7, 9, 8, 10, 11, 12, 13)]
