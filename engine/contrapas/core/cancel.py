"""Giving up: a cancel throws `Cancelled` at the current awaits (X9), a kill runs no user code and unwinds at once."""

from __future__ import annotations

from contrapas.core import children, unwind
from contrapas.core.envelope import Pending
from contrapas.core.undo import group, settle
from contrapas.core.waits import leave
from contrapas.core.work import Line, Work
from contrapas.errors import Cancelled


def drop(work: Work, pending: Pending) -> None:
    """An operation is given up: what it did is unknown, and its late reply will only settle its undo entry."""
    if pending.kind == "child":
        children.forward(work, pending)
    settle(work, pending.undo, "unknown", lost=pending.kind == "local" and pending.retry_at is not None)
    leave(work, pending)


def throw(work: Work, line: Line, reason: str) -> None:
    """Throw `Cancelled` where a line waits, in every branch joined there, or when its unwinding has ended."""
    node = line.node
    if node.ended:
        return
    if node.unwinding is not None:
        if node.unwinding.then == "resume":
            node.cancel = node.cancel or reason
        return
    if node.join is not None:
        node.join.thrown = node.join.thrown or reason
        for position in range(len(node.join.children)):
            throw(work, line.child(position), reason)
        work.rejoin(line)
        return
    if node.pending is not None:
        pending, node.pending = node.pending, None
        drop(work, pending)
        work.resume(line, None, Cancelled(reason))


def kill(work: Work) -> None:
    """Take everything back without asking the saga."""
    work.record.cancel = "kill"
    _collapse(work, work.root)
    unwind.begin(work, work.root, 0, "end", cause="killed", whole=True)


def _collapse(work: Work, line: Line) -> None:
    """End a line where it stands; the stacks of its branches come to lie side by side on its own."""
    node = line.node
    if node.pending is not None:
        pending, node.pending = node.pending, None
        drop(work, pending)
    for frame in node.frames:
        settle(work, frame.undo, "unknown")
    join = node.join
    if join is not None:
        for position in range(len(join.children)):
            _collapse(work, line.child(position))
        node.join = None
        number = work.record.undo_count
        work.record.undo_count = number + 1
        group(node, [child.undo for child in join.children], number, join.label, join.visit)
    node.unwinding = None
    node.cancel = ""
    node.frames.clear()
