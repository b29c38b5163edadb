"""A machine as one SVG: the page's diagram, the README's and the pull request's; the same bytes for the same machine.

Ids are stable (`state-ChargeCard`), so that a page can set the classes `done now next failed undone` on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from contrapas.draw.graph import START, UNWINDS, Graph, element_id, shown
from contrapas.draw.layout import Layout, layout

_CHAR, _BOX, _ROW, _GAP, _EDGE = 7.2, 28, 72, 40, 20
_STYLE = (
    "text{font:12px ui-monospace,monospace;fill:#222}.cause{font-size:10px;fill:#667}"
    ".state rect{fill:#fff;stroke:#456;stroke-width:1.5}.undo rect{stroke-dasharray:4 3}"
    ".outcome rect{fill:#eef3ee;stroke:#575}.start circle{fill:#456}"
    ".edge path{fill:none;stroke:#789}.failure path{stroke-dasharray:5 3}.link{stroke:#aab;stroke-dasharray:2 3}"
    ".pivot{stroke:#222;stroke-width:4}"
    ".done rect{fill:#dff0df}.now rect{fill:#fff3c4;stroke-width:3}.next rect{stroke:#aaa}.next text{fill:#888}"
    ".failed rect{fill:#f8dcdc}.undone rect{fill:#e6e0f2}"
)


@dataclass(frozen=True, slots=True)
class _Place:
    x: float
    y: float
    width: float


def svg(graph: Graph, *, classes: Mapping[str, str] | None = None) -> str:
    """The drawing. classes: label or `shown` outcome -> one of `done now next failed undone`, for one instance's path."""
    marks = classes or {}
    nodes = [START, *graph.states, *graph.targets]
    arrows = [(e.source, e.target) for e in graph.edges]
    made = layout(nodes, arrows, spine=spine(graph))
    places = _places(graph, made)
    lane = max(p.x + p.width / 2 for p in places.values()) + _GAP
    undo_width = max((_width(_undo_label(of)) for of, _ in graph.undos), default=0.0)
    width = lane + (undo_width + _EDGE if graph.undos else 0)
    height = made.layers * _ROW + _EDGE
    body = [_edge(graph, made, places, arrow) for arrow in dict.fromkeys(arrows)]
    body += [_undo(graph, places, of, undo, lane, undo_width, marks) for of, undo in graph.undos]
    body += [_node(graph, label, places[label], marks) for label in nodes]
    title = f"{graph.name}@{graph.graph}: {len(graph.states)} states, {len(graph.edges)} transitions"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'width="{_n(width)}" height="{_n(height)}" role="img">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z" fill="#789"/></marker></defs>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def spine(graph: Graph) -> frozenset[str]:
    """The way forward: from START along the first arrow that is no failure, until an end or a loop."""
    at, seen = START, {START}
    while True:
        ahead = [e.target for e in graph.edges if e.source == at and not e.failure]
        onward = next((t for t in ahead if t not in seen), None)
        if onward is None:
            return frozenset(seen)
        seen.add(onward)
        at = onward


def _n(value: float) -> str:
    """A number with at most one decimal, the same on every platform."""
    return f"{value:.1f}".removesuffix(".0")


def _width(label: str) -> float:
    return max(60.0, len(label) * _CHAR + 20)


def _undo_label(of: str) -> str:
    return f"undo({of})"


def _places(graph: Graph, made: Layout) -> dict[str, _Place]:
    """Pixels: a column is as wide as its widest box, a dummy is a narrow gap."""
    widths: dict[int, float] = {}
    for node, column in made.column.items():
        own = 24.0 if node.startswith("~") else _width(shown(node))
        widths[column] = max(widths.get(column, 24.0), own)
    centres: dict[int, float] = {}
    x = float(_EDGE)
    for column in range(max(widths, default=0) + 1):
        wide = widths.get(column, 24.0)
        centres[column] = x + wide / 2
        x += wide + _GAP
    return {
        node: _Place(
            centres[column],
            _EDGE + made.layer[node] * _ROW + _BOX / 2,
            24.0 if node.startswith("~") else _width(shown(node)),
        )
        for node, column in made.column.items()
    }


def _node(graph: Graph, label: str, at: _Place, marks: Mapping[str, str]) -> str:
    mark = marks.get(label, marks.get(shown(label), ""))
    if label == START:
        return (
            f'<g id="state-START" class="start {mark}"><title>START</title>'
            f'<circle cx="{_n(at.x)}" cy="{_n(at.y)}" r="8"/></g>'.replace(' "', '"')
        )
    state = graph.states.get(label)
    kind = "outcome" if state is None else "state undo" if state.kind in UNWINDS else "state"
    about = shown(label) if state is None else f"{label}: {state.operation}, line {state.line}"
    return _box(f"state-{element_id(shown(label))}", f"{kind} {mark}".strip(), about, shown(label), at)


def _box(name: str, classes: str, title: str, words: str, at: _Place) -> str:
    return (
        f"<g id={quoteattr(name)} class={quoteattr(classes)}><title>{escape(title)}</title>"
        f'<rect x="{_n(at.x - at.width / 2)}" y="{_n(at.y - _BOX / 2)}" width="{_n(at.width)}" height="{_BOX}" rx="6"/>'
        f'<text x="{_n(at.x)}" y="{_n(at.y + 4)}" text-anchor="middle">{escape(words)}</text></g>'
    )


def _undo(
    graph: Graph,
    places: Mapping[str, _Place],
    of: str,
    undo: str,
    lane: float,
    width: float,
    marks: Mapping[str, str],
) -> str:
    """An undo in the lane beside its step."""
    step = places.get(of)
    label = _undo_label(of)
    at = _Place(lane + width / 2, step.y if step else _EDGE + _BOX / 2, width)
    link = ""
    if step is not None:
        link = (
            f'<line class="link" x1="{_n(step.x + step.width / 2)}" y1="{_n(step.y)}" '
            f'x2="{_n(at.x - at.width / 2)}" y2="{_n(at.y)}"/>\n'
        )
    mark = marks.get(label, "")
    return link + _box(
        f"state-{element_id(label)}", f"state undo {mark}".strip(), f"{label}: {undo}", label, at
    )


def _edge(graph: Graph, made: Layout, places: Mapping[str, _Place], arrow: tuple[str, str]) -> str:
    source, target = arrow
    edges = [e for e in graph.edges if (e.source, e.target) == arrow]
    causes = " | ".join(dict.fromkeys(e.cause for e in edges if e.cause))
    failure = all(e.failure for e in edges)
    if source == target:
        at = places[source]
        x, y = at.x - at.width / 2, at.y
        points = (
            f"M{_n(x)},{_n(y - 6)} C{_n(x - 28)},{_n(y - 18)} {_n(x - 28)},{_n(y + 18)} {_n(x)},{_n(y + 6)}"
        )
        label_at = (x - 24, y + 24)
        bar = ""
    else:
        points, label_at, bar = _line(graph, made, places, arrow)
    name = f"edge-{element_id(shown(source))}-{element_id(shown(target))}"
    words = (
        f'<text class="cause" x="{_n(label_at[0])}" y="{_n(label_at[1])}">{escape(causes)}</text>'
        if causes
        else ""
    )
    return (
        f'<g id={quoteattr(name)} class="edge{" failure" if failure else ""}"><title>'
        f"{escape(f'{shown(source)} → {shown(target)}: {causes}' if causes else f'{shown(source)} → {shown(target)}')}"
        f'</title><path d="{points}" marker-end="url(#tip)"/>{words}{bar}</g>'
    )


def _line(
    graph: Graph, made: Layout, places: Mapping[str, _Place], arrow: tuple[str, str]
) -> tuple[str, tuple[float, float], str]:
    """The path, where its words stand, and the bar of the pivot."""
    way = made.ways[arrow]
    down = made.layer[way[0]] < made.layer[way[-1]]
    points: list[tuple[float, float]] = []
    for index, node in enumerate(way):
        at, half = places[node], _BOX / 2 if not node.startswith("~") else 0
        leaves = index == 0
        points.append((at.x, at.y + (half if leaves == down else -half)))
    path = f"M{_n(points[0][0])},{_n(points[0][1])}" + "".join(f" L{_n(x)},{_n(y)}" for x, y in points[1:])
    (x0, y0), (x1, y1) = points[0], points[1]
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    bar = ""
    if arrow in graph.pivots:
        bar = (
            f'<line class="pivot" x1="{_n(middle[0] - 24)}" y1="{_n(middle[1])}" '
            f'x2="{_n(middle[0] + 24)}" y2="{_n(middle[1])}"><title>point of no return</title></line>'
        )
    side = 6 if x1 >= x0 else -6
    return path, (middle[0] + side, middle[1] - 4), bar
