"""A dead letter: key, value and headers of the original bit for bit, what is known about it appended as `cp-dlq-*`.

It can always be written: an original too large to copy becomes a reference (topic, partition, offset, sha-256).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from contrapas.core.decode import original_headers, position_of
from contrapas.core.lane import Draft, Headers, Record

COPY_MAX = 1_000_000
"""What fits on the inbound lane fits into a dead letter: its limit is 64 kB higher, and the context is smaller."""
ERROR_MAX = 1000
_CONTEXT = frozenset(
    f"cp-dlq-{name}"
    for name in (
        "topic", "partition", "offset", "timestamp", "reason", "error", "disposition", "instance", "attempts",
        "at", "sha256", "ref",
    )
)  # fmt: skip
"""Headers that are added, each once, behind the original's."""


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
        value=value if value is not None else b"",
        headers=(*kept, *context),
        message_id=f"dlq:{topic}/{partition}@{offset}" + (f":{instance}" if instance else ""),
    )


def restore(record: Record, *, delivery: str) -> tuple[str, Record]:
    """(topic, the original) of a dead letter; only `cp-delivery`, the new delivery id, is added."""
    headers = dict(record.headers)
    added = {name: at for at, (name, _) in enumerate(record.headers) if name in _CONTEXT}
    kept = tuple([h for at, h in enumerate(record.headers) if added.get(h[0]) != at])
    topic = headers.get("cp-dlq-topic", b"").decode()
    again: Headers = (*kept, ("cp-delivery", delivery.encode()))
    return topic, record._replace(headers=again)


class Letter(NamedTuple):
    """What a record of `<ns>.dlq` says of an original, without its bytes."""

    id: str
    """Of the original: where it was, what it held. Copies and follow-ups of one dead letter have the same."""
    topic: str
    partition: int
    """-1: the original was never stored."""
    offset: int
    timestamp_ms: int
    code: str
    error: str
    disposition: str
    """`dead`, `redriven` or `dropped`."""
    instance: str
    attempts: int
    at: int
    sha256: str
    by_reference: bool
    type: str
    event_id: str
    delivery: str
    """Of the redrive that the original came by, or that a follow-up tells of; empty: none."""


def letter_of(record: Record) -> Letter | None:
    """Read the context of a record; None when it has none of ours."""
    said = {name: value.decode(errors="replace") for name, value in record.headers}
    topic, digest = said.get("cp-dlq-topic", ""), said.get("cp-dlq-sha256", "")
    if not topic or not digest:
        return None
    numbers = [_number(said.get(f"cp-dlq-{name}", "")) for name in ("partition", "offset")]
    source, ident, instance = (said.get(n, "") for n in ("ce_source", "ce_id", "cp-dlq-instance"))
    whole = "\0".join((topic, *map(str, numbers), instance, digest, source, ident))
    return Letter(
        id=hashlib.sha256(whole.encode(errors="replace")).hexdigest()[:16],
        topic=topic,
        partition=numbers[0],
        offset=numbers[1],
        timestamp_ms=_number(said.get("cp-dlq-timestamp", "")),
        code=said.get("cp-dlq-reason", ""),
        error=said.get("cp-dlq-error", ""),
        disposition=said.get("cp-dlq-disposition", "dead"),
        instance=instance,
        attempts=max(0, _number(said.get("cp-dlq-attempts", ""))),
        at=_number(said.get("cp-dlq-at", "")),
        sha256=digest,
        by_reference=said.get("cp-dlq-ref", "") == "1",
        type=said.get("ce_type", ""),
        event_id=ident,
        delivery=said.get("cp-delivery", ""),
    )


def settled(
    record: Record, *, to: str, disposition: str, at: int, words: str = "", delivery: str = ""
) -> Draft:
    """The follow-up of a dead letter, with its key: `redriven`, by which delivery, or `dropped`, for what reason. The
    original's bytes are not repeated. to: `<ns>.dlq`."""
    kept: dict[str, bytes] = {n: v for n, v in record.headers if n in _CONTEXT or n in ("ce_source", "ce_id")}
    kept |= {"cp-dlq-disposition": disposition.encode(), "cp-dlq-at": b"%d" % at}
    kept |= {"cp-dlq-error": words.encode(errors="replace")[:ERROR_MAX]}
    kept.pop("cp-delivery", None)
    if delivery:
        kept["cp-delivery"] = delivery.encode()
    ident = letter_of(record)
    return Draft(
        to=to,
        partition=record.partition,
        key=record.key,
        value=b"",
        headers=tuple(kept.items()),
        message_id=f"dlq:{disposition}:{ident.id if ident else ''}:{delivery}",
    )


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    return int(text) if digits.isdigit() and digits.isascii() and len(digits) < 19 else -1
