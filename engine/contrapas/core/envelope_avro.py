"""An instance record to Avro bytes: single-object framing, schema `contrapas_schemas/avro/instance.avsc`.

Written out by hand, field by field in the schema's order, because this runs once per transition; tests hold it equal to
`fastavro`, byte for byte, and to Apache `avro`. Words that recur (labels, types, header names) are encoded once. What
never changes in an instance's life stands first and is kept as bytes, as is an undo entry once it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from contrapas.core.avro_words import BOOL as _BOOL
from contrapas.core.avro_words import EMPTY as _EMPTY
from contrapas.core.avro_words import FOREIGN as _FOREIGN
from contrapas.core.avro_words import LONG as _LONG
from contrapas.core.avro_words import NONE as _NONE
from contrapas.core.avro_words import SOME as _SOME
from contrapas.core.avro_words import TIMES as _TIMES
from contrapas.core.avro_words import WORD as _WORD
from contrapas.core.avro_words import foreign as _foreign
from contrapas.core.avro_words import learn as _learn
from contrapas.core.avro_words import long as _long
from contrapas.core.avro_words import maybe as _maybe
from contrapas.core.avro_words import raw as _bytes
from contrapas.core.avro_words import text as _text
from contrapas.core.avro_words import time as _time
from contrapas.core.avro_words import varint as _varint
from contrapas.core.envelope import (
    Begun,
    Cause,
    InstanceRecord,
    Join,
    Limit,
    Message,
    Node,
    Parked,
    Pending,
    UndoEntry,
    Unwinding,
)
from contrapas.core.envelope_read import read_instance
from contrapas.core.envelope_talk import write_talk
from contrapas.errors import Damaged

Parts = list[bytes]


@cache
def schema() -> tuple[Any, bytes]:
    """The parsed schema, and the ten bytes that every value begins with: `C3 01` and the CRC-64-AVRO fingerprint."""
    import json
    from importlib.resources import files

    from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

    raw = json.loads(files("contrapas_schemas").joinpath("avro/instance.avsc").read_text())
    digest = fingerprint(to_parsing_canonical_form(parse_schema(raw)), "CRC-64-AVRO")
    return parse_schema(raw), b"\xc3\x01" + bytes.fromhex(digest)


def encode(record: InstanceRecord) -> bytes:
    """The record's value on the log lane."""
    while True:
        try:
            return _encoded(record)
        except (
            KeyError
        ) as unknown:  # once per word and number, so that all others cost one look-up and no call
            _learn(unknown.args[0])


def _encoded(r: InstanceRecord) -> bytes:
    if not r.head:
        r.head = _head(r)
    if not r.memory:
        r.memory = _memory(r)
    if (value := _plainly(r)) is not None:
        return value
    parts: Parts = [
        r.head,
        _long(r.version),
        _long(r.epoch),
        _WORD[r.writer],
        _WORD[r.status],
        _time(r.at),
    ]
    _node(r.root, parts)
    _cause(r.cause, parts)
    parts.append(r.memory)
    if r.out or r.unsent:
        _messages(r.out, parts)
        _messages(r.unsent, parts)
    else:
        parts.append(b"\x00\x00")
    parts += (_LONG[r.undo_count], _NONE if r.deadline is None else _maybe(r.deadline), _BOOL[r.pivoted])
    _tail(r, parts)
    return b"".join(parts)


def _plainly(r: InstanceRecord) -> bytes | None:
    """The record of a saga whose only frame waits for one operation, and that is in no special situation: what most
    records are. All in one go, for what costs here is the calls. None for any other: `_encoded` writes the same bytes
    for all of them."""
    n = r.root
    p = n.pending
    c = r.cause
    if p is None or len(n.frames) != 1 or c.note or r.unsent or r.deadline is not None or _more(r):
        return None
    f = n.frames[0]
    if f.scopes or f.begun or f.limits or n.cancel or n.join is not None or n.unwinding is not None:
        return None
    if n.result is not None or n.error is not None or n.limit is not None or _more_of_pending(p):
        return None
    word, long = _WORD, _LONG
    at = _TIMES.get(r.at) or _time(r.at)
    key, body, ident = p.key.encode(), p.body.encode(), c.id.encode()
    version = long.get(r.version) or _varint(r.version)
    parts: Parts = [
        r.head, version, long[r.epoch], word[r.writer], word[r.status], at,
        b"\x02", word[f.saga], word[f.graph], word[f.label],
    ]  # fmt: skip
    if f.slots:
        parts.append(long[len(f.slots)])
        for name, text in f.slots.items():
            raw = text.encode()
            parts += (word[name], long[len(raw)], raw)
    parts += (
        b"\x00\x00", long[f.undo], b"\x00\x00\x00\x02",
        long[len(key)], key, word[p.label], version if p.visit == r.version else _long(p.visit),
        word[p.kind], word[p.name],
    )  # fmt: skip
    if p.types:
        _words(p.types, parts)
    else:
        parts.append(b"\x00")
    parts += (
        long[p.attempt], at if p.since == r.at else _time(p.since), word[p.policy],
        long[len(body)], body, long[p.undo],
    )  # fmt: skip
    if p.deadline is None and not p.target:
        parts.append(_NO_MORE_OF_PENDING)
    else:
        parts += (_maybe(p.deadline), _text(p.target), _PLAIN)
    if n.undo:
        _entries(n.undo, parts)
        parts.append(_NO_MORE_OF_NODE)
    else:
        parts.append(_NO_UNDO)
    parts += (
        word[c.kind], _FOREIGN.get(c.type) or _foreign(c.type), _FOREIGN.get(c.source) or _foreign(c.source),
        long[len(ident)], ident, long[c.partition], long.get(c.offset) or _varint(c.offset),
    )  # fmt: skip
    if c.headers:
        _headers(c.headers, parts)
    else:
        parts.append(b"\x00")
    parts += (long[len(c.value)], c.value, b"\x00", r.memory)
    if r.out:
        _messages(r.out, parts)
        parts += (b"\x00", long[r.undo_count], b"\x00", _BOOL[r.pivoted], _NOTHING_MORE)
    else:
        parts += (b"\x00\x00", long[r.undo_count], b"\x00", _BOOL[r.pivoted], _NOTHING_MORE)
    return b"".join(parts)


def decode(value: bytes) -> InstanceRecord:
    """Back from bytes. Damaged CP520 when they are not what `encode` wrote."""
    magic = schema()[1]
    if value[:10] != magic:
        raise Damaged(
            "CP520", "an instance record is not framed as one", expected=magic.hex(), got=value[:10].hex()
        )
    try:
        record, end = read_instance(value, 10)
    except (IndexError, ValueError, UnicodeDecodeError, OverflowError, RecursionError) as why:
        raise Damaged("CP520", f"an instance record does not decode: {why}"[:500]) from why
    if end != len(value):
        raise Damaged(
            "CP520", "an instance record has another length", expected=str(end), got=str(len(value))
        )
    return record


def _head(r: InstanceRecord) -> bytes:
    return b"".join(
        (
            schema()[1],
            _text(r.instance),
            _text(r.saga),
            _text(r.key),
            _text(r.run),
            _text(r.mode),
            _text(r.on_late),
            _time(r.started_at),
            _text(r.start_id),
            _bytes(r.start_digest),
            _long(r.late_replies_ms),
        )
    )


def _memory(r: InstanceRecord) -> bytes:
    """Positions and ids: most transitions come from within and change neither."""
    parts: Parts = []
    if r.positions:
        parts.append(_LONG[len(r.positions)])
        for name, offset in r.positions.items():
            parts += (_foreign(name), _long(offset))
    parts.append(_EMPTY)
    if r.seen:  # digests of 16 bytes each: their length is the byte between them
        parts += (_LONG[len(r.seen)], b"\x20", b"\x20".join(r.seen))
    parts.append(_EMPTY)
    return b"".join(parts)


_NOTHING_MORE: Final = b"\x00" * 18
"""The rest of a record in which nothing of it is set."""


def _more(r: InstanceRecord) -> bool:
    """Is anything set of what stands after `pivoted`?"""
    if r.cancel or r.outcome or r.error or r.unwound or r.undone or r.paused or r.kept or r.owed or r.binds:
        return True
    later = r.parked is not None or r.talk is not None or bool(r.parent)
    later = later or r.cancelled_at is not None or r.again
    return later or r.ended_at is not None or r.retain_until is not None


def _tail(r: InstanceRecord, parts: Parts) -> None:
    if not _more(r):
        parts.append(_NOTHING_MORE)
        return
    parts += (
        _maybe(r.ended_at),
        _WORD[r.cancel],
        _WORD[r.outcome],
        _text(r.outcome_body),
        _text(r.error),
        _BOOL[r.unwound],
        _BOOL[r.undone],
        _BOOL[r.paused],
        _maybe(r.retain_until),
    )
    _causes(r.kept, parts)
    _entries(r.owed, parts)
    parts.append(_LONG[len(r.binds)])
    for bound in r.binds:
        _pending(bound, parts)
    if r.binds:
        parts.append(_EMPTY)
    _parked(r.parked, parts)
    if r.talk is None:
        parts.append(_NONE)
    else:
        parts.append(_SOME)
        write_talk(r.talk, parts, _text, _long, _causes)
    parts.append(_text(r.parent))
    _foreigners(r.parent_ops, parts)
    parts += (_maybe(r.cancelled_at), _BOOL[r.again])


def _foreigners(words: Sequence[str], parts: Parts) -> None:
    """Words of others that do not recur."""
    if words:
        parts.append(_LONG[len(words)])
        parts += [_text(word) for word in words]
    parts.append(_EMPTY)


def _words(words: Sequence[str], parts: Parts) -> None:
    if words:
        parts.append(_LONG[len(words)])
        parts += [_WORD[word] for word in words]
    parts.append(_EMPTY)


def _longs(numbers: Sequence[int], parts: Parts) -> None:
    if numbers:
        parts.append(_long(len(numbers)))
        known = _LONG.get
        parts += [known(n) or _varint(n) for n in numbers]
    parts.append(_EMPTY)


def _texts(texts: Mapping[str, str], parts: Parts) -> None:
    if texts:
        parts.append(_LONG[len(texts)])
        for name, text in texts.items():
            raw = text.encode()
            parts += (_WORD[name], _LONG[len(raw)], raw)
    parts.append(_EMPTY)


_NO_MORE_OF_NODE: Final = b"\x00" * 6
"""The rest of a line of execution, after its undo stack, in which nothing of it is set."""
_NO_UNDO: Final = b"\x00" + _NO_MORE_OF_NODE
"""The same with nothing on its undo stack."""


def _more_of_node(n: Node) -> bool:
    return (
        n.join is not None
        or n.unwinding is not None
        or n.result is not None
        or n.error is not None
        or n.cancel != ""
        or n.limit is not None
    )


def _node(n: Node, parts: Parts) -> None:
    if n.frames:
        parts.append(_LONG[len(n.frames)])
        for frame in n.frames:
            parts += (_WORD[frame.saga], _WORD[frame.graph], _WORD[frame.label])
            _texts(frame.slots, parts)
            if frame.scopes:
                _longs(frame.scopes, parts)
                parts.append(_LONG[frame.undo])
            else:
                parts += (_EMPTY, _LONG[frame.undo])
            if frame.begun or frame.limits:
                _flight(frame.begun, frame.limits, parts)
            else:
                parts.append(b"\x00\x00")
    parts.append(_EMPTY)
    if n.pending is None:
        parts.append(_NONE)
    else:
        parts.append(_SOME)
        _pending(n.pending, parts)
    if n.undo:
        _entries(n.undo, parts)
    else:
        parts.append(_EMPTY)
    if not _more_of_node(n):
        parts.append(_NO_MORE_OF_NODE)
        return
    _join(n.join, parts)
    _unwinding(n.unwinding, parts)
    for text in (n.result, n.error):
        parts.append(_NONE if text is None else _SOME + _text(text))
    parts.append(_text(n.cancel))
    if n.limit is None:
        parts.append(_NONE)
    else:
        parts.append(_SOME)
        _limit(n.limit, parts)


def _flight(begun: Sequence[Begun], limits: Sequence[Limit], parts: Parts) -> None:
    """What a frame has in flight."""
    if begun:
        parts.append(_LONG[len(begun)])
        for b in begun:
            parts += (_WORD[b.label], _text(b.visit), _LONG[b.depth])
            _node(b.node, parts)
            parts += (
                _text(b.suffix),
                _WORD[b.saga],
                _LONG[b.number],
                _long(b.ended),
                _WORD[b.given],
                _BOOL[b.owed],
            )
    parts.append(_EMPTY)
    if limits:
        parts.append(_LONG[len(limits)])
        for limit in limits:
            _limit(limit, parts)
    parts.append(_EMPTY)


def _limit(limit: Limit, parts: Parts) -> None:
    parts += (
        _LONG[limit.depth],
        _text(limit.key),
        _time(limit.since),
        _maybe(limit.deadline),
        _BOOL[limit.expired],
    )


_PLAIN: Final = b"\x00" * 6
"""The rest of an operation, after its target, in which nothing of it is set."""
_NO_MORE_OF_PENDING: Final = b"\x00\x00" + _PLAIN
"""The same with neither a deadline nor a target before it."""


def _more_of_pending(p: Pending) -> bool:
    if p.correlate or p.wait_id or p.error or p.undoes:
        return True
    return p.retry_at is not None or p.each_at is not None


def _pending(p: Pending, parts: Parts) -> None:
    key = p.key.encode()
    parts += (_LONG[len(key)], key, _WORD[p.label], _long(p.visit), _WORD[p.kind], _WORD[p.name])
    if p.types:
        _words(p.types, parts)
    else:
        parts.append(_EMPTY)
    body = p.body.encode()
    parts += (
        _LONG[p.attempt],
        _time(p.since),
        _WORD[p.policy],
        _LONG[len(body)],
        body,
        _LONG[p.undo],
        _NONE if p.deadline is None else _maybe(p.deadline),
        _text(p.target) if p.target else _EMPTY,
    )
    if not _more_of_pending(p):
        parts.append(_PLAIN)
    else:
        parts += (
            _maybe(p.retry_at),
            _text(p.correlate),
            _text(p.wait_id),
            _text(p.error),
            _maybe(p.each_at),
            _text(p.undoes),
        )


def _entries(entries: Sequence[UndoEntry], parts: Parts) -> None:
    if entries:
        parts.append(_LONG[len(entries)])
        for entry in entries:
            if not entry.raw:
                entry.raw = _entry(entry)
            parts.append(entry.raw)
    parts.append(_EMPTY)


def _entry(e: UndoEntry) -> bytes:
    parts: Parts = [
        _long(e.number),
        _WORD[e.label],
        _long(e.visit),
        _text(e.key),
        _WORD[e.status],
        _WORD[e.kind],
        _WORD[e.name],
        _text(e.body),
    ]
    _words(e.types, parts)
    parts += (_WORD[e.step], _BOOL[e.needs_reply], _WORD[e.policy])
    _texts(e.captures, parts)
    parts += (_WORD[e.saga], _WORD[e.graph], _text(e.reply), _maybe(e.within_ms))
    if e.branches:
        parts.append(_LONG[len(e.branches)])
        for branch in e.branches:
            _entries(branch, parts)
    parts += (_EMPTY, _maybe(e.unknown_at), _BOOL[e.lost], _maybe(e.owed_until))
    if e.pending is None:
        parts.append(_NONE)
    else:
        parts.append(_SOME)
        _pending(e.pending, parts)
    parts += (_text(e.note), _BOOL[e.undo_failed])
    return b"".join(parts)


def _join(j: Join | None, parts: Parts) -> None:
    if j is None:
        parts.append(_NONE)
        return
    parts += (_SOME, _WORD[j.kind], _WORD[j.label], _LONG[j.visit], _BOOL[j.fail_fast])
    if j.children:
        parts.append(_LONG[len(j.children)])
        parts += [child.raw or _branch(child) for child in j.children]
    parts.append(_EMPTY)
    _longs(j.done_order, parts)
    parts += (_LONG[j.winner], _text(j.thrown), _BOOL[j.listed], _long(j.need), _BOOL[j.ignore])


def _branch(n: Node) -> bytes:
    """A branch of a join; one of many that only wait or have ended is kept for the records that follow."""
    parts: Parts = []
    _node(n, parts)
    value = b"".join(parts)
    held = n.frames or n.undo or n.cancel
    if not held and n.join is None and n.unwinding is None and n.limit is None:
        n.raw = value
    return value


def _unwinding(u: Unwinding | None, parts: Parts) -> None:
    if u is None:
        parts.append(_NONE)
    else:
        parts += (_SOME, _LONG[u.floor], _WORD[u.then], _text(u.cause), _BOOL[u.whole])


def _headers(headers: Sequence[tuple[str, bytes]], parts: Parts) -> None:
    if headers:
        parts.append(_LONG[len(headers)])
        for name, value in headers:
            parts += (_foreign(name), _LONG[len(value)], value)
    parts.append(_EMPTY)


def _cause(c: Cause, parts: Parts) -> None:
    ident = c.id.encode()
    parts += (
        _WORD[c.kind],
        _foreign(c.type),
        _foreign(c.source),
        _LONG[len(ident)],
        ident,
        _LONG[c.partition],
        _long(c.offset),
    )
    if c.headers:
        _headers(c.headers, parts)
    else:
        parts.append(_EMPTY)
    parts += (_LONG[len(c.value)], c.value, _text(c.note) if c.note else _EMPTY)


def _causes(causes: Sequence[Cause], parts: Parts) -> None:
    if causes:
        parts.append(_LONG[len(causes)])
        for cause in causes:
            _cause(cause, parts)
    parts.append(_EMPTY)


def _messages(messages: Sequence[Message], parts: Parts) -> None:
    if messages:
        parts.append(_LONG[len(messages)])
        for m in messages:
            parts += (_foreign(m.to), _bytes(m.key), _bytes(m.value))
            _headers(m.headers, parts)
            parts.append(_text(m.id))
    parts.append(_EMPTY)


def _parked(p: Parked | None, parts: Parts) -> None:
    if p is None:
        parts.append(_NONE)
        return
    parts += (_SOME, _WORD[p.reason], _WORD[p.code], _text(p.error), _text(p.trace))
    if p.input is None:
        parts.append(_NONE)
    else:
        parts.append(_SOME)
        _cause(p.input, parts)
    parts.append(_WORD[p.status])
