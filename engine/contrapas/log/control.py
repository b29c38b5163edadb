"""The control record as bytes and in order: what a connector keeps in a row of its own."""

from __future__ import annotations

from contrapas.core.control import decode_control, encode_control, merge_cursor, new_control

__all__ = ["decode_control", "encode_control", "merge_cursor", "new_control"]
