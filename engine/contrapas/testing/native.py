"""Runs a saga as the plain coroutine it is: operations end as a script says, time is virtual, nothing is stored.

What the compiled form is compared with (`testing.differential`), and what unit tests of sagas can use. Branches of `all`
and `first` are coroutines of their own, as tasks are under asyncio: they do not see the exception that their parent handles.
"""

from __future__ import annotations

import copy
import heapq
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contrapas.author.event import MessageSpec, message_spec
from contrapas.author.op import NATIVE, Op
from contrapas.author.saga import Activation, Saga
from contrapas.author.timeout import Failed, Timeout
from contrapas.errors import Cancelled, StepFailed
from contrapas.testing.differential_values import Chance, make, picture, told

Path = tuple[int, ...]
"""Which line of execution: the root is (), the i-th branch of its n-th operation (n, i), and so on."""
STEPS_MAX = 400
"""A run with more operations is cut off, in both forms alike."""


@dataclass(slots=True)
class Ending:
    """How an operation ends: after `delay` of virtual time with a value, or with an exception."""

    value: Any = None
    error: BaseException | None = None
    delay: int = 1


def _spec(op: Op[Any]) -> MessageSpec:
    value: Any = op.value
    return message_spec(value.__class__)


class Script:
    """Decides outcomes and order from (seed, line of execution, number of the operation, name).

    fails: part of the steps that fail; cancels: chance that a line of execution is cancelled at an operation.
    """

    def __init__(
        self,
        seed: int,
        results: Mapping[str, Any],
        *,
        fails: float = 0.2,
        cancels: float = 0.01,
        raw: bool = False,
    ) -> None:
        self.seed = seed
        self.results = results
        """Result type by name of a `@step`."""
        self.fails = fails
        self.cancels = cancels
        self.raw = raw
        """Failures carry a cause of their own, as a local step's exception does."""

    def __call__(self, path: Path, number: int, op: Op[Any]) -> Ending:
        """The ending of one operation, built anew at each call."""
        chance = Chance(self.seed, path, number, op.kind, op.name)
        delay = 1 + chance.below(20)
        if op.kind in ("compensate", "unwind"):
            return Ending(delay=delay)
        if chance.share(self.cancels):
            return Ending(error=Cancelled(f"cancel {number}"), delay=delay)
        if op.kind == "sleep":
            return Ending(delay=delay)
        if op.kind in ("wait", "ask"):
            return Ending(self._answer(op, chance), delay=delay)
        if op.kind == "map":
            return self._map(op, chance, number, delay)
        if chance.share(self.fails):
            return Ending(error=self._failure(op, number, chance), delay=delay)
        return Ending(self.success(op, chance), delay=delay)

    def _map(self, op: Op[Any], chance: Chance, number: int, delay: int) -> Ending:
        """Each item ends by itself; failures are values, or the first one by position is raised."""
        values: list[Any] = []
        for _ in op.value:
            if not chance.share(self.fails):
                values.append(self.success(op, chance))
                continue
            why = self._failure(op, number, chance)
            if not op.many.collect:
                return Ending(error=why, delay=delay)
            values.append(Failed(reason=why.reason, unknown=why.unknown))
        return Ending(values, delay=delay)

    def success(self, op: Op[Any], chance: Chance) -> Any:
        """A value that the operation can give."""
        if op.kind in ("command", "ask"):
            return make(_spec(op).replies[0], chance)
        if op.kind == "child":
            return make(self.results[f"child({op.name})"], chance)
        return make(self.results.get(op.name, int), chance)

    def sample(self, op: Op[Any]) -> Any:
        """A reply for `undo=`."""
        return self.success(op, Chance(self.seed, "sample", op.name))

    def _answer(self, op: Op[Any], chance: Chance) -> Any:
        if op.within_ms is not None and chance.share(0.25):
            return Timeout()
        classes = op.value if op.kind == "wait" else _spec(op).replies
        return make(chance.one(classes), chance)

    def _failure(self, op: Op[Any], number: int, chance: Chance) -> StepFailed:
        replies = _spec(op).replies[1:] if op.kind == "command" else ()
        if replies and chance.share(0.7):
            reply = make(chance.one(replies), chance)
            reason = getattr(reply, "reason", None) or type(reply).__name__
            return StepFailed(str(reason), step=op.name, reply=reply)
        failed = StepFailed(f"no {number}", step=op.name, unknown=chance.share(0.3))
        if op.kind == "local" and (self.raw or chance.share(0.4)):
            failed.__cause__ = ValueError("from the step", number)
        return failed


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


_LOGS: list[Run] = []


def log(*what: Any) -> Any:
    """For sagas under test: notes its arguments and the exception being handled at this moment; gives its last argument."""
    if _LOGS:
        _LOGS[-1].told.append(("log", tuple([picture(w) for w in what]), picture(sys.exc_info()[1])))
    return what[-1] if what else None


class logging_to:
    """`log` writes to a run."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __enter__(self) -> None:
        _LOGS.append(self.run)

    def __exit__(self, *exc: object) -> None:
        _LOGS.pop()


class _Park:
    """What a line of execution waits on.

    A failure is raised here, not thrown into the coroutine from outside: so the interpreter chains it to what is being
    handled, in whichever of the callers' frames that is.
    """

    def __await__(self) -> Generator[Any, Any, Any]:
        value, error = yield self
        if error is None:
            return value
        own = _with_handled(error)
        try:
            raise error
        finally:
            if own is not None:
                error.__context__ = own


def _with_handled(error: BaseException) -> BaseException | None:
    """The context that a failure brings along, ended by what is being handled here; None: it brings none (L12)."""
    own = last = error.__context__
    handled = sys.exc_info()[1]
    met = {id(error)}
    while last is not None and last is not handled:
        met.add(id(last))
        if last.__context__ is None or id(last.__context__) in met:
            if handled is not None and id(handled) not in met:
                last.__context__ = handled
            break
        last = last.__context__
    return own


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

    def __init__(self, path: Path, parent: Join | None, place: int) -> None:
        self.path = path
        self.parent = parent
        self.place = place
        self.issued = 0
        self.ended = False
        self.generation: int = 0
        """Grows when what it waits for is given up, so that a late ending finds nobody."""

    def cancel(self) -> None:
        """Throw `Cancelled` at its await."""
        raise NotImplementedError

    def end(self, value: Any, error: BaseException | None) -> None:
        """Tell the join."""
        self.ended = True
        if self.parent is not None:
            self.parent.ended(self.place, value, error)


class Join:
    """Waiting for `all` or `first`: the same rules natively and compiled."""

    def __init__(self, op: Op[Any], resume: Callable[[Any, BaseException | None], None]) -> None:
        self.op = op
        self.resume = resume
        self.lines: list[Line] = []
        self.values: list[Any] = [None] * len(op.children)
        self.errors: dict[int, BaseException] = {}
        self.order: list[int] = []
        self.given_up = False
        self.closed = False

    def ended(self, place: int, value: Any, error: BaseException | None) -> None:
        """One branch ended."""
        self.order.append(place)
        self.values[place] = value
        if error is not None:
            self.errors[place] = error
        early = self.op.kind == "first" or (self.op.fail_fast and error is not None)
        if early and not self.given_up:
            self.given_up = True
            for line in self.lines:
                if not line.ended:
                    line.cancel()
        self.settle()

    def settle(self) -> None:
        """Resume the parent when every branch has ended."""
        if len(self.order) < len(self.lines) or len(self.lines) < len(self.op.children) or self.closed:
            return
        self.closed = True
        if self.op.kind == "first":
            winner = self.order[0]
            self.resume(self.values[winner], self.errors.get(winner))
            return
        if self.errors:
            given = [p for p in self.order if p in self.errors]
            place = given[0] if self.op.fail_fast else min(given)
            self.resume(None, self.errors[place])
            return
        self.resume(list(self.values) if self.op.listed else tuple(self.values), None)


class NativeRunner:
    """Performs the operations of coroutines (`author.op.NativeRunner`)."""

    def __init__(self, script: Script, sagas: Mapping[str, Any], run: Run, s: Saga) -> None:
        self.script = script
        self.sagas = sagas
        self.run = run
        self.s = s
        self.clock = Clock()
        self.line: _Coroutine | None = None

    async def perform(self, op: Op[Any]) -> Any:
        """The result of an operation, or its exception."""
        line = self.line
        assert line is not None
        if op.kind == "frame":
            # What an operation is given shares nothing with the caller's locals, nor one argument with another.
            args = [copy.deepcopy(a) for a in op.value[0]]
            kwargs = {name: copy.deepcopy(a) for name, a in op.value[1].items()}
            return await self.sagas[op.name].fn(self.s, *args, **kwargs)
        if op.kind == "join":
            return None
        number = issued(self.run, line, op, _plainly, self.script)
        if op.kind in ("all", "first"):
            return await self._join(op, line, number)
        ending = self.script(line.path, number, op)
        line.due(self.clock.now + ending.delay, ending.value, ending.error)
        return await _Park()

    async def _join(self, op: Op[Any], line: _Coroutine, number: int) -> Any:
        if not op.children:
            return [] if op.listed else ()
        join = Join(op, lambda value, error: line.due(self.clock.now, value, error))
        line.waits = join
        for place, child in enumerate(op.children):
            branch = _Coroutine(self, (*line.path, number, place), join, place, self._branch(child))
            join.lines.append(branch)
            self.clock.at(self.clock.now, branch.path, branch.start)
        return await _Park()

    async def _branch(self, op: Op[Any]) -> Any:
        return await op


class _Coroutine(Line):
    """A line of execution that is a coroutine."""

    def __init__(
        self,
        runner: NativeRunner,
        path: Path,
        parent: Join | None,
        place: int,
        coroutine: Coroutine[Any, Any, Any],
    ) -> None:
        super().__init__(path, parent, place)
        self.runner = runner
        self.coroutine = coroutine
        self.waits: Join | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.started = False
        self.begun = False

    def due(self, time: int, value: Any, error: BaseException | None) -> None:
        generation = self.generation

        def act() -> None:
            if generation == self.generation and not self.ended:
                self.go(value, error)

        self.runner.clock.at(time, self.path, act)

    def start(self) -> None:
        """The first stretch, unless it was given up before."""
        if not self.started and not self.ended:
            self.started = True
            self.go(None, None)

    def cancel(self) -> None:
        """A branch that has not begun never does; what a join waits for is cancelled from the inside."""
        if not self.started:
            self.coroutine.close()
            self.end(None, Cancelled("given up"))
            return
        if self.waits is not None and not self.waits.closed:
            self.waits.given_up = True
            for line in self.waits.lines:
                if not line.ended:
                    line.cancel()
            return
        self.generation += 1
        self.due(self.runner.clock.now, None, Cancelled("given up"))

    def go(self, value: Any, error: BaseException | None) -> None:
        """One stretch."""
        self.generation += 1
        self.waits = None
        first, self.begun = not self.begun, True
        before, self.runner.line = self.runner.line, self
        try:
            self.coroutine.send(None if first else (value, error))
        except StopIteration as done:
            self.result = done.value
            self.end(done.value, None)
        except CutOff:
            raise
        except BaseException as why:  # noqa: BLE001  whatever the author's code raises
            self.error = why
            self.end(None, why)
        finally:
            self.runner.line = before


def _plainly(undo: Any, reply: Any) -> Any:
    return undo(reply)


def issued(run: Run, line: Line, op: Op[Any], undoing: Any, script: Script) -> int:
    """Note an operation; its number on its line of execution."""
    line.issued += 1
    run.operations += 1
    if run.operations > STEPS_MAX:
        raise CutOff
    run.told.append(("issue", line.path, line.issued, told(op, undoing, script.sample)))
    return line.issued


def run_native(saga: Any, arguments: tuple[Any, ...], script: Script, sagas: Mapping[str, Any]) -> Run:
    """Run a `@saga` as a coroutine. sagas: by name, those that it calls."""
    run = Run()
    activation = Activation("k", f"{saga.name}/k")
    s = Saga(activation)
    runner = NativeRunner(script, sagas, run, s)
    token = NATIVE.set(runner)
    coroutine: Coroutine[Any, Any, Any] | None = None
    try:
        with logging_to(run):
            main: Coroutine[Any, Any, Any] = saga.fn(s, *arguments)
            coroutine = main
            root = _Coroutine(runner, (), None, 0, main)
            root.start()
            runner.clock.run()
        run.value = picture(root.result)
        run.error = None if root.error is None else picture(root.error)
    except CutOff:
        run.cut = True
    finally:
        NATIVE.reset(token)
        if coroutine is not None and run.cut:
            _closed(coroutine)
    run.effects = picture(activation.effects)
    return run


def _closed(coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        coroutine.close()
    except BaseException:  # noqa: BLE001  whatever the author's code raises
        return
