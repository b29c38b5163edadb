"""Machines written by hand, in the shape the compiler gives them, so that the runtime is tested without it."""

from __future__ import annotations

from typing import Any

from contrapas.author.event import Command, Event
from contrapas.author.op import Op
from contrapas.author.step import step
from contrapas.codec.registry import Registry
from contrapas.core.world import World
from contrapas.machine import AWAIT, DONE, Machine, Slot, State
from contrapas.runtime.definition import Definition


class Began(Event, topic="seq.events", key="id"):
    id: str
    n: int


class Ended(Event, topic="seq.events", key="id"):
    id: str
    sum: int


class Go(Event, topic="seq.events", key="id"):
    id: str


class Done(Event, topic="pay.events", key="id"):
    id: str


class Refused(Event, topic="pay.events", key="id"):
    id: str


class Pay(Command[Done, Refused], topic="pay.commands", key="id"):
    id: str


CALLS: list[int] = []


@step(undo=None)
async def one(i: int) -> int:
    CALLS.append(i)
    return 1


def _seq(pc: int, value: Any, thrown: BaseException | None, slots: dict[str, Any], s: Any) -> tuple[Any, ...]:
    if thrown is not None:
        raise thrown
    if pc == 0:
        slots = {**slots, "i": 0}
    else:
        slots = {**slots, "i": slots["i"] + value}
    if slots["i"] == slots["e"].n:
        return (DONE, Ended(id=slots["e"].id, sum=slots["i"]))
    return (AWAIT, 1, one(slots["i"]), slots)


def _wait(
    pc: int, value: Any, thrown: BaseException | None, slots: dict[str, Any], s: Any
) -> tuple[Any, ...]:
    if thrown is not None:
        raise thrown
    if pc == 0:
        return (AWAIT, 1, s.wait(Go), slots)
    return (DONE, Ended(id=slots["e"].id, sum=slots["e"].n))


def _pay(pc: int, value: Any, thrown: BaseException | None, slots: dict[str, Any], s: Any) -> tuple[Any, ...]:
    if thrown is not None:
        raise thrown
    if pc == 0:
        return (AWAIT, 1, s.step(Pay(id=slots["e"].id), within="30s"), slots)
    return (DONE, Ended(id=slots["e"].id, sum=slots["e"].n))


def world_of(*names: str, mode: str = "orchestrate", namespace: str = "t") -> World:
    """A world with `seq` (n local steps), `wait` (for Go) and `pay` (one command)."""
    registry = Registry()
    for cls in (Began, Ended, Go, Pay):
        registry.add_message(cls)
    registry.add_step(one)
    machines = {
        "seq": _machine(registry, "seq", _seq, _state("one", "local", "one", slots=("e", "i")), ("e", "i")),
        "wait": _machine(
            registry, "wait", _wait, _state("wait(Go)", "wait", "Go", takes=("Go",)), ("e",), {"Go"}
        ),
        "pay": _machine(
            registry, "pay", _pay, _state("Pay", "command", "Pay", replies=("Done", "Refused")), ("e",)
        ),
    }
    return World(
        namespace=namespace,
        machines=machines,
        types=registry,
        modes={n: (mode, "alert") for n in names or ("seq", "wait", "pay")},
        ambient=lambda machine: (),
    )


def definition_of(namespace: str = "t", **more: Any) -> Definition:
    """A definition around such a world."""
    return Definition(namespace=namespace, **more)


def _state(
    label: str,
    kind: str,
    name: str,
    *,
    slots: tuple[str, ...] = ("e",),
    takes: tuple[str, ...] = (),
    replies: tuple[str, ...] = (),
) -> State:
    return State(
        label=label,
        kind=kind,
        index=1,
        operation=f"step {name}",
        slots=slots,
        touches=frozenset(slots),
        takes=takes,
        replies=replies,
    )


def _machine(
    registry: Registry,
    name: str,
    function: Any,
    state: State,
    slots: tuple[str, ...],
    later: set[str] | None = None,
) -> Machine:
    e = Slot(name="e", codec=registry.codec(Began), type_text="Began", frozen=True)
    i = Slot(name="i", codec=registry.codec(int), type_text="int", frozen=True)
    found = {"e": e, "i": i}
    return Machine(
        name=name,
        graph=f"{name}-graph",
        params=(e,),
        starts=("Began",),
        result=registry.codec(Ended),
        outcomes=("Ended",),
        states={state.label: state},
        by_index=(None, state),
        slots={n: found[n] for n in slots},
        later={"START": frozenset(later or ())},
        function=function,
    )


__all__ = [
    "CALLS",
    "Began",
    "Done",
    "Ended",
    "Go",
    "Op",
    "Pay",
    "Refused",
    "definition_of",
    "one",
    "world_of",
]
