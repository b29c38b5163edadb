"""Whether an event was applied already: by position, by id, by its sender's number, or as the start of the instance.

Position is exact where the event lands directly; what comes a second way (a delivery, a redrive) is judged by its id
alone. The same id with other bytes is a conflict, never a duplicate. Ids are remembered for a while, numbers for ever.
"""

from __future__ import annotations

import hashlib

from contrapas.core.decode import Arrival
from contrapas.core.envelope import InstanceRecord
from contrapas.core.order import heard
from contrapas.core.rendezvous import hashes

FRESH, DUPLICATE, CONFLICT = "fresh", "duplicate", "conflict"


def conflict(record: InstanceRecord, a: Arrival) -> str:
    """What a CP412 says: the id, and both hashes."""
    digest = a.digest
    known = next((k for k in record.seen if k[:8] == digest[:8]), digest)
    return f"{record.instance} knows the id {a.id[:80]!r} with other bytes: {hashes(digest, known)}"


def judge(record: InstanceRecord, a: Arrival) -> str:
    """`fresh`, `duplicate` (a success: the first answer again) or `conflict` (CP412)."""
    position = a.position
    if position and record.positions.get(position, -1) >= a.offset:
        return DUPLICATE
    if not a.id:
        return FRESH
    digest = a.digest
    head = digest[:8]
    for known in record.seen:
        if known[:8] == head:
            return DUPLICATE if known == digest else CONFLICT
    return DUPLICATE if a.order is not None and heard(record.positions, a.order) else FRESH


def judge_start(record: InstanceRecord, a: Arrival) -> str:
    """The same for a start of an instance that exists: same payload, first answer; other payload, CP412."""
    verdict = judge(record, a)
    if verdict == FRESH:
        return DUPLICATE if hashlib.sha256(a.value).digest() == record.start_digest else CONFLICT
    return verdict
