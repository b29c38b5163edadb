"""Doors: messages to instances as drafts for `<ns>.in`. Publishing one is the acknowledgement; it needs no owner.

A message is a CloudEvent in binary mode with our `cp-` headers. Its id is the caller's idempotency key or drawn here;
repeating it under that id is safe.
"""

from __future__ import annotations

import json
from typing import Any

from contrapas.core.decode import KEY_MAX, VALUE_MAX, fits
from contrapas.core.lane import Draft, Headers
from contrapas.core.messages import time_text
from contrapas.core.partition import partition as partition_of
from contrapas.core.world import MessageType
from contrapas.errors import DataError
from contrapas.runtime.batch import Setting


def key_of(message: MessageType, event: Any) -> str:
    """The key of an event: the text of its key field. DataError CP413 when it is none."""
    value = getattr(event, message.key)
    key = value if isinstance(value, str) else str(value)
    _checked(key, f"{message.name}.{message.key}", f"/{message.key}")
    return key


def _checked(key: str, what: str, path: str = "") -> bytes:
    raw = key.encode("utf-8", "surrogatepass")
    if not fits(raw):
        raise DataError(
            "CP413",
            f"{what} is no key",
            path=path,
            expected=f"1 to {KEY_MAX} bytes, no NUL",
            got=f"{len(raw)} bytes",
        )
    return raw


def value_of(message: MessageType, event: Any, raw: bytes = b"") -> bytes:
    """Its JSON; `raw` as it came, if it came as text. DataError CP409 when it is too large to send."""
    value: bytes = raw or event.model_dump_json(by_alias=True).encode()
    if len(value) > VALUE_MAX:
        raise DataError(
            "CP409",
            f"{message.name} has {len(value)} bytes, {VALUE_MAX} are allowed",
            expected=f"at most {VALUE_MAX} bytes",
            got=f"{len(value)} bytes",
            fix="store the large part elsewhere and send its address",
        )
    return value


def event_draft(
    setting: Setting,
    message: MessageType,
    value: bytes,
    *,
    kind: str,
    key: str,
    to: str,
    event_id: str,
    at: int,
    reply_to: str = "",
) -> Draft:
    """A start or a signal for the instance `to`."""
    raw = _checked(key, f"{to[:80]!r}")
    headers: Headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", f"/contrapas/{setting.namespace}/door".encode()),
        ("ce_type", message.name.encode()),
        ("content-type", b"application/json"),
        ("cp-kind", kind.encode()),
        ("cp-to", to.encode()),
    )
    if at:
        headers = (*headers, ("ce_time", time_text(at)))
    if reply_to:
        headers = (*headers, ("cp-reply-to", reply_to.encode()))
    at_partition = partition_of(raw, setting.doors.partitions)
    return Draft("in", at_partition, raw, value, headers, event_id)


def plain_draft(
    setting: Setting, kind: str, to: str, body: dict[str, str], *, event_id: str, reply_to: str = ""
) -> Draft:
    """`operate` or `query` for an instance."""
    raw = _checked(to.partition("/")[2], f"{to[:80]!r}")
    headers: Headers = (
        ("ce_id", event_id.encode()),
        ("ce_source", f"/contrapas/{setting.namespace}/door".encode()),
        ("cp-kind", kind.encode()),
        ("cp-to", to.encode()),
    )
    if reply_to:
        headers = (*headers, ("cp-reply-to", reply_to.encode()))
    value = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Draft("in", partition_of(raw, setting.doors.partitions), raw, value, headers, event_id)


def topic_draft(
    setting: Setting, message: MessageType, value: bytes, *, key: str, event_id: str, at: int
) -> Draft:
    """An event for the topic of its class, as a service would publish it; without a topic it travels on `<ns>.in`."""
    raw = key.encode()
    headers: Headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", f"/contrapas/{setting.namespace}/door".encode()),
        ("ce_type", message.name.encode()),
        ("ce_subject", raw),
        ("ce_partitionkey", raw),
        ("content-type", b"application/json"),
    )
    if at:
        headers = (*headers, ("ce_time", time_text(at)))
    to = message.topic or "in"
    number = partition_of(raw, setting.doors.partitions) if to == "in" else -1
    return Draft(to, number, raw, value, headers, event_id)
