"""`Work`: one transition being computed. It owns the copy of the record, the duties, and what is still to be resumed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from contrapas.author.flight import Pending as Handle
from contrapas.author.link import Link, Linker
from contrapas.author.op import Op, copied
from contrapas.author.saga import Activation, Saga
from contrapas.core import messages, order
from contrapas.core.copies import copy_cause, copy_frame, copy_node, copy_record
from contrapas.core.envelope import (
    Answered,
    Asked,
    Begun,
    Cause,
    Frame,
    InstanceRecord,
    Node,
    Parked,
    Pending,
)
from contrapas.core.fresh import fresh_call
from contrapas.core.partition import ITEM
from contrapas.core.plans import Plan, StepPlan, plan_of
from contrapas.core.world import UNREAD, Input, MessageType, StepCall, World
from contrapas.errors import BugError

RESUME: Final = 0
JOIN: Final = 1
START: Final = 2
LOOK: Final = 3
FATAL: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)
"""X6: these abort the transition and are never stored."""


class Unfit(Exception):
    """CP312: this worker has no code for where the instance stands."""


class SagaBug(Exception):
    """X5: an exception that is no `StepFailed` and no `Cancelled` left the saga."""

    def __init__(self, why: BaseException, *, code: str = "CP847") -> None:
        super().__init__(why)
        self.why = why
        self.code = code
        """CP704: a failure after the point of no return."""


class Line:
    """A line of execution and those above it, the root first."""

    __slots__ = ("begun", "node", "nodes", "place", "suffix", "up")

    def __init__(
        self,
        nodes: tuple[Node, ...],
        suffix: str = "",
        up: Line | None = None,
        place: int = -1,
        begun: Begun | None = None,
    ) -> None:
        self.nodes = nodes
        self.node = nodes[-1]
        """The line's own node."""
        self.suffix = suffix
        """Positions in the joins above: `[0][1]`."""
        self.up = up
        self.place = place
        self.begun = begun
        """What it is in flight as; None for the root and the branches of joins."""

    @property
    def parent(self) -> Line:
        """The line whose join this one is a branch of, or that began it."""
        assert self.up is not None
        return self.up

    def child(self, position: int) -> Line:
        """A branch of this line's join; one that other records share becomes this record's own."""
        join = self.nodes[-1].join
        assert join is not None
        node = join.children[position]
        if node.raw:
            node = join.children[position] = copy_node(node)
        return Line((*self.nodes, node), f"{self.suffix}[{position}]", up=self, place=position)

    def flight(self, begun: Begun) -> Line:
        """A branch that one of this line's frames began."""
        return Line((*self.nodes, begun.node), begun.suffix, up=self, begun=begun)

    @property
    def position(self) -> int:
        """Which branch of its parent this is."""
        return self.place

    @property
    def saga(self) -> str:
        """The function whose code wrote the operation that this line does now."""
        line: Line | None = self
        while line is not None:
            if line.node.frames:
                return line.node.frames[-1].saga
            if line.begun is not None:
                return line.begun.saga
            line = line.up
        return ""


class Stretch(Activation):
    """An activation that makes its logger when the code asks for it, which most stretches do not."""

    __slots__ = ("_given", "_links", "_make", "_record", "line", "suffix", "work")

    def __init__(
        self,
        record: InstanceRecord,
        make: Callable[[str, str], Any] | None,
        links: Callable[[str, str, str, str, int], Link] | None = None,
    ) -> None:
        self._links = links
        self.key = record.key.partition(ITEM)[0] if record.map else record.key
        self.instance = record.instance
        self.effects = []
        self._given: Any = None
        self._make = make
        self._record = record
        self.work: Work | None = None
        self.suffix = ""
        """Positions of the line that runs."""
        self.line: Line | None = None
        """The line that runs; None: the only one there is."""

    @property
    def run(self) -> str:
        """The instance's run."""
        return self._record.run

    @property
    def linker(self) -> Linker | None:
        """What signs links, for this run."""
        links, record = self._links, self._record
        if links is None:
            return None
        return lambda instance, name, body, ms: links(instance, record.run, name, body, record.at + ms)

    def begin(self, op: Op[Any], /) -> Handle[Any]:
        """Issue an operation when the stretch in hand is over."""
        assert self.work is not None
        handle: Handle[Any] = Handle(op.label, self.work.visit(op.label, self.suffix))
        self.effects.append(("begin", handle, copied(op)))
        return handle

    def told(self) -> str:
        """Told in this transition, numbered over all its stretches. It names the run: a record that was cleared or let go
        counts versions anew, and what takes a command by its id would take the next one for a repetition."""
        return f"{self.instance}@{self.run}.{self._record.version}#t{self._tells()}"

    def _tells(self) -> int:
        said = sum(1 for e in self.effects if e[0] == "tell")
        if self.work is None:  # the straight path has one stretch
            return said
        return self.work.told_before + said

    def cancel(self, pending: Handle[Any], /) -> None:
        """Give up an operation in flight when the stretch in hand is over."""
        self.effects.append(("cancel", pending))

    @property
    def logger(self) -> Any:
        """What stands behind `s.log`."""
        if self._given is None and self._make is not None:
            self._given = self._make(self.instance, self._record.state)
        return self._given

    @logger.setter
    def logger(self, given: Any) -> None:
        self._given = given


Todo = tuple[int, Line, Any, BaseException | None]


class Work:
    """A transition in the making."""

    __slots__ = (
        "activation",
        "alive",
        "ambients",
        "at",
        "event",
        "fresh",
        "kept_answers",
        "labels",
        "live",
        "observe",
        "record",
        "root",
        "saga",
        "steps",
        "stretches",
        "todo",
        "told",
        "told_before",
        "types",
        "unissued",
        "world",
    )

    def __init__(self, record: InstanceRecord, event: Input, world: World) -> None:
        self.record = record
        self.event = event
        self.world = world
        self.types = world.types
        self.at = event.at
        self.observe = record.mode == "observe"
        self.root = Line((record.root,))
        self.steps: list[StepCall] = []
        self.todo: deque[Todo] = deque()
        self.labels: dict[str, int] = {}
        self.fresh: dict[int, dict[str, Any]] = {}
        """Arguments of frames that have not begun, by identity of the frame."""
        self.live: dict[tuple[int, str], BaseException] = {}
        """Handled exceptions decoded in this transition, by (frame, slot): one object stays one."""
        self.kept_answers: list[tuple[Line, Pending, Cause]] = []
        """Operations whose answer the record holds already."""
        self.alive: list[Frame] = []
        """Frames that `live` knows by identity: no other may get theirs."""
        self.stretches = 0
        self.told: list[tuple[Asked, Answered]] = []
        """Answers for doors."""
        self.told_before = 0
        """Messages told one way in the stretches that are over."""
        self.ambients: dict[str, tuple[Any, ...]] = {}
        self.unissued: dict[int, tuple[Begun, Op[Any]]] = {}
        """What was begun in the stretch in hand and is to start after it, by identity."""
        self.activation = Stretch(record, world.log, world.links)
        self.activation.work = self
        self.saga = Saga(self.activation)

    def resume(self, line: Line, value: Any = None, thrown: BaseException | None = None) -> None:
        """Let a line go on once what is being done here is done."""
        self.todo.append((RESUME, line, value, thrown))

    def now(self, line: Line, value: Any = None, thrown: BaseException | None = None) -> None:
        """Let a line go on before anything else: it did not wait."""
        self.todo.appendleft((RESUME, line, value, thrown))

    def start(self, line: Line, op: Op[Any]) -> None:
        """Issue what was begun, once its parent's stretch is over."""
        self.todo.append((START, line, op, None))

    def look(self, line: Line) -> None:
        """Look whether a line waits for what it has in flight: some of it ended."""
        self.todo.append((LOOK, line, None, None))

    def rejoin(self, line: Line) -> None:
        """Look at a line's join again: a branch of it ended."""
        self.todo.append((JOIN, line, None, None))

    def plan(self, frame: Frame) -> Plan:
        """Code for a frame; Unfit if this worker has none."""
        if self.world.kept and (frame.saga, frame.graph) in self.world.kept:
            return plan_of(self.world.kept[(frame.saga, frame.graph)])
        machine = self.world.machines.get(frame.saga)
        plan = self.world.plans.get(frame.saga)
        if plan is None or plan.machine is not machine:
            if machine is None:
                raise Unfit(f"no saga {frame.saga!r} here")
            plan = self.world.plans[frame.saga] = plan_of(machine)
        return plan

    def step_plan(self, name: str) -> StepPlan:
        """What is known of a step; Unfit if this worker has none."""
        step = self.types.steps.get(name)
        plan = self.world.step_plans.get(name)
        if plan is None or plan.step is not step:
            if step is None:
                raise Unfit(f"no step {name!r} here")
            plan = self.world.step_plans[name] = StepPlan(step)
        return plan

    def type_of(self, message: Any) -> MessageType:
        """The registered type of an event or command; DataError CP402 for one outside."""
        cls: Any = message.__class__
        return self.types.message_of(cls)

    def mint(self, label: str, suffix: str = "") -> str:
        """The idempotency key of an operation issued now (R2)."""
        record = self.record
        return f"{record.instance}/{record.run}/{label}{suffix}/{self.visit(label, suffix)}"

    def visit(self, label: str, suffix: str = "") -> str:
        """The version of this transition, numbered where it issues a label again."""
        name = f"{label}{suffix}"
        seen = self.labels.get(name)
        self.labels[name] = 0 if seen is None else seen + 1
        return f"{self.record.version}" if seen is None else f"{self.record.version}.{seen + 1}"

    def key(self, line: Line, label: str) -> str:
        """The key of an operation that a line issues: of one that was begun, what its handle says."""
        begun = line.begun
        if begun is None or line.node.frames:
            return self.mint(label, line.suffix)
        return f"{self.record.instance}/{self.record.run}/{label}{line.suffix}/{begun.visit}"

    def same(self, frame: Frame) -> Frame:
        """A copy of a frame, known under the same decoded exceptions."""
        new = copy_frame(frame)
        for (ident, name), live in list(self.live.items()):
            if ident == id(frame):
                self.live[(id(new), name)] = live
                self.alive.append(new)
        return new

    def send_command(self, pending: Pending) -> None:
        """Put a command among what leaves."""
        self.record.out.append(messages.command(self.record, pending, self.world, self.at))

    def send_event(self, mt: MessageType, body: str, key: str) -> None:
        """Put an event among what leaves; an observer publishes none."""
        if not self.observe:
            self.record.out.append(messages.event(self.record, mt, body, key, self.world, self.at))

    def send_rendezvous(self, kind: str, value: str, body: str) -> None:
        """Put a rendezvous message among what leaves."""
        self.record.out.append(messages.rendezvous(self.record, kind, value, body))

    def call_step(self, pending: Pending) -> None:
        """Have a local step run after the commit."""
        self.steps.append(step_call(self.record, pending, self.world))

    def note(self, text: str) -> None:
        """Say in the record what became of the event."""
        cause = self.record.cause = copy_cause(self.record.cause)
        cause.note = f"{cause.note}; {text}" if cause.note else text

    def park(self, code: str, reason: str, error: str) -> None:
        """Stop the instance visibly; what was computed stands."""
        if self.record.parked is None:
            self.record.parked = Parked(reason=reason, code=code, error=error[:8000])


def step_call(record: InstanceRecord, pending: Pending, world: World) -> StepCall:
    """The duty to run a pending local step once."""
    step = world.types.steps.get(pending.name)
    if step is None:
        raise Unfit(f"no step {pending.name!r} here")
    return fresh_call(record, pending, step.timeout_ms, UNREAD)


def next_record(record: InstanceRecord, event: Input) -> InstanceRecord:
    """The record's successor before anything happened: version, owner, cause, dedupe memory. The cause is the input's
    own: who notes something on it copies it first."""
    new = copy_record(record)
    new.version = record.version + 1
    new.epoch = event.epoch
    new.writer = event.writer
    new.at = event.at
    new.cause = event.cause
    new.unsent = [] if event.published else [*record.unsent, *record.out]
    if event.position or event.digest:
        remember(new, event)
    return new


SEEN_MAX: Final = 64


def remember(record: InstanceRecord, event: Input) -> None:
    """Keep position, number and id of an applied event, the newest ones; the memory is replaced, not changed."""
    if event.position or event.digest:
        record.memory = b""
    if event.position:
        positions = record.positions = dict(record.positions)
        order.remember(positions, event.position, event.cause.offset, event.order)
    if event.digest:
        if len(event.digest) != 16:
            raise BugError("CP901", f"a digest has {len(event.digest)} bytes, not 16")
        record.seen = [*record.seen[1 - SEEN_MAX :], event.digest]
