"""What a worker's leases saw, a line each into a file: claims, fences, unclear answers, losers; at its end its census.

Only looks on: `Told` hands every call through.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from contrapas.core.world import StepCall
from contrapas.errors import Fenced, Indeterminate, Retriable
from contrapas.log import Commit, Control, Draft, Known, Lease, Log, Record
from contrapas.runtime.batch import Counts
from contrapas.runtime.steps import StepRunner
from tests.scenarios.proof import Run

__all__ = ["Line", "Told", "census", "runs", "tell_census", "tell_leases", "tell_steps", "told", "uncounted"]


class Line(NamedTuple):
    """One thing that a lease saw."""

    at: float
    """Seconds of the wall clock."""
    pid: int
    what: str
    """`claimed`, `not claimed`, `committed`, `fenced`, `unclear`, `nothing`, `losers`, `step`, `census`."""
    partition: int
    epoch: int
    more: Any

    @classmethod
    def read(cls, text: str) -> Line:
        """As `tell` wrote it."""
        return cls(*json.loads(text))


class Told:
    """A lease that tells."""

    def __init__(self, lease: Lease, path: Path) -> None:
        self._lease = lease
        self._path = path
        tell(path, "claimed", lease.partition, lease.epoch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As the lease's."""
        try:
            done = await self._lease.commit(log, out, control)
        except (Fenced, Indeterminate, Retriable) as why:
            self._failed("commit", why)
            raise
        self._losers(done.losers)
        tell(
            self._path,
            "committed",
            self._lease.partition,
            self._lease.epoch,
            [done.first, done.last, len(log)],
        )
        return done

    async def look(self) -> Sequence[Record]:
        """As the lease's."""
        try:
            found = await self._lease.look()
        except (Fenced, Indeterminate, Retriable) as why:
            self._failed("look", why)
            raise
        self._losers(found)
        return found

    def _failed(self, where: str, why: Exception) -> None:
        kinds: dict[type[Exception], str] = {Fenced: "fenced", Indeterminate: "unclear", Retriable: "nothing"}
        tell(self._path, kinds[type(why)], self._lease.partition, self._lease.epoch, f"{where}: {why}")

    def _losers(self, found: Iterable[Record]) -> None:
        if offsets := [r.offset for r in found]:
            tell(self._path, "losers", self._lease.partition, self._lease.epoch, offsets)


def tell_leases(log: Log, path: Path) -> None:
    """From now on every lease of this log tells."""
    acquire = log.acquire

    async def told_acquire(partition: int, owner: str, *, known: Known | None = None) -> Any:
        try:
            return Told(await acquire(partition, owner, known=known), path)
        except (Fenced, Indeterminate, Retriable) as why:
            tell(path, "not claimed", partition, 0, f"{type(why).__name__}: {why}")
            raise

    setattr(log, "acquire", told_acquire)  # noqa: B010 - over a method


def tell_steps(runner: StepRunner, path: Path) -> None:
    """From now on every start of a local step is told: its idempotency key."""
    start = runner.start

    def told_start(partition: int, epoch: int, call: StepCall) -> None:
        if call.key not in runner.running:
            tell(path, "step", partition, epoch, [call.instance, call.step, call.key])
        start(partition, epoch, call)

    setattr(runner, "start", told_start)  # noqa: B010 - over a method


def tell(path: Path, what: str, partition: int, epoch: int, more: Any = None) -> None:
    """Append a line."""
    line = Line(time.time(), os.getpid(), what, partition, epoch, more)
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def tell_census(path: Path, counts: Counts) -> None:
    """At the end of an orderly life."""
    tell(path, "census", -1, 0, asdict(counts))


def told(path: Path) -> list[Line]:
    """What was told."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as lines:
        return [Line.read(line) for line in lines if line.endswith("\n")]


def runs(lines: Iterable[Line]) -> list[Run]:
    """The steps that were started, as `proof.Proof.faults` wants them."""
    return [Run(int(line.at * 1000), *line.more) for line in lines if line.what == "step"]


def census(lines: Iterable[Line]) -> Counter[str]:
    """How often each thing was seen."""
    return Counter(line.what for line in lines)


def uncounted(lines: Iterable[Line]) -> list[str]:
    """Of each worker that ended in order: inputs that became nothing, or two things."""
    bad: list[str] = []
    for line in lines:
        if line.what == "census":
            c = Counts(**line.more)
            became = c.applied + c.kept + c.noop + c.duplicates + c.early + c.dead + c.ignored + c.parked
            if became != c.inputs + c.more:
                bad.append(
                    f"worker {line.pid}: {c.inputs} inputs and {c.more} more, {became} became something: {c}"
                )
    return bad
