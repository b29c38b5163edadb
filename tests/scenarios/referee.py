"""Whoever saw every record of a lane: reads it raw from its first moment, so that a lane that was cleaned can be held against it."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import Consumer, TopicPartition

from contrapas.core.lane import Headers, Record
from tests.scenarios.proof import counting

__all__ = ["Follower", "Referee", "states"]

QUIET: Final = {
    "group.id": "referee",
    "enable.auto.commit": False,
    "isolation.level": "read_uncommitted",
    "auto.offset.reset": "error",
    "log_level": 0,
}


class Follower(ABC):
    """All partitions of a topic, read in a thread with the plain client. Use as a context manager."""

    def __init__(self, address: str, topic: str, partitions: int) -> None:
        self.topic = topic
        self.trouble: list[str] = []
        """Why it stopped looking."""
        self._consumer = Consumer({"bootstrap.servers": address, **QUIET})
        self._places = [TopicPartition(topic, number, 0) for number in range(partitions)]
        self._ending = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._consumer.assign(self._places)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        self._thread.join(10)
        self._consumer.close()

    @abstractmethod
    def see(self, record: Record) -> None:
        """The next record of its partition, in the thread."""

    def _read(self) -> None:
        try:
            while not self._ending:
                for message in self._consumer.consume(500, 0.1):
                    if message.error() is None:
                        self.see(record_of(message))
        except Exception as why:  # noqa: BLE001  said in the verdict
            self.trouble.append(f"{why!r}")


def record_of(message: Any) -> Record:
    """As it stands on the topic."""
    said: list[tuple[str, bytes | None]] = message.headers() or []
    headers: Headers = tuple((name, value or b"") for name, value in said)
    place = (message.partition(), message.offset())
    return Record(*place, message.key() or b"", message.value(), headers, message.timestamp()[1])


class Referee(Follower):
    """Keeps every record."""

    def __init__(self, address: str, topic: str, partitions: int) -> None:
        super().__init__(address, topic, partitions)
        self.seen: list[list[Record]] = [[] for _ in range(partitions)]

    def see(self, record: Record) -> None:
        self.seen[record.partition].append(record)

    def level(self, ends: list[int], seconds: float = 20) -> bool:
        """Wait until it has seen the last record before each end, or the lane is quiet."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if all(
                not end or (s and s[-1].offset >= end - 1) for s, end in zip(self.seen, ends, strict=True)
            ):
                return True
            time.sleep(0.05)
        return False


def states(records: list[Record]) -> dict[bytes, bytes]:
    """The newest record that counts of each key, control records and claims aside: wire.md's one line."""
    found: dict[bytes, bytes] = {}
    for r in counting(records):
        if r.value is None:
            found.pop(r.key, None)
        elif not r.key.startswith((b"$part", b"$claim/")):
            found[r.key] = r.value
    return found
