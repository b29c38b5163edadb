"""Operations in flight under test: what is begun, awaited, given up, ended with its scope; the same rules in both forms.

The core has rules of its own for all this (`core.flight`, `core.limits`); these are written without looking at those, so
that lowering is compared with the coroutine and not with itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import CellType, FunctionType
from typing import Any

from contrapas.author.duration import duration_text
from contrapas.author.flight import Pending
from contrapas.author.limits import scoped
from contrapas.author.op import Op, copied
from contrapas.errors import Cancelled, StepFailed
from contrapas.testing.native_lines import Ends, Join, Line, Path, issued

Answer = tuple[Any, BaseException | None]


@dataclass(slots=True, eq=False)
class Scope:
    """One open scope of a function."""

    reason: str = ""
    """`timeout after 10m`; empty: not limited."""
    expired: bool = False
    off: bool = False
    """Its limit counts no more."""


@dataclass(slots=True, eq=False)
class Spot:
    """One activation of a function: its open scopes, and what it began."""

    scopes: list[Scope] = field(default_factory=list[Scope])
    begun: list[Flying] = field(default_factory=list["Flying"])


@dataclass(slots=True, eq=False)
class Flying:
    """One operation in flight; told when its line ends."""

    owner: Flyer
    handle: Pending[Any]
    depth: int
    idle: bool
    line: Any = None
    order: int = 0
    """When it ended; 0: in flight."""
    value: Any = None
    error: BaseException | None = None
    given: str = ""

    def ended(self, place: int, value: Any, error: BaseException | None) -> None:
        """Its line has its value or exception."""
        self.owner.over += 1
        self.order, self.value, self.error = self.owner.over, value, error
        if self.given == "ignored":
            for spot in self.owner.spots:
                spot.begun = [f for f in spot.begun if f is not self]
        self.owner.noticed()


@dataclass(slots=True, eq=False)
class Closing:
    """The end of a scope or function, under way."""

    failed: bool
    scope: Scope | None
    mine: list[Flying]
    cancel: str = ""
    busy: bool = False
    done: bool = False


class Effects(list[tuple[Any, ...]]):
    """What is said without await; scopes that are entered and left are told to the line that runs."""

    def __init__(self, line: Callable[[], Flyer | None]) -> None:
        super().__init__()
        self.line = line

    def append(self, effect: tuple[Any, ...], /) -> None:
        """Note it."""
        line = self.line()
        if effect[0] == "kill":
            if line is not None:
                line.kill_own()
            return
        super().append(effect)
        if line is None or not line.spots:
            return
        if effect[0] == "enter":
            line.entered(effect)
        elif effect[0] == "leave":
            line.spots[-1].scopes.pop()


class Flyer(Line):
    """A line of execution whose functions begin operations. The two forms say how it starts, goes on and dies."""

    def __init__(self, host: Any, path: Path, parent: Ends | None, place: int, op: Op[Any] | None) -> None:
        super().__init__(path, parent, place)
        self.host = host
        self.op = op
        self.spots: list[Spot] = []
        self.waits: Join | None = None
        self.waiting: tuple[str, list[Flying]] | None = None
        self.closing: Closing | None = None
        self.unwinding: str = ""
        self.recorded = ""
        self.started = False
        self.over = 0
        self.count = 0
        self.limits = 0
        self.limit: Scope | None = None

    # -- what the two forms say ------------------------------------------------------------------------------

    def spawn(self, path: Path, parent: Ends, op: Op[Any]) -> Flyer:
        """A line beside this one."""
        raise NotImplementedError

    def first(self) -> None:
        """The first stretch."""
        raise NotImplementedError

    def go(self, value: Any, error: BaseException | None) -> None:
        """The next stretch."""
        raise NotImplementedError

    def never(self) -> None:
        """It was given up before it began."""

    def die(self) -> None:
        """It is never resumed."""

    # -- going on --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The first stretch, unless it was given up before."""
        if self.started or self.ended:
            return
        self.started = True
        op = self.op
        if op is not None and scoped(op) and op.within_ms is not None:
            self.limit = Scope(reason=f"timeout after {duration_text(op.within_ms)}")
            op.within_ms = None
            self._expires(lambda: self._expire_whole())
        self.first()

    def due(self, time: int, value: Any, error: BaseException | None) -> None:
        """Go on then, unless what it waits for was given up."""
        self._later(time, lambda: (value, error))

    def _later(self, time: int, answer: Callable[[], Answer]) -> None:
        generation = self.generation

        def act() -> None:
            if generation == self.generation and not self.ended:
                self.go(*answer())

        self.host.clock.at(time, self.path, act)

    def resumed(self, value: Any, error: BaseException | None) -> Answer:
        """What an await gives, at the moment when it gives it."""
        self.generation += 1
        self.waits = self.waiting = self.closing = None
        word, self.unwinding = self.unwinding, ""
        if word:
            said, self.recorded = self.recorded, ""
            scope = self.spots[-1].scopes[-1] if self.spots and self.spots[-1].scopes else None
            if said:
                return None, Cancelled(said)
            if word == "unwind" and scope is not None and scope.expired:
                return None, StepFailed(scope.reason, step="scope")
        return value, error

    def end(self, value: Any, error: BaseException | None) -> None:
        """Its end; of a branch with a limit that expired, the timeout."""
        if self.limit is not None and self.limit.expired:
            value, error = None, StepFailed(self.limit.reason, step="branch")
        super().end(value, error)

    def cancel(self) -> None:
        """Give it up."""
        self._all_off()
        self.interrupt("given up")

    def interrupt(self, reason: str) -> None:
        """Throw `Cancelled` at its await, or once what must end first has ended."""
        if self.ended:
            return
        if not self.started:
            self.never()
            self.end(None, Cancelled(reason))
        elif self.closing is not None and not self.closing.done:
            self.closing.cancel = self.closing.cancel or reason
            self.closing.failed = True
            self.noticed()
        elif self.unwinding:
            self.recorded = self.recorded or reason
        elif self.waits is not None and not self.waits.closed:
            self.waits.thrown = self.waits.thrown or reason
            self.waits.give_up()
        else:
            self.generation += 1
            self.waiting = None
            self.due(self.host.clock.now, None, Cancelled(reason))

    def kill(self) -> None:
        """End it where it stands."""
        if self.ended:
            return
        self.ended = True
        self.generation += 1
        for spot in self.spots:
            for flying in spot.begun:
                flying.line.kill()
        if self.waits is not None:
            for line in self.waits.lines:
                if isinstance(line, Flyer):
                    line.kill()
        self.die()

    # -- functions and scopes ----------------------------------------------------------------------------------

    def enter(self) -> None:
        """A function begins on this line."""
        self.spots.append(Spot())

    def leave(self) -> None:
        """It ends."""
        self.spots.pop()

    def own(self) -> list[Flying]:
        """Begun in the innermost open scope, or in the function."""
        spot = self.spots[-1]
        return [f for f in spot.begun if f.depth >= len(spot.scopes)]

    def joins(self) -> bool:
        """Must the end of the innermost scope or function look after something?"""
        scopes = self.spots[-1].scopes
        return bool(self.own()) or bool(scopes and scopes[-1].reason)

    def kill_own(self) -> None:
        """A bug leaves the scope."""
        for flying in self.own():
            flying.line.kill()
            self._taken(flying)

    def entered(self, effect: tuple[Any, ...]) -> None:
        """A scope is opened."""
        scope = Scope()
        spot = self.spots[-1]
        spot.scopes.append(scope)
        if len(effect) > 2:
            scope.reason = f"timeout after {duration_text(effect[2] or 0)}"
            self._expires(lambda: self._expire(spot, scope))

    def _expires(self, act: Callable[[], None]) -> None:
        self.limits += 1
        delay = self.host.script.expiry(self.path, self.limits)
        if delay is not None:
            self.host.clock.at(self.host.clock.now + delay, self.path, act)

    def _expire(self, spot: Spot, scope: Scope) -> None:
        gone = self.ended or spot not in self.spots or scope not in spot.scopes
        if gone or scope.off or scope.expired:
            return
        scope.expired = True
        at, depth = self.spots.index(spot), spot.scopes.index(scope)
        for number, inner in enumerate(self.spots[at:]):
            floor = depth if number == 0 else -1
            for other in inner.scopes[floor + 1 :]:
                other.off, other.expired = True, False
            for flying in inner.begun:
                if flying.depth > floor:
                    flying.line._all_off()
        self._branches_off()
        self.interrupt(scope.reason)

    def _expire_whole(self) -> None:
        if self.limit is not None and not self.ended and not self.limit.off:
            self.limit.expired = True
            keep = self.limit
            self._all_off()
            keep.off = False
            self.interrupt(keep.reason)

    def _all_off(self) -> None:
        if self.limit is not None:
            self.limit.off = True
        for spot in self.spots:
            for scope in spot.scopes:
                scope.off, scope.expired = True, False
            for flying in spot.begun:
                flying.line._all_off()
        self._branches_off()

    def _branches_off(self) -> None:
        for line in self.waits.lines if self.waits is not None else ():
            if isinstance(line, Flyer):
                line._all_off()

    def unwinds(self, op: Op[Any]) -> None:
        """What is taken back is taken back to the end; a scope that is left has no limit any more."""
        self.unwinding = op.kind
        scopes = self.spots[-1].scopes
        if op.kind == "unwind" and scopes and not scopes[-1].expired:
            scopes[-1].off = True

    # -- operations in flight ----------------------------------------------------------------------------------

    def begin(self, op: Op[Any]) -> Pending[Any]:
        """Issue an operation when this stretch is over."""
        spot = self.spots[-1]
        self.count += 1
        handle: Pending[Any] = Pending(op.name, f"{self.path}.{self.count}")
        flying = Flying(self, handle, len(spot.scopes), op.kind in ("wait", "sleep"))
        op = _fixed(copied(op))
        op.label = ""
        flying.line = self.spawn((*self.path, 0, self.count), flying, op)
        spot.begun.append(flying)
        self.host.clock.at(self.host.clock.now, flying.line.path, flying.line.start)
        return handle

    def adopt(self, line: Line) -> None:
        """The rest of `some` goes on."""
        owner: Any = self
        while not owner.spots:
            owner = owner.parent.owner
        self.over += 1
        flying = Flying(owner, Pending("some", f"{line.path}"), len(owner.spots[-1].scopes), idle=False)
        flying.given, flying.line = "ignored", line
        line.parent = flying
        owner.spots[-1].begun.append(flying)

    def hand_back(self, handle: Pending[Any]) -> None:
        """`pending.cancel()`."""
        flying = self._find(handle)
        if flying is not None:
            self._give(flying, "cancelled")

    def flight(self, op: Op[Any], undoing: Any) -> Answer | None:
        """`await pending`, `s.next`, the end of a scope: known at once, or None: the line waits."""
        if op.kind == "join":
            return self._join(op, undoing)
        handles = [op.value] if op.kind == "result" else list(op.value)
        found = [self._find(handle) for handle in handles]
        if any(f is None for f in found):
            return None, RuntimeError("awaited already")
        flights = [f for f in found if f is not None]
        if any(f.order for f in flights):
            return self._answer(op.kind, flights)
        number = issued(self.host.run, self, op, undoing, self.host.script)
        self.waiting = (op.kind, flights)
        ending = self.host.script.interrupt(self.path, number, op)
        if ending is not None:
            self.due(self.host.clock.now + ending.delay, ending.value, ending.error)
        return None

    def _answer(self, kind: str, flights: list[Flying]) -> Answer:
        flying = min([f for f in flights if f.order], key=lambda f: f.order)
        if kind == "next":
            return flying.handle, None
        self._taken(flying)
        if flying.given:
            return None, StepFailed("cancelled", step="begun")
        return flying.value, flying.error

    def _find(self, handle: Any) -> Flying | None:
        return next((f for f in self.spots[-1].begun if f.handle == handle and f.given != "ignored"), None)

    def _taken(self, flying: Flying) -> None:
        for spot in self.spots:
            spot.begun = [f for f in spot.begun if f is not flying]

    def _give(self, flying: Flying, how: str) -> None:
        if flying.given == "cancelled" or (flying.given and how != "cancelled"):
            return
        flying.given = how
        if not flying.order:
            flying.line.cancel()

    def noticed(self) -> None:
        """Something in flight ended, or what the line waits for has changed."""
        if self.waiting is not None and any(f.order for f in self.waiting[1]):
            kind, flights = self.waiting
            self.waiting = None
            self._later(self.host.clock.now, lambda: self._answer(kind, flights))
        elif self.closing is not None and not self.closing.done and not self.closing.busy:
            answer = self._progress(self.closing)
            if answer is not None:
                self._later(self.host.clock.now, lambda: answer)

    def _join(self, op: Op[Any], undoing: Any) -> Answer | None:
        scopes = self.spots[-1].scopes
        closing = Closing(op.value is not None, scopes[-1] if scopes else None, self.own())
        if op.value is not None and not isinstance(op.value, StepFailed | Cancelled):
            self.kill_own()
            return None, None
        self.closing = closing
        answer = self._progress(closing)
        if answer is not None:
            self.closing = None
            return answer
        number = issued(self.host.run, self, Op("join", "join"), undoing, self.host.script)
        ending = self.host.script.interrupt(self.path, number, op)
        if ending is not None:

            def act() -> None:
                if self.closing is closing and not self.ended:
                    self.interrupt("cancelled at the end")

            self.host.clock.at(self.host.clock.now + ending.delay, self.path, act)
        return None

    def _progress(self, closing: Closing) -> Answer | None:
        closing.busy = True
        scope = closing.scope
        if not closing.failed and scope is not None and scope.expired:
            closing.cancel, closing.failed = closing.cancel or scope.reason, True
        for flying in closing.mine:
            if not flying.order and (closing.failed or flying.idle):
                self._give(flying, "left")
        closing.busy = False
        if not all(flying.order for flying in closing.mine):
            return None
        closing.done = True
        failures = [f.error for f in closing.mine if not f.given and f.error is not None]
        for flying in closing.mine:
            self._taken(flying)
        if closing.cancel:
            return None, Cancelled(closing.cancel)
        return None, failures[0] if failures and not closing.failed else None


def _fixed(op: Op[Any]) -> Op[Any]:
    """What an `undo=` reads is what it was when the operation was begun, not when it is issued a little later."""
    if isinstance(op.undo, FunctionType) and op.undo.__closure__:
        cells = tuple([_cell(c) for c in op.undo.__closure__])
        op.undo = FunctionType(op.undo.__code__, op.undo.__globals__, "undo", op.undo.__defaults__, cells)
    for child in op.children:
        _fixed(child)
    return op


def _cell(cell: CellType) -> CellType:
    try:
        return CellType(copy.deepcopy(cell.cell_contents))
    except (ValueError, TypeError):  # unbound, or nothing that can be copied: a saga, a module
        return cell


def closed(coroutine: Coroutine[Any, Any, Any]) -> None:
    """End a coroutine that is never resumed, whatever it says."""
    try:
        coroutine.close()
    except BaseException:  # noqa: BLE001  whatever the author's code raises
        return
