"""Whoever saw every record of a lane: reads it raw from its first moment, so that a lane that was cleaned can be held against it."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import Consumer, TopicPartition

from contrapas.core.lane import Headers, Record
from tests.scenarios.proof import counting

__all__ = ["Referee", "states"]

QUIET: Final = {
    "group.id": "referee",
    "enable.auto.commit": False,
    "isolation.level": "read_uncommitted",
    "auto.offset.reset": "error",
    "log_level": 0,
}


class Referee:
    """Reads all partitions of a topic in a thread, with the plain client. Use as a context manager."""

    def __init__(self, address: str, topic: str, partitions: int) -> None:
        self.topic = topic
        self.seen: list[list[Record]] = [[] for _ in range(partitions)]
        self._consumer = Consumer({"bootstrap.servers": address, **QUIET})
        self._ending = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._consumer.assign([TopicPartition(self.topic, n, 0) for n in range(len(self.seen))])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        self._thread.join(10)
        self._consumer.close()

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

    def _read(self) -> None:
        while not self._ending:
            message = self._consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            number, offset = message.partition(), message.offset()
            if number is None or offset is None:
                continue
            key, value = message.key(), message.value()
            headers: Any = message.headers() or []
            pairs: Headers = tuple((n, v or b"") for n, v in headers)
            self.seen[number].append(
                Record(
                    number,
                    offset,
                    _raw(key),
                    None if value is None else _raw(value),
                    pairs,
                    message.timestamp()[1],
                )
            )


def _raw(said: str | bytes | None) -> bytes:
    return said.encode() if isinstance(said, str) else said or b""


def states(records: list[Record]) -> dict[bytes, bytes]:
    """The newest record that counts of each key, control records and claims aside: wire.md's one line."""
    found: dict[bytes, bytes] = {}
    for r in counting(records):
        if r.value is None:
            found.pop(r.key, None)
        elif not r.key.startswith((b"$part", b"$claim/")):
            found[r.key] = r.value
    return found
