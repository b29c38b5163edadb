"""A message as an outbox row and back: Debezium's five columns, ours beside them, everything else in `headers`.

The row id is the CloudEvents id. What a handler emits has a derived one, the same at every run of the same delivery.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from uuid import UUID, uuid4, uuid5

from contrapas.author.event import Event, message_spec
from contrapas.core.lane import Draft, Headers
from contrapas.core.messages import VALUE_MAX, time_text
from contrapas.errors import DataError

_SPACE: Final = UUID("6f6b9f5e-5f0e-5c5b-9b0a-8d5f2f5f7a11")
_COLUMNS: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type", "content-type", "traceparent")
WIDTH: Final = 255
"""Characters of a topic, a key and a type: Debezium's columns are that wide."""


class Outgoing(NamedTuple):
    """One row to insert."""

    id: str
    """A UUID, as text."""
    topic: str
    """`aggregatetype`: the destination; `<ns>.in` for an answer that has no topic."""
    key: str
    """`aggregateid`."""
    type: str
    payload: bytes
    """JSON, or Avro where the table's column is binary."""
    source: str
    content_type: str = "application/json"
    traceparent: str = ""
    headers: Mapping[str, str] = {}
    """Every other header, in order."""


class Row(NamedTuple):
    """One row as the relay reads it."""

    seq: int
    message: Outgoing
    created_at_ms: int


def paged(rows: Iterable[Row], most: int) -> list[Row]:
    """Up to the row by which the payloads have `most` bytes: what comes after it is not even asked for."""
    found: list[Row] = []
    for row in rows:
        found.append(row)
        most -= len(row.message.payload)
        if most <= 0:
            break
    return found


def digest(type_name: str, content_type: str, value: bytes) -> bytes:
    """32 bytes: what a redelivery must repeat."""
    head = f"{len(type_name)}:{type_name}{len(content_type)}:{content_type}".encode()
    return hashlib.sha256(head + value).digest()


def derived_id(message_id: str) -> str:
    """A UUID from a derived message id, version 5 of RFC 9562."""
    return str(uuid5(_SPACE, message_id))


def written(event: Event, source: str, at_ms: int) -> Outgoing:
    """An event that business code publishes. DataError CP409/CP413/CP144: too large, a key that does not fit, no topic."""
    spec = message_spec(type(event))
    if not spec.topic:
        raise DataError("CP144", f"{spec.name} has no topic", fix='add topic="…" to its class')
    key = str(getattr(event, spec.key))
    payload = event.model_dump_json(by_alias=True).encode()
    row = Outgoing(
        str(uuid4()),
        spec.topic,
        key,
        spec.name,
        payload,
        source,
        headers={"ce_subject": key, "ce_time": time_text(at_ms).decode(), "ce_partitionkey": key},
    )
    return _fits(row)


def outgoing_of(draft: Draft, namespace: str) -> Outgoing:
    """A message that the runtime encoded, as a row; its id becomes the derived UUID of its message id."""
    known: dict[str, str] = {}
    more: dict[str, str] = {}
    for name, value in draft.headers:
        (known if name in _COLUMNS else more)[name] = value.decode()
    return _fits(
        Outgoing(
            derived_id(draft.message_id),
            f"{namespace}.in" if draft.to == "in" else draft.to,
            draft.key.decode(),
            known.get("ce_type", ""),
            draft.value or b"{}",
            known.get("ce_source", ""),
            known.get("content-type", "application/json"),
            known.get("traceparent", ""),
            more,
        )
    )


def draft_of(row: Row, namespace: str) -> Draft:
    """A row as the relay sends it: topic, key and headers as Debezium's event router gives them with the options of the
    documentation, then the row's own headers. Partition -1: the log computes it."""
    return drafts_of((row,), namespace)[0]


def drafts_of(rows: Sequence[Row], namespace: str) -> list[Draft]:
    """`draft_of` each of them. It is what a relay spends most of its time on: no call, and no header twice."""
    lane = f"{namespace}.in"
    found: list[Draft] = []
    for _, (ident, topic, key, type_name, payload, source, content, trace, more), _ in rows:
        name = ident.encode()
        fixed = _FIXED.get((source, type_name, content)) or _fixed(source, type_name, content)
        headers = [_SPEC, ("ce_id", name), *fixed]
        if trace:
            headers.append(("traceparent", trace.encode()))
        for header, value in more.items():
            if header not in _OWN:
                headers.append((header, value.encode() if value.__class__ is str else _text(value)))
        to = "in" if topic == lane else topic
        found.append(_draft(Draft, (to, -1, key.encode(), payload or b"{}", tuple(headers), ident)))
    return found


def _text(value: Any) -> bytes:
    """A header that another writer of the table has put in as a number, or whatever JSON has."""
    return json.dumps(value).encode()


_SPEC: Final = ("ce_specversion", b"1.0")
_OWN: Final = frozenset(_COLUMNS)
_FIXED: Final[dict[tuple[str, str, str], Headers]] = {}
"""Headers of a service's messages of one type; there are few of them."""
_draft: Final[Any] = cast(Any, tuple).__new__


def _fixed(source: str, type_name: str, content: str) -> Headers:
    kind = (("ce_type", type_name.encode()),) if type_name else ()
    made: Headers = (("ce_source", source.encode()), *kind, ("content-type", content.encode()))
    if len(_FIXED) >= 1024:
        _FIXED.clear()
    _FIXED[source, type_name, content] = made
    return made


def _fits(row: Outgoing) -> Outgoing:
    def refuse(what: str, value: Any) -> None:
        raise DataError(
            "CP413",
            f"{row.type or 'an answer'}: its {what} has {len(value)} characters, {WIDTH} fit into the outbox",
            expected=f"at most {WIDTH} characters",
            got=f"{len(value)}",
        )

    for what, value in (("topic", row.topic), ("key", row.key), ("type", row.type)):
        if len(value) > WIDTH:
            refuse(what, value)
    if len(row.payload) > VALUE_MAX:
        raise DataError(
            "CP409",
            f"{row.type} has {len(row.payload)} bytes, {VALUE_MAX} are allowed",
            expected=f"at most {VALUE_MAX} bytes",
            got=f"{len(row.payload)} bytes",
            fix="store the large part elsewhere and send its address",
        )
    return row
