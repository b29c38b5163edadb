"""A machine in the DOT language of Graphviz."""

from __future__ import annotations

from contrapas.draw.chart import grid_of
from contrapas.draw.graph import START, UNWINDS, Graph, shown


def dot(graph: Graph) -> str:
    """A directed graph; ends with a line feed."""
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        "  rankdir=TB;",
        f"  label={_quoted(f'{graph.name}@{graph.graph}')};",
    ]
    lines.append(f"  {_quoted(START)} [shape=circle, label={_quoted('')}, width=0.2, style=filled];")
    for state in graph.states.values():
        style = "rounded,dashed" if state.kind in UNWINDS else "rounded"
        lines.append(f"  {_quoted(state.label)} [shape=box, style={_quoted(style)}];")
    lines += [f"  {_quoted(t)} [shape=box, peripheries=2, label={_quoted(shown(t))}];" for t in graph.targets]
    grid = grid_of(graph)
    rows: dict[int, list[str]] = {}
    for name in (*graph.states, *graph.targets):
        rows.setdefault(grid.row[name], []).append(_quoted(name))
    lines += [f"  {{ rank=same; {'; '.join(row)}; }}" for _, row in sorted(rows.items()) if len(row) > 1]
    for edge in graph.edges:
        looks = [f"label={_quoted(edge.cause)}"] if edge.cause else []
        looks += ["style=dashed"] if edge.failure else []
        looks += ["penwidth=2"] if (edge.source, edge.target) in graph.pivots else []
        suffix = f" [{', '.join(looks)}]" if looks else ""
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)}{suffix};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
