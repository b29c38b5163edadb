"""How large a record is: a cheap estimate, and the exact figure only where it could matter."""

from __future__ import annotations

from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import encode

LIMIT = 900_000
"""Bytes of one record, checked before anything is sent (R7)."""
_SURE = LIMIT // 5


def size_of(record: InstanceRecord) -> int:
    """Bytes, at least; exact from 180 kB on."""
    estimate = len(record.cause.value) + len(record.outcome_body)
    for message in record.out:
        estimate += len(message.value)
    for message in record.unsent:
        estimate += len(message.value)
    for cause in record.kept:
        estimate += len(cause.value)
    for line in _nodes(record):
        estimate += line
    if record.parked is not None and record.parked.input is not None:
        estimate += len(record.parked.input.value)
    return estimate if estimate < _SURE else len(encode(record))


def _nodes(record: InstanceRecord) -> list[int]:
    sizes: list[int] = []
    todo = [record.root]
    while todo:
        node = todo.pop()
        for frame in node.frames:
            sizes.extend([len(text) for text in frame.slots.values()])
        if node.pending is not None:
            sizes.append(len(node.pending.body))
        for entry in node.undo:
            sizes.append(len(entry.body) + len(entry.reply) + 200)
            sizes.extend([len(text) for text in entry.captures.values()])
            for branch in entry.branches:
                sizes.extend([len(e.body) + len(e.reply) + 200 for e in branch])
        if node.result is not None:
            sizes.append(len(node.result))
        if node.join is not None:
            todo.extend(node.join.children)
    return sizes
