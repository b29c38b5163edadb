"""Timers fire: a limit, a sleep, the next attempt, a deadline, a late-reply window. A timer that no longer counts is none."""

from __future__ import annotations

from contrapas.author.duration import duration_text
from contrapas.author.timeout import Timeout
from contrapas.core import cancel, children, commands, limits, settle, undo, unwind, waits
from contrapas.core.copies import copy_pending, copy_undo
from contrapas.core.envelope import Pending, UndoEntry
from contrapas.core.outcomes import failed
from contrapas.core.timers import GRACE_MS
from contrapas.core.undo import edit, lines, walk
from contrapas.core.work import Line, Work


def fire(work: Work, name: str) -> bool:
    """Fire one timer; says whether it still counted."""
    what, _, rest = name.partition(":")
    match what:
        case "deadline":
            return _deadline(work)
        case "late":
            return _window(work, int(rest))
        case "limit":
            return limits.fire(work, rest)
        case "grace":
            return _grace(work)
        case "bind":
            return waits.resend(work, rest)
        case "tell":
            return commands.told(work, rest)
        case "within" | "sleep" | "retry" | "each":
            return _operation(work, what, rest)
        case _:
            return False


def _operation(work: Work, what: str, key: str) -> bool:
    for line in lines(work.root):
        pending = line.node.pending
        if pending is not None and pending.key == key:
            return _due(work, what, pending) and _step(work, line, pending, what)
    for line in lines(work.root):
        for path, entry in walk(line.node.undo):
            if entry.pending is not None and entry.pending.key == key:
                return _due(work, what, entry.pending) and _undo(work, edit(line.node.undo, path), what)
    for i, entry in enumerate(work.record.owed):
        if entry.pending is not None and entry.pending.key == key:
            if not _due(work, what, entry.pending):
                return False
            changed = work.record.owed[i] = copy_undo(entry)
            return _undo(work, changed, what)
    return False


def _due(work: Work, what: str, pending: Pending) -> bool:
    at = pending.retry_at if what == "retry" else pending.each_at if what == "each" else pending.deadline
    return at is not None and at <= work.at


def _step(work: Work, line: Line, pending: Pending, what: str) -> bool:
    node = line.node
    if what == "retry":
        node.pending = attempt(work, pending)
    elif what == "each":
        policy = settle.policy_of(pending)
        if policy is not None and policy.allows(pending.attempt):
            settle.again(work, node, pending, policy, "no answer")
        elif pending.kind == "ask" and pending.deadline is not None:
            node.pending = copy_pending(
                pending
            )  # its outcome is a value: a reply until then, else a `Timeout`
            node.pending.each_at = None
        else:
            _unknown(work, line, pending, f"no answer in {pending.attempt} attempts")
    elif what == "sleep":
        node.pending = None
        work.resume(line)
    elif pending.kind in ("wait", "next"):
        node.pending = None
        waits.leave(work, pending)
        work.resume(line, Timeout())
    elif work.observe and work.record.on_late != "compensate" and pending.kind != "local":
        node.pending = copy_pending(pending)
        node.pending.deadline = None
        work.note(f"late: {pending.label} expired after {_length(work, pending)}")
    else:
        _unknown(work, line, pending, f"timeout after {_length(work, pending)}")
    return True


def _length(work: Work, pending: Pending) -> str:
    return duration_text((pending.deadline if pending.deadline is not None else work.at) - pending.since)


def _unknown(work: Work, line: Line, pending: Pending, reason: str) -> None:
    """Nobody knows how the step ended; its line goes on with a `Timeout` or a failure that says so."""
    line.node.pending = None
    lost = pending.kind == "local" and pending.retry_at is not None
    undo.settle(work, pending.undo, "unknown", lost=lost)
    if pending.kind == "ask" and pending.deadline is not None and pending.deadline <= work.at:
        work.resume(line, Timeout())
    else:
        work.resume(line, None, failed(pending.label, reason, unknown=True))


def attempt(work: Work, pending: Pending) -> Pending:
    """The next attempt of an operation, under the same key."""
    again = copy_pending(pending)
    again.attempt += 1
    again.retry_at = None
    reissue(work, again)
    return again


def reissue(work: Work, pending: Pending) -> None:
    """Send or run what is pending now."""
    if pending.kind == "local":
        work.call_step(pending)
        return
    if pending.kind == "child":
        children.send(work, pending)
        return
    policy = settle.policy_of(pending)
    if policy is not None and policy.each_ms is not None:
        pending.each_at = work.at + policy.each_ms
    work.send_command(pending)


def _undo(work: Work, entry: UndoEntry, what: str) -> bool:
    pending = entry.pending
    assert pending is not None
    if what == "retry":
        entry.pending = attempt(work, pending)
    elif what == "each":
        settle.undo_failed(work, entry, "no answer")
    elif work.observe and work.record.on_late != "compensate":
        entry.pending = copy_pending(pending)
        entry.pending.deadline = None
        work.note(f"late: {pending.label} expired")
    else:
        settle.stuck(work, entry, f"no answer in {_length(work, pending)}")
    return True


def _deadline(work: Work) -> bool:
    """The saga's own deadline unwinds like a cancel; after the pivot it only alerts (X9)."""
    record = work.record
    if record.deadline is None or record.deadline > work.at:
        return False
    record.deadline = None
    if record.pivoted:
        work.note("late: the saga's deadline passed after the point of no return")
    elif record.cancel:
        work.note("no-op: cancelled already")
    else:
        cancel.ask(work, "deadline")
    return True


def _grace(work: Work) -> bool:
    """The grace period after a cancel is over: the one recorded meanwhile is thrown."""
    record = work.record
    if not record.again or record.cancelled_at is None or work.at < record.cancelled_at + GRACE_MS:
        return False
    cancel.ask(work, "cancelled")
    return True


def _window(work: Work, number: int) -> bool:
    """The time in which a late reply could settle an owed undo is over: a person must look at it (U4)."""
    owed = work.record.owed
    for i, entry in enumerate(owed):
        if (
            entry.number == number
            and entry.status == "owed"
            and entry.owed_until is not None
            and entry.owed_until <= work.at
        ):
            changed = owed[i] = copy_undo(entry)
            changed.status = "stuck"
            work.park("CP709", "undo", f"{entry.label}: no reply came, and its undo needs it")
            return True
    return False


def drive_all(work: Work) -> None:
    """Go on with every unwinding."""
    for line in list(lines(work.root)):
        if line.node.unwinding is not None:
            unwind.drive(work, line)
