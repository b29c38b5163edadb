"""Hand-made machines: a saga as a list of awaits with at most one handler, in the form the compiler generates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contrapas.author.op import Op
from contrapas.codec.registry import Registry
from contrapas.machine import AWAIT, DONE, Machine, Slot, State, Undo

Env = dict[str, Any]
Make = Callable[[Env, Any], Op[Any]]


@dataclass(frozen=True, kw_only=True)
class Await:
    """One await: its label, the operation from the locals, the local its value goes to, where a failure goes on."""

    label: str
    op: Make
    kind: str = "command"
    into: str = "_"
    catch: tuple[type[BaseException], ...] = ()
    handler: int = -1
    """Index (from 0) of the await to go on with when one of `catch` is raised; the exception is bound to `why`."""
    handling: tuple[str, ...] = ()
    then: Callable[[Env, Any], int | None] | None = None
    """After the value came: the index to go on with, None: the next."""


def machine(
    name: str,
    awaits: list[Await],
    registry: Registry,
    *,
    slots: Mapping[str, Any],
    param: str = "order",
    result: Callable[[Env, Any], Any] = lambda env, s: None,
    result_type: Any = None,
    undos: Mapping[str, Undo] | None = None,
    later: Mapping[str, frozenset[str]] | None = None,
    graph: str = "g1",
    **more: Any,
) -> Machine:
    """A machine whose function does what generated code does: bind, run to the next await, give the slots back."""
    made = {n: _slot(n, tp, registry) for n, tp in slots.items()}
    order = tuple(made)

    def function(
        pc: int, value: Any, thrown: BaseException | None, given: Mapping[str, Any], s: Any, *ambients: Any
    ) -> tuple[Any, ...]:
        env: Env = dict(given)
        at = 0
        if pc:
            came = awaits[pc - 1]
            at = pc
            if thrown is not None:
                if not isinstance(thrown, came.catch):
                    raise thrown
                env["why"], at = thrown, came.handler
            else:
                env[came.into] = value
                if came.then is not None:
                    chosen = came.then(env, s)
                    at = at if chosen is None else chosen
        if at >= len(awaits):
            return (DONE, result(env, s))
        op = awaits[at].op(env, s)
        return (AWAIT, at + 1, op, {n: v for n, v in env.items() if n in made})

    states = {
        a.label: State(
            label=a.label,
            kind=a.kind,
            index=i + 1,
            operation=a.label,
            slots=order,
            touches=frozenset(order),
            handling=a.handling,
        )
        for i, a in enumerate(awaits)
    }
    return Machine(
        name=name,
        graph=graph,
        params=(made[param],) if param else (),
        starts=("OrderPlaced",),
        result=None if result_type is None else registry.codec(result_type),
        states=states,
        slots=made,
        undos=undos or {},
        later=later or {},
        function=function,
        **more,
    )


def _slot(name: str, tp: Any, registry: Registry) -> Slot:
    codec = registry.codec(tp)
    return Slot(name=name, type_text=str(tp), codec=codec, frozen=codec.frozen)


def undo_of(
    of: str,
    function: Callable[[Mapping[str, Any], Any, Any], Any],
    *,
    captures: tuple[Slot, ...] = (),
    reads: bool = True,
) -> Undo:
    """A compiled `undo=lambda`."""
    return Undo(label=f"undo({of})", of=of, needs_reply=reads, captures=captures, function=function)
