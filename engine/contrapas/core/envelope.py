"""`InstanceRecord`: one instance's whole state after a transition, and its way to Avro bytes and back.

The dataclasses are the decoded body of a record on the log lane (`schemas/contrapas_schemas/avro/instance.avsc`). They
are mutable only while one transition is being computed, on a copy that nobody else holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from contrapas.core.empty import empty
from contrapas.core.partition import ITEM

STATUSES = (
    "parked",
    "paused",
    "done",
    "compensated",
    "failed",
    "settling",
    "unwinding",
    "retrying",
    "running",
    "waiting",
)
"""The ten words, in the order in which they are derived: the first that holds."""
ENDED = frozenset({"done", "compensated", "failed"})


@dataclass(slots=True, kw_only=True)
class Frame:
    """One activation of a saga inside an instance: the root, or a called saga."""

    saga: str
    graph: str
    label: str
    """Where it stands; `START` before its first await."""
    slots: dict[str, str]
    """Slot -> JSON text, in lock-file order; unbound slots are absent."""
    scopes: list[int] = field(default_factory=empty(list[int]))
    """Open scopes: height of the undo stack at each mark."""
    undo: int = -1
    """Number of the undo entry of a called saga as a whole (`s.step(other(s, e), undo=...)`), -1: none."""
    begun: list[Begun] = field(default_factory=empty(list["Begun"]))
    """What it began and nobody took yet, in order."""
    limits: list[Limit] = field(default_factory=empty(list["Limit"]))
    """Of its open scopes, those that are limited in time, outermost first."""


@dataclass(slots=True, kw_only=True)
class Limit:
    """How long a scope, or a branch as a whole, may take (X16)."""

    depth: int
    """Which of the frame's open scopes, from 0; -1: the branch."""
    key: str
    """Names its timer."""
    since: int
    deadline: int | None
    """ms of log time; None once it has passed."""
    expired: bool = False
    """What it limits is being left."""


@dataclass(slots=True, kw_only=True)
class Begun:
    """An operation begun and not taken yet: in flight, ended, or given up."""

    label: str
    visit: str
    """`12`, `12.1`: with the label, what its handle says."""
    depth: int
    """How many scopes of its frame were open."""
    node: Node
    """The branch; its stack comes to lie where it was begun once it is taken."""
    suffix: str = ""
    """Positions in the joins above: `[0]`."""
    saga: str = ""
    """The function that began it: its undos are of this machine."""
    number: int = -1
    """The undo entry that stands for its stack, -1: it can have none."""
    ended: int = 0
    """Version of the transition in which it ended; 0: in flight."""
    given: str = ""
    """Empty, `cancelled` (given up by its handle), `ignored` (of `some`), `left` (by the end of its scope)."""
    owed: bool = False
    """Given up, and an undo of it waits for a late reply."""


@dataclass(slots=True, kw_only=True)
class Pending:
    """One operation in flight."""

    key: str
    """Idempotency key `instance/run/label/visit`, `[n]` after the label inside a join, `.n` for a repeated label."""
    label: str
    visit: int
    kind: str
    name: str
    """Registered name of the command or step; `A|B` of a wait."""
    types: tuple[str, ...] = ()
    """Registered names of what settles it: replies (success first) or awaited events."""
    attempt: int = 1
    deadline: int | None = None
    """ms of log time at which `within=` expires, or a sleep ends."""
    retry_at: int | None = None
    """ms of log time of the next attempt: set while `retrying`."""
    policy: str = ""
    """Retry policy as JSON text, empty: none."""
    body: str = ""
    """What was issued, as JSON text (command payload; args of a local step), so that it can be issued again."""
    correlate: str = ""
    """Rendezvous value of a wait, empty: the saga's key."""
    wait_id: str = ""
    undo: int = -1
    """Number of its undo entry, -1: none."""
    since: int = 0
    error: str = ""
    """Last failed attempt, for people."""
    each_at: int | None = None
    """ms of log time at which an attempt that is still unanswered is repeated (`each=`)."""
    target: str = ""
    """Key under which a command travels."""
    undoes: str = ""
    """Of an undo: idempotency key of the step it takes back."""
    raw: bytes = field(default=b"", compare=False, repr=False)
    """Its Avro bytes, once written in a join: an operation that stands in a record does not change any more."""


@dataclass(slots=True, kw_only=True)
class UndoEntry:
    """How one step is taken back."""

    number: int
    label: str
    visit: int
    key: str
    """Idempotency key of the step."""
    status: str
    """issued done failed unknown; undoing undone owed stuck once unwinding has met it."""
    kind: str
    """`command`, `local`: `body` is ready; `lambda`: `captures` and the compiled undo `name`; `default`: of the `@step`
    `name`, from its result; `group`: `branches`."""
    name: str
    body: str = ""
    captures: dict[str, str] = field(default_factory=empty(dict[str, str]))
    saga: str = ""
    graph: str = ""
    types: tuple[str, ...] = ()
    """Registered names of the step's replies, success first: a late one settles the entry."""
    step: str = ""
    """Registered name of the local step it takes back, empty for a command."""
    reply: str = ""
    """The success as JSON text `["message"|"step"|"saga", name, value]`, when the undo needs it."""
    needs_reply: bool = False
    policy: str = ""
    within_ms: int | None = None
    branches: list[list[UndoEntry]] = field(default_factory=empty(list[list["UndoEntry"]]))
    unknown_at: int | None = None
    """ms of log time at which its outcome became unknown: the late-reply window is counted from there."""
    lost: bool = False
    """No reply can come any more: a local step that raised."""
    owed_until: int | None = None
    pending: Pending | None = None
    """The undo in flight."""
    note: str = ""
    """Why an operator skipped it."""
    undo_failed: bool = False
    """It is undone after a definite failure too."""
    raw: bytes = field(default=b"", compare=False, repr=False)
    """Its Avro bytes, once written: an entry that stands in a record does not change any more."""


@dataclass(slots=True, kw_only=True)
class Join:
    """Waiting for `all`, `first` or `some`: children by position."""

    kind: str
    label: str
    visit: int
    fail_fast: bool
    children: list[Node]
    done_order: list[int] = field(default_factory=empty(list[int]))
    winner: int = -1
    """Of `first`: who ended first; the others are given up from then on. Of `some`: how many had ended when it was decided."""
    thrown: str = ""
    """Exception to raise when every branch has ended, as JSON text: the join itself was cancelled."""
    listed: bool = False
    """Of `all`: the result is a list, not a tuple."""
    need: int = 0
    """Of `some`: how many successes."""
    ignore: bool = False
    """Of `some`: the rest goes on."""


@dataclass(slots=True, kw_only=True)
class Unwinding:
    """An unwind in progress: down to `floor` of the stack, then `then` happens."""

    floor: int
    then: str
    """`given` (up by its handle), `failed`, `expired` (a branch with a limit), `resume` (compensate, scope), `raise` (the stored cause leaves the saga), `end` (kill), `next` (a sibling)."""
    cause: str = ""
    """The exception to go on with, as JSON text (codec of exceptions)."""
    whole: bool = False
    """It takes back the saga as a whole, not a scope or a branch."""


@dataclass(slots=True, kw_only=True)
class Node:
    """A line of execution: frames outermost first, what the innermost waits for, its undo stack. R1 of the design."""

    frames: list[Frame] = field(default_factory=empty(list[Frame]))
    pending: Pending | None = None
    join: Join | None = None
    unwinding: Unwinding | None = None
    undo: list[UndoEntry] = field(default_factory=empty(list[UndoEntry]))
    result: str | None = None
    """JSON text of a branch's value once it ended well."""
    error: str | None = None
    """JSON text of a branch's exception once it ended badly."""
    cancel: str = ""
    """Reason of the `Cancelled` to throw once the unwinding, or the end of what is in flight, in hand is through."""
    limit: Limit | None = None
    """Of a branch: `within=` of the called saga or join that it is."""
    raw: bytes = field(default=b"", compare=False, repr=False)
    """Avro bytes of a branch that only waits for one operation or has ended, once written: from then on records share
    the node, and `Line.child` copies it for who may change it. So a join costs what moves in it, not what it holds."""

    @property
    def ended(self) -> bool:
        """A branch that has its value or its exception."""
        return self.result is not None or self.error is not None


@dataclass(slots=True, kw_only=True)
class Cause:
    """The event behind a transition."""

    kind: str
    """`start event reply signal result timer operate deliver bound heal`."""
    type: str
    source: str = ""
    id: str = ""
    partition: int = -1
    offset: int = -1
    headers: tuple[tuple[str, bytes], ...] = ()
    value: bytes = b""
    """As received."""
    note: str = ""
    """What became of it when it moved nothing: `no-op: finished`, `late reply` …"""

    @property
    def size(self) -> int:
        """Bytes it takes in a record, about: the value, and headers that a sender may have made large."""
        return len(self.value) + sum([len(name) + len(value) for name, value in self.headers])


@dataclass(slots=True, kw_only=True)
class Message:
    """Something to send after the commit; stays in the record until it is known to be published."""

    to: str
    """A topic, or `in`."""
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    id: str


@dataclass(slots=True, kw_only=True)
class Parked:
    """Why an instance stands still, and what it keeps."""

    reason: str
    code: str
    error: str
    """At most 8 kB."""
    trace: str = ""
    input: Cause | None = None
    """The offending input, applied again by `retry`."""
    status: str = ""
    """What it was before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A command that was taken or kept, and not answered yet."""

    name: str
    """16 hex digits of the identity (source, id): what a received value carries."""
    id: str
    type: str
    to: str
    """The way back: `in`, a topic, a door (`memory`, `<ns>.in/<p>`); empty: nobody waits."""
    instance: str = ""
    """The saga instance that asks."""
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a command was answered with."""

    name: str
    id: str
    type: str
    """Registered name of the reply; empty: the engine declined."""
    body: str
    """JSON text: the reply, or `{"reason": …}`."""
    good: bool
    """It was the success."""
    asked: str = ""
    """Type of the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """A one-way command that leaves later."""

    id: str
    at: int
    type: str
    key: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What an instance has to do with others (`core.talk`); replaced, never changed."""

    began: str = ""
    """The start type of this run, where the saga has several."""
    asked: list[Asked] = field(default_factory=empty(list[Asked]))
    answers: list[Answered] = field(default_factory=empty(list[Answered]))
    """The newest 64, 64 kB."""
    next_start: list[Cause] = field(default_factory=empty(list[Cause]))
    """Starts that wait for the end of this run."""
    undone: list[str] = field(default_factory=empty(list[str]))
    """Ids of commands that were taken back before they came."""
    tells: list[Tell] = field(default_factory=empty(list[Tell]))
    view_type: str = ""
    view: str = ""
    """JSON text of the model that the saga shows."""
    note: str = ""


@dataclass(slots=True, kw_only=True)
class InstanceRecord:
    """One instance after one transition."""

    instance: str
    saga: str
    key: str
    version: int
    epoch: int
    writer: str
    run: str
    mode: str
    """`orchestrate` or `observe`, fixed at the start."""
    on_late: str = "alert"
    status: str
    root: Node
    cause: Cause
    at: int
    started_at: int
    ended_at: int | None = None
    deadline: int | None = None
    """The saga's own deadline, ms of log time."""
    pivoted: bool = False
    cancel: str = ""
    """Empty, `cancel` or `kill`, once asked for."""
    outcome: str = ""
    """Registered name of the returned event, empty: none."""
    outcome_body: str = ""
    error: str = ""
    """Why it failed, for people."""
    unwound: bool = False
    """The saga as a whole was unwound to the end."""
    undone: bool = False
    """An undo ran."""
    paused: bool = False
    retain_until: int | None = None
    """ms of log time at which an ended instance is let go."""
    late_replies_ms: int = 0
    undo_count: int = 0
    """Undo entries registered so far: the next one's number."""
    start_id: str = ""
    start_digest: bytes = b""
    """SHA-256 of the start event's value: another payload for a taken key is CP412."""
    positions: dict[str, int] = field(default_factory=empty(dict[str, int]))
    """`source/partition` -> last applied offset, at most 16."""
    seen: list[bytes] = field(default_factory=empty(list[bytes]))
    """Newest 64 of (8 bytes digest of source and id + 8 bytes digest of the value)."""
    kept: list[Cause] = field(default_factory=empty(list[Cause]))
    """Events for a state ahead, at most 100 or 256 kB; while parked or paused, everything that came."""
    out: list[Message] = field(default_factory=empty(list[Message]))
    unsent: list[Message] = field(default_factory=empty(list[Message]))
    owed: list[UndoEntry] = field(default_factory=empty(list[UndoEntry]))
    binds: list[Pending] = field(default_factory=empty(list[Pending]))
    """Rendezvous messages (`bind`, `unbind`) not yet acknowledged."""
    parked: Parked | None = None
    talk: Talk | None = None
    """Commands to be answered, answers, starts that wait, the view; None: nothing of it."""
    parent: str = ""
    """Of a child, or of an item that runs a saga: the instance that began it, and its run: `book_trip/t-7/4f1c09e2`."""
    parent_ops: list[str] = field(default_factory=empty(list[str]))
    """Of a child: keys of the operations that wait for its answer. Of an item of a map: the map's key."""
    cancelled_at: int | None = None
    """ms of log time of the last cancel that was thrown: for a grace period after it another one is only recorded."""
    again: bool = False
    """Another cancel was recorded; it is thrown when the grace period ends."""
    head: bytes = field(default=b"", compare=False, repr=False)
    """Avro bytes of what never changes in an instance's life, once written."""
    memory: bytes = field(default=b"", compare=False, repr=False)
    """Avro bytes of `positions` and `seen`, once written; empty again when one of them is replaced."""

    @property
    def map(self) -> str:
        """Of an item that runs a saga: idempotency key of its map as a whole; empty: it is none."""
        return self.parent_ops[0] if ITEM in self.instance else ""

    @property
    def item(self) -> int:
        """Of such an item: its position."""
        return int(self.instance.rpartition("[")[2].partition("]")[0])

    def operations(self) -> Iterator[Pending]:
        """Every operation in flight, undos included, in order of position."""
        found: list[Pending] = []
        _operations(self.root, found)
        for entry in self.owed:
            if entry.pending is not None:
                found.append(entry.pending)
        return iter(found)

    def limits(self) -> Iterator[Limit]:
        """Every limit of a scope or branch."""
        nodes = [self.root]
        while nodes:
            node = nodes.pop()
            if node.limit is not None:
                yield node.limit
            for frame in node.frames:
                yield from frame.limits
                nodes += [begun.node for begun in frame.begun]
            if node.join is not None:
                nodes += [child for child in node.join.children if not child.raw]

    @property
    def state(self) -> str:
        """Label of the innermost state of the root line of execution, for people."""
        root = self.root
        if root.frames and root.unwinding is None:
            return root.frames[-1].label
        return _state(root)


def _operations(node: Node, found: list[Pending]) -> None:
    if node.pending is not None:
        found.append(node.pending)
    if node.join is not None:
        for child in node.join.children:
            if child.raw or (child.join is None and not child.frames and not child.undo):
                if child.pending is not None:
                    found.append(child.pending)
            else:
                _operations(child, found)
    for frame in node.frames:
        for begun in frame.begun:
            _operations(begun.node, found)
    _undos(node.undo, found)


def _undos(entries: list[UndoEntry], found: list[Pending]) -> None:
    for entry in entries:
        if entry.pending is not None:
            found.append(entry.pending)
        for branch in entry.branches:
            _undos(branch, found)


def _state(node: Node) -> str:
    if node.unwinding is not None:
        found: list[Pending] = []
        _undos(node.undo, found)
        if found:
            return found[0].label
    if node.frames:
        return node.frames[-1].label
    return node.pending.label if node.pending is not None else ""
