"""A machine's picture as plain data, for `-o json` and other programs."""

from __future__ import annotations

from contrapas.draw.chart import grid_of
from contrapas.draw.graph import Graph, shown


def data(graph: Graph) -> dict[str, object]:
    """JSON-shaped: states, transitions, undos, what each unwinding takes back. Field names are public."""
    grid = grid_of(graph)
    return {
        "saga": graph.name,
        "graph": graph.graph,
        "outcomes": list(graph.outcomes),
        "partial": graph.partial or None,
        "states": [
            {
                "label": state.label,
                "kind": state.kind,
                "operation": state.operation,
                "replies": list(state.replies),
                "within": state.within or None,
                "forever": state.forever,
                "line": state.line,
                "parts": list(graph.parts.get(state.label, ())),
                "scopes": list(graph.scopes.get(state.label, ())),
                "row": grid.row[state.label],
                "column": grid.column[state.label],
            }
            for state in graph.states.values()
        ],
        "transitions": [
            {
                "source": edge.source,
                "target": shown(edge.target),
                "ends": edge.target not in graph.states,
                "cause": edge.cause,
                "failure": edge.failure,
                "pivot": (edge.source, edge.target) in graph.pivots,
                "lines": list(edge.lines),
            }
            for edge in graph.edges
        ],
        "undos": [
            {"step": of, "undo": undo, "state": graph.undo_states[n] if n < len(graph.undo_states) else of}
            for n, (of, undo) in enumerate(graph.undos)
        ],
        "before_pivot": list(graph.before_pivot),
        "unwinds": {
            label: [{"step": t.of, "undo": t.undo, "certain": t.certain, "word": t.word} for t in taken]
            for label, taken in graph.unwinds.items()
        },
    }
