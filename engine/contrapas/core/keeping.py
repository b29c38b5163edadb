"""What may be done to an entity's record from outside: it is cleared while it is idle, and never cancelled."""

from __future__ import annotations

from contrapas.core.envelope import InstanceRecord
from contrapas.core.world import Input


def refusal(record: InstanceRecord, event: Input, *, entity: bool) -> str:
    """Why an entity cannot be cleared now, or something else cannot be cleared at all; empty: it can."""
    name = record.instance
    if not entity:
        return f"{name} is no entity: an instance is cancelled, and goes when its retention ends"
    if event.outcome != "clear":
        return f"{name} is an entity: it is cleared, not cancelled"
    if (
        record.parked is not None
        or len(record.root.frames) > 1
        or record.kept
        or record.root.unwinding is not None
    ):
        return f"{name} is {record.status} in {record.state}: it can be cleared while it is idle"
    if not event.published or record.owed or record.binds:
        return f"{name} has messages on their way: a moment later it can be cleared"
    return ""
