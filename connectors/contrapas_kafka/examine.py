"""What `doctor` finds about a Kafka log: first what refuses a start, then what deserves a look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from contrapas.errors import ContrapasError
from contrapas.log import Finding
from contrapas_kafka import rules, topics
from contrapas_kafka.explain import creation, forbidden
from contrapas_kafka.inquiry import Facts, Inquiry, places_of
from contrapas_kafka.look import KafkaLook, Part
from contrapas_kafka.marker import Marker
from contrapas_kafka.options import Cluster

STUCK_S: Final = 1.0
"""A stable offset that has not moved for so long, with records behind it, is named."""
SESSION_MS: Final = 15_000
LATE_MS: Final = 60_000
KEPT_MINUTES: Final = 7 * 24 * 60
"""Positions of services are kept by the broker for so long after they were last stored."""
_NEEDED: Final = {
    "in": ("READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"),
    "log": ("READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"),
    "dlq": ("READ", "WRITE", "DESCRIBE"),
}


async def findings(
    url: str, namespace: str | None, partitions: int | None, *, dev: bool = False
) -> list[Finding]:
    """Everything that is found; a cluster that does not answer is the only finding then."""
    try:
        cluster = Cluster(url, dev=dev)
        async with Inquiry(cluster) as asked:
            found = [one async for one in _found(asked, namespace, partitions)]
    except ContrapasError as no:
        return [finding(no)]
    return sorted(found, key=lambda one: not one.refused)


def finding(error: ContrapasError) -> Finding:
    """An error as a line of `doctor`."""
    return Finding(True, error.code, error.text, error.fix, error.place)


async def _found(asked: Inquiry, namespace: str | None, partitions: int | None) -> AsyncGenerator[Finding]:
    cluster = asked.cluster
    text, fix = cluster.unprotected()
    if text:
        yield Finding(not cluster.dev, "CP803", text, fix, cluster.place)
    async for one in _cluster(asked):
        yield one
    if namespace is None:
        return
    made: Marker | None = None
    try:
        made, _ = await topics.recorded(asked, namespace, partitions)
    except ContrapasError as no:
        yield finding(no)
    for look in (_lanes(asked, namespace), _stuck(asked), _group(asked, namespace)):
        async for one in _asked(look):
            yield one
    if made is not None:
        async for one in _asked(_recorded(asked, made)):
            yield one


async def _asked(look: AsyncGenerator[Finding]) -> AsyncGenerator[Finding]:
    """What a look finds; what prevents it is a finding too, and the others go on."""
    try:
        async for one in look:
            yield one
    except ContrapasError as no:
        yield finding(no)


async def _cluster(asked: Inquiry) -> AsyncGenerator[Finding]:
    settings = await asked.broker_settings()
    if settings.get("auto.create.topics.enable") == "true":
        text = "auto.create.topics.enable=true: a name with a typo becomes a topic of its own, with the cluster's settings"
        broker = (
            f"kafka-configs.sh --bootstrap-server {asked.cluster.servers.split(',')[0]} --entity-type brokers"
        )
        fix = f"auto.create.topics.enable=false in the broker's configuration ({broker} --describe --all shows it)"
        yield Finding(False, "CP505", text, fix, asked.cluster.place)
    kept = settings.get("offsets.retention.minutes", "")
    if kept.isdigit() and int(kept) < KEPT_MINUTES:
        text = (
            f"offsets.retention.minutes={kept}: a service that stands still for longer forgets its position in a topic, "
            f"required >= {KEPT_MINUTES}, as long as `in` keeps its records"
        )
        fix = f"offsets.retention.minutes={KEPT_MINUTES} in the configuration of every broker, and a restart of each"
        yield Finding(False, "CP503", text, fix, asked.cluster.place)
    if asked.cluster.group.session_ms > SESSION_MS:
        text = (
            f"session.timeout.ms={asked.cluster.group.session_ms}: what a killed worker had waits for so long"
        )
        yield Finding(False, "CP806", text, "session.timeout.ms=10000, the default", asked.cluster.place)


async def _group(asked: Inquiry, namespace: str) -> AsyncGenerator[Finding]:
    if asked.cluster.group.protocol != "consumer":
        return
    group = f"{namespace}.workers"
    session = (await asked.group_settings(group)).get("consumer.session.timeout.ms", "45000")
    if session.isdigit() and int(session) > SESSION_MS:
        text = f"the session of group {group} is {int(session) // 1000} s: what a killed worker had waits for so long"
        fix = (
            f"kafka-configs.sh --bootstrap-server {asked.cluster.servers.split(',')[0]} --alter --entity-type groups "
            f"--entity-name {group} --add-config consumer.session.timeout.ms=10000, or group.protocol=classic"
        )
        yield Finding(False, "CP806", text, fix, group)


async def _lanes(asked: Inquiry, namespace: str) -> AsyncGenerator[Finding]:
    names = [name for name in (*topics.lanes_of(namespace), f"{namespace}.dlq") if name in asked.topics]
    ours = await asked.describe(names, rights=True)
    settings = await asked.settings(ours)
    for name, facts in ours.items():
        for one in rules.findings(name, namespace, facts, settings[name], asked.cluster):
            yield one
        for one in _rights(asked.cluster, name, namespace, facts):
            yield one
    if names and f"{namespace}.dlq" not in names:
        text = f"there is no topic {namespace}.dlq: what cannot be handled stops its partition"
        yield Finding(True, "CP505", text, creation(asked.cluster, namespace), f"{namespace}.dlq")


def _rights(cluster: Cluster, name: str, namespace: str, facts: Facts) -> Iterator[Finding]:
    if facts.rights is None:
        return
    for operation in _NEEDED[name.removeprefix(f"{namespace}.")]:
        if operation not in facts.rights:
            yield finding(forbidden(cluster, "topic", name, operation.title().replace("_", "")))


# ---- what stands in the way of readers


async def _stuck(asked: Inquiry) -> AsyncGenerator[Finding]:
    """Open transactions of others: readers of committed records wait before them."""
    places = places_of({name: n for name, n in asked.topics.items() if not name.startswith("__")})
    first = await asked.ends(places, committed=True)
    ends = await asked.ends(places, committed=False)
    held = [place for place in places if first[place] < ends[place]]
    if not held:
        return
    await asyncio.sleep(STUCK_S)
    again = await asked.ends(held, committed=True)
    same = {place: first[place] for place in held if again[place] == first[place]}
    server = asked.cluster.servers.split(",")[0]
    for one in await asked.open_transactions(same):
        place = f"{one.topic}/{one.partition}@{one.offset}"
        who = f" (producer {one.producer} for {one.age_ms // 1000} s)" if one.producer >= 0 else ""
        waiting = ends[one.topic, one.partition] - one.offset
        text = f"a transaction of somebody else is open at {place}{who}: {waiting} records behind it wait"
        yield Finding(False, "CP511", text, f"end that producer, or: {one.command(server)}", place)


# ---- what is recorded


async def _recorded(asked: Inquiry, made: Marker) -> AsyncGenerator[Finding]:
    """Positions against what is there; sources that were made anew; dead letters that would not fit."""
    look = KafkaLook(asked, made)
    try:
        parts = await look.parts()
        for part in parts:
            if (one := await _position(look, made.namespace, part)) is not None:
                yield one
    finally:
        await look.leave()
    recorded = {source for part in parts for source, _ in part.control.cursor if not source.startswith("in@")}
    sources = {name: id for name, _, id in (source.rpartition("@") for source in sorted(recorded)) if name}
    there = await asked.describe(name for name in sources if name in asked.topics)
    for name, id in sources.items():
        if name in there and there[name].id != id:
            text = f"{name} was made anew (id {id} is recorded, {there[name].id} found): nothing in it counts as a repeat"
            yield Finding(False, "CP506", text, "contrapas explain CP506", name)
    async for one in _sizes(asked, made.namespace, there):
        yield one


async def _position(look: KafkaLook, namespace: str, part: Part) -> Finding | None:
    cursor = part.control.cursor.items()
    at = next(
        (o for (s, q), o in cursor if q == part.partition and s.partition("@")[0] == "in"), part.in_start
    )
    place = f"{namespace}.in/{part.partition}@{at}"
    if at > part.in_end:
        return Finding(True, "CP506", f"position {at} lies beyond the end, {part.in_end}", place=place)
    if at < part.in_start:
        text = f"position {at} lies below the first record, {part.in_start}: retention removed unread input"
        return Finding(True, "CP519", text, place=place)
    if at == part.in_end:
        return None
    records, _ = await look.read("in", part.partition, at, max_records=1)
    late = time.time_ns() // 1_000_000 - records[0].timestamp_ms if records else 0
    if late <= LATE_MS:
        return None
    text = f"{part.in_end - at} records wait, the oldest for {late // 1000} s"
    return Finding(False, "CP523", text, "start a worker: contrapas worker", place)


async def _sizes(asked: Inquiry, namespace: str, sources: dict[str, Facts]) -> AsyncGenerator[Finding]:
    letters = f"{namespace}.dlq"
    if letters not in asked.topics or not sources:
        return
    found = await asked.settings([letters, *sources])
    room = int(found[letters].get("max.message.bytes", "0"))
    for name in sources:
        needed = int(found[name].get("max.message.bytes", "0")) + rules.REST
        if room < needed:
            text = f"{letters}: max.message.bytes={room}, required >= {needed}, the largest of {name} and its headers"
            server = asked.cluster.servers.split(",")[0]
            fix = f"kafka-configs.sh --bootstrap-server {server} --alter --entity-type topics --entity-name {letters} "
            yield Finding(True, "CP508", text, fix + f"--add-config max.message.bytes={needed}", letters)
            return
