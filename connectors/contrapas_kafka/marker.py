"""The first record of `<ns>.log/0`: which namespace the lanes belong to, their count, their topic ids, their cluster."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from contrapas.errors import ContrapasError, Indeterminate, LogError, Refused
from contrapas_kafka.explain import FAILURES, creation, explain, is_groups
from contrapas_kafka.inquiry import CALL_S, Facts, Inquiry, patiently
from contrapas_kafka.options import Cluster

KEY: Final = b"$log"
"""Nobody writes it again: compaction leaves it where it is."""
PARTITIONER: Final = "murmur2"
FORMAT: Final = 1


class Marker(NamedTuple):
    """What is recorded of a namespace when it is made."""

    namespace: str
    partitions: int
    log: str
    """Topic id of `<ns>.log`; also the id of the whole log."""
    inbound: str
    """Topic id of `<ns>.in`."""
    cluster: str
    partitioner: str = PARTITIONER
    format: int = FORMAT


def encode(marker: Marker) -> bytes:
    """As JSON, which people can read with any tool."""
    return json.dumps(marker._asdict(), sort_keys=True).encode()


def decode(key: bytes | None, value: bytes | None) -> Marker | None:
    """Read it back; None for a record that is no marker of ours."""
    if key != KEY or value is None or len(value) > 10_000:
        return None
    try:
        said: Any = json.loads(value)
        texts = [str(said[name]) for name in ("namespace", "log", "inbound", "cluster", "partitioner")]
        namespace, log, inbound, cluster, partitioner = texts
        return Marker(
            namespace, int(said["partitions"]), log, inbound, cluster, partitioner, int(said["format"])
        )
    except (KeyError, TypeError, ValueError):
        return None


async def write(cluster: Cluster, marker: Marker) -> None:
    """Put it onto the lane that was just made; acknowledged by every replica in sync."""
    await asyncio.to_thread(_write, cluster, marker)


def _write(cluster: Cluster, marker: Marker) -> None:
    value, told = encode(marker), list[tuple[KafkaError | None, Message]]()
    headers = [("cp-kind", b"log"), ("cp-epoch", b"0"), ("cp-sum", b"%08x" % zlib.crc32(value))]
    topic = f"{marker.namespace}.log"
    try:
        producer = Producer(cluster.producer() | {"message.timeout.ms": int(CALL_S * 1000)} | _ONCE)
        producer.produce(
            topic,
            value,
            KEY,
            partition=0,
            headers=list(headers),
            on_delivery=lambda e, m: told.append((e, m)),
        )
        producer.flush(CALL_S + 1)
    except FAILURES as why:
        raise explain(why, cluster, sent=True, resource=topic, operation="Write") from why
    if not told:
        raise Indeterminate("no answer to the first record of the log", place=topic)
    if (error := told[0][0]) is not None:
        raise explain(error, cluster, sent=True, resource=topic, operation="Write")


_ONCE: Final = {"enable.gapless.guarantee": False}
"""A single record has no order to keep, and a time-out of the client is as good as ours."""


async def read(cluster: Cluster, namespace: str) -> tuple[Marker | None, bool]:
    """The marker, and whether there is any record on that partition at all."""
    return await patiently(lambda: asyncio.to_thread(_read, cluster, namespace))


def _read(cluster: Cluster, namespace: str) -> tuple[Marker | None, bool]:
    topic = f"{namespace}.log"
    consumer = Consumer(
        cluster.reader(f"{namespace}.reader", committed=False) | {"enable.partition.eof": True}
    )
    try:
        consumer.list_topics(
            topic, timeout=CALL_S
        )  # without it the client waits half a second before it looks
        start, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=CALL_S)
        if start >= end:
            return None, False
        consumer.assign([TopicPartition(topic, 0, start)])
        until = time.monotonic() + CALL_S
        while (left := until - time.monotonic()) > 0:
            message = consumer.poll(left)
            if message is None:
                break
            if (error := message.error()) is None:
                return decode(message.key(), message.value()), True
            if error.code() == KafkaError._PARTITION_EOF:  # markers of transactions alone
                return None, True
            if not is_groups(error):
                raise explain(error, cluster, sent=False, resource=topic, operation="Read")
        raise explain(TimeoutError(), cluster, sent=False, resource=topic)
    except FAILURES as why:
        raise explain(why, cluster, sent=False, resource=topic, operation="Read") from why
    finally:
        consumer.close()


def check(
    found: Marker, namespace: str, partitions: int | None, lanes: dict[str, Facts], asked: Inquiry
) -> None:
    """Refused CP505 (another namespace's), CP518 (newer), CP521 (another cluster), CP506 (made anew), CP504 (counts)."""
    log, inbound = f"{namespace}.log", f"{namespace}.in"
    if (no := _wrong(found, namespace, lanes, asked)) is not None:
        raise no
    for name in (log, inbound):
        if lanes[name].partitions != found.partitions:
            text = f"{name} has {lanes[name].partitions} partitions, {found.partitions} are recorded: keys would move"
            fix = "make a new namespace with the larger number; a partition of a topic cannot be taken away again"
            raise Refused("CP504", text, fix=fix, place=name)
    if partitions is not None and partitions != found.partitions:
        text = f"{namespace} was made with {found.partitions} partitions, {partitions} are configured"
        raise Refused(
            "CP504", text, fix="keep the recorded number; a larger one needs a new namespace", place=log
        )
    if found.partitioner != PARTITIONER:
        raise Refused("CP504", f"{log} was made with partitioner {found.partitioner!r}", place=log)


def _wrong(found: Marker, namespace: str, lanes: dict[str, Facts], asked: Inquiry) -> ContrapasError | None:
    log, inbound = f"{namespace}.log", f"{namespace}.in"
    if found.format > FORMAT:
        text = f"{log} was made by a newer contrapas (format {found.format}, this one knows {FORMAT})"
        return Refused("CP518", text, fix="upgrade contrapas", place=log)
    if found.namespace != namespace:
        text = f"{log} holds the records of namespace {found.namespace!r}"
        return LogError("CP505", text, fix="name another namespace", place=log)
    if found.cluster != asked.cluster_id:
        text = f"{log} was made on cluster {found.cluster}, this is {asked.cluster_id}: a copy"
        fix = "correct the address; a mirrored log is for reading, its offsets are others"
        return Refused("CP521", text, fix=fix, place=asked.cluster.place)
    for name, recorded in ((log, found.log), (inbound, found.inbound)):
        if lanes[name].id != recorded:
            text = f"{name} is another topic than the recorded one (id {recorded}, found {lanes[name].id}): it was made anew"
            fix = "contrapas explain CP506; what it held is gone, a new namespace begins without it"
            return LogError("CP506", text, fix=fix, place=name)
    return None


def missing(cluster: Cluster, namespace: str, name: str, there: bool) -> LogError:
    """A lane that is not there, or is not ours."""
    if there:
        text = f"{name} holds no marker of namespace {namespace}: somebody else's topic, or the beginning of it is gone"
        return LogError("CP505", text, fix="name another namespace, or rename that topic", place=name)
    return LogError("CP505", f"there is no topic {name}", fix=creation(cluster, namespace), place=name)
