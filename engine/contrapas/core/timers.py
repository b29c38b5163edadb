"""The deadlines of a record, by name: all that a timer heap needs, and nothing that is not in the record already."""

from __future__ import annotations

from contrapas.core.envelope import InstanceRecord, Pending
from contrapas.core.world import Timer


def timers(record: InstanceRecord) -> list[Timer]:
    """Every timer that counts, unsorted. A parked or paused instance has none: they fire when it goes on."""
    if record.parked is not None or record.paused:
        return _binds(record)
    found: list[Timer] = []
    root = record.root
    if root.pending is not None and root.join is None and not root.undo:
        _operation(root.pending, found)
        for entry in record.owed:
            if entry.pending is not None:
                _operation(entry.pending, found)
    else:
        for pending in record.operations():
            _operation(pending, found)
    if record.deadline is not None and record.ended_at is None:
        found.append(Timer(at=record.deadline, name="deadline"))
    for entry in record.owed:
        if entry.owed_until is not None and entry.status == "owed":
            found.append(Timer(at=entry.owed_until, name=f"late:{entry.number}"))
    if record.binds:
        found += _binds(record)
    if record.retain_until is not None and not record.owed and not record.binds:
        found.append(Timer(at=record.retain_until, name="retention"))
    return found


def next_deadline(record: InstanceRecord) -> int | None:
    """The earliest, in ms of log time."""
    pending = record.root.pending
    if (
        pending is not None
        and pending.kind == "local"
        and pending.retry_at is None
        and pending.deadline is None
    ):
        quiet = not record.root.undo and record.deadline is None and not record.owed and not record.binds
        if quiet and record.parked is None and not record.paused:
            return None
    found = timers(record)
    return min([t.at for t in found]) if found else None


def _operation(pending: Pending, found: list[Timer]) -> None:
    if pending.retry_at is not None:
        found.append(Timer(at=pending.retry_at, name=f"retry:{pending.key}"))
    if pending.each_at is not None:
        found.append(Timer(at=pending.each_at, name=f"each:{pending.key}"))
    if pending.deadline is not None:
        word = "sleep" if pending.kind == "sleep" else "within"
        found.append(Timer(at=pending.deadline, name=f"{word}:{pending.key}"))


def _binds(record: InstanceRecord) -> list[Timer]:
    return [Timer(at=b.retry_at, name=f"bind:{b.key}") for b in record.binds if b.retry_at is not None]
