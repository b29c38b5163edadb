"""The ten words: what an instance is doing, derived from its record and nothing else, the first that holds."""

from __future__ import annotations

from contrapas.core.envelope import InstanceRecord, Node


def status_of(record: InstanceRecord) -> str:
    """One of `STATUSES`, in their order."""
    if record.parked is not None:
        return "parked"
    if record.paused:
        return "paused"
    if record.ended_at is not None:
        return "settling" if record.owed else _end(record)
    if _unwinding(record.root):
        return "unwinding"
    pending = record.root.pending
    if record.root.join is None and not any(frame.begun for frame in record.root.frames):
        if pending is None:
            return "waiting"
        return (
            "retrying"
            if pending.retry_at is not None
            else "running"
            if pending.kind in ("local", "map")
            else "waiting"
        )
    running = False
    for p in record.operations():  # of a join there may be a thousand
        if p.retry_at is not None:
            return "retrying"
        running = running or p.kind in ("local", "map")
    return "running" if running else "waiting"


def _end(record: InstanceRecord) -> str:
    if record.unwound:
        return "compensated" if record.outcome or record.undone else "failed"
    return "failed" if record.error else "done"


def _unwinding(node: Node) -> bool:
    if node.unwinding is not None:
        return True
    if node.join is None:
        return False
    return any(
        child.unwinding is not None or (child.join is not None and _unwinding(child))
        for child in node.join.children
        if not child.raw
    )
