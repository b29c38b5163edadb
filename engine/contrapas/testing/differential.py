"""Runs one saga natively and compiled, its state going to bytes and into new objects after every transition, and compares.

Compared are: the value or exception (type, arguments, attributes, cause, context, suppress flag), every operation with its
arguments in order, and every `log(...)` call with the exception being handled at that moment. The driver here knows the
generated functions and nothing of the core, so that a fault in one cannot hide in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contrapas.author.entity import keyed
from contrapas.author.flight import FLIGHT
from contrapas.author.op import Op, UndoRef
from contrapas.author.saga import Activation, Saga, SagaDef
from contrapas.codec.exceptions import relink
from contrapas.codec.registry import Registry, hints_of
from contrapas.codec.slots import dump_slots, load_slots
from contrapas.compiler import compile_all
from contrapas.errors import CompileError
from contrapas.machine import AWAIT, Machine, State
from contrapas.testing.differential_values import picture
from contrapas.testing.flights import Answer, Effects, Flyer
from contrapas.testing.native import (
    Clock,
    CutOff,
    Join,
    Path,
    Run,
    Script,
    issued,
    log,
    logging_to,
    run_native,
)
from contrapas.testing.native_lines import Ends, branched

__all__ = ["Difference", "Pair", "Report", "compare", "log", "pair_of", "run_compiled"]


class Difference(AssertionError):
    """The two forms of a saga did not do the same."""


@dataclass(slots=True)
class Report:
    """What a comparison saw."""

    runs: int = 0
    traces: set[int] = field(default_factory=set[int])
    """Runs that differ from one another in what they did; the scripts of one program may lead along the same way."""
    transitions: int = 0
    operations: int = 0
    states: set[str] = field(default_factory=set[str])
    errors: int = 0


@dataclass(slots=True)
class Frame:
    """One activation of a saga: where it stands, and its slots as text."""

    machine: Machine
    state: State | None
    texts: dict[str, str]
    loaded: dict[str, Any] | None = None
    """While a stretch is running: what was decoded of it."""


class Compiled(Flyer):
    """A line of execution made of frames."""

    def __init__(
        self, driver: Driver, path: Path, parent: Ends | None, place: int, op: Op[Any] | None = None
    ) -> None:
        super().__init__(driver, path, parent, place, op)
        self.driver = driver
        self.frames: list[Frame] = []
        self.result: Any = None
        self.error: BaseException | None = None

    def spawn(self, path: Path, parent: Ends, op: Op[Any]) -> Flyer:
        """A line beside this one."""
        return Compiled(self.driver, path, parent, 0, op)

    def first(self) -> None:
        """The first stretch, of one operation."""
        op = self.op
        assert op is not None
        if op.kind == "frame":
            try:
                self.push(op)
            except BaseException as why:  # noqa: BLE001  whatever the author's code raises
                self.finish(None, why)
                return
            self.go(None, None)
        else:
            self.issue(op)

    def above(self) -> list[Frame]:
        """The frames whose code wrote what this line does now."""
        line: Any = self
        while not line.frames:
            line = line.parent.owner
        found: list[Frame] = line.frames
        return found

    def push(self, op: Op[Any]) -> None:
        """Call a saga."""
        self.frames.append(self.driver.frame(op.name, *op.value))
        self.enter()

    def pop(self) -> None:
        """It returned or raised."""
        self.frames.pop()
        self.leave()

    def issue(self, op: Op[Any]) -> Answer | None:
        """An operation: when and how it ends is the script's. What is known at once is given."""
        driver = self.driver
        undoing = driver.undone(self.above())
        if op.kind in ("result", "next", "join"):
            return self.flight(op, undoing)
        number = issued(driver.run, self, op, undoing, driver.script)
        op = branched(op)
        if op.kind in ("all", "first", "some"):
            if not op.children or op.value == (0, "cancel"):
                nothing: Any = [] if op.listed or op.kind == "some" else ()
                self.due(driver.clock.now, nothing, None)
                return None
            join = self.waits = Join(op, lambda value, error: self.due(driver.clock.now, value, error), self)
            for place, child in enumerate(op.children):
                branch = Compiled(driver, (*self.path, number, place), join, place, child)
                join.lines.append(branch)
            join.open(lambda branch: driver.clock.at(driver.clock.now, branch.path, branch.start))
            if op.kind == "some":
                join.enough()
            return None
        if op.kind in ("compensate", "unwind"):
            self.unwinds(op)
        ending = driver.script(self.path, number, op)
        self.due(driver.clock.now + ending.delay, ending.value, ending.error)
        return None

    def finish(self, value: Any, error: BaseException | None) -> None:
        """The line ends; what a branch gives goes to its parent as text."""
        self.result, self.error = value, error
        if error is not None and self.parent is not None:
            error = self.driver.registry.load_exception(self.driver.registry.dump_exception(error))
        self.end(value, error)

    def go(self, value: Any, error: BaseException | None) -> None:
        """One transition: stretches of code until an operation is issued or the line ends; then all is text again."""
        value, error = self.resumed(value, error)
        self.driver.run.transitions += 1
        before, self.driver.line = self.driver.line, self
        try:
            self._go(value, error)
        finally:
            self.driver.line = before

    def _go(self, value: Any, error: BaseException | None) -> None:
        if not self.frames:
            self.finish(value, error)
            return
        while True:
            frame = self.frames[-1]
            try:
                answer = self.driver.stretch(self.frames, value, error)
            except CutOff:
                raise
            except BaseException as why:  # noqa: BLE001  whatever the author's code raises
                self.pop()
                value, error = None, why
                if not self.frames:
                    self.finish(None, why)
                    return
                continue
            value = error = None
            if answer[0] != AWAIT:
                self.pop()
                value = answer[1]
                if not self.frames:
                    self.finish(value, None)
                    return
                value = self.driver.through(frame.machine.result, value)
                continue
            self.driver.keep(frame, answer[1], answer[3])
            awaited: Op[Any] = answer[2]
            if awaited.kind == "frame":
                try:
                    self.push(awaited)
                except BaseException as why:  # noqa: BLE001  whatever the author's code raises
                    error = why
                continue
            known = self.issue(awaited)
            if known is None:
                break
            value, error = known
        for frame in self.frames:
            frame.loaded = None


class _Told(Activation):
    """Tells the line that runs what the saga begins and gives up."""

    __slots__ = ("driver",)
    driver: Driver

    def begin(self, op: Op[Any], /) -> Any:
        assert self.driver.line is not None
        return self.driver.line.begin(op)

    def cancel(self, pending: Any, /) -> None:
        assert self.driver.line is not None
        self.driver.line.hand_back(pending)


class Driver:
    """Moves the frames of one run."""

    def __init__(self, machines: Mapping[str, Machine], registry: Registry, script: Script, run: Run) -> None:
        self.machines = machines
        self.registry = registry
        self.script = script
        self.run = run
        self.clock = Clock()
        self.line: Compiled | None = None
        self.activation = _Told("k", "saga/k")
        self.activation.driver = self
        self.activation.effects = Effects(lambda: self.line)

    def frame(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Frame:
        """A new frame; TypeError for wrong arguments. Its parameters go through text."""
        machine = self.machines[name]
        assert machine.bind is not None
        values = machine.bind(*args, **kwargs)
        slots = {slot.name: slot for slot in machine.params}
        return Frame(machine, None, dump_slots(values, slots, ()))

    def stretch(self, frames: list[Frame], value: Any, thrown: BaseException | None) -> tuple[Any, ...]:
        """Run the innermost frame to its next await, inside the exceptions that its callers handle."""
        frame = frames[-1]
        function = frame.machine.function
        assert function is not None
        s = Saga(self.activation)
        if frame.state is None:
            slots = {slot.name: slot for slot in frame.machine.params}
            arguments: tuple[Any, ...] = (0, None, None, load_slots(frame.texts, slots, ()), s)
        else:
            arguments = (frame.state.index, value, thrown, self.touched(frame), s)
        handled = self._handled(frames[:-1])
        if handled is None:
            return function(*arguments)
        relink(arguments[3].values(), handled)
        context, trace = handled.__context__, handled.__traceback__
        try:
            raise handled
        except BaseException:  # noqa: BLE001  whatever the author's code raises
            handled.__context__, handled.__traceback__ = context, trace
            return function(*arguments)

    def touched(self, frame: Frame) -> dict[str, Any]:
        """The slots that the next stretch can touch, decoded; the same objects within one transition."""
        state = frame.state
        assert state is not None
        if frame.loaded is None:
            texts = {n: t for n, t in frame.texts.items() if n in state.touches}
            frame.loaded = load_slots(texts, frame.machine.slots, state.shared)
        return dict(frame.loaded)

    def _handled(self, callers: list[Frame]) -> BaseException | None:
        for caller in reversed(callers):
            state = caller.state
            assert state is not None
            for name in reversed(state.handling):
                if name not in caller.texts:
                    continue
                values = self.touched(caller)
                if name not in values:
                    slots = caller.machine.slots
                    values[name] = load_slots({name: caller.texts[name]}, slots, ())[name]
                    assert caller.loaded is not None
                    caller.loaded[name] = values[name]
                found: BaseException = values[name]
                return found
        return None

    def keep(self, frame: Frame, index: int, out: dict[str, Any]) -> None:
        """The state after a stretch, as text; what was not touched stays the text it was."""
        state = frame.machine.by_index[index]
        assert state is not None
        before = frame.state
        kept = {} if before is None else {n: t for n, t in frame.texts.items() if n not in before.touches}
        strange = set(out) - set(state.slots)
        assert not strange, f"{state.label} gives slots that it does not have: {sorted(strange)}"
        texts = {**kept, **dump_slots(out, frame.machine.slots, state.shared)}
        frame.texts = {n: texts[n] for n in state.slots if n in texts}
        frame.state = state
        frame.loaded = None
        missing = state.needs - frame.texts.keys()
        assert not missing, f"{state.label} needs slots that are not bound: {sorted(missing)}"
        self.run.states.append(f"{frame.machine.name}/{state.label}")
        again = load_slots(frame.texts, frame.machine.slots, state.shared)
        assert dump_slots(again, frame.machine.slots, state.shared) == frame.texts, "the text is not stable"

    def through(self, codec: Any, value: Any) -> Any:
        """The result of a called saga: handed on as it is, it stays within the transition."""
        return value

    def undone(self, frames: list[Frame]) -> Any:
        """How an `undo=` of these frames is computed: what it captured goes through text first."""

        def undoing(undo: Any, reply: Any) -> Any:
            if not isinstance(undo, UndoRef):
                return undo(reply)
            machine = next(f.machine for f in reversed(frames) if undo.label in f.machine.undos)
            made = machine.undos[undo.label]
            captured: dict[str, Any] = {}
            for slot in made.captures:
                assert slot.codec is not None
                captured[slot.name] = slot.codec.load(slot.codec.dump(undo.captures[slot.name]))
            return made.function(captured, reply if made.needs_reply else None, Saga(self.activation))

        return undoing


@dataclass(slots=True)
class Pair:
    """A saga in both forms."""

    saga: SagaDef[..., Any]
    sagas: dict[str, SagaDef[..., Any]]
    machines: dict[str, Machine]
    registry: Registry
    results: dict[str, Any]
    programs: dict[str, Any]


def pair_of(
    saga: SagaDef[..., Any],
    *others: SagaDef[..., Any],
    strict: bool = True,
    exceptions: Iterable[type[BaseException]] = (),
) -> Pair:
    """Compile a saga with those that it calls. CompileError with everything refused."""
    registry = Registry()
    for cls in exceptions:
        registry.add_exception(cls)
    compiled = compile_all([saga, *others], registry=registry, strict=strict, anew=True)
    if compiled.refusals:
        raise CompileError(tuple(compiled.refusals))
    sagas = {one.name: one for one in (saga, *others)}
    results = {name: hints_of(step.fn).get("return", Any) for name, step in registry.steps.items()}
    results |= {f"child({name})": hints_of(one.fn).get("return", Any) for name, one in sagas.items()}
    return Pair(saga, sagas, dict(compiled.machines), registry, results, dict(compiled.programs))


def run_compiled(pair: Pair, arguments: tuple[Any, ...], script: Script) -> Run:
    """The compiled form."""
    run = Run()
    driver = Driver(pair.machines, pair.registry, script, run)
    driver.activation.instance = f"{pair.saga.name}/k"
    root = Compiled(driver, (), None, 0, Op("frame", pair.saga.name, (arguments, {})))
    token = FLIGHT.set(driver.activation)
    try:
        with logging_to(run):
            root.start()
            driver.clock.run()
        run.value = picture(root.result)
        run.error = None if root.error is None else picture(root.error)
    except CutOff:
        run.cut = True
    finally:
        FLIGHT.reset(token)
    run.effects = picture(list(driver.activation.effects))
    return run


def compare(
    pair: Pair, arguments: Any, seeds: Iterable[int], *, report: Report | None = None, **options: Any
) -> Report:
    """Run both forms under scripts of these seeds. arguments: makes them anew for each run. Difference where they part."""
    report = report or Report()
    for seed in seeds:
        with keyed("k"):
            left = run_native(pair.saga, arguments(), Script(seed, pair.results, **options), pair.sagas)
            right = run_compiled(pair, arguments(), Script(seed, pair.results, **options))
        report.runs += 1
        report.transitions += right.transitions
        report.operations += right.operations
        report.states.update(right.states)
        report.errors += right.error is not None
        report.traces.add(hash((pair.saga.name, tuple(right.told), right.value, right.error)))
        _same(pair.saga.name, seed, left, right)
    return report


def _same(name: str, seed: int, left: Run, right: Run) -> None:
    for number, (a, b) in enumerate(zip(left.told, right.told, strict=False)):
        if a != b:
            raise Difference(f"{name}, script {seed}: event {number} differs\n  native   {a}\n  compiled {b}")
    for what in ("cut", "error", "value", "effects"):
        a, b = getattr(left, what), getattr(right, what)
        if a != b:
            raise Difference(f"{name}, script {seed}: {what} differs\n  native   {a}\n  compiled {b}")
    if len(left.told) != len(right.told):
        more, less = (left, right) if len(left.told) > len(right.told) else (right, left)
        whose = "native" if more is left else "compiled"
        raise Difference(f"{name}, script {seed}: only {whose} goes on with {more.told[len(less.told)]}")


if __name__ == "__main__":
    from contrapas.testing.differential_campaign import main

    raise SystemExit(main())
