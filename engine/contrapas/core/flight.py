"""Operations in flight: begun beside their saga, awaited, given up, and ended with the scope or function they belong to.

A begun operation is a branch of the frame that began it, with frames and an undo stack of its own (R1). Its stack lies in
the saga's where it was begun once it is taken. The table of `X15` is `_close`.
"""

from __future__ import annotations

import json
from typing import Any

from contrapas.author.flight import Pending as Handle
from contrapas.author.op import MISSING, Op
from contrapas.core import begun as flying
from contrapas.core import cancel, limits, unwind
from contrapas.core.copies import copy_pending
from contrapas.core.envelope import Begun, Frame, Node, Pending
from contrapas.core.fresh import fresh_pending
from contrapas.core.outcomes import load_kept, words_of
from contrapas.core.work import Line, Work
from contrapas.errors import Cancelled, StepFailed


def begin(work: Work, line: Line, frame: Frame, handle: Handle[Any], op: Op[Any]) -> None:
    """Note an operation that starts when this stretch is over (X14). DataError CP846: too many."""
    flying.room(work)
    new = Begun(
        label=handle.label,
        visit=handle.visit,
        depth=len(frame.scopes),
        node=Node(),
        suffix=line.suffix,
        saga=frame.saga,
    )
    if _undoable(op):
        flying.stand_in(work, line.node, new)
    frame.begun = [*frame.begun, new]
    work.unissued[id(new)] = (new, op)
    work.start(line.flight(new), op)


def _undoable(op: Op[Any]) -> bool:
    if op.kind in flying.IDLE:
        return False
    if op.kind in ("command", "ask"):
        return op.undo is not None and op.undo is not MISSING
    return op.kind != "local" or op.undo is not None


def handed(work: Work, line: Line, handle: Handle[Any]) -> None:
    """`pending.cancel()`: it is given up, or its result is not wanted; what was taken stays."""
    found = flying.find(line.node.frames[-1], handle.text)
    if found is not None:
        give_up(work, line.flight(found), "cancelled")


def give_up(work: Work, line: Line, how: str) -> None:
    """Cancel a branch; what is not issued yet never is."""
    begun = line.begun
    assert begun is not None
    if begun.given == "cancelled" or (begun.given and how != "cancelled"):
        return
    begun.given = how
    if work.unissued.pop(id(begun), None) is not None:
        begun.ended = work.record.version
        work.look(line.parent)
    elif not begun.ended:
        cancel.abandon(work, line)
    elif how == "cancelled":
        _take_back(work, line, begun)


def ended(work: Work, line: Line) -> None:
    """A branch has its value or exception."""
    begun = line.begun
    assert begun is not None
    begun.ended = work.record.version
    if begun.given == "cancelled":
        _take_back(work, line, begun)
    elif begun.given == "ignored":
        flying.release(work, line.parent, begun)
    work.look(line.parent)


def _take_back(work: Work, line: Line, begun: Begun) -> None:
    """What a given up operation did is undone beside the saga."""
    if begun.node.undo:
        unwind.begin(work, line, 0, "given")
    else:
        work.look(line.parent)


# -- awaiting ------------------------------------------------------------------------------------------------


def result(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    """`await pending`."""
    handle: Handle[Any] = op.value
    if flying.find(line.node.frames[-1], handle.text) is None:
        work.now(line, None, RuntimeError(f"{handle.text} was awaited already"))
        return
    line.node.pending = _waiting(work, line, label, "result", [handle.text])
    look(work, line)


def following(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    """`await s.next(…)`."""
    handles = [handle.text for handle in op.value]
    for text in handles:
        if flying.find(line.node.frames[-1], text) is None:
            work.now(line, None, RuntimeError(f"{text} was awaited already"))
            return
    pending = line.node.pending = _waiting(work, line, label, "next", handles)
    pending.deadline = limits.moment(work, op)
    look(work, line)


def _waiting(work: Work, line: Line, label: str, kind: str, handles: list[str]) -> Pending:
    key = work.mint(label, line.suffix)
    pending = fresh_pending(key, label, work.record.version, kind, kind, work.at)
    pending.body = json.dumps(handles, ensure_ascii=False)
    return pending


def look(work: Work, line: Line) -> None:
    """Something in flight ended: does the line wait for it?"""
    pending = line.node.pending
    if pending is None:
        return
    if pending.kind == "join":
        _close(work, line, pending)
    elif pending.kind in ("result", "next"):
        frame = line.node.frames[-1]
        found = [flying.find(frame, text) for text in json.loads(pending.body)]
        over = [b for b in frame.begun if b in found and flying.through(b)]
        if not over:
            return
        first = min(over, key=lambda b: b.ended)
        line.node.pending = None
        if pending.kind == "next":
            work.now(line, Handle[Any](first.label, first.visit))
        else:
            _give(work, line, first)


def _give(work: Work, line: Line, begun: Begun) -> None:
    node = begun.node
    flying.release(work, line, begun)
    if begun.given:
        work.now(line, None, StepFailed("cancelled", step=begun.label, unknown=begun.owed))
    elif node.error is not None:
        work.now(line, None, work.types.load_exception(node.error))
    else:
        work.now(line, load_kept(work.world, node.result or ""))


def sweep(work: Work, line: Line) -> None:
    """Let go of what has ended well or was given up, and whose handle no slot holds: nobody can ask for it any more."""
    node = line.node
    if not node.frames or (node.pending is None and node.join is None):
        return
    frame = node.frames[-1]
    for begun in list(frame.begun):
        if not flying.through(begun) or (begun.node.error is not None and not begun.given):
            continue
        text = json.dumps(flying.handle_of(begun), ensure_ascii=False)
        waits = node.pending is not None and text in node.pending.body
        if not waits and not any(text in slot for slot in frame.slots.values()):
            flying.release(work, line, begun)


# -- the end of a scope or function ----------------------------------------------------------------------------


def join(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    """A scope or function ends: well, or by what is in `op.value`."""
    key = work.mint(label, line.suffix)
    pending = fresh_pending(key, label, work.record.version, "join", "join", work.at)
    pending.body = "ended" if op.value is None else "failed"
    line.node.pending = pending
    _close(work, line, pending)


def before_unwinding(work: Work, line: Line, label: str) -> bool:
    """Unwinding first ends what is in flight (U3); says whether it must wait for that."""
    if not flying.inside(line.node):
        return False
    key = work.mint(label, line.suffix)
    pending = fresh_pending(key, label, work.record.version, "join", "join", work.at)
    pending.body = "undo"
    line.node.pending = pending
    _close(work, line, pending)
    return True


def _close(work: Work, line: Line, pending: Pending) -> None:
    node = line.node
    frame = node.frames[-1]
    limit = limits.of_scope(frame)
    if pending.body == "ended" and limit is not None and limit.expired:
        node.cancel = node.cancel or flying.reason(limit)
        pending = node.pending = copy_pending(pending)
        pending.body = "failed"
    mine = [b for _, b in flying.inside(node)] if pending.body == "undo" else flying.own(frame)
    for begun in mine:
        if not begun.ended and (pending.body != "ended" or flying.idle(work, begun)):
            give_up(work, line.flight(begun), "left")
    if not all(flying.through(begun) for begun in mine):
        return
    failures = [b for b in mine if not b.given and b.node.error is not None]
    for begun in mine:
        flying.release(work, line, begun)
    node.pending = None
    if pending.body == "undo":
        unwind.scope(work, line, "compensate")
        return
    thrown: BaseException | None = None
    if node.cancel:
        thrown, node.cancel = Cancelled(node.cancel), ""
    elif pending.body == "ended" and failures:
        thrown = _failure(work, failures)
    work.now(line, None, thrown)


def _failure(work: Work, failures: list[Begun]) -> BaseException:
    """A failure that nobody took; the others are named in its notes."""
    first = work.types.load_exception(failures[0].node.error or "")
    for begun in failures[1:]:
        other = work.types.load_exception(begun.node.error or "")
        if not isinstance(other, Cancelled):
            first.add_note(f"also failed: {flying.handle_of(begun)} {words_of(other)}")
    return first


def kill(work: Work, line: Line) -> None:
    """A bug leaves the scope: what is in flight there ends on the spot, its undo entries go to the scope around."""
    for begun in flying.own(line.node.frames[-1]):
        work.unissued.pop(id(begun), None)
        cancel.collapse(work, line.flight(begun))
        flying.release(work, line, begun)
