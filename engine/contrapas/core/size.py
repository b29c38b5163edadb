"""How large a record is: a cheap estimate, and the exact figure only where it could matter."""

from __future__ import annotations

from collections.abc import Sequence

from contrapas.core.envelope import InstanceRecord, Node, UndoEntry
from contrapas.core.envelope_avro import encode

LIMIT = 900_000
"""Bytes of one record, checked before anything is sent (R7)."""
_SURE = LIMIT // 5


def size_of(record: InstanceRecord) -> int:
    """Bytes, about; exact where it could matter."""
    estimate = record.cause.size + len(record.outcome_body) + _node(record.root)
    for message in record.out:
        estimate += len(message.value)
    if record.unsent:
        estimate += sum([len(message.value) for message in record.unsent])
    if record.kept:
        estimate += sum([cause.size for cause in record.kept])
    if record.owed:
        estimate += _entries(record.owed)
    if record.parked is not None and record.parked.input is not None:
        estimate += record.parked.input.size
    return estimate if estimate < _SURE else len(encode(record))


def _node(node: Node) -> int:
    size = len(node.result or "") + len(node.error or "")
    for frame in node.frames:
        size += sum(map(len, frame.slots.values()))
    if node.pending is not None:
        size += len(node.pending.body)
    if node.undo:
        size += _entries(node.undo)
    if node.join is not None:
        size += sum([_node(child) + 200 for child in node.join.children])
    return size


def _entries(entries: Sequence[UndoEntry]) -> int:
    """An entry that was written before says itself how large it is."""
    size = 0
    for entry in entries:
        size += len(entry.raw) or 300 + len(entry.body) + len(entry.reply)
        if entry.captures or entry.branches:
            size += sum(map(len, entry.captures.values()))
            size += sum([_entries(branch) for branch in entry.branches])
    return size
