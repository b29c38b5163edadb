"""`Control` and claims as bytes: one Avro record each, written and read by hand so that a log needs no Avro library.

The schema is `schemas/contrapas_schemas/avro/control.avsc`; the framing is Avro's single-object encoding (marker,
CRC-64-AVRO fingerprint of the schema, body), as on every other record of the log lane.
"""

from __future__ import annotations

import zlib

from contrapas.core.lane import Control, Headers, Record, Source
from contrapas.errors import Damaged

PART_KEY = b"$part"
"""Key of the control record on the log lane of a backend that keeps it there."""
CLAIM_PREFIX = b"$claim/"
FINGERPRINT = bytes.fromhex("f09879a2e14b5e7a")
"""CRC-64-AVRO of `control.avsc`, little endian; a test computes it anew."""
_MARK = b"\xc3\x01"


def new_control(partitions: int) -> Control:
    """What a partition begins with: no owner, nothing read."""
    return Control(0, "", partitions, 1, 0, {}, 0, 0, "", 0)


def encode_control(control: Control) -> bytes:
    """Bytes of a control record: framed Avro; sources in the order of the mapping."""
    out = bytearray(_MARK + FINGERPRINT)
    _long(out, control.epoch)
    _text(out, control.owner)
    _long(out, control.partitions)
    _long(out, control.format)
    _long(out, control.serial)
    if control.cursor:
        _long(out, len(control.cursor))
        for (name, partition), offset in control.cursor.items():
            _text(out, name)
            _long(out, partition)
            _long(out, offset)
    out.append(0)
    _long(out, control.relayed)
    _long(out, control.takeovers)
    _text(out, control.trying)
    _long(out, control.horizon)
    return bytes(out)


def decode_control(data: bytes, *, place: str = "") -> Control:
    """Read it back. Damaged CP520 for a foreign frame, a cut or lying length, or bytes left over."""
    if data[:10] != _MARK + FINGERPRINT:
        raise _damaged(place, (_MARK + FINGERPRINT).hex(), data[:10].hex())
    reader = _Reader(data, 10, place)
    epoch, owner, partitions, form, serial = (
        reader.long(),
        reader.text(),
        reader.long(),
        reader.long(),
        reader.long(),
    )
    cursor: dict[Source, int] = {}
    while count := reader.long():
        if count < 0:
            count = -count
            reader.long()
        for _ in range(count):
            name = reader.text()
            partition = reader.long()
            cursor[(name, partition)] = reader.long()
    relayed, takeovers, trying, horizon = reader.long(), reader.long(), reader.text(), reader.long()
    if reader.at != len(data):
        raise _damaged(place, f"{reader.at} bytes", f"{len(data)} bytes")
    return Control(epoch, owner, partitions, form, serial, cursor, relayed, takeovers, trying, horizon)


def merge_cursor(found: Control, new: Control) -> Control:
    """`new` with no source moved back below what `found` holds; `new` itself when nothing was."""
    behind = {s: at for s, at in found.cursor.items() if new.cursor.get(s, -1) < at}
    return new._replace(cursor={**new.cursor, **behind}) if behind else new


def record_headers(kind: str, epoch: int, value: bytes) -> Headers:
    """Headers of a control record or claim (`cp-kind` is `part` or `claim`)."""
    return (
        ("cp-kind", kind.encode()),
        ("cp-epoch", b"%d" % epoch),
        ("cp-sum", b"%08x" % zlib.crc32(value)),
    )


def is_control(record: Record) -> bool:
    """Whether a record of the log lane is a control record or a claim."""
    return record.key == PART_KEY or record.key.startswith(CLAIM_PREFIX)


def _long(out: bytearray, number: int) -> None:
    number = (number << 1) ^ (number >> 63)
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)


def _text(out: bytearray, text: str) -> None:
    data = text.encode()
    _long(out, len(data))
    out += data


def _damaged(place: str, expected: str, got: str) -> Damaged:
    return Damaged("CP520", "a control record is damaged", expected=expected, got=got, place=place)


class _Reader:
    __slots__ = ("at", "data", "place")

    def __init__(self, data: bytes, at: int, place: str) -> None:
        self.data = data
        self.at = at
        self.place = place

    def long(self) -> int:
        number = shift = 0
        while True:
            if self.at >= len(self.data) or shift > 63:
                raise _damaged(self.place, "a number", f"the end at byte {self.at}")
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if shift == 63 and byte > 1:
                    raise _damaged(self.place, "a number of 64 bits", f"a larger one at byte {self.at}")
                return (number >> 1) ^ -(number & 1)
            shift += 7

    def text(self) -> str:
        length = self.long()
        end = self.at + length
        if length < 0 or end > len(self.data):
            raise _damaged(self.place, f"{length} bytes of text", f"{len(self.data) - self.at} bytes")
        try:
            text = self.data[self.at : end].decode()
        except UnicodeDecodeError as bad:
            raise _damaged(self.place, "UTF-8", str(bad)) from None
        self.at = end
        return text
