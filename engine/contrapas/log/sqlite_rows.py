"""Rows of the SQLite file: headers as bytes and back, offsets packed with their partition."""

from __future__ import annotations

import struct
from functools import lru_cache

from contrapas.core.lane import Headers
from contrapas.errors import DataError

Row = tuple[bytearray, bytearray | None, bytearray, int | None]
"""Key, value, headers, deadline. Python's SQLite looks up an adapter for each `bytes` it is given and for a `bytearray`
it does not, which costs more than the copy."""

SHIFT = 48
LOW = (1 << SHIFT) - 1


@lru_cache(maxsize=4096)
def _head(names: tuple[str, ...]) -> tuple[bytes, struct.Struct, int]:
    """What stands before the lengths, the lengths' form, and which header is the deadline (-1: none)."""
    if any("\0" in name for name in names):
        raise DataError("CP409", "a header name holds a NUL")
    block = "\0".join(names).encode()
    if len(names) > 0xFFFF or len(block) > 0xFFFF:
        raise DataError("CP409", f"{len(names)} headers with {len(block)} bytes of names are too many")
    due = names.index("cp-deadline") if "cp-deadline" in names else -1
    return struct.pack(">HH", len(names), len(block)) + block, struct.Struct(f">{len(names)}I"), due


@lru_cache(maxsize=4096)
def _names(block: bytes) -> tuple[str, ...]:
    return tuple(block.decode().split("\0"))


def _shaped(head: bytes) -> tuple[tuple[str, ...], struct.Struct]:
    """Names, and how the values behind them are cut: what stands before the values recurs from record to record."""
    count, size = head[0] << 8 | head[1], head[2] << 8 | head[3]
    names = _names(head[4 : 4 + size])
    if len(names) != count:
        raise ValueError(f"{len(names)} names of headers where {count} are said")
    lengths = struct.unpack_from(f">{count}I", head, 4 + size)
    return names, struct.Struct("".join([f"{length}s" for length in lengths]))


_RECURS_MAX = 1024
"""Bytes before the values; longer ones are a stranger's, and not remembered."""
_shape = lru_cache(maxsize=4096)(_shaped)


def pack_headers(headers: Headers) -> bytes:
    """Count and length of the names (2 bytes each), names joined by NUL, lengths of the values (4 bytes each), values.

    Numbers are big endian; no headers are no bytes. The names come first and together because they repeat from record
    to record, so that both ways need them only once.
    """
    return bytes(pack_with_deadline(headers)[0])


def pack_with_deadline(headers: Headers) -> tuple[bytearray, int | None]:
    """The same, and the `cp-deadline` among them in ms."""
    if not headers:
        return bytearray(), None
    if headers[-1][0] == "cp-sum" and len(headers[-1][1]) == _SUM:
        first = headers[:-1]  # of the usual record all but the checksum was packed before
        known = _PACKED.get(first)
        if known is not None:
            return bytearray(known) + headers[-1][1], None
        packed, due = _pack(headers)
        if due is None and _WITHIN in first:  # what comes from outside has a place that never comes again
            if len(_PACKED) >= 8192:
                _PACKED.clear()
            _PACKED[first] = bytes(packed[:-_SUM])
        return packed, due
    return _pack(headers)


_WITHIN = ("cp-cause", b"local")
_SUM = 8
"""Length of a `cp-sum`."""
_PACKED: dict[Headers, bytes] = {}
"""Headers before a `cp-sum`, none of them a deadline, packed up to its value."""


def _pack(headers: Headers) -> tuple[bytearray, int | None]:
    names, values = zip(*headers)
    head, lengths, due = _head(names)
    packed = bytearray().join((head, lengths.pack(*map(len, values)), *values))
    if due < 0:
        return packed, None
    return packed, int(values[due]) if values[due].isdigit() and len(values[due]) < 19 else None


def unpack_headers(data: bytes) -> Headers:
    """Read them back. ValueError when a length lies."""
    if not data:
        return ()
    try:
        end = 4 + (data[2] << 8 | data[3]) + 4 * (data[0] << 8 | data[1])
        names, values = _shape(data[:end]) if end <= _RECURS_MAX else _shaped(data[:end])
    except (IndexError, UnicodeDecodeError, struct.error) as bad:
        raise ValueError(f"headers are cut or their lengths lie: {bad}") from None
    if end + values.size != len(data):
        raise ValueError(f"headers of {len(data)} bytes where their lengths say {end + values.size}")
    return tuple(zip(names, values.unpack_from(data, end)))
