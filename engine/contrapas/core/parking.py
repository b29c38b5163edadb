"""Parking: one instance stands still visibly, keeping what came and what stopped it, until an operator or a release acts.

A transition that could not be computed is not taken: the record written instead holds the state before it and the input
(X5). What an operator may say: `retry` applies the input again (an exhausted undo begins anew), `skip` drops it (a stuck
undo counts as undone, with the reason), `cancel` and `kill` unwind.
"""

from __future__ import annotations

from collections.abc import Collection

from contrapas.core import cancel, commands, expire, settle, start, unwind, waits
from contrapas.core.copies import copy_pending, copy_undo, noted
from contrapas.core.envelope import Cause, InstanceRecord, Parked, UndoEntry
from contrapas.core.order import refused
from contrapas.core.outcomes import trace_of, words_of
from contrapas.core.plans import START
from contrapas.core.reread import keepable, reread
from contrapas.core.size import LIMIT, size_of
from contrapas.core.talk import talk_of
from contrapas.core.undo import edit, lines, walk
from contrapas.core.work import SagaBug, Unfit, Work
from contrapas.core.world import Input
from contrapas.errors import ContrapasError

UNDELIVERABLE = "destination"
BY_REFERENCE_MAX = 100_000
"""Bytes of an offending input beyond which the record holds its place and not its value, if it would not fit."""


def verdict_on(why: BaseException) -> tuple[str, str, BaseException]:
    """(code, reason, the exception to show) of what stopped a transition."""
    if isinstance(why, SagaBug):
        inner = why.why
        code = inner.code if isinstance(inner, ContrapasError) else why.code
        return code, "bug" if why.code == "CP847" else "pivot", inner
    if isinstance(why, Unfit):
        return "CP312", "version", why
    if isinstance(why, ContrapasError):
        return why.code, "data", why
    return "CP901", "defect", why


def parked(
    record: InstanceRecord, event: Input, why: BaseException, before: InstanceRecord | None
) -> InstanceRecord:
    """`record` is the successor in which nothing happened; it stands still there, with the input. What an operator says is
    no input: one that was parked already keeps its own."""
    code, reason, shown = verdict_on(why)
    cause = keepable(event)
    earlier = before.parked if before is not None else None
    held = earlier.input if earlier is not None else None
    record.parked = Parked(
        reason=reason,
        code=code,
        error=words_of(shown)[:8000],
        trace=trace_of(shown),
        input=cause if cause.kind not in ("timer", "operate") else held,
        status=earlier.status if earlier is not None else before.status if before is not None else "",
    )
    record.status = "parked"
    if event.ask is not None:
        commands.heard(record, event.ask)
    return record


def fitting(record: InstanceRecord, most: int = LIMIT) -> InstanceRecord:
    """The record of an instance that stands still; it can always be written. most: bytes."""
    if size_of(record) > most:
        by_reference(record)
    return record


def undeliverable(record: InstanceRecord, topics: Collection[str], why: ContrapasError) -> None:
    """A destination refuses for good: the instance stands still with those messages; the others leave."""
    kept = [refused(m) for m in record.out if m.to in topics]
    record.out = [m for m in record.out if m.to not in topics]
    record.unsent = [*record.unsent, *kept]
    if record.parked is None:
        record.parked = Parked(reason=UNDELIVERABLE, code=why.code, error=words_of(why)[:8000])
    record.status = "parked"


def keeps_messages(record: InstanceRecord) -> bool:
    """Parked with messages that a destination refused: they stay in every record until `retry` sends them."""
    return record.parked is not None and record.parked.reason == UNDELIVERABLE


def by_reference(record: InstanceRecord) -> None:
    """Leave out the value of an input that does not fit into the record; its place says where it is."""
    parked = record.parked
    if parked is not None and parked.input is not None:
        parked.input = Cause(
            kind=parked.input.kind,
            type=parked.input.type,
            source=parked.input.source,
            id=parked.input.id,
            partition=parked.input.partition,
            offset=parked.input.offset,
            note="by reference: it does not fit into the record",
        )
    record.cause = noted(record.cause, "value left out: it does not fit into the record")
    record.cause.value = b""


def retry(work: Work) -> None:
    """Go on: the stuck undos once more, or the input that could not be applied."""
    parked = _unpark(work)
    _unstick(work, "again", "")
    if parked.reason == UNDELIVERABLE:
        work.record.out[:0], work.record.unsent = work.record.unsent, []
    if parked.code == "CP848":
        for line in lines(work.root):
            if line.node.pending is not None and line.node.pending.wait_id:
                waits.bind(work, line.node.pending)
    if parked.input is not None:
        _again(work, parked.input, parked.code)


def _again(work: Work, cause: Cause, code: str) -> None:
    event = reread(cause, work.record, work.world, work.at)
    if cause.kind == "start" and _unborn(work.record):
        start.begin(work, event)
    elif code == "CP704" and event.in_reply_to and _issue_again(work, event.in_reply_to):
        return
    elif not (settle.delivered if cause.kind == "deliver" else settle.incoming)(work, event):
        work.note("no-op: nothing takes the parked input any more")


def _issue_again(work: Work, key: str) -> bool:
    """After the pivot a failed step is issued again rather than its failure applied again."""
    for line in lines(work.root):
        pending = line.node.pending
        if pending is not None and pending.key == key:
            line.node.pending = expire.attempt(work, pending)
            return True
    return False


def _unborn(record: InstanceRecord) -> bool:
    frames = record.root.frames
    return len(frames) == 1 and frames[0].label == START


def skip(work: Work, reason: str) -> None:
    """Drop the input; a stuck undo counts as undone, for this reason."""
    parked = _unpark(work)
    _unstick(work, "skip", reason)
    if parked.input is not None:
        work.note(f"skipped {parked.input.kind} {parked.input.type} {parked.input.id}")
        dropped = next((a for a in talk_of(work.record).asked if a.id == parked.input.id), None)
        if dropped is not None:
            commands.decline(work, dropped, commands.CLOSED)
        if _unborn(work.record):
            unwind.begin(work, work.root, 0, "end", cause=f"skipped: {reason}", whole=True)


def stop(work: Work, verb: str) -> None:
    """Cancel or kill a parked instance. What its input says about a step is heard first."""
    parked = _unpark(work)
    unborn = _unborn(work.record)
    if parked.input is not None and parked.input.kind in ("reply", "event", "command", "result"):
        said = reread(parked.input, work.record, work.world, work.at)
        if not settle.heard(work, said):
            work.note(f"{verb}: parked input {parked.input.type} {said.in_reply_to} dropped")
    if verb == "kill" or unborn:
        _unstick(work, "again", "", drive=False)
        cancel.kill(work)
    else:
        _unstick(work, "again", "")
        work.record.cancelled_at = None
        cancel.ask(work, "cancelled")


def _unpark(work: Work) -> Parked:
    parked = work.record.parked
    assert parked is not None
    work.record.parked = None
    issue_again(work)
    return parked


def issue_again(work: Work) -> None:
    """Local steps in progress, as it goes on: who held it may have lost them; who still runs one adopts it."""
    for pending in work.record.operations():
        if pending.kind == "local" and pending.retry_at is None:
            work.call_step(pending)


def with_kept(record: InstanceRecord, cause: Cause, why: BaseException) -> None:
    """Stop at an event that was kept and cannot be applied: it is the input now."""
    code, reason, shown = verdict_on(why)
    record.parked = Parked(
        reason=reason, code=code, error=words_of(shown)[:8000], trace=trace_of(shown), input=cause
    )


def _unstick(work: Work, how: str, reason: str, *, drive: bool = True) -> None:
    for line in lines(work.root):
        for path, entry in list(walk(line.node.undo)):
            if entry.status == "stuck":
                _move(work, edit(line.node.undo, path), how, reason)
    owed = work.record.owed
    for i, entry in enumerate(list(owed)):
        if entry.status == "stuck":
            changed = owed[i] = copy_undo(entry)
            _move(work, changed, how, reason)
    if how == "skip":
        owed[:] = [entry for entry in owed if entry.status != "undone"]
    if drive:
        expire.drive_all(work)


def _move(work: Work, entry: UndoEntry, how: str, reason: str) -> None:
    if how == "skip":
        entry.status, entry.pending, entry.note = "undone", None, reason
        work.record.undone = True
    elif entry.pending is not None:
        entry.status = "undoing"
        entry.pending = copy_pending(entry.pending)
        entry.pending.attempt = 0
        entry.pending = expire.attempt(work, entry.pending)
    elif entry.owed_until is not None:
        entry.status = "owed"
        entry.owed_until = work.at + work.record.late_replies_ms
    else:
        entry.status = "unknown" if entry.unknown_at is not None else "done"


def held(record: InstanceRecord) -> bool:
    """Nothing moves it but an operator."""
    return record.parked is not None or record.paused
