"""A note beside the log of what its workers run: types with their key fields, sagas, graphs; plain data, no code.

`dev` and `worker` write it when they start, so that commands which only look, or send one event, need not import the
user's module. It is a convenience: without it a command says what it cannot show.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from contrapas.cli.lanes import file_of
from contrapas.cli.mask import NONE, Masks, of_world

if TYPE_CHECKING:
    from contrapas.draw.graph import Graph


class Note(NamedTuple):
    """What is known without the module."""

    keys: Mapping[str, str]
    """Registered event type -> its key field."""
    topics: Mapping[str, str]
    """Registered type -> its topic."""
    starts: Mapping[str, tuple[str, ...]]
    """Saga -> types that start it."""
    graphs: Mapping[str, Graph]
    """Fingerprint -> graph."""
    attempts: Mapping[str, int]
    """Local step -> attempts it makes."""
    masks: Masks


EMPTY = Note({}, {}, {}, {}, {}, NONE)


def limits(file: str, namespace: str) -> Mapping[str, int]:
    """Only the attempts that local steps make, for lists."""
    path = os.path.join(os.path.dirname(file) or ".", f"{namespace}.machines.json")
    try:
        with open(path, encoding="utf-8") as source:
            found: dict[str, int] = json.load(source)["attempts"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def path_of(url: str, namespace: str) -> str:
    """Where the note lies."""
    return os.path.join(os.path.dirname(file_of(url)) or ".", f"{namespace}.machines.json")


def read(file: str, namespace: str) -> Note:
    """The note beside a log file; an empty one when there is none, or it is not readable."""
    path = os.path.join(os.path.dirname(file) or ".", f"{namespace}.machines.json")
    try:
        with open(path, encoding="utf-8") as source:
            found: dict[str, Any] = json.load(source)
        types: dict[str, Any] = found["types"]
        sagas: dict[str, Any] = found["sagas"]
        return Note(
            {name: str(t["key"]) for name, t in types.items()},
            {name: str(t["topic"]) for name, t in types.items()},
            {name: tuple(str(s) for s in saga["starts"]) for name, saga in sagas.items()},
            {str(g["graph"]): graph_from(g) for g in found["graphs"]},
            {name: int(number) for name, number in found["attempts"].items()},
            Masks(found["sensitive"]["types"], found["sensitive"]["names"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return EMPTY


def write(url: str, namespace: str, world: Any) -> None:
    """Write the note for a world, keeping the graphs of earlier versions; other logs than files get none."""
    from contrapas.draw.data import data
    from contrapas.draw.edges import graph_of

    if not url.startswith("sqlite:"):
        return
    path = path_of(url, namespace)
    known: dict[str, Any] = {}
    try:
        with open(path, encoding="utf-8") as source:
            known = {g["graph"]: g for g in json.load(source)["graphs"]}
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    for machine in world.machines.values():
        known[machine.graph] = data(graph_of(machine))
    note = {
        "namespace": namespace,
        "types": {
            m.name: {"key": m.key, "topic": m.topic, "command": m.command}
            for m in world.types.messages.values()
        },
        "sagas": {name: {"starts": list(m.starts)} for name, m in world.machines.items()},
        "attempts": {
            s.name: s.retry.attempts
            for s in world.types.steps.values()
            if s.retry is not None and s.retry.attempts
        },
        "sensitive": of_world(world),
        "graphs": list(known.values()),
    }
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    fresh = f"{path}.{os.getpid()}"
    with open(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8"
    ) as out:
        json.dump(note, out, ensure_ascii=False)
    os.replace(fresh, path)


def graph_from(found: dict[str, Any]) -> Graph:
    """A graph as `draw.data` wrote it."""
    from contrapas.draw.graph import Graph, Taken
    from contrapas.machine import Edge, State

    states = {
        s["label"]: State(
            label=s["label"],
            kind=s["kind"],
            index=number,
            operation=s["operation"],
            replies=tuple(s["replies"]),
            within=s["within"] or "",
            forever=bool(s["forever"]),
            line=int(s["line"]),
        )
        for number, s in enumerate(found["states"], 1)
    }
    edges = tuple(
        Edge(
            source=e["source"],
            target=e["target"] if not e["ends"] or " " in e["target"] else f"return {e['target']}",
            cause=e["cause"],
            failure=bool(e["failure"]),
            lines=tuple(e["lines"]),
        )
        for e in found["transitions"]
    )
    undos = tuple((u["step"], u["undo"]) for u in found["undos"])
    return Graph(
        name=found["saga"],
        graph=found["graph"],
        states=states,
        edges=edges,
        undos=undos,
        undo_states=tuple(u.get("state", u["step"]) for u in found["undos"]),
        outcomes=tuple(found["outcomes"]),
        pivots=frozenset(
            (e.source, e.target) for e, f in zip(edges, found["transitions"], strict=True) if f["pivot"]
        ),
        before_pivot=tuple(found.get("before_pivot", ())),
        unwinds={
            label: tuple(
                Taken(of=t["step"], undo=t["undo"], certain=bool(t["certain"]), word=t.get("word", "done"))
                for t in taken
            )
            for label, taken in found["unwinds"].items()
        },
        parts={s["label"]: tuple(s["parts"]) for s in found["states"] if s.get("parts")},
        scopes={s["label"]: tuple(s["scopes"]) for s in found["states"] if s.get("scopes")},
    )
