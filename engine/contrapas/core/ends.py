"""How an instance ends: by its outcome, unwound, or killed; and what remains to be settled afterwards."""

from __future__ import annotations

from typing import Any

from contrapas.core import children, commands, messages
from contrapas.core.outcomes import dump_body, words_of
from contrapas.core.waits import unbind_all
from contrapas.core.work import Work
from contrapas.errors import StepFailed


def returned(work: Work, value: Any) -> None:
    """The saga returned: its event is the outcome and is published."""
    record = work.record
    if value is not None:
        mt = work.type_of(value)
        record.outcome = mt.name
        record.outcome_body = dump_body(value)
        work.send_event(mt, record.outcome_body, messages.key_of(mt, value))
    _end(work)


def unwound(work: Work, error: str, *, thrown: bool) -> None:
    """The saga was taken back to the end after a failure nobody caught, a cancel or a kill. thrown: by an exception,
    which of an item of a map is there as a whole."""
    if work.record.map:
        text = error if thrown else work.types.dump_exception(StepFailed(error))
        work.root.node.error = text
        error = words_of(work.types.load_exception(text))
        work.record.error = error[:8000]
        item(work)
        return
    work.record.error = error[:8000]
    _end(work)


def item(work: Work) -> None:
    """An item of a map has ended: its result, what it did and what it owes stay with it until the map is over."""
    record = work.record
    unbind_all(work)
    record.ended_at = work.at
    record.deadline = None
    root = record.root
    root.frames.clear()
    root.pending = root.join = root.unwinding = None
    root.cancel = ""
    if record.talk is not None:
        commands.close(work)


def _end(work: Work) -> None:
    record = work.record
    unbind_all(work)
    record.ended_at = work.at
    record.deadline = None
    root = record.root
    root.frames.clear()
    root.undo.clear()
    root.pending = root.join = root.unwinding = None
    work.root.node.cancel = ""
    if record.talk is not None:
        commands.close(work)
    children.answer(work)
    settled(work)


def settled(work: Work) -> None:
    """An ended instance that owes nothing is kept for its retention, then let go."""
    record = work.record
    if record.map:
        return
    if record.ended_at is not None and not record.owed and record.retain_until is None:
        machine = work.world.machines.get(record.saga)
        record.retain_until = work.at + (machine.retention_ms if machine is not None else 30 * 86_400_000)
