"""A machine as a Mermaid state diagram, for pages that draw it themselves."""

from __future__ import annotations

from contrapas.draw.graph import START, UNWINDS, Graph, shown


def mermaid(graph: Graph) -> str:
    """`stateDiagram-v2`; ends with a line feed."""
    names = {START: "[*]"}
    lines = ["stateDiagram-v2", f"  %% {graph.name}@{graph.graph}"]
    for number, label in enumerate((*graph.states, *graph.targets), 1):
        names[label] = f"s{number}"
        lines.append(f'  state "{_plain(shown(label))}" as s{number}')
    for edge in graph.edges:
        note = edge.cause + (" (point of no return)" if (edge.source, edge.target) in graph.pivots else "")
        lines.append(
            f"  {names[edge.source]} --> {names[edge.target]}" + (f": {_plain(note)}" if note else "")
        )
    lines += [f"  {names[target]} --> [*]" for target in graph.targets]
    back = [names[s.label] for s in graph.states.values() if s.kind in UNWINDS]
    if back:
        lines += ["  classDef undo stroke-dasharray: 4 3", f"  class {','.join(back)} undo"]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Without the signs that Mermaid reads itself."""
    return text.replace('"', "'").replace(";", ",").replace("#", "nr ").replace(":", " ").replace("\n", " ")
