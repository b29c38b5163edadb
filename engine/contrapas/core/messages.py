"""What leaves an instance, encoded: CloudEvents in binary mode, and our own rendezvous messages.

Ids are derived: a command's id is its idempotency key, the same at every attempt; any other message of version 7 is
`instance@run.7#n`. So a transition computed again sends the same ids, and a key that is used again, after its record was
let go or cleared and versions count anew, sends others.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from contrapas.core.envelope import Answered, Asked, Cause, InstanceRecord, Message, Pending
from contrapas.core.lane import Headers
from contrapas.core.world import MessageType, World
from contrapas.errors import DataError

VALUE_MAX = 900_000
"""Bytes of one message; larger is CP409."""
TRACE_MAX = 512
"""Bytes of a trace header that is handed on: what the W3C asks to be kept, and no more in each of our messages."""
_JSON = ("content-type", b"application/json")
_SPEC = ("ce_specversion", b"1.0")


def time_text(at: int) -> bytes:
    """RFC 3339 with milliseconds, UTC."""
    return b"%s.%03dZ" % (_second(at // 1000), at % 1000)


@lru_cache(maxsize=64)
def _second(at: int) -> bytes:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


@lru_cache(maxsize=1024)
def _fixed(namespace: str, saga: str, type_name: str) -> Headers:
    source = f"/contrapas/{namespace}/{saga}".encode()
    return (_SPEC, ("ce_source", source), ("ce_type", type_name.encode()), _JSON)


def trace_headers(cause: Cause) -> Headers:
    """Trace context of the cause, handed on."""
    return tuple(h for h in cause.headers if h[0] in ("traceparent", "tracestate") and len(h[1]) <= TRACE_MAX)


def _checked(value: bytes, name: str) -> bytes:
    if len(value) > VALUE_MAX:
        raise DataError(
            "CP409",
            f"{name} has {len(value)} bytes, {VALUE_MAX} are allowed",
            expected=f"at most {VALUE_MAX} bytes",
            got=f"{len(value)} bytes",
            fix="store the large part elsewhere and send its address",
        )
    return value


def command(record: InstanceRecord, pending: Pending, world: World, at: int) -> Message:
    """A command, or the same one again under the next attempt number."""
    mt = world.types.messages[pending.name]
    key = pending.target.encode()
    headers: list[tuple[str, bytes]] = [
        ("ce_id", pending.key.encode()),
        *_fixed(world.namespace, record.saga, mt.name),
        ("ce_subject", key),
        ("ce_time", time_text(at)),
        ("ce_partitionkey", key),
        ("ce_correlationid", record.instance.encode()),
        ("ce_causationid", record.cause.id.encode()),
        ("cp-kind", b"command"),
        ("cp-reply-to", _reply_to(world, mt)),
        ("cp-run", record.run.encode()),
        ("cp-attempt", b"%d" % pending.attempt),
    ]
    if pending.deadline is not None:
        headers.append(("cp-within", b"%d" % pending.deadline))
    if pending.undoes:
        headers.append(("cp-undoes", pending.undoes.encode()))
    headers += trace_headers(record.cause)
    value = _checked(pending.body.encode(), mt.name)
    return Message(to=mt.topic or "in", key=key, value=value, headers=tuple(headers), id=pending.key)


def message_id(record: InstanceRecord) -> str:
    """The id of the next message of this transition."""
    return f"{record.instance}@{record.run}.{record.version}#{len(record.out)}"


def event(record: InstanceRecord, mt: MessageType, body: str, key: str, world: World, at: int) -> Message:
    """An event that the saga publishes: an emitted one, or its outcome."""
    raw = key.encode()
    ident = message_id(record)
    headers = (
        ("ce_id", ident.encode()),
        *_fixed(world.namespace, record.saga, mt.name),
        ("ce_subject", raw),
        ("ce_time", time_text(at)),
        ("ce_partitionkey", raw),
        ("ce_correlationid", record.instance.encode()),
        ("ce_causationid", record.cause.id.encode()),
        *trace_headers(record.cause),
    )
    return Message(
        to=mt.topic or "in", key=raw, value=_checked(body.encode(), mt.name), headers=headers, id=ident
    )


def reply(record: InstanceRecord, ask: Asked, done: Answered, world: World, at: int) -> Message:
    """The answer to a command, to where it came from; without a reply type the engine's own."""
    ident = message_id(record)
    return reply_message(record.saga, record.key, ident, ask, done, world, at)


def reply_message(
    saga: str, key: str, ident: str, ask: Asked, done: Answered, world: World, at: int
) -> Message:
    """The same without a record: the answer that was given once."""
    to = ask.to
    raw = (ask.instance.partition("/")[2] if to == "in" else key).encode()
    headers: Headers = (
        ("ce_id", ident.encode()),
        *[
            h
            for h in _fixed(world.namespace, saga, done.type or "declined")
            if done.type or h[0] != "ce_type"
        ],
        ("ce_subject", raw),
        ("ce_time", time_text(at)),
        ("ce_partitionkey", raw),
        *((("ce_correlationid", ask.instance.encode()),) if ask.instance else ()),
        ("ce_causationid", ask.id.encode()),
        ("cp-kind", b"reply"),
        ("cp-in-reply-to", ask.id.encode()),
        ("cp-outcome", b"ok" if done.good else b"declined"),
        *((("cp-run", ask.run.encode()),) if ask.run else ()),
        *((("cp-to", ask.instance.encode()),) if to == "in" else ()),
    )
    return Message(to=to, key=raw, value=_checked(done.body.encode(), done.type), headers=headers, id=ident)


def rendezvous(record: InstanceRecord, kind: str, value: str, body: str) -> Message:
    """`bind`, `unbind` or `delivered`, to where events of a foreign key meet."""
    ident = message_id(record)
    headers = (("cp-kind", kind.encode()), ("ce_id", ident.encode()), _JSON)
    return Message(to="in", key=value.encode(), value=body.encode(), headers=headers, id=ident)


@lru_cache(maxsize=1024)
def _reply_topic(namespace: str, topic: str) -> bytes:
    return (topic or f"{namespace}.in").encode()


def _reply_to(world: World, mt: MessageType) -> bytes:
    first = world.types.messages.get(mt.replies[0]) if mt.replies else None
    return _reply_topic(world.namespace, first.topic if first is not None else "")


def cancel(record: InstanceRecord, pending: Pending, reason: str, world: World) -> Message:
    """What asks another instance to end, and to say when it has."""
    raw = pending.target.encode()
    headers: Headers = (
        ("cp-kind", b"operate"),
        ("cp-to", f"{pending.name}/{pending.target}".encode()),
        ("ce_id", pending.key.encode()),
        ("ce_source", f"/contrapas/{world.namespace}/{record.saga}".encode()),
        ("ce_correlationid", record.instance.encode()),
        ("cp-reply-to", f"{world.namespace}.in".encode()),
        _JSON,
    )
    body = json.dumps({"verb": "cancel", "reason": reason[:1000]}, ensure_ascii=False).encode()
    return Message(to="in", key=raw, value=body, headers=headers, id=pending.key)


def tell(
    record: InstanceRecord, mt: MessageType, ident: str, key: str, body: str, world: World, at: int
) -> Message:
    """A command that nobody waits for: it names no way back."""
    raw = key.encode()
    headers = (
        ("ce_id", ident.encode()),
        *_fixed(world.namespace, record.saga, mt.name),
        ("ce_subject", raw),
        ("ce_time", time_text(at)),
        ("ce_partitionkey", raw),
        ("ce_causationid", record.cause.id.encode()),
        ("cp-kind", b"command"),
        ("cp-reply-to", b""),
        *trace_headers(record.cause),
    )
    return Message(
        to=mt.topic or "in", key=raw, value=_checked(body.encode(), mt.name), headers=headers, id=ident
    )


def key_of(mt: MessageType, body: Any) -> str:
    """The key a message travels under: the text of its key field."""
    value = getattr(body, mt.key)
    key = value if isinstance(value, str) else str(value)
    return checked_key(key, f"{mt.name}.{mt.key}", f"/{mt.key}")


def checked_key(key: str, what: str, path: str = "") -> str:
    """The key itself. DataError CP413 for what is none."""
    if not 0 < len(key.encode()) <= 200 or "\0" in key:
        raise DataError("CP413", f"{what} is no key", path=path, expected="1 to 200 bytes", got=key[:80])
    return key
