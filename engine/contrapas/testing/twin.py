"""The native twin: while the compiled form of a saga runs, the function itself runs beside it as a coroutine, and both must agree.

Every stretch from one await to the next is run twice, with equal values, equal chance and the same time. Compared are the
operation that is awaited, the immediate calls, the value or exception in the end, and at each resumption the locals that
the record gave back. The native coroutine never goes through a record: what a record loses shows here.
"""

from __future__ import annotations

import copy
import inspect
import random
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Any, Final, Literal, cast

from contrapas.author.op import NATIVE, Op
from contrapas.author.saga import Activation, Saga
from contrapas.core.world import Types, World
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import AWAIT, Machine

Mode = Literal["both", "compiled", "native"]
_QUIET: Final = frozenset({"enter", "leave"})
"""Effects that only the compiled form tells: natively a scope is a block."""


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
    def perform(self, op: Op[Any]) -> _Hand:
        return _Hand(op)


@dataclass(slots=True)
class Twin:
    """One native coroutine, where it stands."""

    instance: str
    saga: str
    coroutine: Coroutine[Any, Any, Any]
    s: Saga
    at: int = 0
    """Index of the state that its compiled form waits in."""


@dataclass(slots=True)
class Twins:
    """All native coroutines of a test."""

    functions: Mapping[str, Callable[..., Coroutine[Any, Any, Any]]]
    mode: Mode
    now_ms: Callable[[], int]
    types: Types
    standing: list[Twin] = field(default_factory=list[Twin])
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
        for twin in self.standing:
            twin.coroutine.close()
        self.standing.clear()

    # ---- one stretch

    def _watched(self, machine: Machine) -> Callable[..., Any]:
        compiled = machine.function
        assert compiled is not None

        def function(pc: int, value: Any, thrown: Any, loaded: Any, s: Saga, *ambients: Any) -> Any:
            twin = self._twin(machine, pc, loaded, s, ambients)
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
                right = self._step(twin, pc, *given)
            self.stretches += 1
            self._compare(machine, twin, pc, left, right, effects)
            if left.op is not None:
                twin.at = result[1]
            else:
                self.standing.remove(twin)
            if self.mode == "native" and right.error is not None:
                raise right.error
            if left.error is not None:
                raise left.error
            if self.mode == "native":
                if right.op is None or left.op is None:
                    return result[0], right.value
                return (*result[:2], with_undos(right.op, left.op), *result[3:])
            return result

        return function

    def _again(self, thrown: BaseException | None) -> BaseException | None:
        """The same exception as another object: each form chains and annotates its own."""
        return None if thrown is None else self.types.load_exception(self.types.dump_exception(thrown))

    def _twin(self, machine: Machine, pc: int, loaded: Any, s: Saga, ambients: Any) -> Twin | None:
        instance = s._activation.instance  # pyright: ignore[reportPrivateUsage]
        if pc == 0:
            fn = self.functions[machine.name]
            own = Saga(Activation(s.key, instance))
            names = [name for name, _ in machine.ambients]
            args, kwargs = arguments_of(fn, copy.deepcopy(loaded), dict(zip(names, ambients, strict=True)))
            twin = Twin(instance, machine.name, fn(own, *args, **kwargs), own)
            self.standing.append(twin)
            return twin
        mine = [t for t in self.standing if (t.instance, t.saga, t.at) == (instance, machine.name, pc)]
        for twin in mine:
            if not self._unlike(twin, loaded):
                return twin
        if mine and (found := self._unlike(mine[0], loaded)) is not None:
            state = machine.by_index[pc]
            name, ours, theirs = found
            self.said.append(
                f"{instance} at {state.label if state else pc}: local {name!r} is {ours} in the record, "
                f"{theirs} in the function"
            )
        return None

    def _unlike(self, twin: Twin, loaded: Mapping[str, Any]) -> tuple[str, str, str] | None:
        frame = cast(Any, twin.coroutine).cr_frame
        if frame is None:
            return None
        there: Mapping[str, Any] = frame.f_locals
        for name, value in loaded.items():
            if name in there and not alike(value, there[name]):
                return name, short(value), short(there[name])
        return None

    def _step(self, twin: Twin, pc: int, value: Any, thrown: BaseException | None) -> Ending:
        token = NATIVE.set(_Hands())
        try:
            if thrown is not None:
                op = twin.coroutine.throw(thrown)
            else:
                op = twin.coroutine.send(None if pc == 0 else value)
        except StopIteration as done:
            return Ending(value=done.value)
        except BaseException as why:  # noqa: BLE001  whatever the author's code raises
            return Ending(error=why)
        finally:
            NATIVE.reset(token)
        return Ending(op=op)

    def _compare(
        self, machine: Machine, twin: Twin, pc: int, left: Ending, right: Ending, effects: list[Any]
    ) -> None:
        own = twin.s._activation.effects  # pyright: ignore[reportPrivateUsage]
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


def told(effects: list[Any]) -> list[str]:
    """Immediate calls, in order."""
    return [f"says {e[0]} {short(e[1:], 2000)}" for e in effects if e[0] not in _QUIET]


def told_op(op: Op[Any]) -> str:
    """An operation with everything that both forms must give alike; undos by what they are."""
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


class Tape:
    """Chance, ids and time, the same for both forms of one stretch."""

    def __init__(self, now_ms: int) -> None:
        self.now_s = now_ms / 1000
        self._state = random.getstate()
        self._seed = random.Random(now_ms).getrandbits(64)

    @contextmanager
    def playing(self, fn: Callable[..., Any]) -> Generator[None]:
        """Names in the saga's module that mean chance or the clock give what stands on the tape."""
        random.setstate(self._state)
        draw = random.Random(self._seed)

        def uuid4() -> uuid.UUID:
            return uuid.UUID(int=draw.getrandbits(128), version=4)

        own = _clock(self.now_s)
        swapped: list[tuple[Any, str, Any]] = [(uuid, "uuid4", uuid.uuid4)]
        names: dict[str, Any] = inspect.unwrap(fn).__globals__
        for name, value in list(names.items()):
            found = uuid4 if value is uuid.uuid4 else own if value is datetime else None
            if found is not None:
                swapped.append((names, name, value))
                names[name] = found
        uuid.uuid4 = uuid4
        try:
            yield
        finally:
            for where, name, value in swapped:
                if isinstance(where, dict):
                    where[name] = value
                else:
                    setattr(where, name, value)


def _clock(now_s: float) -> type[datetime]:
    """`datetime` whose `now` is the test's; instances of the real one count as its own."""

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Clock(datetime, metaclass=Meta):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.fromtimestamp(now_s, tz)

        @classmethod
        def today(cls) -> Any:
            return datetime.fromtimestamp(now_s)

        @classmethod
        def utcnow(cls) -> Any:
            raise TypeError("datetime.utcnow() has no time zone: datetime.now(UTC)")

    Clock.__name__ = "datetime"
    return Clock
