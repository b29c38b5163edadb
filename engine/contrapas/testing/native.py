"""Runs a saga as the plain coroutine it is: operations end as a script says, time is virtual, nothing is stored.

What the compiled form is compared with (`testing.differential`), and what unit tests of sagas can use. Branches of `all`
and `first` are coroutines of their own, as tasks are under asyncio: they do not see the exception that their parent handles.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Coroutine, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from contrapas.author.asked import received
from contrapas.author.event import Command, MessageSpec, message_spec
from contrapas.author.flight import FLIGHT
from contrapas.author.limits import scoped
from contrapas.author.op import NATIVE, Op
from contrapas.author.saga import Activation, Saga
from contrapas.author.timeout import Failed, Timeout
from contrapas.errors import Cancelled, StepFailed
from contrapas.testing.differential_values import Chance, make, picture
from contrapas.testing.flights import Effects, Flyer, closed
from contrapas.testing.handlers import native_of
from contrapas.testing.native_lines import Clock, CutOff, Ends, Join, Line, Path, Run, branched, issued

__all__ = [
    "Clock",
    "CutOff",
    "Join",
    "Line",
    "Path",
    "Run",
    "Script",
    "issued",
    "log",
    "logging_to",
    "run_native",
]


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
        if op.kind == "cancel":
            return Ending(chance.one((None, "done", "compensated", "parked")), delay=delay)
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

    def interrupt(self, path: Path, number: int, op: Op[Any]) -> Ending | None:
        """What comes before a line has what it waits for in flight: a cancel, or the end of `within=`."""
        chance = Chance(self.seed, path, number, op.kind, op.name)
        delay = 1 + chance.below(20)
        if chance.share(self.cancels):
            return Ending(error=Cancelled(f"cancel {number}"), delay=delay)
        if op.kind == "next" and op.within_ms is not None and chance.share(0.4):
            return Ending(Timeout(), delay=delay)
        return None

    def expiry(self, path: Path, number: int) -> int | None:
        """When the n-th limited scope of a line expires; None: in time."""
        chance = Chance(self.seed, path, number, "limit", "")
        return 1 + chance.below(30) if chance.share(0.4) else None

    def success(self, op: Op[Any], chance: Chance) -> Any:
        """A value that the operation can give."""
        if op.kind in ("command", "ask"):
            made = make(_spec(op).replies[0], chance)
            return made.value if getattr(made, "__contrapas_returns__", False) else made
        if op.kind == "child" or (op.kind == "map" and op.many.saga):
            return make(self.results[f"child({op.name})"], chance)
        return make(self.results.get(op.name, int), chance)

    def sample(self, op: Op[Any]) -> Any:
        """A reply for `undo=`."""
        return self.success(op, Chance(self.seed, "sample", op.name))

    def _answer(self, op: Op[Any], chance: Chance) -> Any:
        if op.within_ms is not None and chance.share(0.25):
            return Timeout()
        classes = op.value if op.kind == "wait" else _spec(op).replies
        made: Any = make(chance.one(classes), chance)
        if op.kind == "wait" and issubclass(made.__class__, Command):
            received(
                made, f"{self.seed}-{chance.below(1 << 30)}"
            )  # as one that came: `s.reply` knows it by name
        return made

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


class NativeRunner:
    """Performs the operations of coroutines (`author.op.NativeRunner`)."""

    def __init__(self, script: Script, sagas: Mapping[str, Any], run: Run, s: Saga) -> None:
        self.script = script
        self.sagas = sagas
        self.run = run
        self.s = s
        self.clock = Clock()
        self.line: _Coroutine | None = None
        self.dead: list[Coroutine[Any, Any, Any]] = []
        """Coroutines that were killed: never resumed."""

    async def perform(self, op: Op[Any]) -> Any:
        """The result of an operation, or its exception."""
        line = self.line
        assert line is not None
        if scoped(op) and op.within_ms is not None and line.spots:
            async with self.s.limited(op):
                return await self.perform(op)
        if op.kind == "frame":
            # What an operation is given shares nothing with the caller's locals, nor one argument with another.
            args = [copy.deepcopy(a) for a in op.value[0]]
            kwargs = {name: copy.deepcopy(a) for name, a in op.value[1].items()}
            return await self.function(line, self.sagas[op.name].fn(self.s, *args, **kwargs))
        if op.kind in ("result", "next", "join"):
            answer = line.flight(op, _plainly)
            return await (_Park() if answer is None else _Answer(*answer))
        number = issued(self.run, line, op, _plainly, self.script)
        op = branched(op)
        if op.kind in ("all", "first", "some"):
            return await self._join(op, line, number)
        if op.kind in ("compensate", "unwind"):
            line.unwinds(op)
        ending = self.script(line.path, number, op)
        line.due(self.clock.now + ending.delay, ending.value, ending.error)
        return await _Park()

    async def function(self, line: _Coroutine, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """A saga from its first line to the end of what it began."""
        line.enter()
        try:
            try:
                value = await coroutine
            except (GeneratorExit, CutOff):
                raise
            except BaseException as why:
                if line.joins():
                    await Op[None]("join", "join", why)
                raise
            if line.joins():
                await Op[None]("join", "join", None)
            return value
        finally:
            line.leave()

    async def _join(self, op: Op[Any], line: _Coroutine, number: int) -> Any:
        if not op.children or op.value == (0, "cancel"):
            return [] if op.listed or op.kind == "some" else ()
        join = Join(op, lambda value, error: line.due(self.clock.now, value, error), line)
        line.waits = join
        for place, child in enumerate(op.children):
            branch = _Coroutine(self, (*line.path, number, place), join, place, child)
            join.lines.append(branch)
        join.open(lambda branch: self.clock.at(self.clock.now, branch.path, branch.start))
        if op.kind == "some":
            join.enough()
        return await _Park()


class _Answer(_Park):
    """What was known at once."""

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self.value = value
        self.error = error

    def __await__(self) -> Generator[Any, Any, Any]:
        if self.error is None:
            return self.value
        yield from ()
        own = _with_handled(self.error)
        try:
            raise self.error
        finally:
            if own is not None:
                self.error.__context__ = own


class _Coroutine(Flyer):
    """A line of execution that is a coroutine."""

    def __init__(
        self, runner: NativeRunner, path: Path, parent: Ends | None, place: int, op: Op[Any] | None
    ) -> None:
        super().__init__(runner, path, parent, place, op)
        self.runner = runner
        self.coroutine: Coroutine[Any, Any, Any] = _awaiting(op)
        self.result: Any = None
        self.error: BaseException | None = None
        self.begun = False

    def spawn(self, path: Path, parent: Ends, op: Op[Any]) -> Flyer:
        """A line beside this one."""
        return _Coroutine(self.runner, path, parent, 0, op)

    def first(self) -> None:
        """The first stretch."""
        self.go(None, None)

    def never(self) -> None:
        """It was given up before it began."""
        self.coroutine.close()

    def die(self) -> None:
        """It is never resumed."""
        self.runner.dead.append(self.coroutine)

    def go(self, value: Any, error: BaseException | None) -> None:
        """One stretch."""
        value, error = self.resumed(value, error)
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


async def _awaiting(op: Op[Any] | None) -> Any:
    return None if op is None else await op


def _plainly(undo: Any, reply: Any) -> Any:
    return undo(reply)


class _Native(Activation):
    """Tells the line that runs what the saga begins and gives up."""

    __slots__ = ("runner",)
    runner: NativeRunner

    def begin(self, op: Op[Any], /) -> Any:
        assert self.runner.line is not None
        return self.runner.line.begin(op)

    def cancel(self, pending: Any, /) -> None:
        assert self.runner.line is not None
        self.runner.line.hand_back(pending)

    def joins(self) -> bool:
        assert self.runner.line is not None
        return self.runner.line.joins()


def run_native(saga: Any, arguments: tuple[Any, ...], script: Script, sagas: Mapping[str, Any]) -> Run:
    """Run a `@saga` as a coroutine. sagas: by name, those that it calls."""
    run = Run()
    activation = _Native("k", f"{saga.name}/k")
    s = Saga(activation)
    activation.runner = runner = NativeRunner(script, sagas, run, s)
    activation.effects = effects = Effects(lambda: runner.line)
    token, flight = NATIVE.set(runner), FLIGHT.set(activation)
    root = _Coroutine(runner, (), None, 0, None)
    root.coroutine.close()
    root.coroutine = runner.function(root, native_of(saga)(s, *arguments))
    try:
        with logging_to(run):
            root.start()
            runner.clock.run()
        run.value = picture(root.result)
        run.error = None if root.error is None else picture(root.error)
    except CutOff:
        run.cut = True
    finally:
        run.effects = picture(list(effects))
        NATIVE.reset(token)
        FLIGHT.reset(flight)
        runner.line = root
        for coroutine in (*runner.dead, *([root.coroutine] if run.cut else [])):
            closed(coroutine)
    return run
