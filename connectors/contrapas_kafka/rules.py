"""What each setting of our topics must be: with what they are made, what refuses a start, what deserves a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from contrapas.log import Finding
from contrapas_kafka.explain import creation
from contrapas_kafka.inquiry import Facts
from contrapas_kafka.options import Cluster

HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
HISTORY_MS: Final = 7 * DAY
"""How long every record of the log lane is kept (`min.compaction.lag.ms`): longer than any time without workers."""
RESTORE_MS: Final = HOUR
"""The slowest restore: a tombstone must stay for longer."""
OUTAGE_MS: Final = DAY
"""The longest outage that must be survived: input stays for longer."""
SIZE: Final = 1_048_588
"""`max.message.bytes`: a batch with one record of a million bytes."""
REST: Final = 65_536
"""A dead letter is its original and this much of headers."""
COPIES: Final = 3

_SAFE: Final = {
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
    "max.message.bytes": str(SIZE),
}
LOG: Final = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(HISTORY_MS),
    "max.compaction.lag.ms": str(HISTORY_MS + DAY),
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.ms": str(6 * HOUR),
    "delete.retention.ms": str(3 * DAY),
    "min.cleanable.dirty.ratio": "0.2",
    **_SAFE,
}
IN: Final = {
    "cleanup.policy": "delete",
    "retention.ms": str(7 * DAY),
    "retention.bytes": "-1",
    "segment.ms": str(6 * HOUR),
    **_SAFE,
}
DLQ: Final = {
    "cleanup.policy": "delete",
    "retention.ms": str(30 * DAY),
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
    "max.message.bytes": str(SIZE + REST),
}
USER: Final = {"unclean.leader.election.enable": "false"}
"""Of a topic of the user's that is made for them: the rest as the cluster has it."""


def made_with(name: str, namespace: str, copies: int) -> dict[str, str]:
    """Settings with which a topic is made."""
    own = {f"{namespace}.log": LOG, f"{namespace}.in": IN, f"{namespace}.dlq": DLQ}.get(name, USER)
    return {**own, "min.insync.replicas": str(min(2, max(1, copies)))}


def mended(name: str, namespace: str, found: Mapping[str, str], copies: int) -> dict[str, str]:
    """The settings of one of our topics that are wrong, as they should be: what `topic create --apply` changes."""
    wanted = made_with(name, namespace, copies)
    wrong = _wrong(name, namespace, found, copies)
    return {n: wanted[n] for n in wrong if n in wanted and wanted[n] != found.get(n)}


def _wrong(name: str, namespace: str, found: Mapping[str, str], copies: int) -> dict[str, tuple[str, str]]:
    """Setting -> (code, what is required). Settings of ours only; those of users' topics are theirs."""
    lane = name.removeprefix(f"{namespace}.")
    wrong: dict[str, tuple[str, str]] = {}

    def want(setting: str, code: str, fine: bool, required: str) -> None:
        if setting in found and not fine:
            wrong[setting] = (code, required)

    def number(setting: str) -> int:
        try:
            return int(found.get(setting, "0"))
        except ValueError:
            return 0

    if lane not in ("log", "in", "dlq"):
        return wrong
    policy = "compact" if lane == "log" else "delete"
    want("cleanup.policy", "CP503", found.get("cleanup.policy") == policy, f"{policy} alone")
    want(
        "unclean.leader.election.enable",
        "CP502",
        found.get("unclean.leader.election.enable") == "false",
        "false",
    )
    want("min.insync.replicas", "CP502", 2 <= number("min.insync.replicas") <= max(2, copies), "2")
    least = SIZE + REST if lane == "dlq" else SIZE
    want("max.message.bytes", "CP508", number("max.message.bytes") >= least, f">= {least}")
    if lane == "dlq":
        return wrong
    want(
        "message.timestamp.type",
        "CP503",
        found.get("message.timestamp.type") == "LogAppendTime",
        "LogAppendTime",
    )
    if lane == "in":
        keeps = number("retention.ms")
        want(
            "retention.ms",
            "CP503",
            keeps == -1 or keeps >= OUTAGE_MS,
            f"-1 or >= {OUTAGE_MS}, the longest outage",
        )
        want("retention.bytes", "CP503", number("retention.bytes") == -1, "-1")
        return wrong
    want("retention.ms", "CP503", number("retention.ms") == -1, "-1")
    want("retention.bytes", "CP503", number("retention.bytes") == -1, "-1")
    want("min.compaction.lag.ms", "CP503", number("min.compaction.lag.ms") >= HOUR, f">= {HOUR}")
    most = number("max.compaction.lag.ms")
    want(
        "max.compaction.lag.ms",
        "CP503",
        most > number("min.compaction.lag.ms"),
        "above min.compaction.lag.ms",
    )
    want(
        "delete.retention.ms",
        "CP503",
        number("delete.retention.ms") >= RESTORE_MS,
        f">= {RESTORE_MS}, the slowest restore",
    )
    return wrong


def findings(
    name: str, namespace: str, facts: Facts, found: Mapping[str, str], cluster: Cluster
) -> Iterator[Finding]:
    """What is wrong with one of our topics: refused first."""
    command = creation(cluster, namespace)
    dev = cluster.dev
    if facts.copies < 2:
        text = f"{name} has one replica: a lost disk loses what was acknowledged"
        fix = "kafka-reassign-partitions.sh with three brokers, or --dev for development"
        yield Finding(not dev, "CP502", text, fix, name)
    for setting, (code, required) in _wrong(name, namespace, found, facts.copies).items():
        if setting == "min.insync.replicas" and facts.copies < 2:
            continue  # it can be no more than there are replicas
        lenient = dev and setting == "min.insync.replicas"
        text = f"{name}: {setting}={found[setting]}, required {required}{_why(setting)}"
        yield Finding(not lenient, code, text, command, name)
    if name == f"{namespace}.log" and HOUR <= int(found.get("min.compaction.lag.ms", "0")) < DAY:
        text = f"{name}: min.compaction.lag.ms={found['min.compaction.lag.ms']} is below a day: longer without workers is not safe"
        yield Finding(False, "CP503", text, command, name)


def _why(setting: str) -> str:
    return {
        "cleanup.policy": ": with `delete` a saga that idles longer than the retention is dropped, and without it `in` grows",
        "unclean.leader.election.enable": ": what was acknowledged may be cut",
        "message.timestamp.type": ": a worker's wrong clock would expose records to the cleaner",
        "min.compaction.lag.ms": ": a former owner's record must be healed before the cleaner comes",
    }.get(setting, "")
