"""The choreography of an app, from annotations alone: who sends what to whom; who is outside is named by its topic."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contrapas.author.event import Event, message_spec
from contrapas.author.external import External
from contrapas.author.service import Service
from contrapas.draw.edges import program_of
from contrapas.draw.scheme import BOX_CHARS, BOX_LINES, Arrow, Node, Scheme, label_of, wrapped
from contrapas.machine import Machine, trees
from contrapas.machine.ir import Program, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One who sends or takes messages: a function of a service, a saga, or somebody outside."""

    id: str
    name: str
    lane: str
    """The service, the saga, or the outside participant that it belongs to."""
    kind: str
    """`service`, `saga` or `outside`."""
    mode: str = ""
    """Of a saga: `orchestrate` or `observe`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One type of message on its way."""

    name: str
    topic: str
    command: bool
    sources: tuple[str, ...]
    """Ids of actors."""
    targets: tuple[str, ...]
    failure: bool = False
    """It answers a command badly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choreography:
    """Who sends what to whom in one app."""

    namespace: str
    actors: tuple[Actor, ...]
    messages: tuple[Message, ...]
    starts: tuple[tuple[str, str], ...] = ()
    """(saga, saga it starts as a child)."""


@dataclass(slots=True)
class _Traffic:
    """Messages while they are collected, in order of first mention."""

    classes: dict[type[Event], None] = field(default_factory=dict[type[Event], None])
    sources: dict[type[Event], list[str]] = field(default_factory=dict[type[Event], list[str]])
    targets: dict[type[Event], list[str]] = field(default_factory=dict[type[Event], list[str]])

    def note(self, cls: type[Event], actor: str, *, sends: bool) -> None:
        self.classes.setdefault(cls)
        ends = (self.sources if sends else self.targets).setdefault(cls, [])
        if actor not in ends:
            ends.append(actor)


def choreography(
    namespace: str,
    machines: Mapping[str, Machine],
    modes: Sequence[tuple[str, str, str]],
    services: Iterable[Service],
    externals: Iterable[External] = (),
) -> Choreography:
    """modes: (saga, `orchestrate` or `observe`, its `on_late`). A saga that is only called belongs to its caller."""
    externals = tuple(externals)
    traffic = _Traffic()
    actors: list[Actor] = []
    starts: list[tuple[str, str]] = []
    for saga, mode, on_late in modes:
        actors.append(Actor(id=saga, name=saga, lane=saga, kind="saga", mode=mode))
        sends, takes, children = _of_saga(machines, saga)
        starts += [(saga, child) for child in children]
        for cls in takes:
            traffic.note(cls, saga, sends=False)
        for cls, undo in sends:
            if mode == "orchestrate" or (undo and on_late == "compensate"):
                traffic.note(cls, saga, sends=True)
    for service in services:
        for reaction in service.reactions.values():
            actors.append(
                Actor(id=reaction.name, name=reaction.fn.__name__, lane=service.name, kind="service")
            )
            traffic.note(reaction.message, reaction.name, sends=False)
            for cls in reaction.emits:
                traffic.note(cls, reaction.name, sends=True)
    for external in externals:
        who = f"outside {external.name}"
        for cls in external.takes:
            traffic.note(cls, who, sends=False)
        for cls in external.emits:
            traffic.note(cls, who, sends=True)
    outside = list(dict.fromkeys((*[e.name for e in externals], *_outside(traffic))))
    return Choreography(
        namespace=namespace,
        actors=(*actors, *(Actor(id=f"outside {n}", name=n, lane=n, kind="outside") for n in outside)),
        messages=tuple(_message(traffic, cls) for cls in traffic.classes),
        starts=tuple(s for s in starts if any(a.id == s[1] for a in actors)),
    )


def scheme_of_all(made: Choreography) -> Scheme:
    """The picture of a choreography: one lane for each saga, service and outside participant."""
    lanes = list(dict.fromkeys((a.kind == "outside", a.lane) for a in made.actors))
    lanes.sort(key=lambda lane: lane[0])
    nodes = [_node(actor, lanes.index((actor.kind == "outside", actor.lane))) for actor in made.actors]
    nodes.sort(key=lambda node: not node.id.startswith("outside"))
    grouped: dict[tuple[str, str], list[Message]] = {}
    for message in made.messages:
        for source in message.sources:
            for target in message.targets:
                if source != target:
                    grouped.setdefault((source, target), []).append(message)
    arrows = [
        Arrow(
            source=source,
            target=target,
            lines=label_of([m.name for m in messages]),
            title=f"{source} → {target}: {' | '.join(m.name for m in messages)}",
            failure=all(m.failure for m in messages),
        )
        for (source, target), messages in grouped.items()
    ]
    arrows += [
        Arrow(source=a, target=b, lines=("starts",), title=f"{a} starts {b}")
        for a, b in made.starts
        if (a, b) not in grouped
    ]
    sagas = sum(a.kind == "saga" for a in made.actors)
    services = len({a.lane for a in made.actors if a.kind == "service"})
    return Scheme(
        title=made.namespace,
        about=f"choreography: sagas {sagas}, services {services}, messages {len(made.messages)}",
        nodes=tuple(nodes),
        arrows=tuple(arrows),
        lanes=tuple(name for _, name in lanes),
    )


def _node(actor: Actor, lane: int) -> Node:
    words = wrapped(actor.name, BOX_CHARS, BOX_LINES)
    about = {"saga": f"saga {actor.name}, {actor.mode}", "outside": f"outside of this app: {actor.name}"}
    return Node(
        id=actor.id,
        lines=words if actor.mode != "observe" else (*words, "(observes)"),
        title=about.get(actor.kind, f"service {actor.lane}: {actor.name}"),
        kind=actor.kind,
        shape="frame" if actor.kind == "saga" else "box",
        lane=lane,
    )


def _message(traffic: _Traffic, cls: type[Event]) -> Message:
    spec = message_spec(cls)
    replies = [message_spec(c).replies for c in traffic.classes if message_spec(c).command]
    return Message(
        name=spec.name,
        topic=spec.topic,
        command=spec.command,
        sources=tuple(traffic.sources.get(cls, ())),
        targets=tuple(traffic.targets.get(cls, ())),
        failure=any(cls in told[1:] for told in replies) and not any(cls in told[:1] for told in replies),
    )


def _outside(traffic: _Traffic) -> list[str]:
    """Give what nobody here sends a sender, what nobody here takes a taker, and commands without an answer one."""
    found: dict[str, None] = {}
    for cls in list(traffic.classes):
        spec = message_spec(cls)
        if spec.command and cls not in traffic.targets:
            for reply in spec.replies:
                traffic.classes.setdefault(reply)
    for cls in traffic.classes:
        name = _owner(message_spec(cls).topic)
        for ends, sends in ((traffic.sources, True), (traffic.targets, False)):
            if cls not in ends:
                found.setdefault(name)
                traffic.note(cls, f"outside {name}", sends=sends)
    return list(found)


def _owner(topic: str) -> str:
    """Who a topic belongs to: `payments` of `payments.commands`; what has none comes through our own door."""
    return topic.rpartition(".")[0] or topic or "in"


def _of_saga(
    machines: Mapping[str, Machine], saga: str
) -> tuple[list[tuple[type[Event], bool]], list[type[Event]], list[str]]:
    """What a saga sends (class, whether an undo does), what it takes, whom it starts; called sagas are part of it."""
    sends: dict[tuple[type[Event], bool], None] = {}
    takes: dict[type[Event], None] = {}
    children: dict[str, None] = {}
    todo = {saga: None}
    for name in iter(list_of := [saga]):
        machine = machines.get(name)
        if machine is None:
            continue
        program = program_of(machine)
        if name == saga:
            _first_and_last(program, sends, takes)
        for cls, undo in _sent(program):
            sends.setdefault((cls, undo))
            for reply in message_spec(cls).replies:
                takes.setdefault(reply)
        for site in _flat(program.sites):
            for cls in site.takes():
                if _is_message(cls):
                    takes.setdefault(cls)
            called = str(getattr(site.target, "name", ""))
            if site.kind == "child" and called in machines:
                children.setdefault(called)
            elif called in machines and called not in todo:
                todo[called] = None
                list_of.append(called)
    return list(sends), list(takes), list(children)


def _first_and_last(
    program: Program, sends: dict[tuple[type[Event], bool], None], takes: dict[type[Event], None]
) -> None:
    first = program.hints.get(program.params[0]) if program.params else None
    for cls in _members(first):
        takes.setdefault(cls)
    for cls in _members(program.hints.get("return")):
        sends.setdefault((cls, False))


def _members(hint: Any) -> Iterator[type[Event]]:
    for member in getattr(hint, "__args__", None) or (hint,):
        if _is_message(member):
            yield member


def _sent(program: Program) -> Iterator[tuple[type[Event], bool]]:
    """Messages that are made inside of a call on the saga: `s.step(ChargeCard(…), undo=…)`, `s.emit(…)`."""
    for node in trees.walk(program.node):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == program.saga_name):
            continue
        undos = [inner for k in node.keywords if k.arg == "undo" for inner in trees.walk(k.value)]
        for inner in trees.walk(node):
            if isinstance(inner, ast.Call) and inner is not node:
                cls = _resolved(program, inner.func)
                if _is_message(cls):
                    yield cls, inner in undos

    for undo in program.undos:
        for inner in trees.walk(undo.body):
            if isinstance(inner, ast.Call):
                cls = _resolved(program, inner.func)
                if _is_message(cls):
                    yield cls, True


def _resolved(program: Program, node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return None if node.id in program.locals else program.namespace.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_resolved(program, node.value), node.attr, None)
    return None


def _is_message(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Event) and bool(getattr(cls, "__contrapas_name__", ""))


def _flat(sites: Iterable[Site]) -> Iterator[Site]:
    for site in sites:
        yield site
        yield from _flat(site.children)
