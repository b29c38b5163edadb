"""What the log says of what its workers run: types with their key fields, sagas, graphs; plain data, no code.

Workers write it as `$graph` records (`runtime.graphs`), so that commands which only look, or send one event, need not
import the user's module. Where no worker has run yet a command says what it cannot show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from contrapas.cli.mask import NONE, Masks

if TYPE_CHECKING:
    from contrapas.cli.lanes import LogFile
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
APP = b"$graph/app"
"""As `runtime.graphs.APP`, which takes longer to import than a list may; a test compares."""


def limits(log: LogFile) -> Mapping[str, int]:
    """Only the attempts that local steps make, for lists."""
    try:
        return {str(name): int(number) for name, number in _app(log)["attempts"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def read(log: LogFile) -> Note:
    """What the log says of what its workers run; an empty note when none has run yet, or it is not readable."""
    try:
        app = _app(log)
        types: dict[str, Any] = app["types"]
        sagas: dict[str, Any] = app["sagas"]
        return Note(
            {name: str(t["key"]) for name, t in types.items()},
            {name: str(t["topic"]) for name, t in types.items()},
            {name: tuple(str(s) for s in saga["starts"]) for name, saga in sagas.items()},
            _graphs(log, [str(saga["graph"]) for saga in sagas.values()]),
            {name: int(number) for name, number in app["attempts"].items()},
            Masks(app["sensitive"]["types"], app["sensitive"]["names"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return EMPTY


def _app(log: LogFile) -> dict[str, Any]:
    """The newest note of any partition: a rolling deploy writes them one by one."""
    records = [r for p in range(log.partitions) if (r := log.newest_of(APP, p)) is not None and r.value]
    if not records:
        raise KeyError("app")
    found: dict[str, Any] = json.loads(max(records, key=lambda r: r.timestamp_ms).value or b"")
    return found


def _graphs(log: LogFile, current: list[str]) -> dict[str, Graph]:
    """Pictures by fingerprint, those of today's machines last."""
    found: dict[str, Graph] = {}
    for record in log.graphs():
        name = record.key.decode(errors="replace").removeprefix("$graph/")
        try:
            picture = json.loads(record.value or b"")["picture"]
            if name not in found and picture is not None:
                found[name] = graph_from(picture)
        except (ValueError, KeyError, TypeError):
            continue  # one that cannot be read is not shown; the others are
    return dict(sorted(found.items(), key=lambda item: item[0] in current))


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
