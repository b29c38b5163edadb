"""Machine graphs on the log: `$graph/<fingerprint>` of every version that ran, `$graph/app` of what the app declares now.

An owner writes what its partition lacks in its first commit, so each partition is complete by itself: what another version
wrote is judged, drawn and migrated without that version's code. A body is JSON: `machine` (`machine.data`), `picture`
(`draw.data`).
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from contrapas.author.sensitive import sensitive_paths
from contrapas.core.lane import Draft
from contrapas.core.moves import Move
from contrapas.core.world import World
from contrapas.errors import ContrapasError
from contrapas.machine import Machine
from contrapas.machine.data import LIMIT, from_data, to_data

if TYPE_CHECKING:
    from contrapas.runtime.partition import Partition

PREFIX: Final = "$graph/"
APP: Final = "$graph/app"
_bodies: weakref.WeakKeyDictionary[Any, dict[str, bytes]] = weakref.WeakKeyDictionary()


def key_of(graph: str) -> str:
    """The record key of a version."""
    return f"{PREFIX}{graph}"


def body_of(machine: Machine) -> bytes:
    """What is stored of a machine."""
    # here, and not at the top: a worker that finds its graphs on the log draws none, and is to start quickly
    from contrapas.draw.data import data as picture_of
    from contrapas.draw.edges import graph_of

    picture: Any = None
    if machine.program is not None:
        drawn = graph_of(machine)
        machine, picture = replace(machine, edges=drawn.edges), picture_of(drawn)
    text = json.dumps(
        {"machine": to_data(machine), "picture": picture}, ensure_ascii=False, separators=(",", ":")
    )
    return text.encode()


def machine_of(value: bytes) -> Machine:
    """A stored machine. DataError CP314 for what is none."""
    return from_data(_object(value).get("machine"))


def _object(value: bytes) -> dict[str, Any]:
    from contrapas.errors import DataError

    found: Any
    try:
        found = json.loads(value) if len(value) <= LIMIT else None
    except (ValueError, RecursionError):
        found = None
    if found.__class__ is not dict:
        raise DataError(
            "CP314", "a machine graph on the log is no JSON object", expected="an object", got="less"
        )
    whole: dict[str, Any] = found
    return whole


def app_of(world: World) -> bytes:
    """What people need to know of an app without its code: keys and topics of types, starts, attempts, masks."""
    note = {
        "types": {
            m.name: {"key": m.key, "topic": m.topic, "command": m.command}
            for m in sorted(world.types.messages.values(), key=lambda m: m.name)
        },
        "sagas": {
            name: {"starts": list(m.starts), "graph": m.graph} for name, m in sorted(world.machines.items())
        },
        "attempts": {
            s.name: s.retry.attempts
            for s in sorted(world.types.steps.values(), key=lambda s: s.name)
            if s.retry is not None and s.retry.attempts
        },
        "sensitive": sensitive_of(world),
    }
    return json.dumps(note, ensure_ascii=False, separators=(",", ":")).encode()


def sensitive_of(world: Any) -> dict[str, Any]:
    """Pointers of every registered message, names of every marked field that a step or message has."""
    types: dict[str, list[str]] = {}
    names: set[str] = set()
    for message in world.types.messages.values():
        types[message.name] = list(sensitive_paths(message.cls))
    for step in world.types.steps.values():
        for hint in _hints(step.fn):
            types.setdefault(f"step {step.name}", []).extend(sensitive_paths(hint))
    for paths in types.values():
        names |= {part for path in paths for part in path.split("/")[-1:] if part != "*"}
    return {"types": dict(sorted(types.items())), "names": sorted(names)}


def _hints(fn: Any) -> list[Any]:
    from typing import get_args, get_type_hints

    from pydantic import BaseModel

    try:
        found = list(get_type_hints(getattr(fn, "__wrapped__", fn)).values())
    except (NameError, TypeError):
        return []
    flat = [part for hint in found for part in (hint, *get_args(hint))]
    return [one for one in flat if isinstance(one, type) and issubclass(one, BaseModel)]


def own(world: World) -> Mapping[str, Machine]:
    """Record key -> machine that this worker has the code of."""
    found = [*world.machines.values(), *world.kept.values()]
    return {key_of(m.graph): m for m in found if m.graph}


def learn(world: World, stored: Iterable[tuple[str, bytes]]) -> list[str]:
    """Judge the versions that a partition's records may name; gives what could not be read, for the log."""
    mine = own(world)
    wrong: list[str] = []
    for key, value in stored:
        if key in mine or key == APP:
            continue
        try:
            old = machine_of(value)
        except ContrapasError as why:
            wrong.append(f"{key}: {why}")
            continue
        if (old.name, old.graph) not in world.older:
            world.older[(old.name, old.graph)] = judged(old, world)
    return wrong


def judged(old: Machine, world: World) -> Mapping[str, Move]:
    """What becomes of each state of another version here."""
    # here, and not at the top: where all records are of today's code nothing is judged
    from contrapas.versions.moves import moves_of

    return moves_of(old, world.machines.get(old.name), [*world.types.messages, *world.types.steps])


def owed(p: Partition) -> list[Draft]:
    """Records that this partition lacks: graphs of the machines that run here, and the app's note if it differs."""
    world = p.setting.world
    if not world.judged:
        return []
    drafts: list[Draft] = []
    lacking = [(key, machine) for key, machine in own(world).items() if key not in p.graphs]
    known = _known(world)
    for key, machine in lacking:
        if key not in known:
            known[key] = body_of(machine)
        drafts.append(p.graph_draft(key, known[key]))
    if APP not in known:
        known[APP] = app_of(world)
    if APP not in p.graphs or p.graphs[APP][1] != known[APP]:
        drafts.append(p.graph_draft(APP, known[APP]))
    return drafts


def _known(world: World) -> dict[str, bytes]:
    """Bodies are made once per process."""
    try:
        return _bodies.setdefault(world.types, {})
    except TypeError:
        return {}
