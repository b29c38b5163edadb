"""What the core is given from above, as values: machines, steps, types, inputs; and what a transition gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from contrapas.codec.messages import MessageType, StepType
from contrapas.core.empty import empty
from contrapas.core.envelope import Answered, Asked, Cause, InstanceRecord
from contrapas.core.order import Order
from contrapas.core.plans import Plan, StepPlan
from contrapas.core.size import LIMIT
from contrapas.machine import Machine

__all__ = ["UNREAD", "Input", "MessageType", "StepCall", "StepType", "Timer", "Transition", "Types", "World"]


class Types(Protocol):
    """The closed registry (`codec.registry`)."""

    @property
    def messages(self) -> Mapping[str, MessageType]:
        """Every event and command by registered name."""
        ...

    @property
    def steps(self) -> Mapping[str, StepType]:
        """Every `@step` by registered name."""
        ...

    def message_of(self, cls: type, /) -> MessageType:
        """By class; DataError CP402 for a class outside."""
        ...

    def dump_exception(self, exc: BaseException, /) -> str:
        """JSON text of an exception with its context (X2)."""
        ...

    def load_exception(self, text: str, /) -> BaseException:
        """Rebuilt by `cls.__new__`, never by its constructor; unknown types become `OpaqueError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything a transition may look at besides the record and the input. Pure data and pure functions,
    `ambient` excepted, which makes fresh values for the author's code."""

    namespace: str
    machines: Mapping[str, Machine]
    """Current machine by saga name."""
    types: Types
    modes: Mapping[str, tuple[str, str]]
    """saga -> (`orchestrate` | `observe`, on_late); sagas absent here are only called."""
    ambient: Callable[[Machine], tuple[Any, ...]]
    """Values for `machine.ambients`, made anew."""
    log: Callable[[str, str], Any] | None = None
    """(instance, state) -> the logger behind `s.log`."""
    links: Callable[[str, str, str, str, int], Any] | None = None
    """(instance, run, event type, body, until) -> a signed link (`author.link`)."""
    plans: dict[str, Plan] = field(default_factory=empty(dict[str, Plan]), compare=False, repr=False)
    """saga -> what the core works out of its machine, at first use."""
    unmatched: Mapping[str, str] = field(default_factory=empty(dict[str, str]))
    """Observing saga -> `count` or `adopt`: what becomes of an event whose start it never saw; absent: kept as early."""
    step_plans: dict[str, StepPlan] = field(
        default_factory=empty(dict[str, StepPlan]), compare=False, repr=False
    )
    """`@step` -> the same."""
    kept: Mapping[tuple[str, str], Machine] = field(default_factory=empty(dict[tuple[str, str], Machine]))
    """(saga, fingerprint) -> code of an earlier version that is kept for its instances."""
    older: dict[tuple[str, str], Mapping[str, Any]] = field(
        default_factory=empty(dict[tuple[str, str], Mapping[str, Any]]), compare=False, repr=False
    )
    """(saga, fingerprint) of other versions that the log holds -> label -> `core.moves.Move`."""
    judged: bool = False
    """Every version that records may name is in `older`: one that is not there cannot be continued."""
    record_max: int = LIMIT
    """Bytes of one record; less where the log takes less than it should."""


UNREAD: Final[Any] = object()
"""There is only the text: whoever wants the value reads it."""


@dataclass(slots=True, kw_only=True)
class Input:
    """One thing that happens to one instance, decoded and addressed."""

    cause: Cause
    instance: str
    at: int
    """ms of log time."""
    type: str = ""
    """Registered name of the event, reply or signal."""
    body: Any = None
    """The decoded model; of a `result`: JSON text of the value."""
    live: Any = UNREAD
    """Of a `result`: the value itself, if it is of a type whose values never change and come back exactly (R10)."""
    in_reply_to: str = ""
    """Idempotency key that a reply or result answers; empty: match by type and key."""
    outcome: str = "ok"
    """Of a reply or result: `ok`, `declined`, `error`; of `operate`: the verb (`cancel kill retry skip pause resume`)."""
    attempt: int = 0
    error: str = ""
    """Of a result that is no `ok`: the exception as JSON text."""
    reason: str = ""
    wait_id: str = ""
    timer: str = ""
    """Of a `timer`: its name as `Timer.name` said."""
    early: tuple[Cause, ...] = ()
    """Of a start: events of its key that were parked before it, oldest first; those it takes are collected."""
    early_digests: tuple[bytes, ...] = ()
    """`digest_of` each of them: those it takes are remembered as seen."""
    epoch: int = 0
    """Epoch of the owner that writes."""
    writer: str = ""
    position: str = ""
    """`source/partition`, to be remembered as applied up to `cause.offset`; empty: judged by its id alone."""
    digest: bytes = b""
    """`digest_of` the event, to be remembered as seen; empty: nothing to remember."""
    value: str = ""
    """Of a `deliver`: the value it met at. Of a `bound`: the same."""
    published: bool = True
    """What the record's `out` and `unsent` hold is known to be sent, or lies where nothing removes it; else it rides
    along in `unsent`."""
    map: str = ""
    """Of a `result`: key of the map that it is an item of, or that has ended."""
    item: int = -1
    """Its position there; -1: the map as a whole."""
    parent: str = ""
    """Of a start: the instance that begins a child, and its run. Of `operate`: who gives a child up."""
    maps: Mapping[str, Any] | None = None
    """Progress (`core.items`) of the maps that the instance waits for, by key."""
    ask: Asked | None = None
    """Of a command, and of a start by one: who asks."""
    undoes: str = ""
    """Of an undo command: id of the command that it takes back."""
    order: Order | None = None
    """Its number among those of its sender's partition, to be remembered; None: it has none."""
    sender: tuple[int, int] | None = None
    """The partition that sends what comes of it, and the number of the first message; None: nobody counts."""


class StepCall(NamedTuple):
    """A duty: run a local step once, after the commit. The result comes back as an `Input` of kind `result`."""

    instance: str
    key: str
    step: str
    attempt: int
    body: str
    """JSON text of (args, kwargs): the runner decodes its own copy."""
    timeout_ms: int
    label: str
    epoch: int
    live: Any = UNREAD
    """(args, kwargs) themselves, if all of them are of types whose values never change and come back exactly (R10)."""
    map: str = ""
    """Of an item: key of its map."""
    item: int = -1
    """Its position there."""
    undoes: str = ""
    """Of an undo: key of the step that it takes back."""


class Timer(NamedTuple):
    """One deadline of a record."""

    at: int
    name: str
    """`within:<key>`, `retry:<key>`, `sleep:<key>`, `deadline`, `late`, `bind`, `retention` …"""


@dataclass(slots=True, kw_only=True)
class Transition:
    """What became of one input."""

    record: InstanceRecord | None
    """The new record, version + 1; None: a duplicate, nothing is written."""
    steps: list[StepCall] = field(default_factory=empty(list[StepCall]))
    verdict: str = "applied"
    """`applied`, `kept`, `no-op`, `declined`, `duplicate`, `parked`, `refused` (CP412, 409), `dead` (goes to the dead letters)."""
    code: str = ""
    reason: str = ""
    tombstone: bool = False
    """The instance's retention ended: write a tombstone instead."""
    collected: list[str] = field(default_factory=empty(list[str]))
    """Ids of parked early events that a start took."""
    value: bytes = b""
    """The record as bytes, where it was encoded to see that it fits; empty: not yet."""
    told: list[tuple[Asked, Answered]] = field(default_factory=empty(list[tuple[Asked, Answered]]))
    """Answers for doors, to be told after the commit."""
