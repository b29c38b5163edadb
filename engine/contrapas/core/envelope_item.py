"""`ItemRecord`: one item of a map after its newest attempt, and its way to Avro bytes and back.

Single-object framing, schema `contrapas_schemas/avro/item.avsc`; written out by hand, because it runs once per item.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

from contrapas.core import avro_words as words
from contrapas.core.envelope_read import Reader
from contrapas.errors import Damaged

PREFIX: Final = "$item/"


class ItemRecord(NamedTuple):
    """One item on the log."""

    instance: str
    map: str
    """Idempotency key of the map as a whole."""
    label: str
    name: str
    position: int
    version: int
    epoch: int
    writer: str
    at: int
    status: str
    """`done failed unknown retrying`."""
    attempt: int
    begun: int
    """How many items of the map had begun by then."""
    text: str
    """`done`: the result as JSON; otherwise the exception as JSON."""
    reason: str
    retry_at: int | None


@cache
def schema() -> tuple[Any, bytes]:
    """The parsed schema, and the ten bytes that every value begins with."""
    import json
    from importlib.resources import files

    from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

    raw = json.loads(files("contrapas_schemas").joinpath("avro/item.avsc").read_text())
    digest = fingerprint(to_parsing_canonical_form(parse_schema(raw)), "CRC-64-AVRO")
    return parse_schema(raw), b"\xc3\x01" + bytes.fromhex(digest)


_STATUS: Final = {word: words.text(word) for word in ("done", "failed", "unknown", "retrying")}


def head_of(instance: str, key: str, label: str, name: str) -> bytes:
    """What all items of one map begin with."""
    return schema()[1] + b"".join([words.text(t) for t in (instance, key, label, name)])


def encode_item(
    head: bytes,
    position: int,
    version: int,
    owner: bytes,
    status: str,
    attempt: int,
    begun: int,
    text: str,
    reason: str,
    retry_at: int | None,
) -> bytes:
    """An item's value on the log lane. owner: epoch, writer and time, as `owner_bytes` gives them."""
    return b"".join(
        (
            head,
            words.long(position),
            words.long(version),
            owner,
            _STATUS[status],
            words.long(attempt),
            words.long(begun),
            words.text(text),
            words.text(reason),
            words.maybe(retry_at),
        )
    )


def owner_bytes(epoch: int, writer: str, at: int) -> bytes:
    """What all items of one batch share."""
    return words.long(epoch) + words.text(writer) + words.long(at)


def decode_item(value: bytes) -> ItemRecord:
    """Back from bytes. Damaged CP520 when they are not what `encode_item` wrote."""
    if value[:10] != schema()[1]:
        raise Damaged("CP520", "an item is not framed as one", got=value[:10].hex())
    r = Reader(value, 10)
    try:
        found = ItemRecord(
            r.text(), r.text(), r.text(), r.text(), r.long(), r.long(), r.long(), r.text(), r.long(), r.text(),
            r.long(), r.long(), r.text(), r.text(), r.maybe(),
        )  # fmt: skip
    except (IndexError, ValueError, UnicodeDecodeError, OverflowError) as why:
        raise Damaged("CP520", f"an item does not decode: {why}"[:500]) from why
    if r.at != len(value) or found.status not in _STATUS:
        raise Damaged("CP520", "an item has another length, or a status of its own")
    return found


def renumbered(value: bytes, version: int, epoch: int, writer: str) -> bytes:
    """The same item under another version and owner: what a heal writes."""
    r = decode_item(value)
    head = head_of(r.instance, r.map, r.label, r.name)
    owner = owner_bytes(epoch, writer, r.at)
    return encode_item(
        head, r.position, version, owner, r.status, r.attempt, r.begun, r.text, r.reason, r.retry_at
    )
