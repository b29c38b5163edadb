"""Unwinding: entries are taken back in reverse order of issue, parallel stacks side by side, as ordinary transitions.

`done` and `unknown` steps are undone, `failed` ones are skipped (U3). An unknown step whose undo needs the reply is owed
and unwinding goes on (U4). An undo that is exhausted is stuck, and its instance parks (U6).
"""

from __future__ import annotations

from typing import Any, Final

from contrapas.core import ends, messages
from contrapas.core.begun import reason as reason_of
from contrapas.core.copies import copy_undo
from contrapas.core.envelope import Pending, UndoEntry, Unwinding
from contrapas.core.outcomes import load_body, load_kept
from contrapas.core.policies import policy_from
from contrapas.core.undo import SETTLED, compiled_undo, edit, make_ready, walk
from contrapas.core.waits import take_kept
from contrapas.core.work import FATAL, Line, SagaBug, Work
from contrapas.errors import Cancelled, StepFailed


def begin(work: Work, line: Line, floor: int, then: str, *, cause: str = "", whole: bool = False) -> None:
    """Take back this line's entries above `floor`; `then` happens when that is through."""
    line.node.unwinding = Unwinding(floor=floor, then=then, cause=cause, whole=whole)
    drive(work, line)


def drive(work: Work, line: Line) -> None:
    """Go on with a line's unwinding as far as it goes without waiting."""
    node = line.node
    unwinding = node.unwinding
    if unwinding is None or not _visit(work, node.undo, unwinding.floor):
        return
    owed = any(entry.status == "owed" for _, entry in walk(node.undo[unwinding.floor :]))
    del node.undo[unwinding.floor :]
    node.unwinding = None
    if unwinding.whole:
        work.record.unwound = True
    match unwinding.then:
        case "resume":
            work.resume(line, None, _after(line, unwinding, owed=owed))
        case "failed" | "expired":
            thrown = work.types.load_exception(unwinding.cause)
            if unwinding.then == "expired" and isinstance(thrown, StepFailed):
                thrown.unknown = owed
            work.resume(line, None, thrown)
        case "given" if line.begun is not None:
            line.begun.owed, line.begun.ended = owed, work.record.version
            work.look(line.parent)
        case "next":
            work.rejoin(line.parent)
        case _:
            ends.unwound(work, unwinding.cause, thrown=unwinding.then == "raise")


def scope(work: Work, line: Line, kind: str) -> None:
    """Down to the innermost open scope, else the whole stack; of the root line that is the saga. kind: `unwind` where the
    scope is being left."""
    for frame in reversed(line.node.frames):
        if frame.scopes:
            begin(work, line, frame.scopes[-1], "resume", cause="scope" if kind == "unwind" else "")
            return
    begin(work, line, 0, "resume", whole=len(line.nodes) == 1)


def _after(line: Line, unwinding: Unwinding, *, owed: bool) -> BaseException | None:
    """What an unwinding that the saga waited for gives: a cancel meanwhile, or that the scope's time was over."""
    node = line.node
    if node.cancel:
        said, node.cancel = node.cancel, ""
        return Cancelled(said)
    frame = node.frames[-1]
    for limit in frame.limits:
        if unwinding.cause == "scope" and limit.expired and limit.depth == len(frame.scopes) - 1:
            return StepFailed(reason_of(limit), step="scope", unknown=owed)
    return None


WIDE: Final = 64
"""So many branches of one entry are taken back at a time: those of a map may be thousands."""


def _wide(work: Work, entry: UndoEntry) -> None:
    """Let go of branches that are through, until few are left or enough are under way. `entry` may be changed."""
    kept: list[list[UndoEntry]] = []
    for at, branch in enumerate(entry.branches):
        if len(kept) == WIDE:
            kept += entry.branches[at:]
            break
        if not _visit(work, branch, 0):
            kept.append(branch)
    entry.branches = kept


def _visit(work: Work, entries: list[UndoEntry], floor: int) -> bool:
    """One stack, from the top; says whether everything above the floor is settled."""
    for i in range(len(entries) - 1, floor - 1, -1):
        while entries[i].status not in SETTLED:
            if entries[i].status in ("undoing", "stuck"):
                return False
            entry = edit(entries, (i,))
            if entry.kind == "group":
                if len(entry.branches) > WIDE:
                    _wide(work, entry)
                through = [_visit(work, branch, 0) for branch in entry.branches[:WIDE]]
                if not all(through) or len(entry.branches) > WIDE:
                    return False
                entry.status = "undone"
            elif entry.needs_reply and not entry.reply:
                if not _owe(work, entry):
                    return False
            elif not issue(work, entry):
                return False
    return True


def _owe(work: Work, entry: UndoEntry) -> bool:
    """The undo waits for a late reply; where none can come, the instance parks."""
    if entry.lost:
        entry.status = "stuck"
        work.park("CP709", "undo", f"the undo of {entry.label} needs its reply, and none can come")
        return False
    entry.status = "owed"
    since = entry.unknown_at if entry.unknown_at is not None else work.at
    entry.owed_until = since + work.record.late_replies_ms
    work.record.owed.append(copy_undo(entry))
    return True


def issue(work: Work, entry: UndoEntry) -> bool:
    """Send an undo on its way; says whether it is through already. `entry` is a copy that may be changed."""
    if entry.kind in ("lambda", "default") and not _evaluate(work, entry):
        entry.status = "undone"
        return True
    label = f"undo({entry.label})"
    pending = Pending(
        key=work.mint(label),
        label=label,
        visit=work.record.version,
        kind=entry.kind,
        name=entry.name,
        body=entry.body,
        policy=entry.policy,
        undoes=entry.key,
        since=work.at,
        deadline=None if entry.within_ms is None else work.at + entry.within_ms,
    )
    entry.status, entry.pending = "undoing", pending
    silent = work.observe and work.record.on_late != "compensate"
    if entry.kind == "local":
        if silent and not work.types.steps[entry.name].observe:
            entry.status = "stuck"
            work.park("CP721", "undo", f"{label} is a local step, which an observed saga does not run")
            return False
        work.call_step(pending)
        return False
    mt = work.types.messages[entry.name]
    pending.types = mt.replies
    pending.target = messages.key_of(mt, load_body(work.world, entry.name, entry.body))
    if work.observe and take_kept(work, mt.replies[:1]) is not None:
        through(work, entry)
        return True
    if not silent:
        work.send_command(pending)
        each = policy_from(pending.policy).each_ms if pending.policy else None
        pending.each_at = None if each is None else work.at + each
    return False


def _evaluate(work: Work, entry: UndoEntry) -> bool:
    """Run the compiled lambda over the reply; says whether it gave something to do."""
    reply = load_kept(work.world, entry.reply)
    if entry.kind == "default":
        made = _run(work.types.steps[entry.name].undo, reply)
    else:
        compiled = compiled_undo(work.world, entry)
        captures = {
            s.name: s.codec.load(entry.captures[s.name])
            for s in compiled.captures
            if s.codec is not None and s.name in entry.captures
        }
        made = _run(compiled.function, captures, reply, work.saga)
    if made is None:
        return False
    make_ready(work, entry, made)
    return True


def _run(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except FATAL:
        raise
    except BaseException as why:
        raise SagaBug(why) from why


def through(work: Work, entry: UndoEntry) -> None:
    """An undo succeeded. `entry` may be changed."""
    entry.status, entry.pending = "undone", None
    work.record.undone = True
