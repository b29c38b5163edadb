"""One instance over its machine: which boxes and arrows it has passed, where it is, what may still come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from contrapas.draw.graph import START, UNWINDS, Graph, shown
from contrapas.machine import Edge

Marks = Mapping["str | tuple[str, str]", str]
"""Class of a box by its label (an outcome by its name, an undo as `undo(X)`), of an arrow by (source, target).

`done now next failed undone` paint one instance, `covered missed` what tests have reached; others are kept as they are.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Travelled:
    """What the records of an instance tell about its way."""

    labels: tuple[str, ...]
    """States of the root's frame in the order of its transitions; a state entered again stands here again."""
    failed: frozenset[str] = frozenset()
    """States whose operation ended badly at its last visit."""
    undos: Mapping[str, str] = field(default_factory=dict[str, str])
    """`undo(X)` -> its class."""
    end: str = ""
    """Of an ended instance: its outcome, else its status; empty while it lives."""
    good: bool = False
    """It ended with an outcome."""


def marks(graph: Graph, way: Travelled) -> dict[str | tuple[str, str], str]:
    """Classes for every box and arrow: what was not passed is `next`, and grey."""
    names = (*graph.states, *map(shown, graph.targets), *(f"undo({of})" for of, _ in graph.undos))
    arrows = ((shown(e.source), shown(e.target)) for e in graph.edges)
    found: dict[str | tuple[str, str], str] = dict.fromkeys((*names, *arrows), "next")
    stops = [START, *(label for label in way.labels if label in graph.states)]
    if way.end:
        stops.append(_end(graph, way.end))
    for source, target in pairwise(stops):
        for edge in _between(graph, source, target, hurt=source in way.failed):
            found[shown(edge.source), shown(edge.target)] = "done"
            found[shown(edge.source)] = found[shown(edge.target)] = "done"
    found[START] = "done"
    found.update((label, "failed") for label in way.failed if label in graph.states)
    found.update(way.undos.items())
    if not way.end and len(stops) > 1:
        found[stops[-1]] = "now"
    elif way.end:
        found[shown(stops[-1])] = "done" if way.good else "failed"
    return found


def _end(graph: Graph, end: str) -> str:
    """The target that shows how an instance ended."""
    for target in graph.targets:
        if target in (f"return {end}", end):
            return target
    return next((t for t in graph.targets if t.startswith("raise")), end)


def _between(graph: Graph, source: str, target: str, *, hurt: bool) -> list[Edge]:
    """The shortest way between two stops, through states that only take back; those leave no operation behind."""
    out: dict[str, list[Edge]] = {}
    for edge in sorted(graph.edges, key=lambda e: e.failure != hurt):
        out.setdefault(edge.source, []).append(edge)
    ways: list[list[Edge]] = [[edge] for edge in out.get(source, ())]
    seen: set[str] = set()
    for way in ways:
        at = way[-1].target
        if at == target:
            return way
        state = graph.states.get(at)
        if at not in seen and state is not None and state.kind in UNWINDS:
            ways += [[*way, edge] for edge in out.get(at, ())]
        seen.add(at)
    return []


def walked(labels: Sequence[str], visits: Sequence[object]) -> tuple[str, ...]:
    """Labels of records without those in which the instance only stayed where it was: same label, same visit."""
    kept: list[str] = []
    for number, label in enumerate(labels):
        if label and (number == 0 or (label, visits[number]) != (labels[number - 1], visits[number - 1])):
            kept.append(label)
    return tuple(kept)
