"""The first seam: ordered records with one fenced writer per partition. It knows no saga, no codec, no runtime.

Ten rules (every backend, held by `contrapas.testing.exercise_log`): order, stability, atomicity of a record, fencing,
idempotence, durability, replay, compaction, lag, backpressure. Three errors and no others: `Fenced`, `Retriable`,
`Indeterminate`. A backend is found by its URL scheme through the entry points `contrapas.connectors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from contrapas.core.finding import Finding
from contrapas.core.lane import (
    NULL,
    Capabilities,
    Commit,
    Control,
    Draft,
    Headers,
    Known,
    Lane,
    Record,
    Source,
    Topic,
)
from contrapas.core.partition import partition
from contrapas.errors import Fenced, Indeterminate, LogError, Retriable

__all__ = [
    "NULL",
    "Capabilities",
    "Commit",
    "Control",
    "Draft",
    "Fenced",
    "Finding",
    "Headers",
    "Indeterminate",
    "Known",
    "Lane",
    "Lease",
    "Log",
    "LogError",
    "Membership",
    "Plan",
    "Record",
    "Retriable",
    "Source",
    "Topic",
    "TopicKeeper",
    "partition",
]


class Lease(Protocol):
    """Ownership of one partition of the log lane, as long as nobody acquires it again."""

    partition: int
    epoch: int
    control: Control

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """Store log drafts and control (with `atomic_external` also `out`) in one go; one call in flight per partition.

        Raises Fenced (nothing is ours), Retriable (nothing was written), Indeterminate (unknown).
        """
        ...

    async def compact(self, horizon: int, *, budget_ms: int) -> int:
        """Remove superseded records below `horizon`; gives the new horizon reached. Never at or above `relayed`."""
        ...

    async def look(self) -> Sequence[Record]:
        """What others wrote behind our last commit, by offset: records that do not count, each key owed a heal.

        Asked about once a second while nothing is committed. Raises Fenced (a higher epoch is among them), Indeterminate
        (offsets are missing), Retriable. Empty where the log refuses a stale write.
        """
        ...

    async def lost(self) -> None:
        """Return when ownership is known to be gone."""
        ...

    async def release(self) -> None:
        """Give the partition up; `control.owner` becomes empty."""
        ...


class Membership(Protocol):
    """Who should own what; never needed for safety."""

    def assignments(self) -> AsyncIterator[frozenset[tuple[Lane, int]]]:
        """Yield the partitions this member should own, at first and at each change."""
        ...

    async def leave(self) -> None:
        """Leave the group."""
        ...


class Log(Protocol):
    """One namespace's lanes, and the topics beside them."""

    partitions: int
    caps: Capabilities

    async def acquire(self, partition: int, owner: str, *, known: Known | None = None) -> Lease:
        """Fence every earlier lease of the partition, then give a new one. Fenced if another holds it and lives.

        known: what a checkpoint says of the lane below an offset, so that a log without a row for its owner need not read
        that part again.
        """
        ...

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """[start, stable end) of a lane's partition."""
        ...

    async def read(
        self,
        lane: Lane,
        partition: int,
        offset: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 4 << 20,
        wait_ms: int = 0,
    ) -> tuple[Sequence[Record], int]:
        """Records from `offset` on, and the offset to ask for next; waits at most `wait_ms` when there are none.

        An offset below the lane's start raises LogError CP519, never a jump.
        """
        ...

    def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """The newest record of each key of the log lane with `after` <= offset < `upto`, in batches, by offset."""
        ...

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """First offset with a timestamp at or after the given one; the stable end if there is none."""
        ...

    async def publish(self, drafts: Sequence[Draft]) -> None:
        """Append without a fence to `in` or topics, never to the log lane; what is stored is a prefix per partition."""
        ...

    async def topic(self, lane: Lane) -> Topic | None:
        """A topic's id and partition count; None when it does not exist."""
        ...

    def membership(self, group: str, lanes: Sequence[Lane]) -> Membership:
        """Join a group over the partitions of `lanes`."""
        ...

    async def positions(self, group: str) -> Mapping[Source, int]:
        """Stored positions of a service or task queue."""
        ...

    async def save_positions(self, group: str, at: Mapping[Source, int]) -> None:
        """Store them."""
        ...

    async def close(self) -> None:
        """Release everything this object holds."""
        ...


class TopicKeeper(Log, Protocol):
    """A log that makes the users' topics itself: nobody else uses what they lie on."""

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Topic -> partitions; those that exist stay. Refused CP504 when one exists with another count."""
        ...


class Plan(NamedTuple):
    """What would be created; nothing is created without it."""

    url: str
    namespace: str
    partitions: int
    make: bool
    """The log itself is missing."""
    topics: Mapping[str, int]
    """Missing topics and their partition counts."""

    settings: Mapping[str, Mapping[str, str]] = {}
    """Of missing topics, those that they are made with; of others, those that are changed."""
    copies: int = 0
    """Replicas of missing topics, 0 where the log has none."""
    dev: bool = False
    """Made for development: what is not durable is allowed."""

    def words(self) -> list[str]:
        """One line per thing that would be made or changed, its settings below it."""
        made = (
            [f"{self.url}: log of namespace {self.namespace}, {self.partitions} partitions"]
            if self.make
            else []
        )
        copies = f", {self.copies} replicas" if self.copies > 1 else ", 1 replica" if self.copies else ""
        for name, count in self.topics.items():
            made += [f"topic {name}, {count} partitions{copies}", *self._settings(name)]
        for name in self.settings:
            if name not in self.topics:
                made += [f"topic {name}, other settings", *self._settings(name)]
        return made

    def _settings(self, name: str) -> list[str]:
        return [f"   {setting}={value}" for setting, value in self.settings.get(name, {}).items()]
