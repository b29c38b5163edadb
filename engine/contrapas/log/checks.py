"""What every backend checks and computes alike: a new owner's control, a record's epoch, sizes, positions."""

from __future__ import annotations

from contrapas.core.fold import number_of
from contrapas.core.lane import Control, Draft, Lane, Record, Topic
from contrapas.errors import DataError, LogError, Refused


def claimed(found: Control, owner: str, epoch: int, partitions: int) -> Control:
    """The control a new owner begins with: its epoch and name, one takeover more if nobody had released."""
    takeovers = found.takeovers + 1 if found.owner else 0
    return found._replace(
        epoch=epoch, owner=owner, partitions=partitions, takeovers=takeovers, serial=found.serial + 1
    )


def epoch_of(record: Record) -> int:
    """The epoch a record claims, -1 without a readable one."""
    for name, value in record.headers:
        if name == "cp-epoch":
            return number_of(value)
    return -1


def version_of(record: Record) -> int:
    """The version a record claims, -1 without a readable one."""
    for name, value in record.headers:
        if name == "cp-version":
            return number_of(value)
    return -1


def size_of(draft: Draft) -> int:
    """Bytes of a record, with its headers."""
    size = len(draft.key) + len(draft.value or b"")
    for name, value in draft.headers:
        size += len(name) + len(value)
    return size


def check_size(draft: Draft, limit: int) -> None:
    """DataError CP409 for a record above the limit; the caller should have asked before."""
    size = size_of(draft)
    if size > limit:
        raise DataError(
            "CP409",
            f"a record of {size} bytes for {draft.to or 'log'} is above {limit}",
            expected=f"<= {limit}",
            got=str(size),
        )


def check_position(namespace: str, lane: Lane, partition: int, offset: int, start: int, end: int) -> None:
    """LogError CP519 below the start, CP506 beyond the end: never a jump."""
    if start <= offset <= end:
        return
    name = f"{namespace}.{lane}" if lane in ("in", "log") else lane
    place = f"{name}/{partition}@{offset}"
    if offset < start:
        text = f"position {offset} lies below the first record that is still there, {start}"
        raise LogError("CP519", text, place=place)
    raise LogError("CP506", f"position {offset} lies beyond the end, {end}", place=place)


def check_source(source: str, found: Topic | None) -> None:
    """Refused CP506 when a source, `<topic>@<topic id>`, is not the topic that is there now."""
    name, _, wanted = source.rpartition("@")
    if found is None or found.id != wanted:
        was = "does not exist" if found is None else f"is {found.id} now"
        raise Refused("CP506", f"topic {name} {was}; the position belongs to {source}", place=source)
