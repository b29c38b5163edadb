"""Bytes on the inbound lane to an event: CloudEvents (binary and structured), our own headers, or a topic's mapping.

What does not decode is a value too: a `Rejected` with its code, which becomes a dead letter with the original bytes.
Nothing here trusts the sender: text is strict JSON (`codec.strict`), classes come from the closed registry only, sizes
and counts are bounded before anything is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from contrapas.codec.framing import GUID_HEADER
from contrapas.codec.schemas import EMPTY, Schemas, json_headers, unframed
from contrapas.codec.strict import load_json, load_model
from contrapas.core.cloudevents import binary, is_event, is_structured, missing, present
from contrapas.core.empty import empty
from contrapas.core.lane import NULL, Headers, Record
from contrapas.core.order import HEADER, NUMBERED, Order, order_of
from contrapas.core.partition import ITEM, partition
from contrapas.core.rendezvous import digest_of
from contrapas.core.world import Types
from contrapas.errors import DataError

VALUE_MAX = 900_000
KEY_MAX = 200
ITEM_KEY_MAX = 4_000
"""Of an item of a map: its instance's key, and which item of what it is."""
HEADERS_MAX = 100
HEADER_BYTES_MAX = 64_000
WORD_MAX = 2_000
"""Characters of a text in one of our own messages: an idempotency key is the longest."""
MEETING = frozenset({"bind", "unbind", "delivered"})
DAY_MS = 24 * 3600 * 1000
KINDS = frozenset(
    [
        "start",
        "event",
        "command",
        "reply",
        "signal",
        "query",
        "answer",
        "bind",
        "bound",
        "unbind",
        "deliver",
        "delivered",
        "operate",
    ]
)
VERBS = frozenset(["cancel", "kill", "retry", "skip", "pause", "resume", "clear"])
_OURS = (
    ("cp-to", "to"),
    ("cp-reply-to", "reply_to"),
    ("cp-in-reply-to", "in_reply_to"),
    ("cp-run", "run"),
    ("cp-outcome", "outcome"),
    ("cp-wait", "wait_id"),
    ("cp-delivery", "delivery"),
)
_OWN: Mapping[str, tuple[str, ...]] = {
    "query": (),
    "operate": ("verb",),
    "bind": ("type", "wait_id", "instance"),
    "unbind": ("type", "wait_id", "instance"),
    "bound": ("type", "wait_id", "outcome"),
    "delivered": ("type", "wait_id", "outcome"),
}
"""Messages of the engine's own that carry no event: kind -> fields of the body, each a text."""
_POSITION = re.compile(r"([^/]+)/([0-9]{1,9})@([0-9]{1,18})")
_SENT_ON = ("ce_", "cp-", "content-type", "traceparent", "tracestate")
"""Names, or their beginnings, of headers that are read here or sent on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicMapping:
    """How messages of a user's topic that are no CloudEvents are read. Fields are JSON pointers into the value
    (`/meta/id`), plain names of its members or, with a leading `header:`, of a header; `type` may also be `=Name`, the same
    for every message."""

    topic: str
    type: str = ""
    """Empty: a topic that carries one registered type is that type."""
    id: str = ""
    """Empty: the position is the id."""
    time: str = ""
    key: str = ""
    """Empty: the record's key."""
    stale: str = "refuse"
    """`accept`: starts made longer ago than their saga's retention are no duplicates (an import)."""
    unknown: str = "ignore"
    """Types that no saga mentions: `ignore` (counted) or `dead`."""


@dataclass(slots=True)
class Arrival:
    """One decoded input, not yet addressed."""

    kind: str
    record: Record
    source: str
    """Name of the source for positions: `in`, or `orders.events@<topic id>`."""
    partition: int
    offset: int
    key: str
    headers: dict[str, bytes]
    type: str = ""
    id: str = ""
    event_source: str = ""
    body: Any = None
    to: str = ""
    reply_to: str = ""
    in_reply_to: str = ""
    run: str = ""
    outcome: str = "ok"
    time_ms: int | None = None
    wait_id: str = ""
    delivery: str = ""
    stale: bool = False
    """An import: its age says nothing."""
    value: bytes = b""
    """The event's own bytes (of a structured one, its data)."""
    order: Order | None = None
    """Its number among those of its sender's partition, if an instance of this namespace sent it here."""
    _digest: bytes = field(default=b"", compare=False, repr=False)

    @property
    def digest(self) -> bytes:
        """Its identity and that of its bytes, worked out when it is first asked for: who judges it and who keeps it both do."""
        if not self._digest:
            self._digest = digest_of(self.event_source, self.id, self.value)
        return self._digest

    @property
    def position(self) -> str:
        """Key of `positions`; empty for what comes a second way, which only ids judge."""
        return "" if self.delivery or self.kind == "deliver" else f"{self.source}/{self.partition}"


@dataclass(frozen=True, slots=True)
class Rejected:
    """What did not decode, and why."""

    record: Record
    code: str
    text: str
    headers: dict[str, bytes] = field(default_factory=empty(dict[str, bytes]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What decoding needs to know."""

    types: Types
    partitions: int
    mappings: Mapping[str, TopicMapping] = field(default_factory=empty(dict[str, TopicMapping]))
    by_topic: Mapping[str, tuple[str, ...]] = field(default_factory=empty(dict[str, tuple[str, ...]]))
    """Topic -> registered types that travel on it."""
    namespace: str = ""
    """Whose senders' numbers are believed; empty: nobody's."""
    schemas: Schemas = EMPTY
    """Of messages that are written in one."""


def decode(record: Record, doors: Doors) -> Arrival | Rejected:
    """One record of the inbound lane. Total: what is wrong with it is in the answer. `Wanted`: the schema it is written in
    must be fetched first, then it may be tried again."""
    headers = present(record.headers)
    try:
        arrival = _decode(record, headers, doors)
    except DataError as why:
        return Rejected(record, why.code, str(why.text)[:1000], headers)
    if HEADER in headers and doors.namespace:
        arrival.order = _order(arrival, doors)
    return arrival


def _order(a: Arrival, doors: Doors) -> Order | None:
    """What its sender numbered. A number counts only where its owner sent it: a copy on another topic may come late."""
    ours = a.kind in NUMBERED and a.event_source.startswith(f"/contrapas/{doors.namespace}/")
    if not ours or not a.position:
        return None
    return order_of(a.headers[HEADER].decode(errors="replace"), a.source.partition("@")[0], a.position)


def _decode(record: Record, headers: dict[str, bytes], doors: Doors) -> Arrival:
    bounded(record)
    kind = _text(headers, "cp-kind") if "cp-kind" in headers else "event"
    if kind not in KINDS:
        raise DataError(
            "CP419", f"cp-kind {kind[:40]!r} is none of ours", expected="start, event, reply …", got=kind[:40]
        )
    if kind == "answer":  # to a door, by the way of this lane: no key of ours
        return Arrival(kind, record, "in", record.partition, record.offset, "", headers)
    key = _key(record, doors.partitions)
    source, part, offset = (
        _position(record, headers) if "cp-source" in headers else ("in", record.partition, record.offset)
    )
    arrival = Arrival(kind, record, source, part, offset, key, headers)
    for name, where in _OURS:
        if name in headers:
            setattr(arrival, where, _text(headers, name))
    if kind in _OWN:
        arrival.id = _text(headers, "ce_id")
        if kind == "operate":  # sent again after a crash, it is known by its id
            arrival.event_source = _text(headers, "ce_source")
        arrival.value = record.value or b""
        arrival.body = _own_body(kind, arrival.value, doors)
        return arrival
    _event(arrival, doors)
    return arrival


def _own_body(kind: str, value: bytes, doors: Doors) -> dict[str, Any]:
    """The body of one of our own messages: whoever sent it, it has the fields that are looked at, as text."""
    body = object_of(load_json(value)) if value else {}
    for name in _OWN[kind]:
        if not isinstance(body.get(name), str):
            raise DataError("CP403", f"{kind}/{name}: expected text", path=f"/{name}", expected="text")
        if len(body[name]) > WORD_MAX:
            raise DataError("CP403", f"{kind}/{name} has {len(body[name])} characters", path=f"/{name}")
    if "instance" in _OWN[kind] and not fits(body["instance"].partition("/")[2].encode()):
        raise DataError(
            "CP413", f"{kind}/instance is no instance: {body['instance'][:80]!r}", path="/instance"
        )
    if kind in MEETING and body["type"] not in doors.types.messages:
        raise DataError("CP402", f"event type {body['type'][:80]!r} is not known here", path="/type")
    return body


def _event(a: Arrival, doors: Doors) -> None:
    if not a.record.value:
        raise DataError("CP411", "an event has no value", expected="JSON", got="nothing")
    topic = a.source.partition("@")[0]
    mapping = doors.mappings.get(topic)
    if not _says(a, topic, mapping, doors):
        raise DataError(
            "CP419",
            f"neither a CloudEvent (it lacks {missing(a.headers)}) nor one of our own messages",
            expected="ce_id, ce_source, ce_type, ce_specversion",
            got="less",
        )
    a.stale = mapping is not None and mapping.stale == "accept"
    if a.in_reply_to and a.kind == "event":
        a.kind = "reply"
    if a.kind == "reply" and not a.type and (a.in_reply_to or a.outcome in ("error", "declined")):
        a.body = load_json(a.value)
        return
    message = doors.types.messages.get(a.type)
    if message is None:
        raise DataError(
            "CP402",
            f"event type {a.type[:80]!r} is not known here",
            expected="a registered type",
            got=a.type[:80],
        )
    a.body = load_model(message.cls, a.value, name=message.name)
    if not a.to and not a.in_reply_to:
        said = str(getattr(a.body, message.key, a.key))
        if said != a.key:
            raise DataError(
                "CP413",
                f"the record's key is {a.key[:80]!r}, the body's {message.key} is {said[:80]!r}",
                path=f"/{message.key}",
                expected=a.key[:80],
                got=said[:80],
            )


def _says(a: Arrival, topic: str, mapping: TopicMapping | None, doors: Doors) -> bool:
    """What a message says about itself: type, id, source, time, and its value in JSON. False: nothing that we know."""
    a.value = a.record.value or b""
    if is_structured(a.headers):
        a.headers, a.value = binary(a.headers, a.value)
        if not a.in_reply_to:
            a.in_reply_to = _text(a.headers, "ce_inreplyto")
    if is_event(a.headers):
        a.id, a.type, a.event_source = (_text(a.headers, n) for n in ("ce_id", "ce_type", "ce_source"))
        a.time_ms = time_of(_text(a.headers, "ce_time"), a.record.timestamp_ms)
        if a.type in doors.types.messages:
            to_json(a, doors)
        if a.headers.get("ce_dataref"):
            raise DataError(
                "CP419",
                "the event's data lies elsewhere (dataref), and nothing here fetches it",
                path="/dataref",
                expected="data",
                got=_text(a.headers, "ce_dataref")[:80],
            )
    elif (mapping is not None or topic in doors.by_topic) and not _gave_up(a):
        _mapped(a, topic, mapping, doors)
    elif a.kind in ("reply",) and a.in_reply_to:
        a.id, a.event_source = f"{a.source}/{a.partition}@{a.offset}", a.source
        if "ce_id" in a.headers and "ce_source" in a.headers:  # sent again, it is known by its id
            a.id, a.event_source = _text(a.headers, "ce_id"), _text(a.headers, "ce_source")
    else:
        return False
    return True


def message_in(record: Record, topic: str, source: str, doors: Doors) -> Arrival:
    """A message of a topic, for a service that reads the topic itself. Its type is empty where it says none.

    DataError: what is wrong with it. `Wanted`: its schema must be fetched first.
    """
    bounded(record)
    a = Arrival("event", record, source, record.partition, record.offset, "", present(record.headers))
    a.kind = _text(a.headers, "cp-kind") or "event"
    where = f"{source}/{record.partition}@{record.offset}"
    if "ce_type" in a.headers and not is_structured(a.headers):
        a.type, a.value = _text(a.headers, "ce_type"), record.value or b""
        a.id = _text(a.headers, "ce_id") or where
        a.event_source = _text(a.headers, "ce_source") or f"/topics/{topic}"
        return a
    mapping = doors.mappings.get(topic)
    if mapping is not None or is_structured(a.headers):
        _says(a, topic, mapping, doors)
    return a


def to_json(a: Arrival, doors: Doors) -> str:
    """Bring the value into JSON, if it is written in a schema; the schema's name, empty without."""
    if a.value[:1] in (b"{", b"[") and GUID_HEADER not in a.headers:
        return ""
    found = unframed(a.headers, a.value, doors.schemas)
    if found is None:
        return ""
    writer, bare = found
    message = doors.types.messages.get(a.type)
    a.value = writer.as_json(bare, base64=message is not None and _packs_bytes(message.cls))
    a.headers = json_headers(a.headers)
    return writer.name


def _packs_bytes(cls: type) -> bool:
    """Whether a message class has its bytes as base64 in JSON."""
    config: Mapping[str, Any] = getattr(cls, "model_config", {})
    return config.get("val_json_bytes") == "base64"


def _gave_up(a: Arrival) -> bool:
    """An answer that is of no type, whatever else its topic carries: nobody knows what became of the command."""
    return a.kind == "reply" and a.in_reply_to != "" and a.outcome == "error" and "ce_type" not in a.headers


def fits(raw: bytes) -> bool:
    """Is it a key: 1 to 200 bytes, no NUL? Of an item of a map what stands before `ITEM` is one."""
    return (
        0 < len(raw.partition(ITEM.encode())[0]) <= KEY_MAX and len(raw) <= ITEM_KEY_MAX and b"\0" not in raw
    )


def bounded(record: Record) -> None:
    """DataError CP409 or CP416 for a message that is too large, or whose headers would break what shows them."""
    if record.value is not None and len(record.value) > VALUE_MAX:
        raise DataError(
            "CP409",
            f"the value has {len(record.value)} bytes, {VALUE_MAX} are allowed",
            got=str(len(record.value)),
        )
    if len(record.headers) > HEADERS_MAX:
        raise DataError(
            "CP416", f"{len(record.headers)} headers, {HEADERS_MAX} are allowed", got=str(len(record.headers))
        )
    blob = b"\0".join([value for _, value in record.headers])
    names = "".join([name for name, _ in record.headers])
    if b"\n" in blob or b"\r" in blob or b"\x1b" in blob or not names.isprintable():
        for name, value in record.headers:
            bad = b"\r" in value or b"\n" in value or b"\x1b" in value
            if (bad and name.lower().startswith(_SENT_ON)) or not name.isprintable():
                raise DataError(
                    "CP416",
                    f"header {name[:80]!r} holds a line break or an escape code",
                    path=f"/{name[:80]}",
                )
    size = len(blob) + len(names)
    if size > HEADER_BYTES_MAX:
        raise DataError(
            "CP416", f"the headers have {size} bytes, {HEADER_BYTES_MAX} are allowed", got=str(size)
        )


def _key(record: Record, count: int) -> str:
    raw = record.key
    if not raw or not fits(raw):
        raise DataError(
            "CP413",
            f"a key has 1 to {KEY_MAX} bytes and no NUL",
            expected="1..200 bytes",
            got=f"{len(raw or b'')} bytes",
        )
    try:
        key = raw.decode()
    except UnicodeDecodeError:
        raise DataError("CP413", "the key is not UTF-8", expected="UTF-8", got=raw[:40].hex()) from None
    if partition(raw, count) != record.partition:
        raise DataError(
            "CP413",
            f"key {key[:80]!r} belongs on partition {partition(raw, count)}, not {record.partition}",
            expected=str(partition(raw, count)),
            got=str(record.partition),
        )
    return key


def _position(record: Record, headers: dict[str, bytes]) -> tuple[str, int, int]:
    """`cp-source: orders.events@<topic id>/3@1871`, or the place on the lane itself."""
    text = _text(headers, "cp-source")
    if not text:
        return "in", record.partition, record.offset
    found = position_of(text)
    if found is None:
        raise DataError(
            "CP419",
            f"cp-source {text[:80]!r} is no position",
            expected="topic@id/partition@offset",
            got=text[:80],
        )
    return found


def position_of(text: str) -> tuple[str, int, int] | None:
    """(source, partition, offset) of `topic@id/partition@offset`; None for any other text."""
    found = _POSITION.fullmatch(text)
    return None if found is None else (found[1], int(found[2]), int(found[3]))


def object_of(value: object) -> dict[str, Any]:
    """A JSON object. DataError CP403 for any other value."""
    if not isinstance(value, dict):
        raise DataError("CP403", "expected a JSON object", expected="object", got=type(value).__name__)
    return cast("dict[str, Any]", value)


def _mapped(a: Arrival, topic: str, mapping: TopicMapping | None, doors: Doors) -> None:
    a.event_source = f"/topics/{topic}"
    a.type = (
        mapped_type(a.headers, {}, topic, mapping, doors)
        if mapping is None
        else mapping.type.removeprefix("=")
    )
    named = to_json(a, doors)
    fields = object_of(load_json(a.value))
    a.type = mapped_type(a.headers, fields, topic, mapping, doors, named)
    where = f"{a.source}/{a.partition}@{a.offset}"
    a.id = (mapped(mapping.id, a.headers, fields) if mapping is not None else "") or where
    if mapping is not None and mapping.time:
        a.time_ms = time_of(mapped(mapping.time, a.headers, fields), a.record.timestamp_ms)


def mapped_type(
    headers: Mapping[str, bytes],
    fields: Mapping[str, Any],
    topic: str,
    mapping: TopicMapping | None,
    doors: Doors,
    named: str = "",
) -> str:
    """The type of a message on a topic that carries no CloudEvents; empty: it does not say. named: its schema's name."""
    if mapping is not None and mapping.type.startswith("="):
        return mapping.type[1:]
    if mapping is not None and mapping.type:
        return mapped(mapping.type, headers, fields)
    for name in (named, named.rpartition(".")[2]) if named else ():
        if name in doors.types.messages:
            return name
    own = doors.by_topic.get(topic, ())
    return own[0] if len(own) == 1 else ""


def mapped(where: str, headers: Mapping[str, bytes], fields: Mapping[str, Any]) -> str:
    """The text at a mapping's place: a header, a JSON pointer, or a member of the JSON object; empty when it is not there."""
    if not where:
        return ""
    if where.startswith("header:"):
        return headers.get(where[7:], b"").decode(errors="replace")
    found = pointed(fields, where) if where.startswith("/") else fields.get(where)
    return "" if found is None else found if isinstance(found, str) else str(found)


def pointed(value: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) names; None when it is not there."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get(name)
        elif isinstance(value, list) and name.isascii() and name.isdigit():
            value = dict(enumerate(cast("Sequence[Any]", value))).get(int(name[:9]))
        else:
            return None
    return value


def time_of(text: str, now_ms: int) -> int | None:
    """ms of an RFC 3339 time; None: there is none. DataError CP415: none of ours, or over a day ahead of `now_ms`."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(
            "CP415", f"time {text[:60]!r} is no RFC 3339 time", expected="RFC 3339", got=text[:60]
        ) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    if not 1900 < when.year < 9000 or (ms := int(when.timestamp() * 1000)) > now_ms + DAY_MS:
        raise DataError(
            "CP415", f"time {text[:60]!r} is out of range", expected="not over a day ahead", got=text[:60]
        )
    return ms


def _text(headers: Mapping[str, bytes], name: str) -> str:
    raw = headers.get(name)
    if raw is None:
        return ""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise DataError(
            "CP408", f"header {name!r} is not UTF-8", path=f"/{name}", expected="UTF-8", got=raw[:20].hex()
        ) from None


def told_headers(a: Arrival) -> Headers:
    """The headers of an arrival as its record keeps them: no null ones; of a value that was brought into another form
    those that describe that form."""
    if a.value is a.record.value:
        return tuple([h for h in a.record.headers if h[1] is not NULL])
    return tuple(a.headers.items())


def original_headers(headers: Headers) -> Headers:
    """The headers as the first sender wrote them: what ingress added, the last of its name, is taken off."""
    added = {name: at for at, (name, _) in enumerate(headers) if name in ("cp-source", "cp-source-key")}
    return tuple([h for at, h in enumerate(headers) if added.get(h[0]) != at]) if added else headers
