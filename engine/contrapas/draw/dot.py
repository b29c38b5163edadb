"""A machine in the DOT language of Graphviz."""

from __future__ import annotations

from contrapas.draw.chart import grid_of
from contrapas.draw.graph import START, UNWINDS, Graph, shown
from contrapas.draw.overlay import Marks


def dot(graph: Graph, *, classes: Marks | None = None) -> str:
    """A directed graph; ends with a line feed. classes: of `draw.overlay`, as fills."""
    marks = classes or {}
    lines = [
        f"digraph {quoted(graph.name)} {{",
        "  rankdir=TB;",
        f"  label={quoted(graph.heading)};",
    ]
    lines.append(f"  {quoted(START)} [shape=circle, label={quoted('')}, width=0.2, style=filled];")
    for state in graph.states.values():
        style = "rounded,dashed" if state.kind in UNWINDS else "rounded"
        lines.append(
            f"  {quoted(state.label)} [shape=box, style={quoted(style + (',filled' if state.label in marks else ''))}{_fill(marks, state.label)}];"
        )
    lines += [
        f"  {quoted(t)} [shape=box, peripheries=2, label={quoted(shown(t))}{_fill(marks, shown(t), filled=True)}];"
        for t in graph.targets
    ]
    grid = grid_of(graph)
    rows: dict[int, list[str]] = {}
    for name in (*graph.states, *graph.targets):
        rows.setdefault(grid.row[name], []).append(quoted(name))
    lines += [f"  {{ rank=same; {'; '.join(row)}; }}" for _, row in sorted(rows.items()) if len(row) > 1]
    for edge in graph.edges:
        looks = [f"label={quoted(edge.cause)}"] if edge.cause else []
        looks += ["style=dashed"] if edge.failure else []
        looks += ["color=gray"] if marks.get((shown(edge.source), shown(edge.target))) == "next" else []
        looks += ["penwidth=2"] if (edge.source, edge.target) in graph.pivots else []
        suffix = f" [{', '.join(looks)}]" if looks else ""
        lines.append(f"  {quoted(edge.source)} -> {quoted(edge.target)}{suffix};")
    return "\n".join([*lines, "}"]) + "\n"


_FILLS = {"done": "#d7f0df", "now": "#fff1bf", "failed": "#fdf1f0", "undone": "#f7f4fc", "next": "#fbfcfd",
          "covered": "#d7f0df", "missed": "#fdf1f0"}  # fmt: skip


def _fill(marks: Marks, label: str, *, filled: bool = False) -> str:
    colour = _FILLS.get(marks.get(label, ""), "")
    if not colour:
        return ""
    return f"{', style=filled' if filled else ''}, fillcolor={quoted(colour)}"


def quoted(text: str) -> str:
    """A text as a name of DOT."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
