"""Runs one saga natively under asyncio and compiled, state to bytes and back after every transition, and compares."""

from __future__ import annotations

import asyncio
import copy
import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contrapas.author.op import NATIVE, Op, UndoRef
from contrapas.author.saga import Activation, Saga, SagaDef
from contrapas.codec.registry import Registry
from contrapas.codec.slots import dump_slots, load_slots
from contrapas.compiler import compile_all
from contrapas.errors import StepFailed
from contrapas.machine import AWAIT, Machine, Refusal, State

Script = Callable[[Op[Any], int], Any]
LOG: list[tuple[Any, ...]] = []


def log(*what: Any) -> Any:
    """Called by sagas under test: notes its arguments and the exception being handled; gives its last argument."""
    exc = sys.exc_info()[1]
    noted = [chain(w) if isinstance(w, BaseException) else repr(w) for w in what]
    LOG.append((*noted, chain(exc)))
    return what[-1] if what else None


def chain(exc: BaseException | None, depth: int = 6) -> Any:
    """An exception as data: type, arguments, cause, context, suppress flag, attributes."""
    if exc is None or depth == 0:
        return None
    return (
        type(exc).__name__,
        exc.args,
        chain(exc.__cause__, depth - 1),
        chain(exc.__context__, depth - 1),
        exc.__suppress_context__,
    )


@dataclass
class Run:
    """What a run did."""

    result: Any = None
    error: Any = None
    operations: list[Any] = field(default_factory=list[Any])
    logged: list[Any] = field(default_factory=list[Any])
    effects: list[Any] = field(default_factory=list[Any])
    states: list[str] = field(default_factory=list[str])


def told(op: Op[Any]) -> Any:
    """An operation as data."""
    return (op.kind, op.name, repr(op.value), op.within_ms, tuple(told(c) for c in op.children))


def outcome(op: Op[Any], number: int, script: Script, run: Run) -> Any:
    """What an operation gives, or raises."""
    if op.kind in ("all", "first"):
        results = [_value(script, c, number, i) for i, c in enumerate(op.children)]
        failed = [r for r in results if isinstance(r, BaseException)]
        if op.kind == "first":
            return results[0]
        if failed:
            return failed[0]
        return results if op.listed else tuple(results)
    return _value(script, op, number, 0)


def _value(script: Script, op: Op[Any], number: int, position: int) -> Any:
    value = script(op, number)
    several: list[Any] = value if value.__class__ is list and op.kind != "local" else []
    return several[position] if position < len(several) else value


class Native:
    """The runner of a plain asyncio run."""

    def __init__(self, script: Script, run: Run, sagas: Mapping[str, SagaDef[..., Any]], s: Saga) -> None:
        self.script, self.run, self.sagas, self.s = script, run, sagas, s

    async def perform(self, op: Op[Any]) -> Any:
        if op.kind == "frame":
            args, kwargs = op.value
            return await self.sagas[op.name].fn(self.s, *args, **kwargs)
        self.run.operations.append(told(op))
        value = outcome(op, len(self.run.operations), self.script, self.run)
        await asyncio.sleep(0)
        if isinstance(value, BaseException):
            raise value
        return value


def native(saga: SagaDef[..., Any], args: tuple[Any, ...], script: Script, sagas: Mapping[str, Any]) -> Run:
    """As a coroutine."""
    run = Run()
    LOG.clear()
    activation = Activation("k", "saga/k")
    s = Saga(activation)

    async def go() -> Any:
        token = NATIVE.set(Native(script, run, sagas, s))
        try:
            return await saga.fn(s, *args)
        finally:
            NATIVE.reset(token)

    loop = asyncio.new_event_loop()
    try:
        run.result = loop.run_until_complete(go())
    except BaseException as why:  # noqa: BLE001  whatever it raises is what is compared
        run.error = chain(why)
    finally:
        loop.close()
    run.logged, run.effects = list(LOG), list(activation.effects)
    return run


@dataclass
class Standing:
    """One frame of a compiled run."""

    machine: Machine
    state: State | None
    texts: dict[str, str]
    fresh: dict[str, Any]


def compiled(machines: Mapping[str, Machine], name: str, args: tuple[Any, ...], script: Script) -> Run:
    """As a machine, everything through bytes."""
    run = Run()
    LOG.clear()
    activation = Activation("k", "saga/k")
    s = Saga(activation)
    machine = machines[name]
    assert machine.bind is not None
    frames = [Standing(machine, None, {}, machine.bind(*args))]
    value: Any = None
    thrown: BaseException | None = None
    try:
        while frames:
            frame = frames[-1]
            try:
                answer = step(frames, value, thrown, s)
            except BaseException as why:
                frames.pop()
                value, thrown = None, why
                if not frames:
                    raise
                continue
            value = thrown = None
            if answer[0] != AWAIT:
                value = answer[1]
                frames.pop()
                continue
            keep(frame, answer[1], answer[3])
            assert frame.state is not None
            run.states.append(frame.state.label)
            op = answer[2]
            if op.kind == "frame":
                callee = machines[op.name]
                assert callee.bind is not None
                try:
                    frames.append(Standing(callee, None, {}, callee.bind(*op.value[0], **op.value[1])))
                except TypeError as why:
                    thrown = why
                continue
            run.operations.append(told(op))
            value = outcome(op, len(run.operations), script, run)
            if isinstance(value, BaseException):
                value, thrown = None, value
        run.result = value
    except BaseException as why:  # noqa: BLE001  whatever it raises is what is compared
        run.error = chain(why)
    run.logged, run.effects = list(LOG), list(activation.effects)
    return run


def step(frames: list[Standing], value: Any, thrown: BaseException | None, s: Saga) -> Any:
    """One stretch of the innermost frame, inside the exception that its callers handle."""
    frame = frames[-1]
    function = frame.machine.function
    assert function is not None
    if frame.state is None:
        args: tuple[Any, ...] = (0, None, None, frame.fresh, s)
    else:
        state = frame.state
        texts = {n: t for n, t in frame.texts.items() if n in state.touches}
        args = (state.index, value, thrown, load_slots(texts, frame.machine.slots, state.shared), s)
    for caller in reversed(frames[:-1]):
        assert caller.state is not None
        for name in reversed(caller.state.handling):
            if name in caller.texts:
                outer = load_slots({name: caller.texts[name]}, caller.machine.slots, ())[name]
                context = outer.__context__
                try:
                    raise outer
                except BaseException:  # noqa: BLE001
                    outer.__context__ = context
                    return function(*args)
    return function(*args)


def keep(frame: Standing, index: int, out: dict[str, Any]) -> None:
    """The state after a stretch, as bytes."""
    state = frame.machine.by_index[index]
    assert state is not None
    before = frame.state
    kept = {} if before is None else {n: t for n, t in frame.texts.items() if n not in before.touches}
    assert set(out) <= set(state.slots), (out, state.slots)
    texts = {**kept, **dump_slots(out, frame.machine.slots, state.shared)}
    frame.texts = {n: texts[n] for n in state.slots if n in texts}
    frame.state = state


@functools.cache
def machines_of(*sagas: SagaDef[..., Any]) -> dict[str, Machine]:
    """Compile; an assertion shows every refusal."""
    done = compile_all(sagas, registry=Registry(), anew=True)
    assert not done.refusals, "\n".join(f"{r.place} {r.code} {r.text}" for r in done.refusals)
    return done.machines


def refusals_of(saga: SagaDef[..., Any], **options: Any) -> list[Refusal]:
    """Refusals and warnings of one saga."""
    done = compile_all([saga], registry=Registry(), anew=True, **options)
    return [*done.refusals, *done.warnings]


def same(
    saga: SagaDef[..., Any], script: Script, *args: Any, others: tuple[SagaDef[..., Any], ...] = ()
) -> Run:
    """Run both ways, compare everything, give the compiled run."""
    machines = machines_of(saga, *others)
    sagas = {x.name: x for x in (saga, *others)}
    left = native(saga, copy.deepcopy(args), script, sagas)
    right = compiled(machines, saga.name, copy.deepcopy(args), script)
    assert right.operations == left.operations
    assert right.logged == left.logged
    assert right.error == left.error
    assert right.result == left.result
    assert right.effects == left.effects
    return right


def numbers(op: Op[Any], number: int) -> Any:
    """A script: the n-th operation gives n."""
    return number


def failing(*which: int) -> Script:
    """A script: these operations fail, the n-th other one gives n."""

    def script(op: Op[Any], number: int) -> Any:
        return StepFailed(f"no {number}") if number in which else number

    return script


__all__ = [
    "Run",
    "UndoRef",
    "compiled",
    "failing",
    "log",
    "machines_of",
    "native",
    "numbers",
    "refusals_of",
    "same",
]


def echo(*which: int) -> Script:
    """A script: every local step gives its first argument, except these operations, which fail."""

    def script(op: Op[Any], number: int) -> Any:
        if number in which:
            return StepFailed(f"no {number}")
        return op.value[0][0] if op.kind == "local" and op.value[0] else number

    return script


def every(count: int) -> list[tuple[int, ...]]:
    """Which operations fail: none, each one, each two of the first `count`."""
    single = [(i,) for i in range(1, count + 1)]
    double = [(i, j) for i in range(1, count + 1) for j in range(i + 1, count + 1)]
    return [(), *single, *double]
