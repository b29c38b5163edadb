"""What a record of `<ns>.dlq` says of its original, and the follow-up that says what became of it.

Apart from `deadletter`, which takes inputs apart: who only lists dead letters need not pay for that.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from contrapas.core.lane import Draft, Record

ERROR_MAX: Final = 1000
CONTEXT: Final = frozenset(
    f"cp-dlq-{name}"
    for name in (
        "topic", "partition", "offset", "timestamp", "reason", "error", "disposition", "instance", "attempts",
        "at", "sha256", "ref",
    )
)  # fmt: skip
"""Headers that are added, each once, behind the original's."""


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
    kept: dict[str, bytes] = {n: v for n, v in record.headers if n in CONTEXT or n in ("ce_source", "ce_id")}
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
