"""Instances that stand in the code of another version: whether they go on here, and how their record is led over.

The verdicts are values (`Move`), worked out above from the machine graphs that the log holds. What goes on moves when it
is next touched; what does not parks with CP312, its machine part as it was, and is looked at again by every release.
A `migrate=` makes a transition of its own, before the event that touched the instance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from contrapas.core.copies import copy_pending
from contrapas.core.envelope import Begun, Cause, Frame, InstanceRecord, Node, Pending, UndoEntry
from contrapas.core.plans import START
from contrapas.core.undo import compiled_undo, edit, lines, walk
from contrapas.core.work import Line, Unfit, Work, next_record
from contrapas.core.world import Input, World
from contrapas.errors import ContrapasError
from contrapas.machine import Machine, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What becomes of one state of another version."""

    to: str
    """Its label here; empty: there is none."""
    fits: bool
    words: str = ""
    """Why it does not."""
    mapped: bool = False
    """A `migrate=` leads it over."""


Moves = Mapping[str, Move]


def unfit(record: InstanceRecord, world: World) -> str:
    """Why this worker cannot continue an instance; empty when it can, after a migration perhaps."""
    try:
        moved = migrated(
            record, Input(cause=Cause(kind="migrate", type=""), instance=record.instance, at=0), world
        )
        look(moved or record, world)
    except Unfit as why:
        return str(why)
    return ""


def lead_over(work: Work) -> None:
    """Before an input is applied: Unfit when some frame or undo has no place here; else what waits is told today's replies."""
    world = work.world
    look(work.record, world)
    for line in lines(work.root):
        node = line.node
        pending = node.pending
        if pending is None or not node.frames or pending.kind not in ("command", "ask", "wait"):
            continue
        frame = node.frames[-1]
        machine = machine_of(frame, world)
        state = None if machine is None else machine.states.get(frame.label)
        if state is None or machine is None or frame.graph == machine.graph:
            continue
        if pending.label == frame.label and state.replies and set(pending.types) < set(state.replies):
            _widen(work, node, pending, state)


def _widen(work: Work, node: Node, pending: Pending, state: State) -> None:
    from contrapas.core.waits import bind

    new = node.pending = copy_pending(pending)
    new.types = state.replies
    if new.wait_id:
        added = copy_pending(new)
        added.types = tuple(t for t in state.replies if t not in pending.types)
        bind(work, added)


def look(record: InstanceRecord, world: World) -> None:
    """Unfit when a frame, an undo or an operation in flight has no place here."""
    for frame in _frames(record.root):
        standing(frame, world)
    for line in lines(Line((record.root,))):
        for _, entry in walk(line.node.undo):
            _undo(entry, world)
    for entry in record.owed:
        _undo(entry, world)
    for pending in record.operations():
        if pending.kind in ("command", "ask") and pending.name not in world.types.messages:
            raise Unfit(f"no command {pending.name!r} here, which {pending.label} waits for")


def _undo(entry: UndoEntry, world: World) -> None:
    lambda_ = entry.kind == "lambda" or (entry.kind == "map" and entry.saga != "")
    if lambda_ and entry.status not in ("undone", "failed"):
        compiled_undo(world, entry)
    elif entry.status in ("undone", "failed"):
        return
    elif entry.kind == "command" and entry.name not in world.types.messages:
        raise Unfit(f"no command {entry.name!r} here, which takes {entry.label} back")
    elif entry.kind in ("local", "default") and entry.name not in world.types.steps:
        raise Unfit(f"no step {entry.name!r} here, which takes {entry.label} back")


def standing(frame: Frame, world: World) -> None:
    """Unfit when a frame has no place in the code that is here."""
    machine = machine_of(frame, world)
    if machine is None:
        raise Unfit(f"no saga {frame.saga!r} here")
    if frame.graph == machine.graph or frame.label == START:
        return
    where = f"{frame.saga}@{frame.graph} at {frame.label!r}"
    moves = world.older.get((frame.saga, frame.graph))
    if moves is None:
        if world.judged:
            raise Unfit(f"{where}: the log does not hold the graph of that version")
    else:
        move = moves.get(frame.label)
        if move is None or not move.fits:
            words = "has no such state" if move is None else move.words
            raise Unfit(f"{where} does not fit @{machine.graph}: {words}")
        if move.mapped:
            _led(frame, machine)  # it was tried, and says again why it cannot be
    for begun in frame.begun:
        if begun.given != "ignored":
            _begun(begun.label, frame, machine, moves)
    state = machine.states.get(frame.label)
    if state is None:
        raise Unfit(f"{frame.saga} has no state {frame.label!r} here")
    missing = sorted(name for name in state.needs if name not in frame.slots)
    if missing:
        raise Unfit(f"{where} needs {', '.join(missing)}, which the record does not hold")


def _begun(label: str, frame: Frame, machine: Machine, moves: Moves | None) -> None:
    """C9: what is in flight has its place in the code that began it."""
    move = None if moves is None else moves.get(label)
    if label not in machine.states or (move is not None and not move.fits):
        words = "is gone" if move is None or not move.words else move.words
        raise Unfit(f"{frame.saga}@{frame.graph} has {label!r} in flight: {words}")


def machine_of(frame: Frame, world: World) -> Machine | None:
    """The code of a frame: its own version where it is kept, else today's."""
    kept = world.kept.get((frame.saga, frame.graph)) if world.kept else None
    return kept or world.machines.get(frame.saga)


def _frames(root: Node) -> Iterator[Frame]:
    for line in lines(Line((root,))):
        yield from line.node.frames


# ---- migrate=


def migrated(record: InstanceRecord, event: Input, world: World) -> InstanceRecord | None:
    """The successor whose frames stand where `migrate=` sends them; None when there is nothing to migrate.

    Unfit when a migration fails or gives what the new state cannot use: the record stays as it is.
    """
    if record.ended_at is not None or not any(_mapped(f, world) for f in _frames(record.root)):
        return None
    new = next_record(record, event)
    for line in lines(Line((new.root,))):
        _move_node(line.node, world)
    new.cause = Cause(
        kind="migrate", type=record.saga, source="local", id=f"{record.instance}@{record.version}:migrate"
    )
    new.status = record.status
    return new


def _mapped(frame: Frame, world: World) -> Move | None:
    moves = world.older.get((frame.saga, frame.graph))
    move = None if moves is None else moves.get(frame.label)
    return move if move is not None and move.mapped and machine_of(frame, world) is not None else None


def _move_node(node: Node, world: World) -> None:
    for i, frame in enumerate(node.frames):
        if _mapped(frame, world) is None:
            continue
        machine = machine_of(frame, world)
        assert machine is not None
        label, slots = _led(frame, machine)
        node.frames[i] = replace(
            frame, graph=machine.graph, label=label, slots=slots, begun=_begun_led(frame.begun, machine)
        )
        state = machine.states[label]
        innermost = i == len(node.frames) - 1
        if innermost and node.pending is not None and node.pending.label == frame.label:
            node.pending = copy_pending(node.pending)
            node.pending.label = label
            if set(node.pending.types) < set(state.replies):
                node.pending.types = state.replies
        if innermost and node.join is not None and node.join.label == frame.label:
            node.join.label = label
        _rename_undos(node, frame, label, machine)


def _rename_undos(node: Node, frame: Frame, label: str, machine: Machine) -> None:
    before, after = f"undo({frame.label})", f"undo({label})"
    if before == after or before in machine.undos or after not in machine.undos:
        return
    for path, entry in list(walk(node.undo)):
        if entry.kind in ("lambda", "map") and entry.saga == frame.saga and entry.name == before:
            edit(node.undo, path).name = after


def _led(frame: Frame, machine: Machine) -> tuple[str, dict[str, str]]:
    """(label, slots) as `migrate=` says; Unfit in words when it cannot be."""
    given = machine.migrate
    where = f"migrate= of {frame.saga}, from {frame.label!r} of @{frame.graph}"
    if isinstance(given, Mapping):
        mapping: Mapping[str, str] = given  # pyright: ignore[reportUnknownVariableType]
        label, slots = mapping.get(frame.label, frame.label), dict(frame.slots)
    else:
        label, slots = _called(given, frame, machine, where)
    state = machine.states.get(label)
    if state is None:
        raise Unfit(f"{where}: there is no state {label!r} here")
    kept = {name: slots[name] for name in state.slots if name in slots}
    missing = sorted(name for name in state.needs if name not in kept)
    if missing:
        raise Unfit(f"{where}: {label!r} needs {', '.join(missing)}")
    return label, kept


def _begun_led(begun: list[Begun], machine: Machine) -> list[Begun]:
    given = machine.migrate
    if not isinstance(given, Mapping):
        return begun
    mapping: Mapping[str, str] = given  # pyright: ignore[reportUnknownVariableType]
    return [replace(b, label=mapping.get(b.label, b.label)) for b in begun]


def _called(given: Any, frame: Frame, machine: Machine, where: str) -> tuple[str, dict[str, str]]:
    """What a function gives for the locals; hidden slots stay as they are, under their names."""
    local = {
        name: json.loads(text)
        for name, text in frame.slots.items()
        if (slot := machine.slots.get(name)) is None or slot.role == "local"
        if "." not in name
    }
    hidden = {name: text for name, text in frame.slots.items() if name not in local}
    try:
        label, found = given(frame.label, local)
        values = dict(found)
    except Exception as why:
        raise Unfit(f"{where}: {type(why).__name__}: {why}"[:1000]) from why
    if not isinstance(label, str):
        raise Unfit(f"{where}: it gave {label!r:.80} as label")
    slots: dict[str, str] = {}
    for name, value in values.items():
        slot = machine.slots.get(name)
        if slot is None or slot.codec is None:
            continue
        try:
            slots[name] = slot.codec.dump(_value(slot.codec, value))
        except (ContrapasError, TypeError, ValueError) as why:
            raise Unfit(f"{where}: '{name}' is no {slot.type_text}: {why}"[:1000]) from why
    return label, {**slots, **hidden}


def _value(codec: Any, value: Any) -> Any:
    """JSON as the codec reads it, or a value of the type itself."""
    try:
        return codec.load(json.dumps(value))
    except (ContrapasError, TypeError, ValueError):
        return value
