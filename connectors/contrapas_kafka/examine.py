"""What `doctor` finds about a Kafka log: first what refuses a start, then what deserves a look."""

from __future__ import annotations

from contrapas.errors import ContrapasError
from contrapas.log import Finding
from contrapas_kafka import rules, topics
from contrapas_kafka.inquiry import Inquiry
from contrapas_kafka.options import Cluster


async def findings(
    url: str, namespace: str | None, partitions: int | None, *, dev: bool = False
) -> list[Finding]:
    """Everything that is found; a cluster that does not answer is the only finding then."""
    try:
        cluster = Cluster(url, dev=dev)
        async with Inquiry(cluster) as asked:
            found = await _found(asked, namespace, partitions)
    except ContrapasError as no:
        return [finding(no)]
    return sorted(found, key=lambda one: not one.refused)


def finding(error: ContrapasError) -> Finding:
    """An error as a line of `doctor`."""
    return Finding(True, error.code, error.text, error.fix, error.place)


async def _found(asked: Inquiry, namespace: str | None, partitions: int | None) -> list[Finding]:
    found: list[Finding] = []
    text, fix = asked.cluster.unprotected()
    if text:
        found.append(Finding(not asked.cluster.dev, "CP803", text, fix, asked.cluster.place))
    if namespace is None:
        return found
    try:
        await topics.recorded(asked, namespace, partitions)
    except ContrapasError as no:
        found.append(finding(no))
    ours = await asked.describe(
        n for n in (*topics.lanes_of(namespace), f"{namespace}.dlq") if n in asked.topics
    )
    settings = await asked.settings(ours)
    for name, facts in ours.items():
        found += rules.findings(name, namespace, facts, settings[name], asked.cluster)
    return found
