"""An operation's outcome arrives: a reply, a local step's result, an awaited event. Unknown outcomes may be tried again.

A reply moves only the operation it names. One that comes too late settles the undo entry of its step (U4, X10), or is a
recorded no-op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contrapas.author.retry import Retry
from contrapas.core import ends, items, unwind, waits
from contrapas.core.children import CHILD
from contrapas.core.copies import copy_pending, copy_undo
from contrapas.core.envelope import Node, Pending, UndoEntry
from contrapas.core.kin import of_saga
from contrapas.core.outcomes import NONE_TEXT, Kept, failed, keep_message, keep_step, reason_of, words_of
from contrapas.core.policies import policy_from
from contrapas.core.reread import reread
from contrapas.core.undo import Path, edit, lines, needs_reply, settle, walk
from contrapas.core.work import Line, Work
from contrapas.core.world import UNREAD, Input
from contrapas.errors import Cancelled, StepFailed


def incoming(work: Work, event: Input) -> bool:
    """Apply a reply, result, event or signal; says whether anything took it."""
    if event.in_reply_to:
        return _by_key(work, event)
    return _by_type(work, event)


def delivered(work: Work, event: Input) -> bool:
    """What a rendezvous hands over goes to the wait it names; says whether that one still waits. What a release before this
    one kept of it names none, and goes to the wait of its type."""
    for line in lines(work.root):
        pending = line.node.pending
        if pending is None or not pending.wait_id or event.type not in pending.types:
            continue
        if event.wait_id in ("", pending.wait_id):
            event.wait_id, event.value = pending.wait_id, event.value or pending.correlate
            outcome(work, line, pending, event)
            waits.deliver_answer(work, event, "applied")
            return True
    return False


def answer_kept(work: Work) -> None:
    """Operations issued in this transition whose answer the record held already."""
    waiting, work.kept_answers = work.kept_answers, []
    for line, pending, cause in waiting:
        if line.node.pending is pending:
            outcome(work, line, pending, reread(cause, work.record, work.world, work.at))


def _by_key(work: Work, event: Input) -> bool:
    key = event.in_reply_to
    first = work.record.root.pending
    if first is not None and first.key == key:
        return outcome(work, work.root, first, event)
    join = work.record.root.join
    for position, child in enumerate(join.children if join is not None else ()):
        if child.pending is not None and child.pending.key == key:
            return outcome(work, work.root.child(position), child.pending, event)
    for line in lines(work.root):
        pending = line.node.pending
        if pending is not None and pending.key == key:
            return outcome(work, line, pending, event)
    for line in lines(work.root):
        for path, entry in walk(line.node.undo):
            if entry.pending is not None and entry.pending.key == key:
                return _undo_outcome(work, line, edit(line.node.undo, path), event)
    for i, entry in enumerate(work.record.owed):
        if entry.pending is not None and entry.pending.key == key:
            return _owed_outcome(work, i, event)
    return _late(work, event, lambda entry: entry.key == key)


def _by_type(work: Work, event: Input) -> bool:
    name = event.type
    for line in lines(work.root):
        pending = line.node.pending
        if pending is not None and name in pending.types and not pending.wait_id:
            return outcome(work, line, pending, event)
    for line in lines(work.root):
        for path, entry in walk(line.node.undo):
            if entry.pending is not None and name in entry.pending.types:
                return _undo_outcome(work, line, edit(line.node.undo, path), event)
    for i, entry in enumerate(work.record.owed):
        if entry.pending is not None and name in entry.pending.types:
            return _owed_outcome(work, i, event)
    return _late(work, event, lambda entry: name in entry.types)


def outcome(work: Work, line: Line, pending: Pending, event: Input) -> bool:
    """The outcome of one operation; says whether it was one."""
    if pending.kind == "local":
        return _local(work, line, pending, event)
    if pending.kind == "child":
        return _child(work, line, pending, event)
    if pending.kind == "cancel":
        line.node.pending = None
        body: Any = event.body
        status: object = body.get("status") if body.__class__ is dict else None
        work.resume(line, status if isinstance(status, str) else None)
        return True
    if pending.kind == "map":
        return _map(work, line, pending)
    if pending.kind == "wait":
        line.node.pending = None
        waits.leave(work, pending, but=event.type if event.cause.kind == "deliver" else "")
        work.resume(line, event.body)
        return True
    return _command(work, line, pending, event)


def _child(work: Work, line: Line, pending: Pending, event: Input) -> bool:
    """A child has ended, or there is none: another one has its key."""
    if event.cause.kind != "reply":
        return False
    if event.outcome in ("declined", "error"):
        _over(work, line, pending, "failed", thrown=failed(pending.label, event.reason or "declined"))
        return True
    reply = keep_message(work.world, event.body) if event.type else NONE_TEXT
    _over(work, line, pending, "done", event.body if event.type else None, reply=reply)
    return True


def _map(work: Work, line: Line, pending: Pending) -> bool:
    """Every item of a map has ended, or nothing more begins."""
    if pending.error and of_saga(pending):
        _over(work, line, pending, "failed", thrown=Cancelled(pending.error))
        return True
    inner = bool(line.node.frames)
    value, thrown = items.result(work, pending, kept=not inner)
    if thrown is None:
        _over(work, line, pending, "done", value if inner else Kept(value))
    else:
        _over(work, line, pending, "failed", thrown=thrown)
    return True


def _command(work: Work, line: Line, pending: Pending, event: Input) -> bool:
    name = event.type
    policy = policy_of(pending)
    if name in pending.types and event.outcome != "error":
        if name == pending.types[0]:
            reply = keep_message(work.world, event.body) if needs_reply(work, pending.undo) else ""
            value = event.body
            if work.types.messages[name].returns:
                value = value.value if line.node.frames else Kept(keep_message(work.world, value))
            _over(work, line, pending, "done", value, reply=reply)
        elif policy is not None and policy.forever:
            again(work, line.node, pending, policy, reason_of(event.body))
        elif pending.kind == "ask":
            _over(work, line, pending, "failed", event.body)
        else:
            _over(
                work, line, pending, "failed", thrown=failed(pending.label, reason_of(event.body), event.body)
            )
        return True
    if event.outcome == "error":
        words = event.reason or "the handler gave up"
        if policy is not None and policy.allows(pending.attempt):
            again(work, line.node, pending, policy, words)
        else:
            _over(work, line, pending, "unknown", thrown=failed(pending.label, words, unknown=True))
        return True
    if event.outcome == "declined" and not name:
        words = event.reason or "declined"
        _over(work, line, pending, "failed", thrown=failed(pending.label, words))
        return True
    return False


def _local(work: Work, line: Line, pending: Pending, event: Input) -> bool:
    if event.outcome == "ok":
        _succeeded(work, line, pending, event)
        return True
    if pending.retry_at is not None or (event.attempt and event.attempt != pending.attempt):
        return False
    why = _exception(work, event)
    policy = policy_of(pending)
    definite = isinstance(why, StepFailed) and not why.unknown
    if definite and not (policy is not None and policy.forever):
        assert isinstance(why, StepFailed)
        why.step = why.step or pending.label
        _over(work, line, pending, "failed", thrown=why)
    elif policy is not None and policy.allows(pending.attempt):
        again(work, line.node, pending, policy, words_of(why))
    else:
        work.note(f"CP841: attempt {pending.attempt} was the last")
        thrown = failed(pending.label, words_of(why), unknown=True)
        thrown.__cause__ = why
        _over(work, line, pending, "unknown", thrown=thrown, lost=True)
    return True


def _succeeded(work: Work, line: Line, pending: Pending, event: Input) -> None:
    """A local step's result."""
    text = str(event.body)
    value = event.live
    node = line.node
    if not node.frames:
        value = Kept(keep_step(pending.name, text))
    elif value is UNREAD:
        value = work.types.steps[pending.name].result.load(text)
    node.pending = None
    if pending.undo >= 0:
        reply = keep_step(pending.name, text) if needs_reply(work, pending.undo) else ""
        settle(work, pending.undo, "done", reply=reply)
    work.resume(line, value)


def _exception(work: Work, event: Input) -> BaseException:
    if event.error:
        return work.types.load_exception(event.error)
    return TimeoutError(event.reason or "no result in time")


def _over(
    work: Work,
    line: Line,
    pending: Pending,
    status: str,
    value: object = None,
    *,
    thrown: BaseException | None = None,
    reply: str = "",
    lost: bool = False,
) -> None:
    """The operation is over: its undo entry learns how, and its line goes on."""
    line.node.pending = None
    if pending.undo >= 0:
        settle(work, pending.undo, status, reply=reply, lost=lost)
    work.resume(line, value, thrown)


def policy_of(pending: Pending) -> Retry | None:
    """Its retry policy, if it has one."""
    return policy_from(pending.policy) if pending.policy else None


def again(work: Work, node: Node, pending: Pending, policy: Retry, words: str) -> None:
    """An attempt failed and there will be another one, after a pause that is state."""
    node.pending = later(work, pending, policy, words)


def later(work: Work, pending: Pending, policy: Retry, words: str) -> Pending:
    """The operation, retrying."""
    waiting = copy_pending(pending)
    waiting.retry_at = work.at + policy.delay_ms(pending.attempt)
    waiting.each_at = None
    waiting.error = words
    return waiting


def _undo_outcome(work: Work, line: Line, entry: UndoEntry, event: Input) -> bool:
    """The reply or result of an undo in flight; `entry` may be changed."""
    taken = undo_answered(work, entry, event)
    if entry.status == "undone":
        unwind.drive(work, line)
    return taken


def _owed_outcome(work: Work, index: int, event: Input) -> bool:
    owed = work.record.owed
    entry = owed[index] = copy_undo(owed[index])
    taken = undo_answered(work, entry, event)
    if entry.status == "undone":
        owed.remove(entry)
        ends.settled(work)
    return taken


def undo_answered(work: Work, entry: UndoEntry, event: Input) -> bool:
    """Done, to be tried again, or stuck."""
    pending = entry.pending
    assert pending is not None
    if pending.kind == "local":
        good = event.outcome == "ok"
        stale = pending.retry_at is not None or (event.attempt and event.attempt != pending.attempt)
        if not good and stale:
            return False
        words = "" if good else words_of(_exception(work, event))
    else:
        good = event.type == pending.types[0] and event.outcome != "error"
        if not good and event.outcome == "ok" and event.type not in pending.types:
            return False
        words = (
            "" if good else event.reason or (reason_of(event.body) if event.type else "the handler gave up")
        )
    if good:
        unwind.through(work, entry)
    else:
        undo_failed(work, entry, words)
    return True


def undo_failed(work: Work, entry: UndoEntry, words: str) -> None:
    """An attempt of an undo failed: another one, or the instance parks (U6)."""
    pending = entry.pending
    assert pending is not None
    policy = policy_of(pending)
    if policy is not None and policy.allows(pending.attempt):
        entry.pending = later(work, pending, policy, words)
    else:
        stuck(work, entry, words)


def stuck(work: Work, entry: UndoEntry, words: str) -> None:
    """An undo is exhausted; a person must look at it."""
    assert entry.pending is not None
    pending = entry.pending = copy_pending(entry.pending)
    pending.retry_at = pending.each_at = pending.deadline = None
    pending.error = words
    entry.status = "stuck"
    work.park("CP845", "undo", f"{pending.label}: {words}")


def heard(work: Work, event: Input) -> bool:
    """Note how the step ended that a reply speaks of and that is about to be given up; says whether there is one."""
    for line in lines(work.root):
        pending = line.node.pending
        if pending is None or pending.undo < 0 or pending.kind == "map":
            continue
        key, number = event.in_reply_to, pending.undo
        if (pending.key != key) if key else (event.type not in pending.types):
            continue
        for path, entry in walk(line.node.undo):
            if entry.number == number and _noted(work, line, path, entry, event):
                line.node.pending = copy_pending(pending)
                line.node.pending.undo = -1
                return True
    by_key = event.in_reply_to
    return _late(work, event, lambda entry: entry.key == by_key if by_key else event.type in entry.types)


def _late(work: Work, event: Input, match: Callable[[UndoEntry], bool]) -> bool:
    """A reply whose step is over settles its undo entry, and moves nothing else (X10)."""
    for i, entry in enumerate(work.record.owed):
        if entry.status == "owed" and entry.pending is None and match(entry):
            return _late_owed(work, i, event)
    for line in lines(work.root):
        for path, entry in walk(line.node.undo):
            if entry.status == "unknown" and match(entry):
                return _noted(work, line, path, entry, event)
    return False


def _noted(work: Work, line: Line, path: Path, entry: UndoEntry, event: Input) -> bool:
    """The undo entry of a step says what the reply says."""
    verdict = _said(entry, event)
    if verdict == "failed" and entry.undo_failed:
        verdict = "done"
    if verdict:
        entry = edit(line.node.undo, path)
        entry.status = verdict
        if verdict == "done" and entry.needs_reply:
            entry.reply = _kept_reply(work, entry, event)
        work.note("late reply")
    return bool(verdict)


def _late_owed(work: Work, index: int, event: Input) -> bool:
    owed = work.record.owed
    entry = owed[index] = copy_undo(owed[index])
    verdict = _said(entry, event)
    if not verdict:
        return False
    work.note("late reply")
    if verdict == "done":
        entry.reply = _kept_reply(work, entry, event)
        if not unwind.issue(work, entry):
            return True
    owed.remove(entry)
    ends.settled(work)
    return True


def _said(entry: UndoEntry, event: Input) -> str:
    """What a late reply says about its step: `done`, `failed`, or nothing."""
    if event.cause.kind == "result":
        return "done" if event.outcome == "ok" else "failed" if event.outcome == "declined" else ""
    if event.outcome == "error":
        return ""
    if entry.step == CHILD:
        return "failed" if event.outcome == "declined" else "done"
    if event.type in entry.types:
        return "done" if event.type == entry.types[0] else "failed"
    return "failed" if event.outcome == "declined" else ""


def _kept_reply(work: Work, entry: UndoEntry, event: Input) -> str:
    if event.cause.kind == "result":
        return keep_step(entry.step, str(event.body))
    return keep_message(work.world, event.body) if event.type else NONE_TEXT
