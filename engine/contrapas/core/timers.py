"""The deadlines of a record, by name: all that a timer heap needs, and nothing that is not in the record already."""

from __future__ import annotations

from typing import Final

from contrapas.core.envelope import InstanceRecord, Pending, Talk
from contrapas.core.world import Timer

Times = list[tuple[int, str, object]]
"""ms of log time, what is due, of what: a timer before it has a name."""


GRACE_MS: Final = 60_000
"""After a cancel, so long another one is only recorded (X9)."""


def timers(record: InstanceRecord) -> list[Timer]:
    """Every timer that counts, unsorted. A parked or paused instance has none: they fire when it goes on."""
    return [Timer(at=at, name=word if of is None else f"{word}:{of}") for at, word, of in _times(record)]


def next_deadline(record: InstanceRecord) -> int | None:
    """The earliest, in ms of log time."""
    if _untimed(record):
        return None
    times = _times(record)
    return min([at for at, _, _ in times]) if times else None


def _untimed(record: InstanceRecord) -> bool:
    """The usual case, seen at a glance: one operation without a deadline, and nothing else that could have one."""
    root = record.root
    p = root.pending
    if p is None or p.deadline is not None or p.retry_at is not None or p.each_at is not None:
        return False
    if root.join is not None or root.limit is not None or record.owed or record.binds:
        return False
    if record.talk is not None or record.again:
        return False
    for frame in root.frames:
        if frame.begun or frame.limits:
            return False
    for entry in root.undo:
        if entry.pending is not None or entry.branches:
            return False
    return record.deadline is None and record.retain_until is None


def _times(record: InstanceRecord) -> Times:
    binds: Times = [(b.retry_at, "bind", b.key) for b in record.binds if b.retry_at is not None]
    if record.parked is not None or record.paused:
        return binds
    found: Times = []
    root = record.root
    flying = any(frame.begun or frame.limits for frame in root.frames)
    if root.pending is not None and root.join is None and not (root.undo or record.owed or flying):
        _operation(root.pending, found)
    else:
        for pending in record.operations():
            if pending.deadline is not None or pending.retry_at is not None or pending.each_at is not None:
                _operation(pending, found)
        for limit in record.limits():
            if limit.deadline is not None and not limit.expired:
                found.append((limit.deadline, "limit", limit.key))
    if record.again and record.cancelled_at is not None and record.ended_at is None:
        found.append((record.cancelled_at + GRACE_MS, "grace", None))
    if record.deadline is not None and record.ended_at is None:
        found.append((record.deadline, "deadline", None))
    for entry in record.owed:
        if entry.owed_until is not None and entry.status == "owed":
            found.append((entry.owed_until, "late", entry.number))
    found += binds
    if record.talk is not None:
        found += _talk(record, record.talk)
    if record.retain_until is not None and not record.owed and not record.binds:
        found.append((record.retain_until, "retention", None))
    return found


def _talk(record: InstanceRecord, talk: Talk) -> Times:
    """The next run of the key, which may begin at once, and messages that leave later."""
    free = record.ended_at is not None and not record.owed
    following: Times = [(record.at, "next", None)] if free and talk.next_start else []
    return following + [(t.at, "tell", t.id) for t in talk.tells]


def _operation(pending: Pending, found: Times) -> None:
    if pending.retry_at is not None:
        found.append((pending.retry_at, "retry", pending.key))
    if pending.each_at is not None:
        found.append((pending.each_at, "each", pending.key))
    if pending.deadline is not None:
        found.append((pending.deadline, "sleep" if pending.kind == "sleep" else "within", pending.key))
