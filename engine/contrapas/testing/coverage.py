"""Which states and transitions of each machine the tests have walked, and which none has.

A transition is an arrow of the drawn graph: from one state to the next, by what happened. Python's own line coverage stays
what it is; this tells of failures, expiries and undos that no test has tried. What is read are the records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from contrapas.core.envelope import Frame, InstanceRecord, Node
from contrapas.core.world import World
from contrapas.draw.edges import graph_of
from contrapas.draw.graph import START, Graph, shown
from contrapas.machine import Edge, Machine

Arrow = tuple[str, str, str]
"""source, target, cause"""
_BEGUN: Final = re.compile(r"undo\(begin\((.*)\)\)(?:#[0-9]+)?")
"""The undo of what was begun; the drawing names it by its step."""
_PASSED: Final = frozenset({"result", "next", "join", "compensate", "unwind"})
"""Kinds of states that may be passed within one transition, when what they wait for has ended already."""


@dataclass(slots=True)
class Walked:
    """One saga's graph, and what was walked of it."""

    machine: Machine
    graph: Graph
    states: set[str] = field(default_factory=set[str])
    arrows: set[Arrow] = field(default_factory=set[Arrow])
    undos: set[str] = field(default_factory=set[str])

    def all_undos(self) -> list[str]:
        """`undo(ChargeCard)` for every step that can be taken back."""
        return [f"undo({step})" for step, _ in self.graph.undos]

    def missing(self) -> Iterator[str]:
        """In words, in the order of the graph."""
        for label in self.graph.states:
            if label not in self.states:
                yield f"state       {label}"
        for edge in self.graph.edges:
            if edge.source in self.states | {START} and arrow_of(edge) not in self.arrows:
                yield f"transition  {edge.source} → {edge.target}{f'  {edge.cause}' if edge.cause else ''}"
        for label in self.all_undos():
            if label not in self.undos:
                yield f"undo        {label}"

    def classes(self) -> dict[str | tuple[str, str], str]:
        """`covered` or `missed` for every box and arrow of the picture. An arrow that stands for several transitions is
        covered when each of them was walked, an end when any way into it was."""
        found: dict[str | tuple[str, str], str] = {}
        for label in self.graph.states:
            found[label] = _word(label in self.states)
        for label in self.all_undos():
            found[label] = _word(label in self.undos)
        for edge in self.graph.edges:
            walked, ends = arrow_of(edge) in self.arrows, (shown(edge.source), shown(edge.target))
            found[ends] = _word(walked and found.get(ends) != "missed")
            for end in {edge.source, edge.target} - self.graph.states.keys():
                found[shown(end)] = _word(walked or found.get(shown(end)) == "covered")
        return found

    def counts(self) -> tuple[int, int]:
        """(walked, all): states, transitions and undos together."""
        everything = len(self.graph.states) + len(self.graph.edges) + len(self.graph.undos)
        return len(self.states) + len(self.arrows) + len(self.undos), everything


@dataclass(slots=True)
class Coverage:
    """What a session of tests has walked."""

    sagas: dict[str, Walked] = field(default_factory=dict[str, Walked])

    def knows(self, world: World) -> None:
        """These machines are under test. A machine that changed is another one: what was walked of the old is dropped."""
        for name, machine in world.machines.items():
            if name not in self.sagas or self.sagas[name].graph.graph != machine.graph:
                self.sagas[name] = Walked(machine, graph_of(machine))

    def walked(self, history: Iterable[InstanceRecord]) -> None:
        """Note the records of one test."""
        last: dict[str, InstanceRecord] = {}
        for record in history:
            before = last.get(record.instance)
            last[record.instance] = record
            if before is not None and before.version >= record.version:
                continue
            self._note(before, record)

    def _note(self, before: InstanceRecord | None, record: InstanceRecord) -> None:
        for frame in frames_of(record.root):
            if (mine := self.sagas.get(frame.saga)) is not None and frame.label in mine.graph.states:
                mine.states.add(frame.label)
            if mine is not None:
                mine.states |= {begun.label for begun in frame.begun} & mine.graph.states.keys()
        for operation in record.operations():
            label = _BEGUN.sub(r"undo(\1)", operation.label)
            saga = self.sagas.get(record.saga)
            for mine in (saga, *self.sagas.values()):
                if mine is not None and label in mine.all_undos():
                    mine.undos.add(label)
                    break
        old = list(leaves(before.root)) if before is not None else []
        new = list(leaves(record.root))
        if before is None:
            for frame in record.root.frames[:1]:
                self._arrow(frame.saga, START, frame.label, record)
            if not record.root.frames:
                self._arrow(record.saga, START, "", record)
        for frame in old:
            after = next((f for f in new if f.saga == frame.saga), None)
            if after is not frame and (after is None or after.label != frame.label or moved(before, record)):
                self._arrow(frame.saga, frame.label, "" if after is None else after.label, record)

    def _arrow(self, saga: str, source: str, target: str, record: InstanceRecord) -> None:
        mine = self.sagas.get(saga)
        if mine is None:
            return
        target = target or (f"return {record.outcome}" if record.outcome else "")
        leaving = [e for e in mine.graph.edges if e.source == source]
        there = [e for e in leaving if e.target == target]
        fitting = [e for e in there if fits(e, record)] or (there if len(there) == 1 else [])
        if not fitting and target:
            fitting = way(mine.graph, source, target, record)
            mine.states |= {e.target for e in fitting if e.target in mine.graph.states}
        if not fitting and not target:
            fitting = [e for e in leaving if e.target.startswith(("raise", "parked")) and fits(e, record)]
        mine.arrows |= {arrow_of(e) for e in fitting}


def _word(walked: bool) -> str:
    return "covered" if walked else "missed"


def arrow_of(edge: Edge) -> Arrow:
    """What tells one arrow from another."""
    return edge.source, edge.target, edge.cause


def fits(edge: Edge, record: InstanceRecord) -> bool:
    """Whether what caused a record is what the arrow says."""
    cause = record.cause
    if cause.kind == "timer":
        return edge.cause.startswith(("after", "until")) or not edge.cause
    if cause.kind == "operate":
        return edge.cause in ("cancel", "kill")
    if cause.kind == "result":
        return edge.failure == bool(cause.note)
    return not edge.cause or cause.type in edge.cause.replace("|", " ").split()


def way(graph: Graph, source: str, target: str, record: InstanceRecord) -> list[Edge]:
    """The shortest way through states that were passed within one transition; empty where there is none."""
    ways = [[e] for e in graph.edges if e.source == source]
    ways.sort(key=lambda way: not fits(way[0], record))
    met = {source}
    for walked in ways:
        at = walked[-1].target
        if at == target:
            return walked
        state = graph.states.get(at)
        if at not in met and state is not None and state.kind in _PASSED:
            met.add(at)
            ways += [[*walked, e] for e in graph.edges if e.source == at]
    return []


def moved(before: InstanceRecord | None, record: InstanceRecord) -> bool:
    """The operation in hand is another one than before, though its label may be the same."""
    if before is None:
        return True
    return {p.key for p in before.operations()} != {p.key for p in record.operations()}


def frames_of(node: Node) -> Iterator[Frame]:
    """Every frame of a record."""
    for frame in node.frames:
        yield frame
        for begun in frame.begun:
            yield from frames_of(begun.node)
    if node.join is not None:
        for child in node.join.children:
            yield from frames_of(child)


def leaves(node: Node) -> Iterator[Frame]:
    """The innermost frame of every line of execution."""
    if node.join is not None:
        for child in node.join.children:
            yield from leaves(child)
    for frame in node.frames:
        for begun in frame.begun:
            yield from leaves(begun.node)
    if node.frames:
        yield node.frames[-1]
