"""The undo stack: an entry is registered with the record that issues its step, and learns how the step ended (U1, U2).

Entries stand on the stack of their line of execution; what unwinding met without the reply it needs stands in
`record.owed`. Whoever changes one replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from contrapas.author.op import MISSING, Op, UndoRef
from contrapas.author.retry import STEP_RETRY, UNDO_RETRY, Retry
from contrapas.core import items
from contrapas.core.children import CHILD
from contrapas.core.copies import copy_undo
from contrapas.core.envelope import Node, Pending, UndoEntry
from contrapas.core.outcomes import dump_body
from contrapas.core.policies import policy_text
from contrapas.core.work import Line, Unfit, Work
from contrapas.core.world import World
from contrapas.errors import DataError
from contrapas.machine import Undo

SETTLED = frozenset({"undone", "failed", "owed", "issued"})
"""What unwinding has no more to do with. `issued` is met only where a called saga that is still under way unwinds what
its caller began before: the called saga as a whole has not happened."""


def register(
    work: Work, line: Line, op: Op[Any], *, label: str, key: str, types: tuple[str, ...] = ()
) -> int:
    """Note how an operation being issued is taken back; -1 where there is nothing to take back, or no going back (U8)."""
    record = work.record
    undo = op.undo
    if undo is MISSING and op.kind == "local":
        default = work.types.steps[op.name].undo
        undo = op if default is not None and default is not MISSING else None
    if undo is None or undo is MISSING or record.pivoted:
        return -1
    number = record.undo_count
    record.undo_count = number + 1
    entry = UndoEntry(
        number=number,
        label=label,
        visit=record.version,
        key=key,
        status="issued",
        kind="",
        name="",
        types=types,
        undo_failed=op.undo_failed,
    )
    if op.kind == "local":
        entry.step = op.name
    elif op.kind == "child":
        entry.step = CHILD
    if undo is op:
        entry.kind, entry.name, entry.needs_reply = "default", op.name, True
    elif isinstance(undo, UndoRef):
        _refer(work, line, entry, undo)
    else:
        make_ready(work, entry, undo)
    if entry.step == CHILD:  # a child that is given up takes itself back: its answer tells
        entry.needs_reply = True
    line.node.undo.append(entry)
    return number


def register_map(work: Work, line: Line, op: Op[Any], pending: Pending) -> int:
    """The same of a map: one entry that becomes one for each item when the map is over (`items.spread`)."""
    number = items.register(work, line.node.undo, op, pending)
    if number >= 0 and isinstance(op.undo, UndoRef):
        entry = line.node.undo[-1]
        _refer(work, line, entry, op.undo)
        entry.kind = "map"
    return number


def _refer(work: Work, line: Line, entry: UndoEntry, ref: UndoRef) -> None:
    """An `undo=lambda`: with its captures if it reads the reply, else evaluated now."""
    machine = work.world.machines[line.saga]
    compiled = machine.undos.get(ref.label)
    if compiled is None:
        raise Unfit(f"{machine.name} has no {ref.label!r}")
    if not compiled.needs_reply:
        make_ready(work, entry, compiled.function(ref.captures, None, work.saga))
        return
    entry.kind, entry.name, entry.needs_reply = "lambda", ref.label, True
    entry.saga, entry.graph = machine.name, machine.graph
    entry.captures = {
        slot.name: slot.codec.dump(ref.captures[slot.name])
        for slot in compiled.captures
        if slot.codec is not None and slot.name in ref.captures
    }


def make_ready(work: Work, entry: UndoEntry, undo: Any) -> None:
    """Turn what an `undo=` gave, a command or a step call, into text that can be issued later."""
    retry: Retry | None = None
    if isinstance(undo, Op):
        retry, entry.within_ms = undo.retry, undo.within_ms
        if undo.until is not None:
            raise DataError(
                "CP850", f"until= of the undo of {entry.label}: nobody knows when it will run", fix="within="
            )
        if undo.kind == "local":
            step = work.types.steps[undo.name]
            entry.kind, entry.name, entry.body = "local", undo.name, step.args.dump(undo.value)
            if retry is None and step.retry is not STEP_RETRY:
                retry = step.retry
        elif undo.kind == "command":
            entry.kind, entry.name, entry.body = "command", undo.name, dump_body(undo.value)
        else:
            raise DataError(
                "CP118",
                f"undo= of {entry.label} is a {undo.kind}",
                expected="a command or a step call",
                got=undo.kind,
            )
    else:
        entry.kind, entry.name = "command", work.type_of(undo).name
        entry.body = dump_body(undo)
    entry.policy = policy_text(retry or UNDO_RETRY)


def compiled_undo(world: World, entry: UndoEntry) -> Undo:
    """The compiled lambda of an entry; Unfit when the code here has none, or another one that needs more."""
    machine = world.kept.get((entry.saga, entry.graph)) or world.machines.get(entry.saga)
    found = machine.undos.get(entry.name) if machine is not None else None
    if found is None:
        raise Unfit(f"{entry.saga} has no {entry.name!r} here")
    if machine is not None and machine.graph != entry.graph:
        missing = [slot.name for slot in found.captures if slot.name not in entry.captures]
        if missing:
            raise Unfit(f"{entry.name} needs {', '.join(missing)}, which was not captured")
    return found


Path = tuple[int, ...]
"""Where an entry stands: index, then branch and index, branch and index …"""


def walk(entries: list[UndoEntry], above: Path = ()) -> Iterator[tuple[Path, UndoEntry]]:
    """Every entry of a stack, groups inside out."""
    for i, entry in enumerate(entries):
        for b, branch in enumerate(entry.branches):
            yield from walk(branch, (*above, i, b))
        yield (*above, i), entry


def edit(entries: list[UndoEntry], path: Path) -> UndoEntry:
    """The entry at a path, as a copy that has taken its place."""
    entry = entries[path[0]] = copy_undo(entries[path[0]])
    return entry if len(path) == 1 else edit(entry.branches[path[1]], path[2:])


def lines(line: Line) -> Iterator[Line]:
    """A line and every branch below it, in order of position; then what it has in flight, in order of `begin`."""
    yield line
    join = line.node.join
    if join is not None:
        for position in range(len(join.children)):
            yield from lines(line.child(position))
    for frame in line.node.frames:
        for begun in frame.begun:
            yield from lines(line.flight(begun))


def change(work: Work, number: int, how: Callable[[UndoEntry], None]) -> None:
    """Change the entry of a number wherever it stands; nothing happens if it is gone (U8)."""
    if number < 0:
        return
    top = work.root.node.undo
    if top and top[-1].number == number:
        how(edit(top, (len(top) - 1,)))
        return
    for line in lines(work.root):
        stack = line.node.undo
        for path, entry in walk(stack):
            if entry.number == number:
                how(edit(stack, path))
                return


def settle(work: Work, number: int, status: str, *, reply: str = "", lost: bool = False) -> None:
    """A step ended: `done`, `failed` or `unknown` (U2)."""

    def how(entry: UndoEntry) -> None:
        if entry.kind == "map":
            items.spread(work, entry)
            return
        entry.status = "done" if status == "failed" and entry.undo_failed else status
        if status == "done" and entry.needs_reply:
            entry.reply = reply
        if status == "unknown":
            entry.unknown_at = work.at
            entry.lost = lost

    if number >= 0:
        change(work, number, how)


def needs_reply(work: Work, number: int) -> bool:
    """Does the entry of a number want the success reply kept?"""
    if number < 0:
        return False
    stack = work.root.node.undo
    if stack and stack[-1].number == number:
        return stack[-1].needs_reply
    for line in lines(work.root):
        for _, entry in walk(line.node.undo):
            if entry.number == number:
                return entry.needs_reply
    return False


def group(node: Node, branches: list[list[UndoEntry]], number: int, label: str, visit: int) -> None:
    """Lay the stacks of ended branches side by side onto the stack of the line they belong to (U5)."""
    standing = [branch for branch in branches if branch]
    if len(standing) == 1:
        node.undo.extend(standing[0])
    elif standing:
        node.undo.append(
            UndoEntry(
                number=number,
                label=label,
                visit=visit,
                key="",
                status="done",
                kind="group",
                name="",
                branches=standing,
            )
        )
