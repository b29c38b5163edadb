"""What `doctor` finds about a Kafka log: first what refuses a start, then what deserves a look."""

from __future__ import annotations

from contrapas.errors import ContrapasError
from contrapas.log import Finding
from contrapas_kafka import rules, topics
from contrapas_kafka.admin import Admin
from contrapas_kafka.options import Cluster


async def findings(url: str, namespace: str | None, partitions: int | None) -> list[Finding]:
    """Everything that is found; a cluster that does not answer is the only finding then."""
    try:
        cluster = Cluster(url)
        async with Admin(cluster) as admin:
            found = await _found(admin, namespace, partitions)
    except ContrapasError as no:
        return [finding(no)]
    return sorted(found, key=lambda one: not one.refused)


def finding(error: ContrapasError) -> Finding:
    """An error as a line of `doctor`."""
    return Finding(True, error.code, error.text, error.fix, error.place)


async def _found(admin: Admin, namespace: str | None, partitions: int | None) -> list[Finding]:
    found: list[Finding] = []
    text, fix = admin.cluster.unprotected()
    if text:
        found.append(Finding(not admin.cluster.dev, "CP803", text, fix, admin.cluster.place))
    if namespace is None:
        return found
    try:
        await topics.recorded(admin, namespace, partitions)
    except ContrapasError as no:
        found.append(finding(no))
    ours = await admin.describe(
        n for n in (*topics.lanes_of(namespace), f"{namespace}.dlq") if n in admin.topics
    )
    settings = await admin.settings(ours)
    for name, facts in ours.items():
        found += rules.findings(name, namespace, facts, settings[name], admin.cluster)
    return found
