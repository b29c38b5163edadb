"""What an instance has done, read off its records: each operation once, with how it ended, when, and where it is told.

The records are the truth and nothing else is asked: an operation begins in the record that shows it pending for the
first time and has ended in the first that does not; the event that caused that record is what ended it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from contrapas.core.envelope import ENDED, InstanceRecord, Message, Node, Pending, UndoEntry

OK, FAILED, UNDONE, UNKNOWN, OPEN, DROPPED = "✓", "✗", "↩", "?", "…", "–"
CLASSES = {OK: "done", FAILED: "failed", UNDONE: "undone", UNKNOWN: "failed", OPEN: "now"}
"""How a stage is painted, by its mark."""


class Stage(NamedTuple):
    """One operation of an instance."""

    label: str
    name: str
    """Of the command, step or awaited events."""
    kind: str
    mark: str
    began_ms: int
    ended_ms: int | None
    attempts: int
    answer: str
    """What ended it: the reply's type, `no answer in 30s`, `cancelled`; empty while open."""
    place: str
    """Where the answer is told: `payments.events/0@199`; empty for what came through memory."""
    note: str
    message: Message | None
    """What was sent for it."""
    key: str

    @property
    def took_ms(self) -> int | None:
        """From its first attempt to its end."""
        return None if self.ended_ms is None else self.ended_ms - self.began_ms


def stages(records: Sequence[InstanceRecord]) -> list[Stage]:
    """Every operation in the order of issue. records: of one run, oldest first; a history cut at the floor is fine."""
    opened: dict[str, tuple[Pending, InstanceRecord]] = {}
    attempts: dict[str, int] = {}
    messages: dict[str, Message] = {}
    order: list[str] = []
    ended: dict[str, Stage] = {}
    for record in records:
        for message in record.out:
            messages.setdefault(message.id, message)
        now = {p.key: p for p in record.operations()}
        gone = [key for key in order if key in opened and key not in ended and key not in now]
        for key in gone:
            pending, since = opened[key]
            ended[key] = _ended(pending, since, record, attempts[key], messages.get(key), len(gone))
        for key, pending in now.items():
            if key not in opened:
                order.append(key)
                opened[key] = (pending, record)
            attempts[key] = pending.attempt
    return [
        ended.get(key) or _open(*opened[key], attempts[key], messages.get(key), records[-1]) for key in order
    ]


def _open(
    pending: Pending, since: InstanceRecord, attempts: int, message: Message | None, last: InstanceRecord
) -> Stage:
    mark = OPEN if last.status not in ENDED else DROPPED
    return Stage(
        pending.label,
        pending.name,
        pending.kind,
        mark,
        pending.since or since.at,
        None,
        attempts,
        "",
        "",
        pending.error,
        message,
        pending.key,
    )


def _ended(
    pending: Pending,
    since: InstanceRecord,
    record: InstanceRecord,
    attempts: int,
    message: Message | None,
    gone: int,
) -> Stage:
    mark, answer = _verdict(pending, record, gone)
    cause = record.cause
    place = (
        f"{_topic(cause.source)}/{cause.partition}@{cause.offset}"
        if cause.source and cause.offset >= 0
        else ""
    )
    if answer not in pending.types:
        place = ""
    began = pending.since or since.at
    return Stage(
        pending.label,
        pending.name,
        pending.kind,
        mark,
        began,
        record.at,
        attempts,
        answer,
        place,
        pending.error,
        message,
        pending.key,
    )


def _verdict(pending: Pending, record: InstanceRecord, gone: int) -> tuple[str, str]:
    cause = record.cause
    if pending.undoes or pending.label.startswith("undo("):
        return UNDONE, cause.type if cause.type in pending.types else ""
    entry = _entry(record, pending.key)
    if pending.kind == "child" and cause.kind == "reply":
        return (OK if cause.type in pending.types or not cause.type else FAILED), cause.type
    if cause.type and cause.type in pending.types:
        good = pending.kind == "wait" or cause.type == pending.types[0]
        return (OK if good else FAILED), cause.type
    if cause.kind == "timer":
        if pending.kind == "sleep":
            return OK, ""
        waited = _words(pending)
        return (UNKNOWN, waited) if gone == 1 or pending.deadline is not None else (DROPPED, "given up")
    if cause.kind == "result":
        if not cause.note:
            return OK, ""
        return (UNKNOWN if entry is not None and entry.status == "unknown" else FAILED), cause.note
    if cause.kind == "operate":
        return DROPPED, record.cancel or cause.type
    if entry is not None and entry.status == "done":
        return OK, ""
    return DROPPED, "given up" if gone > 1 else cause.type


def _words(pending: Pending) -> str:
    from contrapas.cli.text import duration

    if pending.deadline is None or not pending.since:
        return "no answer in time"
    return f"no answer in {duration(pending.deadline - pending.since)}"


def _entry(record: InstanceRecord, key: str) -> UndoEntry | None:
    for entry in [*_entries(record.root), *record.owed]:
        if entry.key == key:
            return entry
    return None


def _entries(node: Node) -> Iterator[UndoEntry]:
    for entry in node.undo:
        yield entry
        for branch in entry.branches:
            yield from branch
    if node.join is not None:
        for child in node.join.children:
            yield from _entries(child)


def _topic(source: str) -> str:
    return source.partition("@")[0]
