"""What flows through a partition: entries of its index, one batch of drafts, and the duties that follow its commit."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, NamedTuple

from contrapas.core.correlate import Routes
from contrapas.core.decode import Doors
from contrapas.core.empty import empty
from contrapas.core.envelope import InstanceRecord
from contrapas.core.lane import Capabilities, Draft, Record
from contrapas.core.world import Input, StepCall, World

TRANSITIONS_MAX = 500
BATCH_MS_MAX = 20.0
BATCH_BYTES_MAX = 16 << 20
CACHE_MAX = 192
UNSENT_MAX = 10_000
UNSENT_BYTES_MAX = 64 << 20


class Entry(NamedTuple):
    """The newest record of one key: bytes, until somebody touches it."""

    value: bytes
    deadline: int | None
    """ms of log time of its next timer."""
    standing: int
    """`correlate.LIVE` or `ENDED`."""
    version: int


class Due(NamedTuple):
    """A timer that may fire."""

    at: int
    key: str


Work = Input | Record | Due
"""What a partition takes: a local step's result, a record of the inbound lane, a timer."""


@dataclass(slots=True)
class Answer:
    """What a door that asked is told after the commit."""

    id: str
    """Id of the message that asked."""
    to: str
    """`<ns>.in/<p>`, or empty: through memory."""
    instance: str
    verdict: str
    """`applied kept no-op duplicate parked refused dead absent state reply declined`."""
    code: str = ""
    reason: str = ""
    status: str = ""
    state: str = ""
    version: int = 0
    outcome: str = ""
    """Registered name of the outcome; of a `reply`: of the reply."""
    outcome_body: str = ""
    view_type: str = ""
    view: str = ""
    note: str = ""


@dataclass(slots=True)
class Batch:
    """One commit in the making, and how to take it back."""

    at: int
    log: list[Draft] = field(default_factory=empty(list[Draft]))
    out: list[Draft] = field(default_factory=empty(list[Draft]))
    steps: list[StepCall] = field(default_factory=empty(list[StepCall]))
    answers: list[Answer] = field(default_factory=empty(list[Answer]))
    ended: list[InstanceRecord] = field(default_factory=empty(list[InstanceRecord]))
    """Those that ended or parked in this batch: whoever waits for them is woken."""
    armed: list[Due] = field(default_factory=empty(list[Due]))
    undo: dict[str, Entry | None] = field(default_factory=empty(dict[str, Entry | None]))
    taken: list[Work] = field(default_factory=empty(list[Work]))
    """What went in, in order: put back by an abort."""
    senders: list[tuple[str, int]] = field(default_factory=empty(list[tuple[str, int]]))
    """(instance, messages) with `out` in this batch."""
    sending: set[str] = field(default_factory=empty(set[str]))
    """The same instances, to be asked for: every transition asks whether its own is among them."""
    starts: list[int] = field(default_factory=empty(list[int]))
    """Of each of them: the place of its first message in `out`."""
    position: int = 0
    """Next offset of the inbound lane to read, once this batch counts."""
    size: int = 0
    trying: str = ""
    """Careful mode: what is in hand, written before it is tried."""
    counts: Counts | None = None
    """The census before it, for an abort."""
    maps: dict[str, Any] = field(default_factory=empty(dict[str, Any]))
    """Maps in progress as they were before it, by instance; None: there were none."""
    copied: set[tuple[str, str]] = field(default_factory=empty(set[tuple[str, str]]))
    """Maps whose progress is this batch's own by now."""
    owner: bytes | None = None
    """What its item records share."""
    fence: bool = False
    """Steps begin without a record of their own: a commit shows that the partition is still ours."""
    published: int = 0
    """Machine graphs among its drafts."""
    healed: int = 0
    """Heals among its drafts: the first of them."""

    @property
    def empty(self) -> bool:
        """Nothing to commit."""
        return not self.log and not self.out and not self.trying and not self.fence


class Leaving(list[Draft]):
    """Messages of one commit on their way out, and whose they are: (place of the first, how many, instance)."""

    owners: tuple[tuple[int, int, str], ...] = ()


class Duties(NamedTuple):
    """What a commit made true and now must happen."""

    steps: list[StepCall]
    out: list[Draft]
    """Still to be published; empty where the log stored them with the commit."""
    answers: list[Answer]
    ended: list[InstanceRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all partitions of a worker share."""

    namespace: str
    world: World
    routes: Routes
    doors: Doors
    caps: Capabilities
    writer: str

    @property
    def lane(self) -> str:
        """Name of the log lane, for errors."""
        return f"{self.namespace}.log"

    desk: Any = None
    """`runtime.schema_desk.SchemaDesk`: asks for schemas that are not known yet."""


@dataclass(slots=True)
class Counts:
    """The census: what became of every input, and what was written."""

    inputs: int = 0
    more: int = 0
    """Of inputs that go to several instances: those beyond the first."""
    applied: int = 0
    kept: int = 0
    noop: int = 0
    duplicates: int = 0
    early: int = 0
    dead: int = 0
    expired: int = 0
    """Early events that nobody came for in time: dead letters too, and counted as early before."""
    ignored: int = 0
    skipped: int = 0
    """Messages of users' topics that no saga mentions."""
    transitions: int = 0
    parked: int = 0
    commits: int = 0
    healed: int = 0
    unmatched: int = 0
    """Of those ignored: events of an observed saga whose start it never saw."""
    losers: int = 0
    """Records of former owners and strangers on the log lane that were found: they change nothing."""

    def copy(self) -> Counts:
        """As it stands now."""
        return Counts(*_COUNTED(self))


def checksum(value: bytes) -> bytes:
    """CRC-32 of a value, as `cp-sum` has it."""
    return b"%08x" % zlib.crc32(value)


def kind_of(key: str) -> bytes:
    """`cp-kind` of the record of a key."""
    if not key.startswith("$"):
        return b"instance"
    if is_graph(key):
        return b"graph"
    return b"item" if key.startswith("$item/") else b"rendezvous"


def is_wait(key: str) -> bool:
    """The key of a rendezvous."""
    return key.startswith("$wait/")


def is_graph(key: str) -> bool:
    """The key of a machine graph."""
    return key.startswith("$graph/")


_COUNTED = attrgetter(*[f.name for f in fields(Counts)])
