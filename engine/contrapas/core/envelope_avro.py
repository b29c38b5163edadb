"""An instance record to Avro bytes: single-object framing, schema `contrapas_schemas/avro/instance.avsc`.

Written out by hand, field by field in the schema's order, because this runs once per transition; tests hold it equal to
`fastavro`, byte for byte, and to Apache `avro`. Words that recur (labels, types, header names) are encoded once. What
never changes in an instance's life stands first and is kept as bytes, as is an undo entry once it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from contrapas.core.envelope import (
    Cause,
    Frame,
    InstanceRecord,
    Join,
    Message,
    Node,
    Parked,
    Pending,
    UndoEntry,
    Unwinding,
)
from contrapas.core.envelope_read import read_instance
from contrapas.errors import Damaged

Parts = list[bytes]
_WORDS_MAX: Final = 20_000


def _varint(n: int) -> bytes:
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 127:
        out.append((n & 127) | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


_SMALL: Final = [_varint(n) for n in range(16_384)]
_BOOL: Final = (b"\x00", b"\x01")
_NONE: Final = b"\x00"
_EMPTY: Final = b"\x00"


def _long(n: int) -> bytes:
    return _SMALL[n] if 0 <= n < 16_384 else _varint(n)


def _maybe(n: int | None) -> bytes:
    return _NONE if n is None else b"\x02" + _long(n)


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value


def _text(value: str) -> bytes:
    if not value:
        return _EMPTY
    raw = value.encode()
    return _long(len(raw)) + raw


class _Words(dict[str, bytes]):
    """Texts that recur, encoded once."""

    def __missing__(self, word: str) -> bytes:
        if len(self) >= _WORDS_MAX:
            self.clear()
        made = self[word] = _text(word)
        return made


_WORD: Final = _Words()


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
    r = record
    if not r.head:
        r.head = _head(r)
    parts: Parts = [
        r.head,
        _long(r.version),
        _long(r.epoch),
        _WORD[r.writer],
        _WORD[r.status],
        _long(r.at),
    ]
    _node(r.root, parts)
    _cause(r.cause, parts)
    _positions(r.positions, parts)
    _seen(r.seen, parts)
    _messages(r.out, parts)
    _messages(r.unsent, parts)
    parts.append(_long(r.undo_count))
    parts.append(_maybe(r.deadline))
    parts.append(_BOOL[r.pivoted])
    _tail(r, parts)
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
    except (IndexError, ValueError, UnicodeDecodeError, OverflowError) as why:
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
            _long(r.started_at),
            _text(r.start_id),
            _bytes(r.start_digest),
            _long(r.late_replies_ms),
        )
    )


_NOTHING_MORE: Final = b"\x00" * 13
"""The rest of a record in which nothing of it is set."""


def _tail(r: InstanceRecord, parts: Parts) -> None:
    rare = r.ended_at, r.cancel, r.outcome, r.error, r.unwound, r.undone, r.paused, r.retain_until
    if not any(rare) and not (r.kept or r.owed or r.binds) and r.parked is None:
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
    _many(len(r.binds), parts)
    for bound in r.binds:
        _pending(bound, parts)
    if r.binds:
        parts.append(_EMPTY)
    _parked(r.parked, parts)


def _many(count: int, parts: Parts) -> None:
    """The head of an array's only block; of an empty array all of it."""
    parts.append(_long(count))


def _words(words: Sequence[str], parts: Parts) -> None:
    if words:
        parts.append(_long(len(words)))
        parts += [_WORD[word] for word in words]
    parts.append(_EMPTY)


def _longs(numbers: Sequence[int], parts: Parts) -> None:
    if numbers:
        parts.append(_long(len(numbers)))
        parts += [_long(n) for n in numbers]
    parts.append(_EMPTY)


def _texts(texts: Mapping[str, str], parts: Parts) -> None:
    if texts:
        parts.append(_long(len(texts)))
        for name, text in texts.items():
            raw = text.encode()
            size = len(raw)
            parts.append(_WORD[name])
            parts.append(_SMALL[size] if size < 16_384 else _varint(size))
            parts.append(raw)
    parts.append(_EMPTY)


def _positions(positions: Mapping[str, int], parts: Parts) -> None:
    if positions:
        parts.append(_long(len(positions)))
        for name, offset in positions.items():
            parts.append(_WORD[name])
            parts.append(_long(offset))
    parts.append(_EMPTY)


def _seen(seen: list[bytes], parts: Parts) -> None:
    """Digests of 16 bytes each: their length is the byte between them."""
    if seen:
        parts.append(_long(len(seen)))
        parts.append(b"\x20" + b"\x20".join(seen))
    parts.append(_EMPTY)


def _node(n: Node, parts: Parts) -> None:
    if n.frames:
        parts.append(_SMALL[len(n.frames)])
        for frame in n.frames:
            _frame(frame, parts)
    parts.append(_EMPTY)
    if n.pending is None:
        parts.append(_NONE)
    else:
        parts.append(b"\x02")
        _pending(n.pending, parts)
    _entries(n.undo, parts)
    _join(n.join, parts)
    _unwinding(n.unwinding, parts)
    for text in (n.result, n.error):
        parts.append(_NONE if text is None else b"\x02" + _text(text))
    parts.append(_text(n.cancel))


def _frame(f: Frame, parts: Parts) -> None:
    parts += (_WORD[f.saga], _WORD[f.graph], _WORD[f.label])
    _texts(f.slots, parts)
    _longs(f.scopes, parts)
    parts.append(_long(f.undo))


_PLAIN: Final = b"\x00" * 6
"""The rest of an operation in which nothing of it is set."""


def _pending(p: Pending, parts: Parts) -> None:
    parts += (_text(p.key), _WORD[p.label], _long(p.visit), _WORD[p.kind], _WORD[p.name])
    _words(p.types, parts)
    parts += (
        _long(p.attempt),
        _long(p.since),
        _WORD[p.policy],
        _text(p.body),
        _long(p.undo),
        _maybe(p.deadline),
        _text(p.target),
    )
    if p.retry_at is None and p.each_at is None and not (p.correlate or p.wait_id or p.error or p.undoes):
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
        parts.append(_long(len(entries)))
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
        parts.append(_long(len(e.branches)))
        for branch in e.branches:
            _entries(branch, parts)
    parts += (_EMPTY, _maybe(e.unknown_at), _BOOL[e.lost], _maybe(e.owed_until))
    if e.pending is None:
        parts.append(_NONE)
    else:
        parts.append(b"\x02")
        _pending(e.pending, parts)
    parts.append(_text(e.note))
    return b"".join(parts)


def _join(j: Join | None, parts: Parts) -> None:
    if j is None:
        parts.append(_NONE)
        return
    parts += (b"\x02", _WORD[j.kind], _WORD[j.label], _long(j.visit), _BOOL[j.fail_fast])
    if j.children:
        parts.append(_long(len(j.children)))
        for child in j.children:
            _node(child, parts)
    parts.append(_EMPTY)
    _longs(j.done_order, parts)
    parts += (_long(j.winner), _text(j.thrown), _BOOL[j.listed])


def _unwinding(u: Unwinding | None, parts: Parts) -> None:
    if u is None:
        parts.append(_NONE)
    else:
        parts += (b"\x02", _long(u.floor), _WORD[u.then], _text(u.cause), _BOOL[u.whole])


def _headers(headers: Sequence[tuple[str, bytes]], parts: Parts) -> None:
    if headers:
        parts.append(_long(len(headers)))
        for name, value in headers:
            size = len(value)
            parts.append(_WORD[name])
            parts.append(_SMALL[size] if size < 16_384 else _varint(size))
            parts.append(value)
    parts.append(_EMPTY)


def _cause(c: Cause, parts: Parts) -> None:
    parts += (_WORD[c.kind], _WORD[c.type], _WORD[c.source], _text(c.id), _long(c.partition), _long(c.offset))
    _headers(c.headers, parts)
    parts += (_bytes(c.value), _text(c.note))


def _causes(causes: Sequence[Cause], parts: Parts) -> None:
    if causes:
        parts.append(_long(len(causes)))
        for cause in causes:
            _cause(cause, parts)
    parts.append(_EMPTY)


def _messages(messages: Sequence[Message], parts: Parts) -> None:
    if messages:
        parts.append(_long(len(messages)))
        for m in messages:
            parts += (_WORD[m.to], _bytes(m.key), _bytes(m.value))
            _headers(m.headers, parts)
            parts.append(_text(m.id))
    parts.append(_EMPTY)


def _parked(p: Parked | None, parts: Parts) -> None:
    if p is None:
        parts.append(_NONE)
        return
    parts += (b"\x02", _WORD[p.reason], _WORD[p.code], _text(p.error), _text(p.trace))
    if p.input is None:
        parts.append(_NONE)
    else:
        parts.append(b"\x02")
        _cause(p.input, parts)
    parts.append(_WORD[p.status])
