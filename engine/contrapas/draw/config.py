"""`Config`, `Move` and their parts: where an instance may be, abstractly, and one step of the exploration, as values."""

from __future__ import annotations

from typing import Any, NamedTuple

from contrapas.draw.inflight import Flying
from contrapas.draw.native import Env, Value
from contrapas.draw.outcomes import Issued
from contrapas.errors import Cancelled, StepFailed

CANCELLED: Value = ("x", Cancelled, False)


class ScopeExpired(Cancelled):
    """The explorer's `Cancelled` of a scope whose time is over."""


EXPIRED: Value = ("x", ScopeExpired, False)
LATE_FAILED: Value = ("x", StepFailed, False, True)
UNDOABLE = frozenset({"done", "unknown"})
STEPS = frozenset({"command", "ask", "local", "all", "first", "frame"})


class At(NamedTuple):
    """One frame: a machine standing at an await."""

    machine: str
    site: int
    env: Env
    scopes: tuple[tuple[str, int], ...] = ()
    """(label, height of the undo stack) of each open scope."""


class Unwind(NamedTuple):
    """Taking back down to `floor`, then `resume` the await, `raise` out of the saga, or `end` (a kill)."""

    floor: int
    then: str
    raises: Value = None


class Failure(NamedTuple):
    """A failure that the saga has caught and not yet dealt with."""

    machine: str
    label: str
    line: int
    status: str
    """`failed` (definite), `unknown`, or empty: a wait that ran out."""
    raised: bool
    """As an exception; False: as a value (`s.ask`, `s.wait`)."""
    pivoted: bool
    effect: Any = None
    """What the step does elsewhere, if it does anything: the same effect asked again is equal to it."""
    answered: bool = False
    """Another step has succeeded since."""


class Config(NamedTuple):
    """An abstract configuration."""

    frames: tuple[At, ...] = ()
    stack: tuple[Issued, ...] = ()
    pivoted: bool = False
    deadline: bool = False
    cancelled: bool = False
    unwinding: Unwind | None = None
    late: frozenset[tuple[str, str]] = frozenset()
    """(machine, label) of steps whose reply may still come."""
    end: str = ""
    """Empty while it lives: `return OrderConfirmed`, `raise StepFailed`, `parked`, `killed`."""
    failed: tuple[Failure, ...] = ()
    emitted: frozenset[str] = frozenset()
    """Names of outcomes that were emitted already."""
    byhand: tuple[Issued, ...] = ()
    """Steps whose undo the saga has sent by hand, in that order."""
    flight: tuple[Flying, ...] = ()
    """What was begun and not yet met."""

    @property
    def limited(self) -> bool:
        """Whether it stands in a scope with a limit."""
        return any("|" in label for at in self.frames for label, _ in at.scopes)

    @property
    def top(self) -> At:
        """The innermost frame."""
        return self.frames[-1]


class Move(NamedTuple):
    """One step of the exploration."""

    kind: str
    """`start reply failure expiry limit cancel kill late undo undone end`; `limit`: the time of a scope is over."""
    machine: str
    label: str
    cause: str
    config: Config
    line: int = 0
    end_line: int = 0
    status: str = ""
    raised: bool = False
    """The operation raised StepFailed into the saga."""
    excepts: tuple[int, ...] = ()
    pivot: bool = False
    failure: bool = False
    bug: bool = False
    """Only an error in the saga's own code leads here."""
    facts: tuple[tuple[Any, ...], ...] = ()
    """What was remarkable on the way: `("pivot", line)` a second pivot, `("again", Failure)` an effect asked again while
    it may have happened, `("order", Issued)` an undo by hand before a newer one, `("twice", Issued)` both by hand and registered."""
