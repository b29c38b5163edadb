"""The core without its shortcuts: what they must equal."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import encode
from contrapas.core.transition import transition
from contrapas.core.world import Input, Transition, World


def _no(*_: Any) -> None:
    return None


@contextmanager
def no_shortcuts() -> Generator[None]:
    """Every transition on the general path, every record written field by field."""
    with (
        patch("contrapas.core.transition.straight", _no),
        patch("contrapas.core.envelope_avro._plainly", _no),
    ):
        yield


def in_general(record: InstanceRecord | None, event: Input, world: World) -> Transition:
    """`transition` on the general path."""
    with no_shortcuts():
        return transition(record, event, world)


def written_in_general(record: InstanceRecord) -> bytes:
    """`encode` field by field, with nothing kept from before."""
    record.head = record.memory = b""
    with no_shortcuts():
        return encode(record)
