"""Where every order stands, read from the lane by a plain consumer: `billing.log`, without contrapas.

    python sagas/billing/follow.py HOST:PORT [NAMESPACE]

The one rule for readers in any language: keep the highest `cp-epoch` of each partition, in every record, and ignore a record
below it; a former owner wrote that, and it does not count.
"""

import sys
from typing import Any

from confluent_kafka import Consumer, TopicPartition


def states(address: str, namespace: str) -> dict[str, tuple[str, str]]:
    """Instance -> status and state, as of now."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.partition.eof": True})
    lane = f"{namespace}.log"
    numbers = consumer.list_topics(lane, timeout=10).topics[lane].partitions
    consumer.assign([TopicPartition(lane, number, 0) for number in numbers])
    epochs = dict.fromkeys(numbers, -1)
    found: dict[str, tuple[str, str]] = {}
    reading = set(numbers)
    while reading:
        message: Any = consumer.poll(10)
        if message is None:
            raise TimeoutError(f"{address} does not answer")
        if message.error() is not None:
            reading.discard(message.partition())  # its end
            continue
        headers = dict(message.headers() or [])
        epoch = int(headers.get("cp-epoch", b"-1"))
        if epoch < epochs[message.partition()]:
            continue
        epochs[message.partition()] = epoch
        if headers.get("cp-kind") == b"instance":
            key = message.key().decode()
            if message.value() is None:
                found.pop(key, None)
            else:
                found[key] = (headers["cp-status"].decode(), headers["cp-state"].decode())
    consumer.close()
    return found


if __name__ == "__main__":
    for instance, (status, state) in sorted(states(sys.argv[1], *(sys.argv[2:] or ["billing"])).items()):
        print(f"{instance:24} {status:12} {state}")
