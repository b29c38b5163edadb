"""The core without its shortcuts: what they must equal."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest.mock import patch

from contrapas.core.envelope import InstanceRecord, Node
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


def nodes(node: Node) -> Iterator[Node]:
    """A node and those below it."""
    yield node
    for child in node.join.children if node.join is not None else ():
        yield from nodes(child)
    for frame in node.frames:
        for begun in frame.begun:
            yield from nodes(begun.node)


def written_in_general(record: InstanceRecord) -> bytes:
    """`encode` field by field, with nothing kept from before."""
    record = deepcopy(record)
    record.head = record.memory = b""
    for node in nodes(record.root):
        node.raw = b""
    with no_shortcuts():
        return encode(record)
