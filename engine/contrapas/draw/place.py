"""From grid and ways to pixels: every box, word, wire, bar and frame of a picture, before anybody writes a byte of it.

Room is given before it is used: a column is as wide as its boxes, the lane beside them and the words under them; a
gutter holds the words of the arrows that leave into it, then its tracks; a gap holds the words of the arrows that go
down, then its tracks. So nothing can stand on something else, whatever the machine is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from contrapas.draw.layout import Layout, layout
from contrapas.draw.route import Bus, Rail, Routes, Way, route
from contrapas.draw.scheme import Arrow, Beside, Node, Scheme, columns_of

CHAR, LINE = 7.3, 15.0
"""Of the words in boxes: 12 px of a fixed-width font."""
SMALL, SMALL_LINE = 6.7, 13.0
"""Of the words of arrows: 11 px."""
_EDGE, _TRACK, _GAP_TRACK, _STRIP, _HEAD = 16.0, 11.0, 10.0, 7.0, 14.0
_BESIDE, _BESIDE_GAP, _LANE_GAP = 24.0, 6.0, 22.0
_DOT = 16.0
PIVOT = "point of no return"
_PORTS = {("left", True): -26.0, ("left", False): -14.0, ("right", False): 14.0, ("right", True): 26.0}


class Area(NamedTuple):
    """A rectangle in pixels: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.height

    @property
    def centre(self) -> float:
        """Its middle, from left to right."""
        return self.x + self.width / 2

    @property
    def middle(self) -> float:
        """Its middle, from top to bottom."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Words:
    """Lines of an arrow's words."""

    area: Area
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wire:
    """An arrow, drawn: corners from its source to its target, its words, the bar of the pivot across it."""

    arrow: Arrow
    points: tuple[tuple[float, float], ...]
    words: Words | None = None
    bar: Area | None = None
    bar_words: Words | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """A box around boxes."""

    name: str
    area: Area
    words: Words


@dataclass(slots=True)
class Picture:
    """Everything with its place."""

    scheme: Scheme
    grid: Layout
    width: float = 0.0
    height: float = 0.0
    boxes: dict[str, Area] = field(default_factory=dict[str, Area])
    inner: dict[str, list[tuple[str, Area]]] = field(default_factory=dict[str, list[tuple[str, Area]]])
    beside: list[tuple[Node, Beside, Area]] = field(default_factory=list[tuple[Node, Beside, Area]])
    wires: list[Wire] = field(default_factory=list[Wire])
    scopes: list[Scope] = field(default_factory=list[Scope])
    heads: list[tuple[str, Area]] = field(default_factory=list[tuple[str, Area]])
    """Lanes: their names, and the band that each covers."""


def picture(scheme: Scheme) -> Picture:
    """The one layout that every drawing of a scheme uses."""
    grid = layout(scheme.nodes, scheme.arrows)
    routes = route(scheme.nodes, scheme.arrows, grid)
    return _Draft(scheme, grid, routes).picture()


def words_width(lines: Sequence[str], char: float) -> float:
    """Pixels that the widest line takes."""
    return max((columns_of(line) * char for line in lines), default=0.0)


class _Draft:
    """Works the pixels out, sizes first."""

    def __init__(self, scheme: Scheme, grid: Layout, routes: Routes) -> None:
        self.scheme, self.grid, self.routes = scheme, grid, routes
        self.nodes = {node.id: node for node in scheme.nodes}
        self.down = {w.arrow.source: w for w in routes.ways if w.bottom}
        self.slots = {node.id: _slots(routes, node) for node in scheme.nodes}
        self.sizes = {node.id: self._size(node) for node in scheme.nodes}
        self.depth_of_column, self.depth_of_row = self._depths()
        self.x: dict[int, float] = {}
        """Column -> its centre."""
        self.left: dict[int, float] = {}
        self.words_end: dict[int, float] = {}
        """Column -> where the words of its gutter end."""
        self.track: dict[int, float] = {}
        """Gutter -> its first track."""
        self.top: dict[int, float] = {}
        """Row -> upper edge."""
        self.tall: dict[int, float] = {}
        self.gap_track: dict[int, float] = {}

    def picture(self) -> Picture:
        """Everything in its place."""
        made = Picture(self.scheme, self.grid)
        made.width = self._across()
        made.height = self._downwards()
        for node in self.scheme.nodes:
            made.boxes[node.id] = self._box(node)
            made.inner[node.id] = _inner(node, made.boxes[node.id])
            made.beside += self._beside(node, made.boxes[node.id])
        made.wires = [self._wire(way, made.boxes) for way in self.routes.ways]
        made.scopes = self._scopes()
        made.heads = self._heads(made)
        return made

    def _size(self, node: Node) -> tuple[float, float]:
        if node.shape == "dot":
            return _DOT, max(_DOT, sum(h for _, h in self.slots[node.id]))
        wide, high = words_width(node.lines, CHAR) + 24, len(node.lines) * LINE + 17
        if node.inner:
            rows = _inner_rows(node.inner)
            wide = max(wide, *(sum(words_width([t], SMALL) + 14 for t in r) + 8 * len(r) + 16 for r in rows))
            high += 28 * len(rows) + 2
        beside = len(node.beside) * (_BESIDE + _BESIDE_GAP) - _BESIDE_GAP
        return max(72.0, wide), max(high, beside, sum(h for _, h in self.slots[node.id]) + 10)

    def _depths(self) -> tuple[dict[int, int], dict[int, int]]:
        columns: dict[int, int] = {}
        rows: dict[int, int] = {}
        for node in self.scheme.nodes:
            column, row = self.grid.column[node.id], self.grid.row[node.id]
            columns[column] = max(columns.get(column, 0), len(node.scopes))
            rows[row] = max(rows.get(row, 0), len(node.scopes))
        return columns, rows

    def _half(self, column: int) -> float:
        return max((self.sizes[n][0] / 2 for n, c in self.grid.column.items() if c == column), default=8.0)

    def _across(self) -> float:
        """Columns and gutters from left to right; the whole width."""
        x = _EDGE
        for column in range(self.grid.columns):
            here = [n for n, c in self.grid.column.items() if c == column]
            depth = self.depth_of_column.get(column, 0)
            half = self._half(column)
            lane = max(
                (words_width([b.words], SMALL) + 16 for n in here for b in self.nodes[n].beside), default=0.0
            )
            left = max(half + (lane + _LANE_GAP if lane else 0.0), 74.0 if depth else 0.0)
            self.left[column] = x + depth * _STRIP
            self.x[column] = self.left[column] + left
            end = self.x[column] + half
            for name in here:
                way = self.down.get(name)
                if way is not None:
                    end = max(end, self.x[column] + self._under(way)[0])
                for exit_way in self.routes.exits.get(name, ()):
                    wide = words_width(exit_way.arrow.lines, SMALL) + (18 if exit_way.arrow.pivot else 8)
                    end = max(end, self.x[column] + self.sizes[name][0] / 2 + wide + 6)
            self.words_end[column] = end
            tracks = self.routes.gutter_tracks.get(column, 0)
            self.track[column] = end + depth * _STRIP + 10
            x = (
                self.track[column]
                + max(0, tracks - 1) * _TRACK
                + (14 if column < self.grid.columns - 1 else 0)
            )
        head = words_width([self.scheme.title], CHAR) + 2 * _EDGE
        notes = words_width(self.scheme.notes, SMALL) + 2 * _EDGE
        return max(x + _EDGE - 4, head, notes)

    def _under(self, way: Way) -> tuple[float, float]:
        """Room that words under a box take: to the right of the column's middle, and down."""
        lines = way.arrow.lines
        wide, high = (words_width(lines, SMALL) + 14, len(lines) * SMALL_LINE + 4) if lines else (0.0, 0.0)
        if way.arrow.pivot:
            wide, high = max(wide, words_width([PIVOT], SMALL) + 50), high + 20
        return wide, high

    def _downwards(self) -> float:
        """Rows and gaps from top to bottom; the whole height."""
        y = _EDGE + (24 if self.scheme.title else 0) + (20 if self.scheme.lanes else 0)
        for row in range(self.grid.rows):
            here = [n for n, r in self.grid.row.items() if r == row]
            above = [n for n, r in self.grid.row.items() if r == row - 1]
            words = max((self._under(self.down[n])[1] for n in above if n in self.down), default=0.0)
            depth = self.depth_of_row.get(row, 0)
            if row:
                y += self.depth_of_row.get(row - 1, 0) * _STRIP + words + 6
            self.gap_track[row] = y + 4
            tracks = self.routes.gap_tracks.get(row, 0)
            y += tracks * _GAP_TRACK + (14 if row else 0) + depth * _HEAD
            self.top[row] = y
            self.tall[row] = max((self.sizes[n][1] for n in here), default=0.0)
            y += self.tall[row]
        y += self.depth_of_row.get(self.grid.rows - 1, 0) * _STRIP
        return y + _EDGE + (len(self.scheme.notes) * LINE + 6 if self.scheme.notes else 0)

    def _box(self, node: Node) -> Area:
        column, row = self.grid.column[node.id], self.grid.row[node.id]
        wide, high = self.sizes[node.id]
        return Area(self.x[column] - wide / 2, self.top[row] + (self.tall[row] - high) / 2, wide, high)

    def _beside(self, node: Node, box: Area) -> list[tuple[Node, Beside, Area]]:
        """The lane: its boxes end at one line, left of the widest box of the column."""
        total = len(node.beside) * (_BESIDE + _BESIDE_GAP) - _BESIDE_GAP
        right = self.x[self.grid.column[node.id]] - self._half(self.grid.column[node.id]) - _LANE_GAP
        found: list[tuple[Node, Beside, Area]] = []
        for number, one in enumerate(node.beside):
            wide = words_width([one.words], SMALL) + 16
            y = box.middle - total / 2 + number * (_BESIDE + _BESIDE_GAP)
            found.append((node, one, Area(right - wide, y, wide, _BESIDE)))
        return found

    def _slot(self, name: str, box: Area, key: object) -> tuple[float, float]:
        """Upper and lower edge of a place at a box's right side."""
        slots = self.slots[name]
        y = box.middle - sum(h for _, h in slots) / 2
        for held, high in slots:
            if held == key:
                return y, y + high
            y += high
        raise AssertionError(key)

    def _rail_x(self, rail: Rail) -> float:
        return self.track[rail.where] + self.routes.vertical[rail] * _TRACK

    def _rail_y(self, rail: Rail) -> float:
        return self.gap_track[rail.where] + self.routes.horizontal[rail] * _GAP_TRACK

    def _wire(self, way: Way, boxes: Mapping[str, Area]) -> Wire:
        source, target = boxes[way.arrow.source], boxes[way.arrow.target]
        words = bar = bar_words = None
        if way.bottom:
            points = [(source.centre, source.bottom)]
            words, bar, bar_words = self._words_under(way)
            if way.first is not None:
                points.append((source.centre, self._rail_y(way.first)))
        else:
            upper, lower = self._slot(way.arrow.source, source, way.arrow.ends)
            points = [(source.right, lower - 4)]
            shift = 18.0 if way.arrow.pivot else 8.0
            if way.arrow.lines:
                area = Area(
                    source.right + shift, upper, words_width(way.arrow.lines, SMALL), lower - 6 - upper
                )
                words = Words(area, way.arrow.lines)
            if way.arrow.pivot:
                bar = Area(source.right + 8, lower - 16, 5, 15)
        if way.vertical is not None:
            x = self._rail_x(way.vertical)
            points.append((x, points[-1][1]))
            if way.entry == "right":
                upper, lower = self._slot(way.arrow.target, target, Bus(way.arrow.target, way.arrow.failure))
                points += [(x, (upper + lower) / 2), (target.right, (upper + lower) / 2)]
            else:
                points.append((x, self._rail_y(_given(way.last))))
        if way.last is not None:
            y = self._rail_y(way.last)
            x = target.centre + self._port(way)
            if way.vertical is None:
                points.append((points[-1][0], y))
            points += [(x, y), (x, target.y)]
        elif way.entry == "top":
            points.append((target.centre, target.y))
        return Wire(way.arrow, _simplified(points), words, bar, bar_words)

    def _port(self, way: Way) -> float:
        """How far from the middle of its top a box is entered."""
        target = way.arrow.target
        alone = len(self.routes.ports.get(target, ())) == 1 and not self.routes.centre.get(target)
        return 0.0 if alone or way.port is None else _PORTS[way.port]

    def _words_under(self, way: Way) -> tuple[Words | None, Area | None, Words | None]:
        name = way.arrow.source
        column, row = self.grid.column[name], self.grid.row[name]
        x = self.x[column] + 8
        y = self.top[row] + self.tall[row] + self.depth_of_row.get(row, 0) * _STRIP + 5
        words = bar = bar_words = None
        if way.arrow.lines:
            area = Area(x, y, words_width(way.arrow.lines, SMALL), len(way.arrow.lines) * SMALL_LINE)
            words = Words(area, way.arrow.lines)
            y = area.bottom + 3
        if way.arrow.pivot:
            bar = Area(self.x[column] - 36, y + 6, 72, 5)
            bar_words = Words(
                Area(self.x[column] + 42, y + 2, words_width([PIVOT], SMALL), SMALL_LINE), (PIVOT,)
            )
        return words, bar, bar_words

    def _scopes(self) -> list[Scope]:
        """Boxes around scopes: one around all where nothing foreign stands between, else one for each run of a column."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for node in self.scheme.nodes:
            for depth in range(1, len(node.scopes) + 1):
                groups.setdefault(node.scopes[:depth], []).append(node.id)
        cells = {(self.grid.column[n], self.grid.row[n]): n for n in self.nodes}
        found: list[Scope] = []
        for scope in sorted(groups, key=len):
            inside = set(groups[scope])
            for c1, c2, r1, r2 in _covers({k for k, n in cells.items() if n in inside}, set(cells)):
                found.append(self._scope(scope, c1, c2, r1, r2))
        return found

    def _scope(self, scope: tuple[str, ...], c1: int, c2: int, r1: int, r2: int) -> Scope:
        level = len(scope)

        def out(deepest: int) -> int:
            return deepest - level + 1

        left = self.left[c1] - out(self.depth_of_column[c1]) * _STRIP
        right = self.words_end[c2] + out(self.depth_of_column[c2]) * _STRIP
        top = self.top[r1] - out(self.depth_of_row[r1]) * _HEAD
        bottom = self.top[r2] + self.tall[r2] + out(self.depth_of_row[r2]) * _STRIP
        name = "scope"
        words = Words(Area(left + 5, top, words_width([name], SMALL), SMALL_LINE), (name,))
        return Scope(scope[-1], Area(left, top, right - left, bottom - top), words)

    def _heads(self, made: Picture) -> list[tuple[str, Area]]:
        """Bands of lanes, from the top of the picture to its bottom."""
        top = _EDGE + (24 if self.scheme.title else 0) - 4
        found: list[tuple[str, Area]] = []
        for number, name in enumerate(self.scheme.lanes):
            left, right = self.left[number] - 6, self.words_end[number] + 4
            found.append((name, Area(left, top, right - left, made.height - top - _EDGE / 2)))
        return found


def _given(rail: Rail | None) -> Rail:
    assert rail is not None
    return rail


def _slots(routes: Routes, node: Node) -> list[tuple[object, float]]:
    """Places at the right side of a box, from above: what holds each, and its height."""
    found: list[tuple[object, float]] = [(bus, 12.0) for bus in routes.high_entries.get(node.id, ())]
    for way in routes.exits.get(node.id, ()):
        found.append((way.arrow.ends, max(1, len(way.arrow.lines)) * SMALL_LINE + 7))
    found += [(bus, 12.0) for bus in routes.low_entries.get(node.id, ())]
    return found


def _inner_rows(names: Sequence[str]) -> list[list[str]]:
    """What stands side by side in a box, in rows of at most four."""
    return [list(names[i : i + 4]) for i in range(0, len(names), 4)]


def _inner(node: Node, box: Area) -> list[tuple[str, Area]]:
    found: list[tuple[str, Area]] = []
    y = box.y + len(node.lines) * LINE + 12
    for row in _inner_rows(node.inner):
        widths = [words_width([text], SMALL) + 14 for text in row]
        x = box.centre - (sum(widths) + 8 * (len(row) - 1)) / 2
        for text, wide in zip(row, widths, strict=True):
            found.append((text, Area(x, y, wide, 22)))
            x += wide + 8
        y += 28
    return found


def _simplified(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Without corners that are none."""
    kept: list[tuple[float, float]] = []
    for point in ((round(x, 2), round(y, 2)) for x, y in points):
        if kept and kept[-1] == point:
            continue
        if len(kept) > 1 and (
            kept[-2][0] == kept[-1][0] == point[0] or kept[-2][1] == kept[-1][1] == point[1]
        ):
            kept[-1] = point
        else:
            kept.append(point)
    return tuple(kept)


def _covers(own: set[tuple[int, int]], all_cells: set[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """(first column, last, first row, last) of rectangles that hold all of `own` and nothing else."""
    columns, rows = [c for c, _ in own], [r for _, r in own]
    whole = (min(columns), max(columns), min(rows), max(rows))
    if not any(_within(cell, whole) for cell in all_cells - own):
        return [whole]
    found: list[tuple[int, int, int, int]] = []
    for column in sorted(set(columns)):
        run: list[int] = []
        for row in sorted(r for c, r in all_cells if c == column):
            if (column, row) in own:
                run.append(row)
            elif run:
                found.append((column, column, run[0], run[-1]))
                run = []
        if run:
            found.append((column, column, run[0], run[-1]))
    return found


def _within(cell: tuple[int, int], area: tuple[int, int, int, int]) -> bool:
    return area[0] <= cell[0] <= area[1] and area[2] <= cell[1] <= area[3]
