"""How an item of a map runs its saga and ends, and what becomes of all items when their map is over (X11).

Whatever ends a map, what its items did and what they owe becomes the parent's, and the item records are let go: what
still comes for one of them is the parent's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from contrapas.core import ends, unwind, waits
from contrapas.core.copies import copy_undo
from contrapas.core.envelope import InstanceRecord, UndoEntry
from contrapas.core.kin import machine_of
from contrapas.core.outcomes import keep_saga
from contrapas.core.plans import plan_of
from contrapas.core.work import SagaBug, Work, next_record
from contrapas.errors import Cancelled, StepFailed

if TYPE_CHECKING:
    from contrapas.core.items import Progress


def begin(work: Work, text: str) -> None:
    """Run an item's saga to its first await."""
    frame = work.record.root.frames[0]
    machine = machine_of(work.world, frame.saga)
    codec = machine.params[0].codec
    assert codec is not None
    work.fresh[id(frame)] = plan_of(machine).bind((codec.load(text),), {})
    work.resume(work.root)


def left(work: Work, value: Any, thrown: BaseException | None) -> None:
    """An item's saga has returned, or failed: then what it did is taken back before it counts as failed (U7)."""
    if thrown is None:
        work.root.node.result = keep_saga(work.world, work.record.saga, value)
        ends.item(work)
    elif isinstance(thrown, (StepFailed, Cancelled)):
        cause = work.types.dump_exception(thrown)
        unwind.begin(work, work.root, 0, "raise", cause=cause, whole=True)
    else:
        raise SagaBug(thrown)


# -- the end of a map --------------------------------------------------------------------------------------------


def gather(work: Work, progress: Progress, entry: UndoEntry, each: UndoEntry | None) -> None:
    """What the items did stands beside one another in the entry of their map, and what they owe is the parent's (U5).

    An item that is in flight ends here: nothing of its code runs any more. each: what takes one back besides, after it
    ended well.
    """
    for position in range(progress.begun):
        found = None if progress.look is None else progress.look(position)
        if found is None:
            continue
        record, maps = found
        if record.ended_at is None:
            record = _collapsed(work, record, maps)
        work.record.undone = work.record.undone or record.undone
        stack = _numbered(work, record.root.undo)
        if each is not None and record.root.result is not None:
            from contrapas.core.items import of_item

            whole = _numbered(work, [of_item(each, position)])
            whole[0].reply, whole[0].step = record.root.result, ""
            stack = whole + stack
        if stack:
            entry.branches.append(stack)
        owed = _numbered(work, record.owed)
        work.record.owed += owed
        for one in owed:
            if one.status == "stuck":
                work.park("CP709", "undo", f"{one.label}: no reply came, and its undo needs it")


def _collapsed(work: Work, record: InstanceRecord, maps: Mapping[str, Any] | None) -> InstanceRecord:
    from contrapas.core import cancel, commands

    event = replace(work.event, maps=maps, position="", digest=b"", published=True)
    inner = Work(next_record(record, event), event, work.world)
    inner.record.cancel = "kill"
    cancel.collapse(inner, inner.root)
    waits.unbind_all(inner)
    if inner.record.talk is not None:
        commands.close(inner)
    work.record.out += inner.record.out
    work.record.binds += inner.record.binds
    return inner.record


def _numbered(work: Work, entries: list[UndoEntry]) -> list[UndoEntry]:
    """Entries under numbers of the record that takes them over."""
    made: list[UndoEntry] = []
    for entry in entries:
        one = copy_undo(entry)
        one.number = work.record.undo_count
        work.record.undo_count += 1
        one.branches = [_numbered(work, branch) for branch in entry.branches]
        made.append(one)
    return made
