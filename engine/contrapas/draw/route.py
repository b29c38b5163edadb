"""Which way each arrow takes over the grid: straight down, or out to the side into gutters and gaps where no box stands.

Gutter `c` lies right of column `c`, gap `r` above row `r`. Arrows to one target share their way (a *bus*): one vertical
per gutter, one horizontal per gap. Buses of other targets that would touch take tracks side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from contrapas.draw.layout import Layout
from contrapas.draw.scheme import Arrow, Node


class Bus(NamedTuple):
    """What arrows to one target share."""

    target: str
    failure: bool


class Rail(NamedTuple):
    """A shared piece: the bus, its gutter (vertical) or gap (horizontal), and what keeps two pieces there apart."""

    bus: Bus
    where: int
    which: str


@dataclass(slots=True)
class Way:
    """One arrow's way."""

    arrow: Arrow
    bottom: bool
    """It leaves at the bottom of its box, else at the right."""
    first: Rail | None = None
    """Horizontal under the source, where the column below is not free."""
    vertical: Rail | None = None
    last: Rail | None = None
    """Horizontal above the target."""
    entry: str = "top"
    """`top` or `right`."""
    port: tuple[str, bool] | None = None
    """At the top: side it comes from, failure; None: straight from above."""


@dataclass(slots=True)
class Piece:
    """A rail's extent in rough numbers, for finding its track."""

    low: float
    high: float
    before: list[float] = field(default_factory=list[float])
    """Places where something joins from the side of the smaller tracks."""
    after: list[float] = field(default_factory=list[float])

    def reach(self, at: float, *, before: bool) -> None:
        """Take a joint in."""
        self.low, self.high = min(self.low, at), max(self.high, at)
        (self.before if before else self.after).append(at)


@dataclass(slots=True)
class Routes:
    """Every way, and the track of every rail."""

    ways: list[Way] = field(default_factory=list[Way])
    exits: dict[str, list[Way]] = field(default_factory=dict[str, list[Way]])
    """Node -> ways that leave at its right, from above."""
    high_entries: dict[str, list[Bus]] = field(default_factory=dict[str, list[Bus]])
    """Node -> buses that enter at its right over the exits."""
    low_entries: dict[str, list[Bus]] = field(default_factory=dict[str, list[Bus]])
    ports: dict[str, list[tuple[str, bool]]] = field(default_factory=dict[str, list[tuple[str, bool]]])
    centre: dict[str, bool] = field(default_factory=dict[str, bool])
    """Node -> the middle of its top is not free for what comes from a side."""
    vertical: dict[Rail, int] = field(default_factory=dict[Rail, int])
    horizontal: dict[Rail, int] = field(default_factory=dict[Rail, int])
    gutter_tracks: dict[int, int] = field(default_factory=dict[int, int])
    gap_tracks: dict[int, int] = field(default_factory=dict[int, int])


def route(nodes: Sequence[Node], arrows: Sequence[Arrow], grid: Layout) -> Routes:
    """Ways of all arrows, in their order."""
    cells = {(grid.column[n.id], grid.row[n.id]) for n in nodes}
    made = Routes()
    passing: set[tuple[int, int]] = set()
    down = _down(nodes, arrows, grid)
    for arrow in arrows:
        way = Way(arrow, bottom=down.get(arrow.source) is arrow)
        _find(way, grid, cells, passing)
        made.ways.append(way)
        if not way.bottom:
            made.exits.setdefault(arrow.source, []).append(way)
    for source, ways in made.exits.items():
        ways.sort(key=lambda w: _exit_order(grid, source, w))
    _entries(made, grid)
    _tracks(made, grid)
    return made


def _down(nodes: Sequence[Node], arrows: Sequence[Arrow], grid: Layout) -> dict[str, Arrow]:
    """Node -> the arrow that leaves at its bottom: to the next of its chain, else the first hopeful one downwards."""
    found: dict[str, Arrow] = {}
    aside = {n.id for n in nodes if n.aside}
    for node in nodes:
        own = [a for a in arrows if a.source == node.id and grid.forward(a)]
        chain = [a for a in own if grid.follows.get(node.id) == a.target]
        hopeful = [a for a in own if not a.failure and (node.aside or a.target not in aside)]
        same = [a for a in hopeful if grid.column[a.target] == grid.column[node.id]]
        back = [a for a in own if not a.failure]
        choice = [*chain, *same, *hopeful, *back, *(own if len(own) == 1 else [])]
        if choice:
            found[node.id] = choice[0]
    return found


def _find(way: Way, grid: Layout, cells: set[tuple[int, int]], passing: set[tuple[int, int]]) -> None:
    source, target = way.arrow.source, way.arrow.target
    column, row = grid.column[source], grid.row[source]
    to_column, to_row = grid.column[target], grid.row[target]
    bus = Bus(target, way.arrow.failure)
    if way.bottom:
        between = {(column, r) for r in range(row + 1, to_row)}
        if not between & (cells | passing):
            passing |= between
            if to_column != column:
                side = "left" if column < to_column else "right"
                way.last, way.port = Rail(bus, to_row, side), (side, bus.failure)
            return
        way.first = Rail(Bus(source, False), row + 1, "out")
    way.vertical = Rail(bus, column, "")
    if to_column == column:
        way.entry = "right"
    else:
        side = "left" if column < to_column else "right"
        way.last, way.port = Rail(bus, to_row, side), (side, bus.failure)


def _exit_order(grid: Layout, source: str, way: Way) -> tuple[int, int, int]:
    """Upwards first, then loops, then downwards: the far ones first, failures after the others."""
    distance = grid.row[way.arrow.target] - grid.row[source]
    group = 0 if distance < 0 else 1 if distance == 0 else 2
    return group, int(way.arrow.failure), -abs(distance)


def _entries(made: Routes, grid: Layout) -> None:
    """Where buses enter: at the right over or under the exits, at ports of the top."""
    for way in made.ways:
        target, bus = way.arrow.target, Bus(way.arrow.target, way.arrow.failure)
        if way.entry == "right":
            above = grid.forward(way.arrow)
            entries = made.high_entries if above else made.low_entries
            known = [*made.high_entries.get(target, ()), *made.low_entries.get(target, ())]
            if bus not in known:
                entries.setdefault(target, []).append(bus)
        elif way.port is not None:
            ports = made.ports.setdefault(target, [])
            if way.port not in ports:
                ports.append(way.port)
        else:
            made.centre[target] = True
        if way.bottom:
            _shadow(made, grid, way)


def _shadow(made: Routes, grid: Layout, way: Way) -> None:
    """A bottom exit ends in the gap over another box of its column: that box's middle is not free."""
    last = way.first.where if way.first is not None else grid.row[way.arrow.target]
    column = grid.column[way.arrow.source]
    for name, row in grid.row.items():
        if (
            row == last
            and grid.column[name] == column
            and (name != way.arrow.target or way.first is not None)
        ):
            made.centre[name] = True


def _tracks(made: Routes, grid: Layout) -> None:
    upright: dict[int, dict[Rail, Piece]] = {}
    level: dict[int, dict[Rail, Piece]] = {}
    for way in made.ways:
        source, target = way.arrow.source, way.arrow.target
        column, row = grid.column[source], float(grid.row[source])
        to_column, to_row = grid.column[target], float(grid.row[target])
        out = row + 0.9
        if way.first is not None:
            piece = _piece(level, way.first, column)
            piece.reach(column, before=True)
            piece.reach(column + 0.5, before=False)
        elif not way.bottom:
            exits = made.exits[source]
            out = row + 0.2 + 0.5 * exits.index(way) / len(exits)
        if way.vertical is not None:
            piece = _piece(upright, way.vertical, out)
            piece.reach(out, before=True)
            if way.entry == "right":
                over = Bus(target, way.arrow.failure) in made.high_entries.get(target, ())
                piece.reach(to_row + (0.1 if over else 0.8), before=True)
            else:
                piece.reach(to_row - 0.05, before=to_column <= column)
        if way.last is not None:
            at = column + 0.5 if way.vertical is not None else float(column)
            piece = _piece(level, way.last, at)
            piece.reach(at, before=row < to_row)
            piece.reach(to_column + _nudge(way.port), before=False)
    made.vertical, made.gutter_tracks = _numbered(upright)
    made.horizontal, made.gap_tracks = _numbered(level)


def _nudge(port: tuple[str, bool] | None) -> float:
    if port is None:
        return 0.0
    return (-0.01 if port[0] == "left" else 0.01) * (2 if port[1] else 1)


def _piece(pieces: dict[int, dict[Rail, Piece]], rail: Rail, at: float) -> Piece:
    return pieces.setdefault(rail.where, {}).setdefault(rail, Piece(at, at))


def _numbered(pieces: dict[int, dict[Rail, Piece]]) -> tuple[dict[Rail, int], dict[int, int]]:
    """Track of each rail, and how many tracks each gutter or gap has."""
    tracks: dict[Rail, int] = {}
    counts: dict[int, int] = {}
    for where, group in pieces.items():
        given: list[tuple[Piece, int]] = []
        for rail in _ordered(group):
            piece = group[rail]
            track = 1 + max((t for p, t in given if p.low <= piece.high and piece.low <= p.high), default=-1)
            given.append((piece, track))
            tracks[rail] = track
        counts[where] = 1 + max((t for _, t in given), default=-1)
    return tracks, counts


def _ordered(group: dict[Rail, Piece]) -> list[Rail]:
    """Short rails first, then neighbours change places while that saves crossings."""
    rails = sorted(group, key=lambda r: group[r].high - group[r].low)
    for _ in range(len(rails)):
        changed = False
        for i in range(len(rails) - 1):
            one, two = group[rails[i]], group[rails[i + 1]]
            if _crossings(two, one) < _crossings(one, two):
                rails[i], rails[i + 1] = rails[i + 1], rails[i]
                changed = True
        if not changed:
            break
    return rails


def _crossings(first: Piece, second: Piece) -> int:
    """Crossings between two rails when `first` has the smaller track."""
    return sum(second.low <= at <= second.high for at in first.after) + sum(
        first.low <= at <= first.high for at in second.before
    )
