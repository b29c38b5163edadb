"""A dead letter: key, value and headers of the original bit for bit, what is known about it appended as `cp-dlq-*`.

It can always be written: an original too large to copy becomes a reference (topic, partition, offset, sha-256).
"""

from __future__ import annotations

import hashlib

from contrapas.core.decode import original_headers, position_of
from contrapas.core.lane import Draft, Headers, Record
from contrapas.core.letter import CONTEXT, ERROR_MAX

COPY_MAX = 1_000_000
"""What fits on the inbound lane fits into a dead letter: its limit is 64 kB higher, and the context is smaller."""


def dead_letter(
    record: Record,
    *,
    namespace: str,
    code: str,
    error: str,
    at: int,
    instance: str = "",
    lane: str = "in",
    attempts: int = 0,
) -> Draft:
    """The draft for `<ns>.dlq`. Its id comes from the original's place, so that a second copy is known as one."""
    headers = dict(record.headers)
    topic, partition, offset = (
        f"{namespace}.{lane}" if lane == "in" else lane,
        record.partition,
        record.offset,
    )
    place = position_of(headers.get("cp-source", b"").decode(errors="replace"))
    if place is not None and "@" in place[0]:
        topic, partition, offset = place[0].partition("@")[0], place[1], place[2]
    original = original_headers(record.headers)
    value = record.value
    digest = hashlib.sha256(value or b"").hexdigest()
    size = len(value or b"") + sum(len(n) + len(v) for n, v in original)
    by_reference = size > COPY_MAX
    context: Headers = (
        ("cp-dlq-topic", topic.encode()),
        ("cp-dlq-partition", b"%d" % partition),
        ("cp-dlq-offset", b"%d" % offset),
        ("cp-dlq-timestamp", b"%d" % record.timestamp_ms),
        ("cp-dlq-reason", code.encode()),
        ("cp-dlq-error", error.encode(errors="replace")[:ERROR_MAX]),
        ("cp-dlq-disposition", b"dead"),
        ("cp-dlq-instance", instance.encode(errors="replace")),
        ("cp-dlq-attempts", b"%d" % attempts),
        ("cp-dlq-at", b"%d" % at),
        ("cp-dlq-sha256", digest.encode()),
        *((("cp-dlq-ref", b"1"),) if by_reference else ()),
    )
    key = headers.get("cp-source-key", record.key)
    kept: Headers = original
    if by_reference:
        value, kept = b"", tuple((n, v) for n, v in original if len(n) + len(v) <= 1000)[:100]
    return Draft(
        to=f"{namespace}.dlq",
        partition=-1,
        key=key,
        value=value,
        headers=(*kept, *context),
        message_id=f"dlq:{topic}/{partition}@{offset}" + (f":{instance}" if instance else ""),
    )


def restore(record: Record, *, delivery: str) -> tuple[str, Record]:
    """(topic, the original) of a dead letter; only `cp-delivery`, the new delivery id, is added."""
    headers = dict(record.headers)
    added = {name: at for at, (name, _) in enumerate(record.headers) if name in CONTEXT}
    kept = tuple([h for at, h in enumerate(record.headers) if added.get(h[0]) != at])
    topic = headers.get("cp-dlq-topic", b"").decode(errors="replace")
    again: Headers = (*kept, ("cp-delivery", delivery.encode()))
    return topic, record._replace(headers=again)
