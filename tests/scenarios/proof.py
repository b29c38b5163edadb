"""What the log says about every local step, held against what really ran.

A step may run only between the record that issued it and the record that settled it. Both times come from the log, the
time of a run from the step itself; all processes of a scenario share one clock. Where superseded records were removed
nothing can be said about a step whose records are gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.lane import Record
from contrapas.log import Log

CLOCK_MS = 1
"""The log's clock and a step's own are read in whole milliseconds."""


class Run(NamedTuple):
    """One run of a step, told by the step at its beginning."""

    at: int
    """ms of the wall clock."""
    subject: str
    what: str
    key: str
    """Idempotency key: instance, run, state and visit."""


class Written(NamedTuple):
    """One instance record of the log."""

    partition: int
    at: int
    record: InstanceRecord


@dataclass(slots=True)
class Proof:
    """When each step was issued and settled."""

    issued: dict[str, int] = field(default_factory=dict[str, int])
    settled: dict[str, int] = field(default_factory=dict[str, int])

    def take(self, written: Written) -> None:
        """Take the next record of the lane."""
        pending = {p.key for p in written.record.operations() if p.kind == "local"}
        for key in pending:
            self.issued.setdefault(key, written.at)
        cause = written.record.cause
        if cause.kind == "result" and cause.id not in pending:
            self.settled.setdefault(cause.id, written.at)

    def faults(self, runs: Iterable[Run], *, whole: bool = True) -> list[str]:
        """Runs after the record that settled the step, before the one that issued it, or of a step the log never knew."""
        bad: list[str] = []
        for run in runs:
            issued, settled = self.issued.get(run.key), self.settled.get(run.key)
            if settled is not None and run.at > settled + CLOCK_MS:
                bad.append(f"{run.what} {run.key} ran {run.at - settled} ms after its result was recorded")
            if whole and issued is None:
                bad.append(f"{run.what} {run.key} ran, no record issued it")
            elif whole and issued is not None and run.at < issued - CLOCK_MS:
                bad.append(f"{run.what} {run.key} ran {issued - run.at} ms before it was issued")
        return bad


def runs_of(text: str) -> list[Run]:
    """The runs that steps wrote down: time, subject, what, key."""
    return [Run(int(at), *rest) for at, *rest in (line.split() for line in text.splitlines())]


async def lane_of(log: Log, lane: str, partition: int) -> list[Record]:
    """Everything that stands on a lane's partition."""
    at, end = await log.bounds(lane, partition)
    found: list[Record] = []
    while at < end:
        records, after = await log.read(lane, partition, at)
        if after == at:
            break
        found += records
        at = after
    return found


def counting(records: Iterable[Record], *, void: list[Record] | None = None) -> list[Record]:
    """Of a partition's records, by offset, those that no higher epoch stands before; the others go into `void`.

    A fold of its own: wire.md's one line, and nothing of the product's.
    """
    highest = 0
    found: list[Record] = []
    for r in records:
        said = dict(r.headers).get("cp-epoch", b"")
        epoch = int(said) if said.isdigit() else -1
        if epoch >= highest:
            highest = epoch
            found.append(r)
        elif void is not None:
            void.append(r)
    return found


async def history(log: Log) -> list[Written]:
    """Every instance record that is left and counts, by partition and offset."""
    found: list[Written] = []
    for number in range(log.partitions):
        for r in counting(await lane_of(log, "log", number)):
            if r.value is not None and dict(r.headers).get("cp-kind") == b"instance":
                found.append(Written(number, r.timestamp_ms, decode(r.value)))
    return found


async def proof_of(log: Log) -> Proof:
    """What the log says about steps."""
    proof = Proof()
    for written in await history(log):
        proof.take(written)
    return proof


def doubled(versions: Iterable[Written]) -> list[str]:
    """Versions of an instance's run that were written twice, or left out without a heal, which may jump."""
    seen: dict[tuple[str, str], list[int]] = {}
    heals: Counter[tuple[str, str]] = Counter()
    for written in versions:
        heals[written.record.instance, written.record.run] += written.record.cause.kind == "heal"
        seen.setdefault((written.record.instance, written.record.run), []).append(written.record.version)
    bad: list[str] = []
    for (instance, run), found in seen.items():
        if any(n > 1 for n in Counter(found).values()):
            bad.append(f"{instance} of run {run} has a version twice: {found}")
        elif not heals.get((instance, run)) and found != list(range(found[0], found[0] + len(found))):
            bad.append(f"{instance} of run {run} leaves out a version: {found}")
    return bad
