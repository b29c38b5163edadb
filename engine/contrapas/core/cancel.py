"""Giving up: a cancel throws `Cancelled` at the current awaits (X9), a kill runs no user code and unwinds at once."""

from __future__ import annotations

from contrapas.core import children, unwind
from contrapas.core.begun import release
from contrapas.core.copies import copy_pending
from contrapas.core.envelope import Pending
from contrapas.core.kin import of_saga
from contrapas.core.timers import GRACE_MS
from contrapas.core.undo import group, lines, settle
from contrapas.core.waits import leave
from contrapas.core.work import Line, Work
from contrapas.errors import Cancelled


def drop(work: Work, pending: Pending) -> None:
    """An operation is given up: what it did is unknown, and its late reply will only settle its undo entry."""
    if pending.kind == "child":
        children.forward(work, pending)
    settle(work, pending.undo, "unknown", lost=pending.kind == "local" and pending.retry_at is not None)
    leave(work, pending)


def ask(work: Work, reason: str) -> bool:
    """Cancel the saga; says whether it is thrown now. Within the grace period after a cancel another one is recorded."""
    record = work.record
    if record.cancel and record.cancelled_at is not None and work.at < record.cancelled_at + GRACE_MS:
        record.again = True
        return False
    record.cancel = "cancel"
    record.cancelled_at = work.at
    record.again = False
    _unlimit_joined(work.root)
    throw(work, work.root, reason)
    return True


def _unlimit_joined(line: Line) -> None:
    """A cancel of the saga comes before all limits."""
    for inner in lines(line):
        unlimit(inner)


def throw(work: Work, line: Line, reason: str) -> None:
    """Throw `Cancelled` where a line waits, in every branch joined there, or when what it must end first has ended."""
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
    if node.pending is not None and node.pending.kind == "join":
        node.cancel = node.cancel or reason
        if node.pending.body == "ended":  # what is in flight is cancelled, too, and comes first
            node.pending = copy_pending(node.pending)
            node.pending.body = "failed"
            work.look(line)
        return
    if node.pending is not None and of_saga(node.pending):  # its items are cancelled, and end first
        if not node.pending.error:
            node.pending = copy_pending(node.pending)
            node.pending.error = reason
        return
    if node.pending is not None:
        pending, node.pending = node.pending, None
        drop(work, pending)
        work.resume(line, None, Cancelled(reason))


def abandon(work: Work, line: Line) -> None:
    """A branch is given up: cancelled, and what limits it counts no more."""
    _unlimit_joined(line)
    throw(work, line, "given up")


def unlimit(line: Line) -> None:
    """The scopes open here are being left for another reason: their limits count no more."""
    line.node.limit = None
    for frame in line.node.frames:
        frame.limits = [] if frame.limits else frame.limits


def kill(work: Work) -> None:
    """Take everything back without asking the saga."""
    work.record.cancel = "kill"
    collapse(work, work.root)
    unwind.begin(work, work.root, 0, "end", cause="killed", whole=True)


def collapse(work: Work, line: Line) -> None:
    """End a line where it stands; the stacks of its branches come to lie side by side on its own."""
    node = line.node
    if node.pending is not None:
        pending, node.pending = node.pending, None
        drop(work, pending)
    for frame in list(node.frames):
        settle(work, frame.undo, "unknown")
        for begun in frame.begun:
            work.unissued.pop(id(begun), None)
            collapse(work, line.flight(begun))
            release(work, line, begun)
    join = node.join
    if join is not None:
        for position in range(len(join.children)):
            collapse(work, line.child(position))
        node.join = None
        number = work.record.undo_count
        work.record.undo_count = number + 1
        group(node, [child.undo for child in join.children], number, join.label, join.visit)
    node.unwinding = None
    node.cancel = ""
    node.limit = None
    node.frames.clear()
