"""A layered layout: cycles broken by depth-first search, longest-path layers, dummies for long arrows, four sweeps.

Deterministic: nodes and arrows are visited in the order given, ties keep it. The way forward (`spine`) keeps the first
column, so it runs straight down; everything else stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Arrow = tuple[str, str]


@dataclass(slots=True)
class Layout:
    """Where things stand, in layers and columns; the drawing turns them into pixels."""

    layer: dict[str, int] = field(default_factory=dict[str, int])
    column: dict[str, int] = field(default_factory=dict[str, int])
    ways: dict[Arrow, tuple[str, ...]] = field(default_factory=dict[Arrow, tuple[str, ...]])
    """Arrow -> nodes it passes, ends included, in the arrow's own direction; dummies are named `~n`."""

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return max(self.layer.values(), default=-1) + 1


def layout(nodes: Sequence[str], arrows: Sequence[Arrow], *, spine: frozenset[str]) -> Layout:
    """Place `nodes`; `arrows` between equal ends are left out (the drawing makes a loop of them)."""
    distinct = tuple(dict.fromkeys(a for a in arrows if a[0] != a[1]))
    turned = _back_arrows(nodes, distinct)
    forward = [((b, a) if (a, b) in turned else (a, b)) for a, b in distinct]
    made = Layout(layer=_longest_paths(nodes, forward))
    links = _with_dummies(made, distinct, turned)
    _order(made, links, spine)
    return made


def _back_arrows(nodes: Sequence[str], arrows: Sequence[Arrow]) -> frozenset[Arrow]:
    """Arrows that close a cycle in a depth-first walk in the given order."""
    out: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in arrows:
        out[source].append(target)
    state: dict[str, int] = {}
    back: set[Arrow] = set()
    for root in nodes:
        if root in state:
            continue
        state[root] = 1
        stack = [(root, iter(out[root]))]
        while stack:
            node, targets = stack[-1]
            following = next(targets, None)
            if following is None:
                state[node] = 2
                stack.pop()
            elif state.get(following) == 1:
                back.add((node, following))
            elif following not in state:
                state[following] = 1
                stack.append((following, iter(out[following])))
    return frozenset(back)


def _longest_paths(nodes: Sequence[str], arrows: Sequence[Arrow]) -> dict[str, int]:
    """Layer of each node: the longest way to it."""
    incoming: dict[str, int] = dict.fromkeys(nodes, 0)
    out: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in arrows:
        incoming[target] += 1
        out[source].append(target)
    layer = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if not incoming[node]]
    for node in ready:
        for target in out[node]:
            layer[target] = max(layer[target], layer[node] + 1)
            incoming[target] -= 1
            if not incoming[target]:
                ready.append(target)
    return layer


def _with_dummies(made: Layout, arrows: Sequence[Arrow], turned: frozenset[Arrow]) -> list[Arrow]:
    """Cut arrows over several layers into links of one layer each."""
    links: list[Arrow] = []
    count = 0
    for arrow in arrows:
        top, bottom = (arrow[1], arrow[0]) if arrow in turned else arrow
        way = [top]
        for layer in range(made.layer[top] + 1, made.layer[bottom]):
            dummy = f"~{count}"
            count += 1
            made.layer[dummy] = layer
            way.append(dummy)
        way.append(bottom)
        links += list(pairwise(way))
        made.ways[arrow] = tuple(reversed(way)) if arrow in turned else tuple(way)
    return links


def _order(made: Layout, links: Sequence[Arrow], spine: frozenset[str]) -> None:
    """Columns by four barycentre sweeps; the spine keeps column 0."""
    rows: list[list[str]] = [[] for _ in range(made.layers)]
    for node, layer in made.layer.items():
        rows[layer].append(node)
    above: dict[str, list[str]] = {node: [] for node in made.layer}
    below: dict[str, list[str]] = {node: [] for node in made.layer}
    for source, target in links:
        above[target].append(source)
        below[source].append(target)
    for row in rows:
        _seat(made, row, spine)
    for sweep in range(4):
        near, ordered = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        for row in ordered:
            weight = {node: _mean([made.column[n] for n in near[node]], made.column[node]) for node in row}
            row.sort(key=lambda node: (weight[node], made.column[node]))
            _seat(made, row, spine)


def _seat(made: Layout, row: list[str], spine: frozenset[str]) -> None:
    """Number a row: the spine's node first, if it has one, the others from column 1 on."""
    column = 1
    for node in row:
        if node in spine:
            made.column[node] = 0
        else:
            made.column[node] = column
            column += 1


def _mean(values: list[int], default: int) -> float:
    return sum(values) / len(values) if values else float(default)
