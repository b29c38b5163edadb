"""The scheme of one machine: its states, ends and undos as boxes, its moves as arrows; kinds it does not know are boxes too."""

from __future__ import annotations

from contrapas.draw.graph import START, UNWINDS, Graph, shown
from contrapas.draw.layout import Layout, layout
from contrapas.draw.scheme import (
    BOX_CHARS,
    BOX_LINES,
    Arrow,
    Beside,
    Node,
    Scheme,
    label_of,
    shortened,
    wrapped,
)
from contrapas.machine import Edge, State

_SHAPES = {"wait": "pill", "sleep": "pill", "frame": "frame", "child": "frame"}


def scheme_of(graph: Graph) -> Scheme:
    """What every drawing of a machine shows."""
    undos = _undos(graph)
    nodes = [Node(id=START, lines=(), title=START, kind="start", shape="dot")]
    nodes += [_state(graph, state, undos.get(state.label, [])) for state in graph.states.values()]
    nodes += [_end(target) for target in graph.targets]
    known = {node.id for node in nodes}
    grouped: dict[tuple[str, str], list[Edge]] = {}
    for edge in graph.edges:
        if edge.source in known:
            grouped.setdefault((edge.source, edge.target), []).append(edge)
    return Scheme(
        title=f"{graph.name}@{graph.graph}",
        about=f"{len(graph.states)} states, {len(graph.edges)} transitions{'; ' if graph.partial else ''}{graph.partial}",
        nodes=tuple(nodes),
        arrows=tuple(_arrow(graph, *ends, edges) for ends, edges in grouped.items()),
    )


def grid_of(graph: Graph) -> Layout:
    """Row and column of every state and end, the same in all drawings."""
    scheme = scheme_of(graph)
    return layout(scheme.nodes, scheme.arrows)


def _state(graph: Graph, state: State, undos: list[tuple[str, str]]) -> Node:
    kind = "".join(c for c in state.kind if c.isalnum() or c in "-_")
    back = " undo" if state.kind in UNWINDS else ""
    where = f", line {state.line}" if state.line else ""
    parts = graph.parts.get(state.label, ())
    return Node(
        id=state.label,
        lines=wrapped(_head(state.label) if parts else state.label, BOX_CHARS, BOX_LINES),
        title=f"{state.label}: {state.operation}{where}",
        kind=f"state{back} kind-{kind}",
        shape=_SHAPES.get(state.kind, "box"),
        beside=tuple(
            Beside(id=f"undo({of})", words=f"↩ {_short(undo)}", title=f"undo({of}): {undo}")
            for of, undo in undos
        ),
        inner=tuple(_short(part) for part in parts),
        scopes=() if state.kind in UNWINDS else graph.scopes.get(state.label, ()),
        aside=state.kind in UNWINDS,
    )


def _end(target: str) -> Node:
    name = shown(target)
    kind = "outcome" if target.startswith("return") else "outcome bad"
    words = "end" if target == "return" else name
    return Node(
        id=target,
        lines=wrapped(words, BOX_CHARS, BOX_LINES),
        title=f"ends: {words}",
        kind=kind,
        shape="pill",
        aside=not target.startswith("return"),
    )


def _arrow(graph: Graph, source: str, target: str, edges: list[Edge]) -> Arrow:
    causes = list(dict.fromkeys(e.cause for e in edges if e.cause))
    ends = f"{shown(source)} → {shown(target)}"
    return Arrow(
        source=source,
        target=target,
        lines=label_of(causes),
        title=f"{ends}: {' | '.join(causes)}" if causes else ends,
        failure=all(e.failure for e in edges),
        pivot=(source, target) in graph.pivots,
    )


def _undos(graph: Graph) -> dict[str, list[tuple[str, str]]]:
    """State -> undos in the lane beside it; those of parallel parts stand beside the state that runs them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for number, (of, undo) in enumerate(graph.undos):
        home = graph.undo_states[number] if number < len(graph.undo_states) else of
        found.setdefault(home, []).append((of, undo))
    return found


def _head(label: str) -> str:
    """`all` of `all(A,B)`, whose parts are drawn in the box."""
    return label.partition("(")[0] + ("" if "#" not in label else "#" + label.rpartition("#")[2])


def _short(text: str) -> str:
    return shortened(text, 24)
