"""The headers of an instance record: an index of its body, so that relays, lists and restores decode no Avro."""

from __future__ import annotations

from typing import Final
from zlib import crc32

from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.lane import Headers
from contrapas.core.timers import next_deadline

_KEPT_MAX: Final = 20_000


class _Pairs(dict[object, tuple[str, bytes]]):
    """Headers of one name, by value: most values recur."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __missing__(self, value: object) -> tuple[str, bytes]:
        if len(self) >= _KEPT_MAX:
            self.clear()
        made = self[value] = (self.name, str(value).encode())
        return made


_KIND: Final = ("cp-kind", b"instance")
_LOCAL: Final = ("cp-cause", b"local")
_VERSION: Final = _Pairs("cp-version")
_EPOCH: Final = _Pairs("cp-epoch")
_STATUS: Final = _Pairs("cp-status")
_STATE: Final = _Pairs("cp-state")


def headers_of(record: InstanceRecord, value: bytes) -> Headers:
    """Kind, version, epoch, status, state, cause, next deadline, unpublished messages, checksum. value: the encoded body, for its checksum."""
    return headers_with(record, value, next_deadline(record))


def headers_with(record: InstanceRecord, value: bytes, deadline: int | None) -> Headers:
    """The same, where the next deadline is known already."""
    cause = record.cause
    root = record.root
    first = (
        _KIND,
        _VERSION[record.version],
        _EPOCH[record.epoch],
        _STATUS[record.status],
        _STATE[root.frames[-1].label if root.frames and root.unwinding is None else record.state],
        _LOCAL if cause.kind == "result" else ("cp-cause", _cause(cause)),
    )
    check = ("cp-sum", b"%08x" % crc32(value))
    if deadline is None and not (record.out or record.unsent or cause.headers):
        return (*first, check)
    found: list[tuple[str, bytes]] = [*first]
    if deadline is not None:
        found.append(("cp-deadline", b"%d" % deadline))
    waiting = len(record.out) + len(record.unsent)
    if waiting:
        found.append(("cp-out", b"%d" % waiting))
    found.append(check)
    for header in cause.headers:
        if header[0] == "traceparent":
            found.append(header)
            break
    return tuple(found)


def _cause(cause: Cause) -> bytes:
    if cause.kind == "timer" or cause.kind == "heal":
        return cause.kind.encode()
    if not cause.source or cause.kind == "result":
        return b"local"
    return f"{cause.source}/{cause.partition}@{cause.offset}".encode()
