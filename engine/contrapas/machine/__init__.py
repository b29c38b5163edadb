"""What the compiler produces and everybody else reads: frozen values, no I/O, no clock, nothing above `errors`.

The generated function of a machine, and how the core calls it
--------------------------------------------------------------

    function(pc, value, thrown, slots, s, *ambients) -> (AWAIT, index, op, slots) | (DONE, result)

pc: 0 at the start (`slots` then holds the parameters by name, without `s` and the ambients), else the `State.index` to
resume from. value: what the awaited operation gave. thrown: an exception to raise at the await instead, or None.
slots: name -> value; on the way in every *touched* slot that is bound (already decoded), on the way out every slot that
is bound and touched. What the code between here and its next awaits cannot touch is not passed in either direction: the
caller keeps its bytes, as far as the new state lists the slot. (At the start every parameter counts as touched.) s: the `Saga` of this activation; immediate calls (`s.emit`) append to it in program order.
ambients: values for `Machine.ambients`, in that order. An exception that leaves the function left the saga.

The caller calls the function of a *called* saga inside a real `except` of the exception that the calling state is
handling (the innermost bound slot of `State.handling`), so that chaining and `sys.exc_info()` are as in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

AWAIT: Final = 1
DONE: Final = 0

ROLES: Final = ("local", "iter", "pend", "ret", "exc", "arg", "acc", "var", "subj", "par")
"""What a slot is for; all but `local` are hidden: made by the compiler, named stably, never by ordinal."""

KINDS: Final = (
    "command",  # s.step(Command(...)): the success reply, or StepFailed
    "ask",  # s.ask(Command(...)): either reply, or Timeout, as a value
    "local",  # await fn(...), s.step(fn(...)): a @step
    "wait",  # s.wait(A, B)
    "sleep",
    "all",
    "first",
    "child",  # s.child(other, event): an instance of its own
    "map",  # s.map(fn, items): a step for each
    "frame",  # await other(s, ...)
    "some",  # s.some(k, ...)
    "begin",  # s.begin(op): nothing stands there, its operation is in flight
    "result",  # await handle
    "next",  # s.next(a, b)
    "join",  # the end of a scope or function waits for what it began (made by the compiler)
    "compensate",  # s.compensate()
    "cancel",  # s.cancel(other, key): another instance
    "unwind",  # a scope that failed takes back what was done in it (made by the compiler)
)


class SlotCodec(Protocol):
    """Values of one slot to JSON text and back; equal values give equal text (`codec`)."""

    def dump(self, value: Any, /) -> str:
        """JSON text. DataError CP202 or CP843 names the path of what does not fit."""
        ...

    def load(self, text: str, /) -> Any:
        """The value, built anew at each call. DataError CP403 when the text does not fit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place where an instance keeps a value across awaits."""

    name: str
    """The local's name, or the stable name of a hidden one (`iter.lines`, `arg.ChargeCard.order_id`)."""
    role: str = "local"
    type_text: str = ""
    """The type as people write it; it goes into fingerprints and the lock file."""
    codec: SlotCodec | None = None
    """None: the value cannot be stored; it may only be dead at every await."""
    frozen: bool = False
    """Values of this type never change: bytes of an untouched-in-fact value may be kept, decoded values shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A place where an instance may stand: one await."""

    label: str
    kind: str
    index: int
    """What the generated function returns here and takes to resume; never stored: records hold labels. From 1."""
    operation: str
    """For people and the lock file: `step ReserveStock`, `wait Approved|Rejected`."""
    replies: tuple[str, ...] = ()
    """Registered names of what may settle the operation, success first."""
    slots: tuple[str, ...] = ()
    """Every slot that may be bound here, in lock-file order."""
    touches: frozenset[str] = frozenset()
    """Slots that the code from here to the next awaits can read, bind or delete; the others stay bytes."""
    needs: frozenset[str] = frozenset()
    """Slots that are certainly bound here and live: a record of other code that lacks one does not fit (C2, CP312)."""
    handling: tuple[str, ...] = ()
    """Hidden slots that may hold an exception being handled, innermost last."""
    shared: tuple[tuple[str, ...], ...] = ()
    """Groups of slots that may hold one object between them; each group is encoded together."""
    regions: tuple[str, ...] = ()
    scope_depth: int = 0
    into_type: str = ""
    within: str = ""
    """`within=` as written, when constant: for the diagram (`30s`)."""
    forever: bool = False
    """`retry=FOREVER`, known at compile time: no failure edge."""
    path: str = ""
    """Control path, for the alignment of labels (`try/if.then`)."""
    line: int = 0
    shape: str = ""
    """Fingerprint of the state."""
    takes: tuple[str, ...] = ()
    """Registered event types that are applied *now* when the instance stands here (waits; replies go by key)."""
    live: frozenset[str] = frozenset()
    """Slots that may be read after it; `needs` are those of them that are bound for certain."""
    sure: frozenset[str] = frozenset()
    """Slots that a record of this machine holds here for certain."""
    next: tuple[str, ...] = ()
    """Labels of the awaits that may come next."""
    reach: str = ""
    """Fingerprint of all code that can be reached from here."""
    steps: tuple[str, ...] = ()
    """Registered names of the local steps it issues, those of a join's branches included."""
    calls: tuple[str, ...] = ()
    """Registered names of the sagas that run as frames above it, or as instances of their own."""
    undos: tuple[str, ...] = ()
    """Labels of the compiled undos that it may put on the stack."""
    takes_back: tuple[str, ...] = ()
    """Names of the commands and steps that are put on the stack ready to be issued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """An `undo=lambda ok: ...` compiled to a state of its own."""

    label: str
    """`undo(ChargeCard)`"""
    of: str
    needs_reply: bool
    captures: tuple[Slot, ...]
    function: Callable[[Mapping[str, Any], Any, Any], Any]
    """(captured name -> value, reply or None, s) -> Op of kind `command` or `local`, or a Command instance."""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One arrow of the diagram: from a state (or `START`) to a state or an outcome."""

    source: str
    target: str
    """A state's label, `return OrderConfirmed`, `raise StepFailed`, `compensate` …"""
    cause: str
    """A reply's name, `after 30s`, `failure`, `cancel` …"""
    failure: bool = False
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A compiled saga."""

    name: str
    """Registered name: the function's, or `name=`."""
    graph: str
    """Fingerprint of the whole machine, equal across Python versions and formatting."""
    params: tuple[Slot, ...]
    """Parameters after `s`, without ambients; the first takes the start event."""
    ambients: tuple[tuple[str, Any], ...] = ()
    """(parameter name, its type or Depends marker), supplied anew at each activation."""
    starts: tuple[str, ...] = ()
    """Registered event types that start an instance; empty for a saga that is only called."""
    result: SlotCodec | None = None
    """Codec of the return annotation, for frames and outcomes."""
    outcomes: tuple[str, ...] = ()
    """Registered names of the events it may return."""
    states: Mapping[str, State] = field(default_factory=dict[str, State])
    by_index: tuple[State | None, ...] = ()
    slots: Mapping[str, Slot] = field(default_factory=dict[str, Slot])
    undos: Mapping[str, Undo] = field(default_factory=dict[str, Undo])
    later: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """label -> event types that a state ahead waits for: kept on the instance until then (START: at birth)."""
    blocks: tuple[Any, ...] = ()
    """The IR (`machine.ir`), for the checker and the diagram; the runtime never reads it."""
    program: Any = None
    """The `machine.ir.Program` that the blocks are of: sites, undos, namespace; for the checker and the diagram too."""
    edges: tuple[Edge, ...] = ()
    function: Callable[..., tuple[Any, ...]] | None = None
    bind: Callable[..., dict[str, Any]] | None = None
    """The author's signature without `s` and the ambients: arguments of a call -> parameters by name, or TypeError."""
    native: Callable[..., Any] | None = None
    """The author's coroutine function, for the native runner."""
    deadline_ms: int | None = None
    late_replies_ms: int = 24 * 3600 * 1000
    retention_ms: int = 30 * 24 * 3600 * 1000
    file: str = ""
    line: int = 0
    text: Callable[[], str] | None = None
    types: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the codecs of slots, captures and steps read (`codec.forms`), by type text, `arguments of NAME`, `result of NAME`."""
    exits: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Slot of a `finally` -> names of the exits that may be pending in it."""
    positions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Slot of a cursor that stores only a position -> the local whose items it counts."""
    stored: frozenset[str] = frozenset()
    """Of a machine without its code: slots that have a codec."""
    again: str = "refuse"
    """What a further start event does to a key that is taken: `refuse deliver restart skip`."""
    show: Any = None
    """The model class that `s.show` takes; None: any."""
    adopt: Callable[[Any], Any] | None = None
    """Of an observed saga: the start event for a run of which this event is the first that is seen."""
    queue: int = 0
    """Of an entity: so many calls may wait for their turn; 0: as many events as any saga keeps."""
    entity: Any = None
    """The class of which this takes one call after the other."""
    migrate: Any = None
    """`migrate=` of its definition: a mapping of labels, or a function; it stays with the code."""

    @property
    def generated(self) -> str:
        """The generated Python, for reading only."""
        return "" if self.text is None else self.text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a definition is not accepted, or a warning about it."""

    code: str
    text: str
    fix: str
    file: str
    line: int
    column: int
    """From 1, as editors count."""
    source: str = ""
    """The line itself, for the caret."""
    warning: bool = False
    story: tuple[tuple[str, str, str], ...] = ()
    """Of a checker's finding: (what, how it went, line text)."""

    @property
    def place(self) -> str:
        """`file:line:column`."""
        return f"{self.file}:{self.line}:{self.column}"
