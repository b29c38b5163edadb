"""Topics of a namespace: what is missing or set wrongly, made on request only, and what opening a log checks of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from contrapas.errors import ContrapasError, LogError, Refused
from contrapas.log import Finding, Plan
from contrapas_kafka import marker, rules
from contrapas_kafka.explain import creation
from contrapas_kafka.inquiry import Facts, Inquiry, patiently
from contrapas_kafka.options import Cluster

PARTITIONS: Final = 24
DEAD_LETTERS: Final = 8
"""Partitions of `<ns>.dlq`."""
SEEN_S: Final = 20.0


class Found(NamedTuple):
    """What opening a log learned of its lanes."""

    partitions: int
    id: str
    durable: bool
    history_ms: int


def lanes_of(namespace: str) -> tuple[str, str]:
    """Topics of the two lanes."""
    return f"{namespace}.in", f"{namespace}.log"


def copies_of(asked: Inquiry) -> int:
    """Replicas for a new topic. Refused CP502 with one broker, unless for development."""
    count = min(rules.COPIES, len(asked.brokers))
    if count < 2 and not asked.cluster.dev:
        text = f"{asked.cluster.servers} is one broker: a topic on it has one replica, and a lost disk loses everything"
        raise Refused(
            "CP502", text, fix="contrapas topic create --dev …, for development", place=asked.cluster.place
        )
    return count


async def plan(
    asked: Inquiry, url: str, namespace: str, partitions: int | None, topics: Mapping[str, int]
) -> Plan:
    """What is missing, and which settings of our topics are wrong. Raises what opening it would, but for settings."""
    inbound, log = lanes_of(namespace)
    letters = f"{namespace}.dlq"
    lanes = await asked.describe([inbound, log])
    made = await _recorded(asked, namespace, partitions, lanes)
    count = partitions or PARTITIONS if made is None else made.partitions
    wanted = {inbound: count, log: count, letters: min(DEAD_LETTERS, count), **topics}
    missing = {name: n for name, n in wanted.items() if name not in asked.topics and name not in lanes}
    copies = copies_of(asked) if missing else 0
    settings = {name: rules.made_with(name, namespace, copies) for name in missing}
    ours = await asked.describe([name for name in (inbound, log, letters) if name in asked.topics])
    found = await asked.settings(ours)
    mend = {name: rules.mended(name, namespace, found[name], ours[name].copies) for name in ours}
    return Plan(
        url,
        namespace,
        count,
        made is None,
        missing,
        settings={**settings, **{name: values for name, values in mend.items() if values}},
        copies=copies,
        dev=asked.cluster.dev,
    )


async def _recorded(
    asked: Inquiry, namespace: str, partitions: int | None, lanes: dict[str, Facts]
) -> marker.Marker | None:
    """The marker, checked; None when the lanes are to be made, or were made and nothing more."""
    inbound, log = lanes_of(namespace)
    if log not in lanes:
        return None
    found, there = await marker.read(asked.cluster, namespace)
    if found is None:
        if there or await _holds(asked, namespace, lanes):
            raise marker.missing(asked.cluster, namespace, log, True)
        for name in (inbound, log):  # made half-way: an apply that ended before its last act
            if name in lanes and partitions not in (None, lanes[name].partitions):
                text = f"{name} has {lanes[name].partitions} partitions, {partitions} are configured"
                raise Refused("CP504", text, fix=f"--partitions {lanes[name].partitions}", place=name)
        return None
    if inbound not in lanes:
        text = f"there is no topic {inbound}, and its log is there: what it held is gone"
        fix = f"contrapas explain CP506; or delete {log} too, and begin anew"
        raise LogError("CP506", text, fix=fix, place=inbound)
    marker.check(found, namespace, partitions, lanes, asked)
    return found


async def _holds(asked: Inquiry, namespace: str, lanes: dict[str, Facts]) -> bool:
    """Whether any partition of the log lane has a record."""
    log = lanes_of(namespace)[1]
    places = [(log, p) for p in range(lanes[log].partitions)]
    starts = await patiently(lambda: asked.starts(places))
    ends = await patiently(lambda: asked.ends(places, committed=False))
    return any(ends[place] > starts[place] for place in places)


async def apply(asked: Inquiry, made: Plan) -> None:
    """Make what a plan lists; again it changes nothing. Two who do it at once make it once."""
    for name, count in made.topics.items():
        await asked.create(name, count, made.copies or copies_of(asked), made.settings.get(name, {}))
    await _seen(asked, list(made.topics))
    for name, values in made.settings.items():
        if name not in made.topics:
            await asked.alter(name, values)
    if not made.make:
        return
    inbound, log = lanes_of(made.namespace)
    lanes = await _seen(asked, [inbound, log])
    found, there = await marker.read(asked.cluster, made.namespace)
    if found is None and not there:
        for name in (inbound, log):
            if lanes[name].partitions != made.partitions:
                text = f"{name} has {lanes[name].partitions} partitions, {made.partitions} were planned"
                raise Refused("CP504", text, fix="delete it, it is empty, and plan again", place=name)
        mark = marker.Marker(
            made.namespace, made.partitions, lanes[log].id, lanes[inbound].id, asked.cluster_id
        )
        await marker.write(asked.cluster, mark)


async def _seen(asked: Inquiry, names: list[str]) -> dict[str, Facts]:
    """Topics just made are not known everywhere at once."""
    found: dict[str, Facts] = {}
    end = time.monotonic() + SEEN_S
    pause = 0.02
    while time.monotonic() < end:
        found = await asked.describe(names)
        if len(found) == len(names):
            return found
        await asyncio.sleep(pause)
        pause = min(0.5, pause * 2)
    gone = ", ".join(name for name in names if name not in found)
    raise LogError("CP505", f"{gone}: made, and not to be seen", fix="contrapas doctor --log URL")


async def recorded(
    asked: Inquiry, namespace: str, partitions: int | None
) -> tuple[marker.Marker, dict[str, Facts]]:
    """The marker of a log, checked against the topics there are. Refused and LogError as `marker.check`, CP505 without."""
    inbound, log = lanes_of(namespace)
    lanes = await asked.describe([inbound, log])
    if log not in lanes:
        raise marker.missing(asked.cluster, namespace, log, False)
    made = await _recorded(asked, namespace, partitions, lanes)
    if made is None:
        text = f"{log} is there and has no record yet: it was not made to the end"
        raise LogError("CP505", text, fix=creation(asked.cluster, namespace), place=log)
    return made, lanes


async def check(asked: Inquiry, namespace: str, partitions: int | None) -> Found:
    """What opening a log needs to know. As `recorded`; CP502, CP503, CP508 for settings that do not keep what must be."""
    made, lanes = await recorded(asked, namespace, partitions)
    inbound, log = lanes_of(namespace)
    found = await asked.settings([inbound, log])
    wrong = [
        one
        for name in (log, inbound)
        for one in rules.findings(name, namespace, lanes[name], found[name], asked.cluster)
    ]
    if refused := [one for one in wrong if one.refused]:
        raise _refusal(refused)
    durable = all(lanes[name].copies >= 2 for name in lanes) and not any(one.code == "CP502" for one in wrong)
    return Found(
        made.partitions, made.log, durable, int(found[log].get("min.compaction.lag.ms", rules.HISTORY_MS))
    )


def _refusal(found: list[Finding]) -> ContrapasError:
    """Every refusal in one error: the first one's code, a line each."""
    first = found[0]
    return Refused(first.code, "\n".join(one.text for one in found[:4]), fix=first.fix, place=first.place)


async def namespaces(asked: Inquiry) -> list[str]:
    """Namespaces whose lanes are on a cluster."""
    pairs = [name.removesuffix(".log") for name in asked.topics if name.endswith(".log")]
    found = [
        ns
        for ns in pairs
        if f"{ns}.in" in asked.topics and asked.topics[f"{ns}.in"] == asked.topics[f"{ns}.log"]
    ]
    return sorted(ns for ns in found if "." not in ns)


def cluster_of(url: str, *, dev: bool = False) -> Cluster:
    """The cluster of an address, protected enough to be used."""
    cluster = Cluster(url, dev=dev)
    cluster.check_protected()
    return cluster
