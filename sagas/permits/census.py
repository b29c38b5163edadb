"""What became of every recorded event, read from the log alone: the census, and the path that each case travelled."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from contrapas.core.envelope_avro import decode
from contrapas.log import Log, Record


@dataclass(slots=True)
class Census:
    """Events by their fate; `paths` are the kinds that each case passed, in order of the log."""

    fates: Counter[str] = field(default_factory=Counter[str])
    paths: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def total(self) -> int:
        """All of them."""
        return self.fates.total()


def recorded(path: Path) -> dict[str, list[str]]:
    """Case -> kinds, as the rows say."""
    cases: dict[str, list[str]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cases.setdefault(row["case:concept:name"], []).append(row["concept:name"])
    return cases


async def take(log: Log) -> Census:
    """Read every lane once."""
    census = Census()
    for number in range(log.partitions):
        async for record in _read(log, "log", number):
            headers = dict(record.headers)
            if record.value is None or headers.get("cp-kind") != b"instance":
                continue
            found = decode(record.value)
            if found.cause.type and found.cause.kind in ("start", "event", "signal", "deliver"):
                fate = (
                    "parked" if found.status == "parked" else found.cause.note.partition(":")[0] or "applied"
                )
                census.fates[fate] += 1
                if fate == "applied":
                    census.paths.setdefault(found.key, []).append(found.cause.type)
        async for _ in _read(log, "permits.dlq", number):
            census.fates["dead"] += 1
    return census


async def _read(log: Log, lane: str, number: int) -> AsyncIterator[Record]:
    topic = await log.topic(lane) if lane not in ("log", "in") else None
    if lane not in ("log", "in") and (topic is None or number >= topic.partitions):
        return
    at, end = await log.bounds(lane, number)
    while at < end:
        records, at = await log.read(lane, number, at)
        for record in records:
            yield record
        if not records:
            return
