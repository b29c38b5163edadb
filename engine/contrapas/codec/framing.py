"""How a payload says what it is written in: the content type decides, without one the first bytes.

`00` and a schema id (Confluent), `C3 01` and a fingerprint (Avro single object), a GUID in the header `__value_schema_id`,
or JSON. Nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from contrapas.errors import DataError

GUID_HEADER: Final = "__value_schema_id"
_SINGLE: Final = b"\xc3\x01"


class Ref(NamedTuple):
    """A schema by the name that a payload gives it."""

    kind: str
    """`id` of a registry, `guid` of a registry, `fingerprint` (CRC-64-AVRO, as the bytes stand)."""
    value: str

    def __str__(self) -> str:
        return f"schema {self.kind} {self.value}"


def framed(headers: Mapping[str, bytes], value: bytes) -> tuple[Ref, bytes] | None:
    """The schema that a payload names, and the payload bare; None: it is JSON, or nothing we know, and says so itself.

    DataError CP419: it is Avro by its content type, and names no schema.
    """
    guid = headers.get(GUID_HEADER)
    if guid:
        if len(guid) != 17 or guid[:1] != b"\x01":
            raise DataError(
                "CP419", f"{GUID_HEADER} is no schema id", expected="01 and 16 bytes", got=guid[:20].hex()
            )
        g = guid[1:].hex()
        return Ref("guid", f"{g[:8]}-{g[8:12]}-{g[12:16]}-{g[16:20]}-{g[20:]}"), value
    content = headers.get("content-type", b"").lower()
    if b"json" in content:
        return None
    first = value[:1]
    if first == b"\x00" and len(value) >= 5:
        return Ref("id", str(int.from_bytes(value[1:5], "big"))), value[5:]
    if value[:2] == _SINGLE and len(value) >= 10:
        return Ref("fingerprint", value[2:10].hex()), value[10:]
    if b"avro" in content:
        raise DataError(
            "CP419",
            "an Avro payload names no schema",
            expected="00 and a schema id, or C3 01 and a fingerprint",
            got=value[:10].hex(),
            fix="write it with a registry's serialiser, or in Avro's single-object encoding",
        )
    return None


def single(fingerprint: str, body: bytes) -> bytes:
    """Avro single-object encoding."""
    return _SINGLE + bytes.fromhex(fingerprint) + body


def confluent(number: int, body: bytes) -> bytes:
    """Confluent's framing with a registry's id."""
    return b"\x00" + number.to_bytes(4, "big") + body
