"""How large a record is, and how large it may be."""

from __future__ import annotations

from typing import Final

from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import encode

LIMIT: Final = 900_000
"""Bytes of one record, checked before anything is sent (R7)."""


def size_of(record: InstanceRecord) -> int:
    """Its bytes as they go onto the log."""
    return len(encode(record))
