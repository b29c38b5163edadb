"""The log at `kafka://…`: open it, plan and make its topics, look at the cluster. The entry point of the scheme."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from contrapas.errors import Retriable, Unreachable
from contrapas.log import Finding, Plan
from contrapas_kafka import topics as made_topics
from contrapas_kafka.inquiry import Inquiry
from contrapas_kafka.options import Cluster
from contrapas_kafka.topics import cluster_of

if TYPE_CHECKING:
    from contrapas_kafka.log import KafkaLog
    from contrapas_kafka.look import KafkaLook
    from contrapas_kafka.only import KafkaTopics

ASKS = True
"""A cluster is shared with others: what would be made there is shown, and made when somebody says so."""

__all__ = ["ASKS", "apply", "examine", "look", "namespaces", "open", "plan", "reading"]


async def open(
    url: str,
    namespace: str,
    *,
    partitions: int | None = None,
    make: bool = False,
    dev: bool = False,
    clock: Callable[[], int] | None = None,
) -> KafkaLog:
    """Open a namespace's log.

    make: create its topics when there are none, with 24 partitions if not told. dev: one replica, min ISR 1 and an
    unprotected way are allowed. clock: not used, time is the broker's. Refused CP502, CP503, CP508 (settings that do not
    keep what must be kept), CP504 (counts), CP521 (another cluster), CP801 to CP803 (the address); LogError CP505 without
    topics, CP506 when one was made anew; Unreachable CP501.
    """
    from contrapas_kafka.log import KafkaLog

    cluster = cluster_of(url, dev=dev)
    async with _asked(cluster) as asked:
        if make and f"{namespace}.log" not in asked.topics:
            await made_topics.apply(asked, await made_topics.plan(asked, url, namespace, partitions, {}))
        found = await made_topics.check(asked, namespace, partitions)
    return KafkaLog(cluster, namespace, found.partitions, durable=found.durable, history_ms=found.history_ms)


async def look(url: str, namespace: str) -> KafkaLook:
    """The log for commands that only look. Nothing is produced, no group is joined, no setting is judged."""
    from contrapas_kafka.look import opened

    cluster = Cluster(url)
    if cluster.protocol.startswith("sasl_"):  # a password is sent
        cluster.check_protected()
    try:
        return await opened(cluster, namespace)
    except Retriable as why:
        raise _gone(why) from why


async def reading(url: str, namespace: str) -> KafkaTopics:
    """The cluster's topics, to be read and nothing else: there need be no log of ours. Nothing is produced, no group is
    joined, no setting is judged. Refused as the address is; Unreachable CP501."""
    from contrapas_kafka import only

    cluster = Cluster(url)
    if cluster.protocol.startswith("sasl_"):  # a password is sent
        cluster.check_protected()
    try:
        return await only.reading(cluster, namespace)
    except Retriable as why:
        raise _gone(why) from why


async def plan(
    url: str, namespace: str, partitions: int | None, topics: Mapping[str, int], *, dev: bool = False
) -> Plan:
    """What is missing of a log and its topics, and which settings are wrong. Raises what opening it would, but for those."""
    async with _asked(cluster_of(url, dev=dev)) as asked:
        return await made_topics.plan(asked, url, namespace, partitions, topics)


async def apply(made: Plan) -> None:
    """Create and set what a plan lists; again it changes nothing."""
    async with _asked(cluster_of(made.url, dev=made.dev)) as asked:
        await made_topics.apply(asked, made)


async def namespaces(url: str) -> list[str]:
    """Namespaces that have a log on a cluster."""
    async with _asked(Cluster(url)) as asked:
        return await made_topics.namespaces(asked)


async def examine(
    url: str, namespace: str | None = None, partitions: int | None = None, *, dev: bool = False
) -> list[Finding]:
    """What `doctor` says about a cluster: first what refuses a start, then what deserves a look. dev: as in `open`."""
    from contrapas_kafka.examine import findings

    return await findings(url, namespace, partitions, dev=dev)


@asynccontextmanager
async def _asked(cluster: Cluster) -> AsyncGenerator[Inquiry]:
    """A connected admin client; what could be tried again counts as a cluster that does not answer."""
    try:
        async with Inquiry(cluster) as asked:
            yield asked
    except Retriable as why:
        raise _gone(why) from why


def _gone(why: Retriable) -> Unreachable:
    return Unreachable("CP501", why.text, fix="try again; contrapas doctor --log URL", place=why.place)
