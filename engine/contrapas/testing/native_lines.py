"""Lines of execution of a run under test: virtual time, branches and joins, the same rules natively and compiled."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from contrapas.author.op import Op
from contrapas.author.timeout import Failed
from contrapas.errors import Cancelled, StepFailed
from contrapas.testing.differential_values import told

Path = tuple[int, ...]
"""Which line of execution: the root is (), the i-th branch of its n-th operation (n, i), and so on."""
STEPS_MAX = 400
"""A run with more operations is cut off, in both forms alike."""


class Ends(Protocol):
    """Who is told that a branch ended."""

    def ended(self, place: int, value: Any, error: BaseException | None, /) -> None:
        """It has its value or exception."""
        ...


@dataclass(slots=True)
class Run:
    """What a run did, in order, and how it ended."""

    told: list[Any] = field(default_factory=list[Any])
    """`("issue", path, number, operation)`, `("log", arguments, exception being handled)`."""
    value: Any = None
    error: Any = None
    effects: Any = None
    operations: int = 0
    transitions: int = 0
    states: list[str] = field(default_factory=list[str])
    cut: bool = False


class CutOff(BaseException):
    """The run was too long; it ends here in both forms."""


class Clock:
    """Virtual time: what is due, by time and line of execution."""

    def __init__(self) -> None:
        self.now = 0
        self._due: list[tuple[int, Path, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time: int, path: Path, act: Callable[[], None]) -> None:
        """Run `act` then."""
        self._count += 1
        heapq.heappush(self._due, (time, path, self._count, act))

    def run(self) -> None:
        """Until nothing is due."""
        while self._due:
            self.now, _, _, act = heapq.heappop(self._due)
            act()


class Line:
    """One line of execution: counts its operations, ends once."""

    def start(self) -> None:
        """Its first stretch."""
        raise NotImplementedError

    def __init__(self, path: Path, parent: Ends | None, place: int) -> None:
        self.path = path
        self.parent = parent
        self.place = place
        self.issued = 0
        self.ended = False
        self.generation: int = 0
        """Grows when what it waits for is given up, so that a late ending finds nobody."""

    def never(self) -> None:
        """It was given up before it began."""

    def cancel(self) -> None:
        """Give it up: `Cancelled` is thrown at its await."""
        raise NotImplementedError

    def adopt(self, line: Line) -> None:
        """A branch of `some` that goes on belongs to this line's function now, and its failure is ignored."""
        raise NotImplementedError

    def end(self, value: Any, error: BaseException | None) -> None:
        """Tell the join."""
        self.ended = True
        if self.parent is not None:
            self.parent.ended(self.place, value, error)


def branched(op: Op[Any]) -> Op[Any]:
    """A map over a saga as what it does: so many called sagas beside each other, whose results are a list."""
    if op.kind != "map" or not op.many.saga:
        return op
    items = tuple([Op[Any]("frame", op.name, ((copy.deepcopy(item),), {})) for item in op.value])
    made: Op[Any] = Op("all", op.name, children=items)
    made.listed, made.many = True, op.many
    return made


class Join:
    """Waiting for `all`, `first` or `some`: the same rules natively and compiled."""

    def __init__(
        self, op: Op[Any], resume: Callable[[Any, BaseException | None], None], owner: Line | None = None
    ) -> None:
        self.op = op
        self.resume = resume
        self.owner = owner
        self.lines: list[Line] = []
        self.values: list[Any] = [None] * len(op.children)
        self.errors: dict[int, BaseException] = {}
        self.order: list[int] = []
        self.given_up = False
        self.closed = False
        self.decided = -1
        """Of `some`: how many had ended when it was decided."""
        self.thrown = ""
        """The line that waits was cancelled."""
        self.begun = 0
        self.start: Callable[[Line], None] | None = None

    def open(self, start: Callable[[Line], None]) -> None:
        """Begin the branches: all of them, or of a map as many at a time as it says."""
        self.start = start
        self.more()

    def more(self) -> None:
        """Begin what may begin now."""
        many = self.op.many
        room = len(self.lines) if many is None or not many.concurrency else many.concurrency + len(self.order)
        while self.start is not None and not self.stopped and self.begun < min(room, len(self.lines)):
            self.begun += 1
            self.start(self.lines[self.begun - 1])

    @property
    def stopped(self) -> bool:
        """Of a map: an item failed, or it is given up, and nothing more begins."""
        many = self.op.many
        return many is not None and (self.given_up or (bool(self.errors) and not many.collect))

    def ended(self, place: int, value: Any, error: BaseException | None) -> None:
        """One branch ended."""
        self.order.append(place)
        self.values[place] = value
        if error is not None:
            self.errors[place] = error
        if self.op.kind == "some":
            self.enough()
        early = self.op.kind == "first" or (self.op.fail_fast and error is not None)
        if early and not self.given_up:
            self.give_up()
        self.more()
        self.settle()

    def give_up(self) -> None:
        """Cancel what has not ended."""
        self.given_up = True
        for line in self.lines if self.op.many is None else self.lines[: self.begun]:
            if not line.ended:
                line.cancel()
        self.settle()

    def enough(self) -> None:
        """Has `some` its successes, or are they out of reach?"""
        need, rest = self.op.value
        if (
            self.decided >= 0
            or self.thrown
            or len(self.order) - len(self.errors) < need <= (len(self.op.children) - len(self.errors))
        ):
            return
        self.decided = len(self.order)
        if rest == "cancel":
            self.give_up()
            return
        assert self.owner is not None
        for line in self.lines:
            if not line.ended:
                self.owner.adopt(line)
        self.finish()

    def settle(self) -> None:
        """Resume the parent when every branch has ended."""
        if len(self.lines) < len(self.op.children) or self.closed:
            return
        if len(self.order) >= (self.begun if self.stopped else len(self.lines)):
            self.finish()

    def finish(self) -> None:
        """What came of it."""
        if self.closed:
            return
        self.closed = True
        for line in self.lines[self.begun :]:
            line.never()
        if self.thrown:
            self.resume(None, Cancelled(self.thrown))
        elif self.op.kind == "first":
            winner = self.order[0]
            self.resume(self.values[winner], self.errors.get(winner))
        elif self.op.kind == "some":
            ended = self.order[: self.decided]
            good = [p for p in ended if p not in self.errors]
            need = self.op.value[0]
            if len(good) >= need:
                self.resume([(p, self.values[p]) for p in good[:need]], None)
            else:
                self.resume(None, self.errors[[p for p in ended if p in self.errors][-1]])
        elif self.op.many is not None:
            self.resume(*self._mapped())
        elif self.errors:
            given = [p for p in self.order if p in self.errors]
            place = given[0] if self.op.fail_fast else min(given)
            self.resume(None, self.errors[place])
        else:
            self.resume(list(self.values) if self.op.listed else tuple(self.values), None)

    def _mapped(self) -> tuple[Any, BaseException | None]:
        """What a map gives. An item that was cancelled alone has failed; what leaves it else is a bug, not a value."""
        for place, why in self.errors.items():
            if isinstance(why, Cancelled):
                self.errors[place] = StepFailed(str(why), step=f"item {place}")
        bugs = [p for p, why in self.errors.items() if not isinstance(why, StepFailed)]
        if bugs or (self.errors and not self.op.many.collect):
            return None, self.errors[min(bugs or self.errors)]
        failed = {
            p: Failed(reason=why.reason, unknown=why.unknown)
            for p, why in self.errors.items()
            if isinstance(why, StepFailed)
        }
        return [failed.get(p, value) for p, value in enumerate(self.values)], None


def issued(run: Run, line: Line, op: Op[Any], undoing: Any, script: Any) -> int:
    """Note an operation; its number on its line of execution."""
    line.issued += 1
    run.operations += 1
    if run.operations > STEPS_MAX:
        raise CutOff
    run.told.append(("issue", line.path, line.issued, told(op, undoing, script.sample)))
    return line.issued
