"""Records that were decoded once in a world are not decoded again by the next owner: a third of the time otherwise.

A record is data that nobody changes, so who shares it sees the same. That bytes become the same record, and a record the
same bytes, is looked at apart: by every few takeovers (`Watch`), and by the tests of the codec.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from contrapas.core import fold
from contrapas.core.envelope import InstanceRecord
from contrapas.core.lane import Control
from contrapas.log import order
from contrapas.runtime import partition
from contrapas.runtime.batch import Batch

MOST = 20_000
NAME: Final = "decode_instance"
WRITE: Final = "write"
CONTROL: Final = "decode_control"


class Memo:
    """Bytes of a record -> the record."""

    def __init__(self) -> None:
        self.known: dict[bytes, InstanceRecord] = {}

    def wrote(self, value: bytes, record: InstanceRecord) -> None:
        """What an owner writes."""
        if len(self.known) > MOST:
            self.known.clear()
        self.known[value] = record

    def learn(self, p: partition.Partition) -> None:
        """What an owner that goes has decoded or written."""
        if len(self.known) > MOST:
            self.known.clear()
        for instance, record in p.decoded():
            entry = p.entries.get(instance)
            if entry is not None:
                self.known[entry.value] = record


@contextmanager
def remembering(memo: Memo) -> Generator[None]:
    """For as long as the block lasts; the collector of garbage rests meanwhile."""
    right: Callable[[bytes], InstanceRecord] = getattr(partition, NAME)
    known = memo.known

    def decode(value: bytes) -> InstanceRecord:
        found = known.get(value)
        if found is None:
            found = known[value] = right(value)
        return found

    write = partition.Partition.write

    def written(self: partition.Partition, batch: Batch, record: InstanceRecord, value: bytes = b"") -> None:
        write(self, batch, record, value)
        memo.wrote(batch.log[-1].value or b"", record)

    was = gc.isenabled()
    gc.disable()
    controls: dict[bytes, Control] = {}
    control: Callable[..., Control] = getattr(fold, CONTROL)

    def decoded(value: bytes, *, place: str = "") -> Control:
        found = controls.get(value)
        if found is None:
            found = controls[value] = control(value, place=place)
        return found

    for module in (fold, order):
        setattr(module, CONTROL, decoded)
    setattr(partition, NAME, decode)
    setattr(partition.Partition, WRITE, written)
    try:
        yield
    finally:
        for module in (fold, order):
            setattr(module, CONTROL, control)
        setattr(partition, NAME, right)
        setattr(partition.Partition, WRITE, write)
        if was:
            gc.enable()
