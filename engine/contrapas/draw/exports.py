"""A choreography in the other forms: a table, Mermaid, DOT, plain data."""

from __future__ import annotations

from contrapas.draw.dot import quoted
from contrapas.draw.mermaid import plain
from contrapas.draw.services import Actor, Choreography
from contrapas.draw.text import counted


def table(made: Choreography) -> str:
    """One row per message: who sends it, who takes it; ends with a line feed."""
    names = {a.id: _name(a) for a in made.actors}
    rows = [
        (", ".join(names[s] for s in m.sources), m.name, ", ".join(names[t] for t in m.targets), m.topic)
        for m in made.messages
    ]
    rows += [(names[a], "(starts)", names[b], "") for a, b in made.starts]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    sagas = sum(a.kind == "saga" for a in made.actors)
    services = len({a.lane for a in made.actors if a.kind == "service"})
    outside = sum(a.kind == "outside" for a in made.actors)
    head = (
        f"{made.namespace}  {counted(sagas, 'saga')}, {counted(services, 'service')}, "
        f"{counted(len(made.messages), 'message')}, {outside} outside"
    )
    lines = [
        f"  {a:<{widths[0]}}  ─ {m:<{widths[1]}} ─▶ {b:<{widths[2]}}   {topic}".rstrip()
        for a, m, b, topic in rows
    ]
    return "\n".join([head, *lines]) + "\n"


def mermaid(made: Choreography) -> str:
    """A flow chart with one subgraph for each lane; ends with a line feed."""
    names = {actor.id: f"n{number}" for number, actor in enumerate(made.actors, 1)}
    lines = ["flowchart TB", f"  %% {made.namespace}"]
    for number, (lane, actors) in enumerate(_lanes(made).items(), 1):
        lines.append(f'  subgraph l{number}["{plain(lane)}"]')
        for actor in actors:
            shape = ("[[", "]]") if actor.kind == "saga" else ("[", "]")
            lines.append(f'    {names[actor.id]}{shape[0]}"{plain(actor.name)}"{shape[1]}')
        lines.append("  end")
    for message in made.messages:
        for source in message.sources:
            lines += [
                f'  {names[source]} -->|"{plain(message.name)}"| {names[target]}'
                for target in message.targets
                if target != source
            ]
    lines += [f'  {names[a]} -->|"starts"| {names[b]}' for a, b in made.starts]
    outside = [names[a.id] for a in made.actors if a.kind == "outside"]
    if outside:
        lines += ["  classDef outside stroke-dasharray: 5 4", f"  class {','.join(outside)} outside"]
    return "\n".join(lines) + "\n"


def dot(made: Choreography) -> str:
    """A directed graph of Graphviz with one cluster for each lane; ends with a line feed."""
    lines = [f"digraph {quoted(made.namespace)} {{", "  rankdir=TB;"]
    for number, (lane, actors) in enumerate(_lanes(made).items(), 1):
        lines.append(f"  subgraph {quoted(f'cluster{number}')} {{ label={quoted(lane)};")
        for actor in actors:
            style = "rounded,dashed" if actor.kind == "outside" else "rounded"
            lines.append(
                f"    {quoted(actor.id)} [shape=box, style={quoted(style)}, label={quoted(actor.name)}];"
            )
        lines.append("  }")
    for message in made.messages:
        looks = f"label={quoted(message.name)}{', style=dashed' if message.failure else ''}"
        for source in message.sources:
            lines += [f"  {quoted(source)} -> {quoted(t)} [{looks}];" for t in message.targets if t != source]
    lines += [f"  {quoted(a)} -> {quoted(b)} [label={quoted('starts')}];" for a, b in made.starts]
    return "\n".join([*lines, "}"]) + "\n"


def data(made: Choreography) -> dict[str, object]:
    """JSON-shaped; field names are public (`choreography.json`)."""
    return {
        "namespace": made.namespace,
        "participants": [
            {"id": a.id, "name": a.name, "lane": a.lane, "kind": a.kind, "mode": a.mode or None}
            for a in made.actors
        ],
        "messages": [
            {
                "name": m.name,
                "topic": m.topic,
                "command": m.command,
                "failure": m.failure,
                "sources": list(m.sources),
                "targets": list(m.targets),
            }
            for m in made.messages
        ],
        "starts": [{"saga": a, "child": b} for a, b in made.starts],
    }


def _name(actor: Actor) -> str:
    if actor.kind == "outside":
        return f"{actor.name} (outside)"
    if actor.kind == "service":
        return f"{actor.lane}.{actor.name}"
    return f"{actor.name} (observes)" if actor.mode == "observe" else actor.name


def _lanes(made: Choreography) -> dict[str, list[Actor]]:
    lanes: dict[str, list[Actor]] = {}
    for actor in made.actors:
        name = f"{actor.lane} (outside)" if actor.kind == "outside" else actor.lane
        lanes.setdefault(name, []).append(actor)
    return lanes
