"""The headers of an instance record: an index of its body, so that relays, lists and restores decode no Avro."""

from __future__ import annotations

from zlib import crc32

from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.lane import Headers
from contrapas.core.timers import next_deadline

_KIND = ("cp-kind", b"instance")


def headers_of(record: InstanceRecord, value: bytes) -> Headers:
    """Kind, version, epoch, status, state, cause, next deadline, unpublished messages, checksum. value: the encoded body, for its checksum."""
    found: list[tuple[str, bytes]] = [
        _KIND,
        ("cp-version", b"%d" % record.version),
        ("cp-epoch", b"%d" % record.epoch),
        ("cp-status", record.status.encode()),
        ("cp-state", record.state.encode()),
        ("cp-cause", _cause(record.cause)),
    ]
    deadline = next_deadline(record)
    if deadline is not None:
        found.append(("cp-deadline", b"%d" % deadline))
    waiting = len(record.out) + len(record.unsent)
    if waiting:
        found.append(("cp-out", b"%d" % waiting))
    found.append(("cp-sum", b"%08x" % crc32(value)))
    for header in record.cause.headers:
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
