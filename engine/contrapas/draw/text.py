"""A machine as text: the table of `contrapas graph`, and the path of one instance over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from contrapas.draw.graph import START, UNWINDS, Graph, shown
from contrapas.machine import Edge


def counted(number: int, noun: str) -> str:
    """`1 state`, `4 states`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def numbers(graph: Graph) -> tuple[int, int, int]:
    """States, undos and transitions, as header lines count them."""
    return len(graph.states), len(graph.undos), len(graph.edges)


@dataclass(frozen=True, slots=True)
class _Row:
    source: str
    target: str
    causes: str
    note: str


def text(graph: Graph) -> str:
    """The table: one row per arrow of the picture, then who may be cancelled. Ends with a line feed."""
    rows = _rows(graph)
    first = max([len("cancel, kill"), *(len(r.source) for r in rows)])
    second = max((len(r.target) for r in rows), default=0)
    third = max((len(r.causes) for r in rows if r.note), default=0)
    wide = max((len(r.causes) for r in rows if not r.note.startswith("in reverse")), default=0)
    third = max(third, wide)
    lines = [_header(graph)]
    for row in rows:
        head = f"  {row.source:<{first}}  → {row.target:<{second}}"
        if row.note.startswith("in reverse"):
            causes = f"{row.causes}   " if row.causes else ""
            lines.append(f"{head}   {causes}{row.note}".rstrip())
        else:
            lines.append(f"{head}   {row.causes:<{third}}   {row.note}".rstrip())
    lines.append(f"  {'cancel, kill':<{first}}    {_cancel(graph)}")
    if graph.partial:
        lines.append(f"  {graph.partial}")
    return "\n".join(lines) + "\n"


def _header(graph: Graph) -> str:
    states, undos, transitions = numbers(graph)
    parts = [counted(states, "state"), counted(undos, "undo"), counted(transitions, "transition")]
    outcomes = ", ".join(graph.outcomes) if graph.outcomes else "none"
    word = "outcome" if len(graph.outcomes) == 1 else "outcomes"
    return f"{graph.name}@{graph.graph}  {', '.join(parts)}, {word} {outcomes}"


def _rows(graph: Graph) -> list[_Row]:
    rows: list[_Row] = []
    for source in [START, *graph.states]:
        grouped: dict[str, list[Edge]] = {}
        for edge in graph.edges:
            if edge.source == source:
                grouped.setdefault(edge.target, []).append(edge)
        shown_source = source
        for target, edges in grouped.items():
            causes = _causes(edges)
            rows.append(_Row(shown_source, shown(target), causes, _note(graph, source, target, edges)))
            shown_source = ""
    return rows


def _causes(edges: list[Edge]) -> str:
    """Causes of one arrow; many are counted."""
    causes = list(dict.fromkeys(e.cause for e in edges if e.cause))
    if len(causes) > 6:
        return f"{causes[0]} | {causes[1]} | … {len(causes) - 2} more"
    return " | ".join(causes)


def _note(graph: Graph, source: str, target: str, edges: list[Edge]) -> str:
    state = graph.states.get(source)
    if state is None:
        return ""
    if state.kind in UNWINDS:
        taken = graph.unwinds.get(source, ())
        words = [t.undo if t.certain else f"{t.undo} (if {t.word} or unknown)" for t in taken]
        return f"in reverse: {', '.join(words)}" if words else "nothing to take back"
    if (source, target) in graph.pivots:
        return "(point of no return)"
    if state.forever and not any(e.failure for e in edges):
        return "(retried for ever: no failure edge)"
    return ""


def _cancel(graph: Graph) -> str:
    back = next((s.label for s in graph.states.values() if s.kind == "compensate"), "")
    where = f"to {back}" if back else "in reverse" if graph.undos else "to the end, nothing to take back"
    if graph.before_pivot:
        return (
            f"from every state before {', '.join(graph.before_pivot)} {where}; after it they are refused (6)"
        )
    return f"from every state {where}"


MARKS = {"done": "✓", "failed": "✗", "now": "●", "undone": "↩", "parked": "▣"}
_PLAIN = {"✓": "+", "✗": "x", "●": "*", "↩": "<", "▣": "#", "─▶": "->", "┄▷": "..>", "─": "-", "┄": "."}


def path(
    graph: Graph, travelled: Sequence[tuple[str, str]], *, outcome: str = "", ascii_only: bool = False
) -> str:
    """One instance over its machine: what it passed, where it is, what may come.

    travelled: (label, mark) in order, marks as in `MARKS`; the last one is `now` while the instance lives.
    outcome: of an ended instance. A failure on the way ahead gets a line of its own, under the arrow.
    """
    line = START
    for index, ((label, mark), again) in enumerate(_collapsed(travelled)):
        times = f" ×{again}" if again > 1 else ""
        line += f" {'─' if index == 0 else '─▶'} {label} {MARKS.get(mark, mark)}{times}"
    lines: list[str] = []
    if outcome:
        lines.append(f"{line} ─▶ {outcome}")
    elif travelled:
        now = travelled[-1][0]
        ahead = [_ahead(graph, edge) for edge in _next(graph, now)]
        lines.append(line + (ahead[0] if ahead else ""))
        lines += [" " * len(line) + other for other in ahead[1:]]
        lines[-1] += f"        ({MARKS['now']} now   ┄ not yet)" if ahead else ""
    else:
        lines.append(line)
    drawn = "\n".join(lines)
    if ascii_only:
        for sign, plain in _PLAIN.items():
            drawn = drawn.replace(sign, plain)
    return drawn


def _collapsed(travelled: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], int]]:
    """Equal neighbours once, with how many they are: a loop's rounds."""
    return [(step, len(list(group))) for step, group in groupby(travelled)]


def _next(graph: Graph, label: str) -> list[Edge]:
    """The first arrow to each target."""
    first: dict[str, Edge] = {}
    for edge in graph.edges:
        if edge.source == label:
            first.setdefault(edge.target, edge)
    return list(first.values())


def _ahead(graph: Graph, edge: Edge) -> str:
    """The most hopeful way on from an arrow, at most eight states."""
    drawn, seen = "", set[str]()
    current: Edge | None = edge
    while current is not None and current.target not in seen and len(seen) < 8:
        seen.add(current.target)
        drawn += f" ┄▷ {shown(current.target)}"
        current = _hopeful(e for e in graph.edges if e.source == edge_target(current))
    return drawn


def edge_target(edge: Edge) -> str:
    """Where an arrow leads."""
    return edge.target


def _hopeful(edges: Iterable[Edge]) -> Edge | None:
    candidates = list(edges)
    return next((e for e in candidates if not e.failure), candidates[0] if candidates else None)
