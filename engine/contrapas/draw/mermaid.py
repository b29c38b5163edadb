"""A machine as a Mermaid state diagram, for pages that draw it themselves."""

from __future__ import annotations

from contrapas.draw.graph import START, UNWINDS, Graph, shown
from contrapas.draw.overlay import Marks


def mermaid(graph: Graph, *, classes: Marks | None = None) -> str:
    """`stateDiagram-v2`; ends with a line feed. classes: of `draw.overlay`, for boxes."""
    names = {START: "[*]"}
    lines = ["stateDiagram-v2", f"  %% {graph.heading}"]
    for number, label in enumerate((*graph.states, *graph.targets), 1):
        names[label] = f"s{number}"
        lines.append(f'  state "{plain(shown(label))}" as s{number}')
    for edge in graph.edges:
        note = edge.cause + (" (point of no return)" if (edge.source, edge.target) in graph.pivots else "")
        lines.append(
            f"  {names[edge.source]} --> {names[edge.target]}" + (f": {plain(note)}" if note else "")
        )
    lines += [f"  {names[target]} --> [*]" for target in graph.targets]
    back = [names[s.label] for s in graph.states.values() if s.kind in UNWINDS]
    if back:
        lines += ["  classDef undo stroke-dasharray: 4 3", f"  class {','.join(back)} undo"]
    for mark, look in _LOOKS.items():
        own = [
            n for label, n in names.items() if label != START and (classes or {}).get(shown(label)) == mark
        ]
        if own:
            lines += [f"  classDef {mark} {look}", f"  class {','.join(own)} {mark}"]
    return "\n".join(lines) + "\n"


_LOOKS = {
    "done": "fill:#d7f0df,stroke:#2f7d4f,color:#1f2933",
    "now": "fill:#fff1bf,stroke:#b7791f,stroke-width:3px,color:#1f2933",
    "failed": "fill:#fdf1f0,stroke:#c2413b,color:#1f2933",
    "next": "fill:#fbfcfd,stroke:#9aa5b1,color:#9aa5b1",
    "covered": "fill:#d7f0df,stroke:#2f7d4f,color:#1f2933",
    "missed": "fill:#fdf1f0,stroke:#c2413b,color:#1f2933",
}


def plain(text: str) -> str:
    """A text without the signs that Mermaid reads itself."""
    return text.replace('"', "'").replace(";", ",").replace("#", "nr ").replace(":", " ").replace("\n", " ")
