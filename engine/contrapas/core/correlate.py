"""Which instances an event is for: by address, by the saga's key, by starting them, or a rendezvous, or nobody.

An event never goes to the void: it has targets, or it meets at a rendezvous, or it is dead (with the code that says why).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from contrapas.core.decode import Arrival
from contrapas.core.partition import ITEM, home_of
from contrapas.core.world import Types, World
from contrapas.machine import Machine

ABSENT, LIVE, ENDED = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Who takes which type, computed once from the machines."""

    sagas: tuple[str, ...]
    starts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    takes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Type -> sagas that take it in some state, called sagas included."""
    replies: frozenset[str] = frozenset()
    """Replies of any registered command: an undo may expect them though no state names them."""
    early: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Saga -> types it may collect at its start."""

    def mentions(self, type_name: str) -> bool:
        """Some saga starts by it, takes it, or may be answered with it."""
        return type_name in self.starts or type_name in self.takes or type_name in self.replies


@dataclass(frozen=True, slots=True)
class Targets:
    """Where an arrival goes. Nothing at all: `dead` says why."""

    instances: tuple[str, ...] = ()
    """Existing ones."""
    starts: tuple[str, ...] = ()
    """To be started, or asked whether they were started by this very event."""
    waits: str = ""
    """Record key of the rendezvous, if it goes there when no instance takes it."""
    dead: str = ""


def routes_of(world: World, commands: Collection[str] | None = None) -> Routes:
    """Read the machines of a world. commands: those the sagas may send; None: every registered one."""
    starts: dict[str, list[str]] = {}
    takes: dict[str, list[str]] = {}
    early: dict[str, tuple[str, ...]] = {}
    replies = replies_of(world.types, commands)
    for saga, (mode, _) in world.modes.items():
        machine = world.machines[saga]
        for name in machine.starts:
            starts.setdefault(name, []).append(saga)
        taken = _taken(machine, world.machines, set())
        for (name, _), kept in world.kept.items():
            if name == saga or name not in world.modes:
                taken |= _taken(kept, world.machines, set())
        if mode == "observe":  # whoever takes steps back out there answers in its own words
            taken |= replies
        early[saga] = tuple(sorted(taken))
        for name in sorted(taken):
            takes.setdefault(name, []).append(saga)
    return Routes(
        sagas=tuple(world.modes),
        starts={n: tuple(s) for n, s in starts.items()},
        takes={n: tuple(s) for n, s in takes.items()},
        replies=replies,
        early=early,
    )


def replies_of(types: Types, commands: Collection[str] | None = None) -> frozenset[str]:
    """Every type that answers one of these commands."""
    asked = [m for m in types.messages.values() if commands is None or m.name in commands]
    return frozenset(reply for message in asked for reply in message.replies)


def correlate(a: Arrival, routes: Routes, standing: Callable[[str], int]) -> Targets:
    """Address one arrival. standing: instance -> ABSENT, LIVE or ENDED, on this partition."""
    if a.kind in ("bind", "unbind", "delivered"):
        return Targets(waits="$wait")
    if a.to or (a.in_reply_to and a.kind == "reply"):
        return _addressed(a, routes, standing)
    return _by_key(a, routes, standing)


def _addressed(a: Arrival, routes: Routes, standing: Callable[[str], int]) -> Targets:
    to = a.to or a.headers.get("ce_correlationid", b"").decode(errors="replace")
    if not to:
        return _by_key(a, routes, standing)
    saga, _, key = to.partition("/")
    if key != a.key or to[:1] == "$":  # a rendezvous or an item is no instance
        return Targets(dead="CP413")
    if a.kind == "start" and ITEM in to:  # items begin with the record of their map, and no other way
        return Targets(dead="CP413")
    if a.kind == "start":
        return Targets(starts=(to,)) if saga in routes.starts.get(a.type, ()) else Targets(dead="CP402")
    if standing(to) != ABSENT:
        return Targets(instances=(to,))
    while a.kind in ("reply", "bound", "deliver") and (home := home_of(to)):  # an item that is no more
        to = home
        if standing(to) != ABSENT:
            return Targets(instances=(to,))
    if a.kind == "signal" and saga in routes.takes.get(a.type, ()):
        return Targets(waits=f"$wait/{a.type}/{a.key}")
    if a.kind in ("query", "operate", "bound", "deliver"):
        return Targets(instances=(to,))
    return Targets(dead="CP414")


def _by_key(a: Arrival, routes: Routes, standing: Callable[[str], int]) -> Targets:
    if ITEM in a.key:
        return Targets(dead="CP413")
    starts = tuple(f"{saga}/{a.key}" for saga in routes.starts.get(a.type, ()))
    live: list[str] = []
    ended: list[str] = []
    takers = routes.takes.get(a.type, ())
    for saga in routes.sagas if a.type in routes.replies else takers:
        name = f"{saga}/{a.key}"
        if name in starts:
            continue
        where = standing(name)
        if where == LIVE and (saga in takers or len(routes.sagas) == 1):
            live.append(name)
        elif where != ABSENT:
            ended.append(name)
    if live or starts:
        return Targets(
            instances=tuple(live), starts=starts, waits=f"$wait/{a.type}/{a.key}" if takers else ""
        )
    if ended:
        return Targets(instances=tuple(ended[:1]), waits=f"$wait/{a.type}/{a.key}" if takers else "")
    if a.kind == "reply" and a.in_reply_to:
        return Targets(dead="CP414")
    if takers:
        return Targets(waits=f"$wait/{a.type}/{a.key}")
    return Targets(dead="CP414" if a.type in routes.replies else "CP402")


def _taken(machine: Machine, machines: Mapping[str, Machine], done: set[str]) -> set[str]:
    done.add(machine.name)
    found: set[str] = set()
    for types in machine.later.values():
        found |= types
    for state in machine.states.values():
        found.update(state.takes)
        found.update(state.replies)
        if state.kind == "frame" or state.operation.startswith("map saga "):
            called = state.operation.rsplit(" ", 1)[-1]
            if called in machines and called not in done:
                found |= _taken(machines[called], machines, done)
    return found
