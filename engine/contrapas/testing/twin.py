"""The native twin: while the compiled form of a saga runs, the function itself runs beside it as a coroutine, and both must agree.

Every stretch from one await to the next is run twice, with equal values, equal chance and the same time. Compared are the
operation that is awaited, the immediate calls, the value or exception in the end, and at each resumption the locals that
the record gave back. The native coroutine never goes through a record: what a record loses shows here.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from contrapas.author.entity import keyed
from contrapas.author.flight import FLIGHT, Pending
from contrapas.author.limits import scoped
from contrapas.author.link import Linker
from contrapas.author.op import NATIVE, Op, copied
from contrapas.author.saga import Activation, Saga
from contrapas.core.work import Line, Stretch
from contrapas.core.world import Types, World
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import AWAIT, Machine
from contrapas.testing.handlers import inner_frame
from contrapas.testing.tape import Tape

Mode = Literal["both", "compiled", "native"]
Place = tuple[str, str, tuple[Any, ...], int]
"""Instance, run, position of the line of execution, depth of the frame on it."""
_QUIET: Final = frozenset({"enter", "leave", "kill"})
"""Effects that are told by what follows from them: natively a scope is a block."""


class Disagreement(AssertionError):
    """The compiled form did something else than the function itself. A bug in contrapas, unless the saga keeps state in
    globals or in objects shared between two locals."""


class _Hand:
    """What a native saga awaits: the operation goes out, its value comes in."""

    def __init__(self, op: Op[Any]) -> None:
        self.op = op

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self.op)


class _Hands:
    def __init__(self, s: Saga) -> None:
        self.s = s

    async def perform(self, op: Op[Any]) -> Any:
        if scoped(op) and (op.within_ms is not None or op.until is not None):
            async with self.s.limited(op):
                return await _Hand(op)
        return await _Hand(op)


class Beside(Activation):
    """The activation of a native coroutine: handles come from the compiled form, which ran before."""

    __slots__ = ("_after", "_beside", "_handles", "_tellings")

    def __init__(self, key: str, instance: str) -> None:
        super().__init__(key, instance)
        self._handles: list[Pending[Any]] = []
        self._tellings: list[str] = []
        self._after = -1
        self._beside: Activation | None = None

    @property
    def linker(self) -> Linker | None:
        """What signs links for the compiled form."""
        return None if self._beside is None else self._beside.linker

    def follow(self, beside: Activation, effects: list[tuple[Any, ...]], op: Op[Any] | None) -> None:
        """What the compiled form said in this stretch, and what it awaits at its end."""
        self._beside = beside
        self._handles = [e[1] for e in effects if e[0] == "begin"]
        self._tellings = [e[3].text for e in effects if e[0] == "tell" and e[3] is not None]
        self._after = _leaves(effects) if op is not None and op.kind == "join" else -1

    def begin(self, op: Op[Any], /) -> Pending[Any]:
        """Under the handle that the compiled form was given."""
        handle: Pending[Any] = self._handles.pop(0) if self._handles else Pending("begun by nobody else", "")
        self.effects.append(("begin", handle, copied(op)))
        return handle

    def told(self) -> str:
        """Under the handle that the compiled form was given."""
        return self._tellings.pop(0) if self._tellings else f"{self.instance}@told by nobody else"

    def cancel(self, pending: Pending[Any], /) -> None:
        """Give it up."""
        self.effects.append(("cancel", pending))

    def joins(self) -> bool:
        """Whether the compiled form waits at the end of this very scope."""
        return self._after == _leaves(self.effects)


def _leaves(effects: list[tuple[Any, ...]]) -> int:
    return sum(1 for e in effects if e[0] == "leave")


@dataclass(slots=True)
class Twin:
    """One native coroutine, where it stands."""

    instance: str
    saga: str
    coroutine: Coroutine[Any, Any, Any]
    s: Saga
    own: Beside
    at: int = 0
    """Index of the state that its compiled form waits in."""
    ending: Ending | None = None
    """It is through; its compiled form still waits for what the function began."""


@dataclass(slots=True)
class Twins:
    """All native coroutines of a test."""

    functions: Mapping[str, Callable[..., Coroutine[Any, Any, Any]]]
    mode: Mode
    now_ms: Callable[[], int]
    types: Types
    standing: dict[Place, Twin] = field(default_factory=dict[Place, Twin])
    said: list[str] = field(default_factory=list[str])
    """Disagreements, in order: the engine would park the instance, so they are raised by whoever looks next."""
    stretches: int = 0

    def beside(self, world: World) -> World:
        """The same world, its machines watched."""
        if self.mode == "compiled":
            return world
        watched = {
            name: replace(m, function=self._watched(m)) if name in self.functions and m.function else m
            for name, m in world.machines.items()
        }
        return replace(world, machines=watched, plans={}, step_plans={})

    def complain(self) -> None:
        """Raise the first disagreement."""
        if self.said:
            raise Disagreement(self.said[0])

    def close(self) -> None:
        """Forget every coroutine."""
        for twin in self.standing.values():
            closed(twin.coroutine)
        self.standing.clear()

    # ---- one stretch

    def _watched(self, machine: Machine) -> Callable[..., Any]:
        compiled = machine.function
        assert compiled is not None

        def function(pc: int, value: Any, thrown: Any, loaded: Any, s: Saga, *ambients: Any) -> Any:
            place = place_of(s)
            twin = self._twin(machine, pc, loaded, s, ambients, place)
            if twin is None:
                return compiled(pc, value, thrown, loaded, s, *ambients)
            given = copy.deepcopy(value), self._again(thrown)
            before = len(s._activation.effects)  # pyright: ignore[reportPrivateUsage]
            tape = Tape(self.now_ms())
            left, right = Ending(), Ending()
            with tape.playing(self.functions[machine.name]):
                result: Any = None
                try:
                    result = compiled(pc, value, thrown, loaded, s, *ambients)
                except BaseException as why:  # noqa: BLE001  whatever the author's code raises
                    left = Ending(error=why)
                else:
                    left = Ending(op=result[2]) if result[0] == AWAIT else Ending(value=result[1])
            effects = s._activation.effects[before:]  # pyright: ignore[reportPrivateUsage]
            with tape.playing(self.functions[machine.name]):
                twin.own.follow(s._activation, effects, left.op)  # pyright: ignore[reportPrivateUsage]
                right = self._step(twin, pc, *given)
            self.stretches += 1
            waits = left.op is not None and left.op.kind == "join" and right.op is None
            if waits:
                twin.ending, right = right, Ending(op=_end_of(right))
            self._compare(machine, twin, pc, left, right, effects)
            if left.op is not None:
                twin.at = result[1]
            else:
                self.standing.pop(place, None)
            if self.mode == "native" and right.error is not None:
                raise right.error
            if left.error is not None:
                raise left.error
            if self.mode == "native" and not waits:
                if right.op is None or left.op is None:
                    return result[0], right.value
                return (*result[:2], with_undos(right.op, left.op), *result[3:])
            return result

        return function

    def _again(self, thrown: BaseException | None) -> BaseException | None:
        """The same exception as another object: each form chains and annotates its own."""
        return None if thrown is None else self.types.load_exception(self.types.dump_exception(thrown))

    def _twin(
        self, machine: Machine, pc: int, loaded: Any, s: Saga, ambients: Any, place: Place
    ) -> Twin | None:
        instance = place[0]
        if pc == 0:
            fn = self.functions[machine.name]
            own = Beside(s.key, instance)
            mine = Saga(own)
            names = [name for name, _ in machine.ambients]
            args, kwargs = arguments_of(fn, copy.deepcopy(loaded), dict(zip(names, ambients, strict=True)))
            if (old := self.standing.pop(place, None)) is not None:
                closed(old.coroutine)
            made = self.standing[place] = Twin(instance, machine.name, fn(mine, *args, **kwargs), mine, own)
            return made
        twin = self.standing.get(place)
        if twin is None or (twin.saga, twin.at) != (machine.name, pc):
            return None
        if (found := self._unlike(twin, loaded)) is not None:
            state = machine.by_index[pc]
            name, ours, theirs = found
            self.said.append(
                f"{instance} at {state.label if state else pc}: local {name!r} is {ours} in the record, "
                f"{theirs} in the function"
            )
            return None
        return twin

    def _unlike(self, twin: Twin, loaded: Mapping[str, Any]) -> tuple[str, str, str] | None:
        frame = inner_frame(twin.coroutine)
        if frame is None:
            return None
        there: Mapping[str, Any] = frame.f_locals
        for name, value in loaded.items():
            if name in there and not alike(value, there[name]):
                return name, short(value), short(there[name])
        return None

    def _step(self, twin: Twin, pc: int, value: Any, thrown: BaseException | None) -> Ending:
        if twin.ending is not None:
            return twin.ending if thrown is None else Ending(error=thrown)
        token, flight = NATIVE.set(_Hands(twin.s)), FLIGHT.set(twin.own)
        try:
            with keyed(twin.own.key):
                if thrown is not None:
                    given = twin.coroutine.throw(thrown)
                else:
                    given = twin.coroutine.send(None if pc == 0 else value)
        except StopIteration as done:
            return Ending(value=done.value)
        except BaseException as why:  # noqa: BLE001  whatever the author's code raises
            return Ending(error=why)
        finally:
            NATIVE.reset(token)
            FLIGHT.reset(flight)
        return Ending(op=given)

    def _compare(
        self, machine: Machine, twin: Twin, pc: int, left: Ending, right: Ending, effects: list[Any]
    ) -> None:
        own = twin.own.effects
        a, b = [left.words(), *told(effects)], [right.words(), *told(own)]
        own.clear()
        if a != b:
            state = machine.by_index[pc] if pc else None
            after = f"after {state.label}" if state is not None else "at its start"
            parts = next(((x, y) for x, y in zip(a, b, strict=False) if x != y), (a[-1], b[-1]))
            self.said.append(f"{twin.instance} {after}: compiled {parts[0]}, as a function {parts[1]}")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stretch ended: at an operation, with a value, or with an exception."""

    op: Op[Any] | None = None
    value: Any = None
    error: BaseException | None = None

    def words(self) -> str:
        """For comparing and for people."""
        if self.op is not None:
            return f"awaits {told_op(self.op)}"
        if self.error is not None:
            if isinstance(self.error, StepFailed | Cancelled):
                return f"raises {type(self.error).__name__}: {self.error}"
            return f"raises {type(self.error).__name__}: {self.error.args!r}"
        return f"returns {short(self.value, 2000)}"


def place_of(s: Saga) -> Place:
    """Which line of execution and which frame of it runs a stretch."""
    activation = s._activation  # pyright: ignore[reportPrivateUsage]
    assert isinstance(activation, Stretch)
    line = activation.line
    depth = 1 if line is None else len(line.node.frames)
    return activation.instance, activation.run, position(line), depth


def position(line: Line | None) -> tuple[Any, ...]:
    """Handles and positions from the root of an instance to a line of execution."""
    found: list[Any] = []
    while line is not None and line.up is not None:
        found.append((line.begun.label, line.begun.visit) if line.begun is not None else line.place)
        line = line.up
    return tuple(reversed(found))


def closed(coroutine: Coroutine[Any, Any, Any]) -> None:
    """End a coroutine that is never resumed, whatever it says."""
    hands = NATIVE.set(None)
    try:
        coroutine.close()
    except BaseException:  # noqa: BLE001  whatever the author's code raises
        return
    finally:
        NATIVE.reset(hands)


def _end_of(ending: Ending) -> Op[Any]:
    """What the compiled form awaits when a function ends that has begun something."""
    return Op("join", "join", ending.error)


def told(effects: list[Any]) -> list[str]:
    """Immediate calls, in order."""
    return [
        f"begins {told_op(e[2])} as {e[1].text}" if e[0] == "begin" else f"says {e[0]} {short(e[1:], 2000)}"
        for e in effects
        if e[0] not in _QUIET
    ]


def told_op(op: Op[Any]) -> str:
    """An operation with everything that both forms must give alike; undos by what they are."""
    if op.kind == "join":
        return "the end of what was begun" + (
            f", by {type(op.value).__name__}" if op.value is not None else ""
        )
    children = ", ".join(told_op(c) for c in op.children)
    more = f" [{children}]" if op.children else ""
    limits = f" within {op.within_ms}" if op.within_ms is not None else ""
    return f"{op.kind} {op.name} {short(op.value, 2000)}{limits}{more}"


def with_undos(op: Op[Any], compiled: Op[Any]) -> Op[Any]:
    """The native operation, with `undo=lambda` as the engine can keep it."""
    op.undo = compiled.undo
    for mine, other in zip(op.children, compiled.children, strict=True):
        with_undos(mine, other)
    return op


def alike(a: Any, b: Any) -> bool:
    """Equal, as far as the types say what that is; exceptions by type and arguments."""
    if isinstance(a, BaseException) or isinstance(b, BaseException):
        return type(a) is type(b) and repr(a.args) == repr(b.args)
    try:
        return bool(a == b) or repr(a) == repr(b)
    except Exception:  # noqa: BLE001  the author's own __eq__
        return repr(a) == repr(b)


def short(value: Any, most: int = 200) -> str:
    """A value in words."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def arguments_of(
    fn: Callable[..., Any], loaded: Mapping[str, Any], ambients: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """A saga's parameters from its slots, after `s`."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    values = {**loaded, **ambients}
    for parameter in list(inspect.signature(fn).parameters.values())[1:]:
        if parameter.name not in values:
            continue
        value = values[parameter.name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += list(value)
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs.update(value)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            kwargs[parameter.name] = value
        else:
            args.append(value)
    return args, kwargs
