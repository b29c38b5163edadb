"""A picture as one SVG: self-contained, the same bytes for the same scheme, readable to people and screen readers.

Every box has a stable id (`state-ChargeCard`), every arrow too (`edge-ChargeCard-compensate`). What an instance did, or
what tests have reached, is told by classes alone: pages may swap them without drawing again.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from contrapas.draw.chart import scheme_of
from contrapas.draw.graph import Graph, element_id, shown
from contrapas.draw.overlay import Marks
from contrapas.draw.place import LINE, SMALL_LINE, Area, Picture, Wire, Words, picture
from contrapas.draw.scheme import Beside, Node, Scheme
from contrapas.draw.style import style

_RADIUS = 6.0


def svg(graph: Graph, *, classes: Marks | None = None) -> str:
    """The drawing of a machine. classes: see `overlay.Marks`."""
    return drawing(scheme_of(graph), classes=classes)


def drawing(scheme: Scheme, *, classes: Marks | None = None) -> str:
    """The drawing of any scheme; ends with a line feed."""
    made = picture(scheme)
    marks = classes or {}
    wide, high = _n(made.width), _n(made.height)
    names = _Names()
    body = [_band(name, area) for name, area in made.heads]
    body += [_scope(one.area, one.words) for one in made.scopes]
    body += [_edge(names, wire, marks) for wire in _painted_last(made.wires, marks)]
    body += [_undo(names, made.boxes[node.id], one, area, marks) for node, one, area in made.beside]
    body += [_node(names, made, node, marks) for node in scheme.nodes]
    body += _notes(made)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="contrapas" viewBox="0 0 {wide} {high}" '
        f'width="{wide}" height="{high}" role="img" aria-label={quoteattr(f"{scheme.title}: {scheme.about}")}>\n'
        f"<title>{escape(scheme.title)}</title>\n<desc>{escape(scheme.about)}</desc>\n"
        f"<style>{style()}</style>\n"
        f'<rect class="paper" width="{wide}" height="{high}" rx="8"/>\n'
        f'<text class="title" x="16" y="26">{escape(scheme.title)}</text>\n' + "\n".join(body) + "\n</svg>\n"
    )


class _Names:
    """Ids of elements, each used once."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def one(self, wanted: str) -> str:
        """The wanted id, or one with a number after it."""
        name, number = wanted, 2
        while name in self.used:
            name, number = f"{wanted}.{number}", number + 1
        self.used.add(name)
        return quoteattr(name)


def _n(value: float) -> str:
    """A number with at most one decimal, the same on every platform."""
    return f"{value:.1f}".removesuffix(".0")


def _mark(marks: Marks, *keys: str | tuple[str, str]) -> str:
    found = next((marks[key] for key in keys if key in marks), "")
    return f" {found}" if found else ""


def _mark_of(marks: Marks, ends: tuple[str, str]) -> str:
    return _mark(marks, ends, (shown(ends[0]), shown(ends[1])))


def _painted_last(wires: list[Wire], marks: Marks) -> list[Wire]:
    """Where arrows share their way, the lit one lies on top."""
    rank = {"": 1, " next": 0}
    return sorted(wires, key=lambda wire: rank.get(_mark_of(marks, wire.arrow.ends), 2))


def _text(words: Words, classes: str) -> str:
    return "".join(
        f'<text class="{classes}" x="{_n(words.area.x)}" y="{_n(words.area.y + 10 + n * SMALL_LINE)}">{escape(line)}</text>'
        for n, line in enumerate(words.lines)
    )


def _rect(area: Area, classes: str, radius: float) -> str:
    return (
        f'<rect class="{classes}" x="{_n(area.x)}" y="{_n(area.y)}" width="{_n(area.width)}" '
        f'height="{_n(area.height)}" rx="{_n(radius)}"/>'
    )


def _scope(area: Area, words: Words) -> str:
    return f'<g class="scope"><title>scope</title>{_rect(area, "frame", 8)}{_text(words, "small")}</g>'


def _band(name: str, area: Area) -> str:
    head = f'<text class="head" x="{_n(area.centre)}" y="{_n(area.y + 17)}" text-anchor="middle">{escape(name)}</text>'
    return f'<g class="lane"><title>{escape(name)}</title>{_rect(area, "band", 8)}{head}</g>'


def _notes(made: Picture) -> list[str]:
    y = made.height - len(made.scheme.notes) * LINE - 4
    return [
        f'<text class="note small" x="16" y="{_n(y + n * LINE)}">{escape(line)}</text>'
        for n, line in enumerate(made.scheme.notes)
    ]


def _node(names: _Names, made: Picture, node: Node, marks: Marks) -> str:
    area = made.boxes[node.id]
    mark = _mark(marks, node.id, shown(node.id))
    name = names.one(f"state-{element_id(shown(node.id))}")
    about = f"<g id={name} class={quoteattr(node.kind + mark)}><title>{escape(node.title)}</title>"
    if node.shape == "dot":
        return f"{about}{_rect(area, 'dot', area.width / 2)}</g>"
    drawn = _rect(area, "box", min(area.height / 2, 17) if node.shape == "pill" else 6)
    if node.shape == "frame":
        x1, x2 = area.x + 6, area.right - 6
        drawn += f'<path class="bars" d="M{_n(x1)},{_n(area.y)} V{_n(area.bottom)} M{_n(x2)},{_n(area.y)} V{_n(area.bottom)}"/>'
    y = area.y + 19 if node.inner else area.middle - (len(node.lines) - 1) * LINE / 2 + 4
    drawn += "".join(
        f'<text x="{_n(area.centre)}" y="{_n(y + n * LINE)}" text-anchor="middle">{escape(line)}</text>'
        for n, line in enumerate(node.lines)
    )
    for text, place in made.inner[node.id]:
        drawn += _rect(place, "inner", 4) + _centred(text, place)
    return f"{about}{drawn}</g>"


def _centred(text: str, area: Area) -> str:
    return f'<text class="small" x="{_n(area.centre)}" y="{_n(area.middle + 4)}" text-anchor="middle">{escape(text)}</text>'


def _undo(names: _Names, step: Area, one: Beside, area: Area, marks: Marks) -> str:
    """An undo in the lane beside its step."""
    mark = _mark(marks, one.id)
    link = f'<path class={quoteattr(f"link{mark}")} d="M{_n(area.right)},{_n(area.middle)} H{_n(step.x)}"/>'
    name = names.one(f"state-{element_id(one.id)}")
    return (
        f"{link}<g id={name} class={quoteattr(f'state undo{mark}')}><title>{escape(one.title)}</title>"
        f"{_rect(area, 'box', 6)}{_centred(one.words, area)}</g>"
    )


def _edge(names: _Names, wire: Wire, marks: Marks) -> str:
    arrow = wire.arrow
    name = names.one(f"edge-{element_id(shown(arrow.source))}-{element_id(shown(arrow.target))}")
    classes = f"edge{' failure' if arrow.failure else ''}{_mark_of(marks, arrow.ends)}"
    drawn = f'<path d="{_curve(wire.points)}"/>{_tip(wire.points)}'
    if wire.words is not None:
        drawn += _text(wire.words, "cause")
    if wire.bar is not None:
        drawn += _rect(wire.bar, "bar", 2)
    if wire.bar_words is not None:
        drawn += _text(wire.bar_words, "cause pivot")
    return f"<g id={name} class={quoteattr(classes)}><title>{escape(arrow.title)}</title>{drawn}</g>"


def _curve(points: tuple[tuple[float, float], ...]) -> str:
    """Straight pieces with round corners; the last one ends where the tip begins."""
    inner = [*points[:-1], _before_tip(points)]
    path = f"M{_n(inner[0][0])},{_n(inner[0][1])}"
    for before, corner, after in zip(inner, inner[1:], inner[2:], strict=False):
        a, b = _towards(corner, before), _towards(corner, after)
        path += f" L{_n(a[0])},{_n(a[1])} Q{_n(corner[0])},{_n(corner[1])} {_n(b[0])},{_n(b[1])}"
    return f"{path} L{_n(inner[-1][0])},{_n(inner[-1][1])}"


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """A point a radius away from a corner, at most half of the way."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = abs(dx) + abs(dy)
    share = min(_RADIUS, length / 2) / length if length else 0.0
    return corner[0] + dx * share, corner[1] + dy * share


def _direction(points: tuple[tuple[float, float], ...]) -> tuple[float, float]:
    (x0, y0), (x1, y1) = points[-2], points[-1]
    length = abs(x1 - x0) + abs(y1 - y0) or 1.0
    return (x1 - x0) / length, (y1 - y0) / length


def _before_tip(points: tuple[tuple[float, float], ...]) -> tuple[float, float]:
    dx, dy = _direction(points)
    return points[-1][0] - dx * 7, points[-1][1] - dy * 7


def _tip(points: tuple[tuple[float, float], ...]) -> str:
    """The head of an arrow, as a shape of its own: it takes the colour of its arrow everywhere."""
    (x, y), (dx, dy) = points[-1], _direction(points)
    bx, by = x - dx * 8, y - dy * 8
    return (
        f'<polygon class="tip" points="{_n(x)},{_n(y)} {_n(bx - dy * 4)},{_n(by + dx * 4)} '
        f'{_n(bx + dy * 4)},{_n(by - dx * 4)}"/>'
    )
