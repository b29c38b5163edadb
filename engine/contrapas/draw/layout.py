"""Rows and columns of a picture: cycles broken depth first, longest-path rows, chains of boxes as columns.

Deterministic: nodes and arrows are visited in the order given, ties keep it. The way forward is the first chain and has
the first column for itself, so it runs straight down; what only failures reach stands farther out than branches do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from contrapas.draw.scheme import Arrow, Node


@dataclass(slots=True)
class Layout:
    """Where boxes stand on the grid."""

    row: dict[str, int] = field(default_factory=dict[str, int])
    column: dict[str, int] = field(default_factory=dict[str, int])
    follows: dict[str, str] = field(default_factory=dict[str, str])
    """Node -> the next one of its chain, which stands under it in the same column."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return max(self.row.values(), default=-1) + 1

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return max(self.column.values(), default=-1) + 1

    def forward(self, arrow: Arrow) -> bool:
        """Whether an arrow leads downwards."""
        return self.row[arrow.source] < self.row[arrow.target]


def layout(nodes: Sequence[Node], arrows: Sequence[Arrow]) -> Layout:
    """Give every node a row and a column; where nodes have lanes, the lane is the column."""
    names = [node.id for node in nodes]
    links = [a for a in arrows if a.source != a.target]
    aside = frozenset(node.id for node in nodes if node.aside)
    hopeful = sorted(links, key=lambda a: a.failure or a.target in aside)
    back = _back(names, hopeful)
    ahead: dict[str, list[Arrow]] = {name: [] for name in names}
    for arrow in hopeful:
        if arrow.ends not in back:
            ahead[arrow.source].append(arrow)
    made = Layout(row=_longest_ways(names, ahead))
    if any(node.lane is not None for node in nodes):
        _lanes(made, nodes, ahead)
    else:
        _columns(made, names, ahead, aside)
    return made


def _back(names: Sequence[str], arrows: Sequence[Arrow]) -> frozenset[tuple[str, str]]:
    """Arrows that close a cycle in a depth-first walk in the given order."""
    out: dict[str, list[str]] = {name: [] for name in names}
    for arrow in arrows:
        out[arrow.source].append(arrow.target)
    state: dict[str, int] = {}
    back: set[tuple[str, str]] = set()
    for root in names:
        if root in state:
            continue
        state[root] = 1
        stack = [(root, iter(out[root]))]
        while stack:
            name, targets = stack[-1]
            following = next(targets, None)
            if following is None:
                state[name] = 2
                stack.pop()
            elif state.get(following) == 1:
                back.add((name, following))
            elif following not in state:
                state[following] = 1
                stack.append((following, iter(out[following])))
    return frozenset(back)


def _longest_ways(names: Sequence[str], ahead: dict[str, list[Arrow]]) -> dict[str, int]:
    """Row of each node: the longest way to it."""
    incoming = dict.fromkeys(names, 0)
    for out in ahead.values():
        for arrow in out:
            incoming[arrow.target] += 1
    row = dict.fromkeys(names, 0)
    ready = [name for name in names if not incoming[name]]
    for name in ready:
        for arrow in ahead[name]:
            row[arrow.target] = max(row[arrow.target], row[name] + 1)
            incoming[arrow.target] -= 1
            if not incoming[arrow.target]:
                ready.append(arrow.target)
    return row


def _columns(
    made: Layout, names: Sequence[str], ahead: dict[str, list[Arrow]], aside: frozenset[str]
) -> None:
    """Cut the graph into chains, then give each the nearest column where its rows are free."""
    chains = _chains(made, names, ahead, aside)
    hoped = {a.target for out in ahead.values() for a in out if not a.failure} - aside
    clean = _reached_without_failure(names, ahead, aside)
    taken: list[set[int]] = []
    order = sorted(
        range(len(chains)),
        key=lambda i: (
            i != 0,
            chains[i][0] not in clean,
            chains[i][0] not in hoped,
            made.row[chains[i][0]],
            i,
        ),
    )
    for index in order:
        chain = chains[index]
        rows = set(range(made.row[chain[0]], made.row[chain[-1]] + 1))
        first = 0 if index == 0 else 1
        while len(taken) <= first:
            taken.append(set())
        column = next((c for c in range(first, len(taken)) if not taken[c] & rows), len(taken))
        if column == len(taken):
            taken.append(set())
        taken[column] |= rows
        for name in chain:
            made.column[name] = column


def _chains(
    made: Layout, names: Sequence[str], ahead: dict[str, list[Arrow]], aside: frozenset[str]
) -> list[list[str]]:
    """Ways down, each node in one; the way forward is the first."""
    hopeful = {
        n: [a.target for a in out if not a.failure and a.target not in aside] for n, out in ahead.items()
    }
    onward = {n: hopeful[n] or _otherwise(out, aside) for n, out in ahead.items()}
    depth: dict[str, int] = {}
    for name in sorted(names, key=lambda n: -made.row[n]):
        depth[name] = 1 + max((depth[target] for target in onward[name]), default=0)
    free = dict.fromkeys(names)
    chains: list[list[str]] = []
    for start in sorted(names, key=lambda n: made.row[n]):
        if start not in free:
            continue
        del free[start]
        chain = [start]
        while True:
            following = max(onward[chain[-1]], key=lambda n: depth[n], default=None)
            if following is None or following not in free:
                break
            made.follows[chain[-1]] = following
            del free[following]
            chain.append(following)
        chains.append(chain)
    return chains


def _otherwise(out: Sequence[Arrow], aside: frozenset[str]) -> list[str]:
    """Where a chain goes on when nothing hopeful is ahead: to what takes back, else to what a failure leads to."""
    back = [a.target for a in out if not a.failure]
    return back or [a.target for a in out if a.target not in aside]


def _reached_without_failure(
    names: Sequence[str], ahead: dict[str, list[Arrow]], aside: frozenset[str]
) -> frozenset[str]:
    """What the first node leads to when all goes well."""
    seen = set(names[:1])
    todo = list(names[:1])
    while todo:
        for arrow in ahead[todo.pop()]:
            if not arrow.failure and arrow.target not in seen | aside:
                seen.add(arrow.target)
                todo.append(arrow.target)
    return frozenset(seen)


def _lanes(made: Layout, nodes: Sequence[Node], ahead: dict[str, list[Arrow]]) -> None:
    """The lane is the column; where two boxes of a lane meet in a row, the later one and what follows it move down."""
    lane = {node.id: node.lane or 0 for node in nodes}
    position = {node.id: number for number, node in enumerate(nodes)}
    taken: set[tuple[int, int]] = set()
    for name in sorted(position, key=lambda n: (made.row[n], position[n])):
        row = made.row[name]
        while (lane[name], row) in taken:
            row += 1
        taken.add((lane[name], row))
        made.row[name], made.column[name] = row, lane[name]
