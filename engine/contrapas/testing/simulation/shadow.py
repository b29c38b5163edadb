"""A second, obvious fold of the log lane, made while it is written: what counts, what is void, who owes a heal.

It shares no line with `core.fold`. It sees every record the moment it is stored, so compaction cannot mislead it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from contrapas.core.lane import Record

_tuple = tuple[Any, ...].__new__
"""Once per record: a named tuple called by its name takes a detour through Python."""


class Counted(NamedTuple):
    """The newest record of a key that counts."""

    version: int
    epoch: int
    value: bytes | None
    offset: int
    status: bytes
    deadline: int


class Judged(NamedTuple):
    """What the shadow fold says of one record."""

    counts: bool
    before: Counted | None
    now: Counted | None
    cause: bytes
    wrong: str
    """What is wrong with it; empty: nothing."""


class Shadow:
    """One partition."""

    def __init__(self) -> None:
        self.epoch = -1
        self.keys: dict[bytes, Counted] = {}
        self.buried: dict[bytes, Counted] = {}
        """What was there when a key's tombstone was written."""
        self.owed: dict[bytes, int] = {}
        self.topped: dict[bytes, int] = {}
        """Key on whose newest record a loser lies -> when it came: a cleaner would keep the loser."""
        self.losers: dict[int, int] = {}
        """Offset -> epoch of every record that does not count."""
        self.claims = 0
        self.damaged: tuple[bytes, int] | None = None
        """Of a copy: key and offset of a damaged record that stood there."""
        self.stale = False
        """Of a copy: others have taken the partition since."""

    def copy(self) -> Shadow:
        """As it is now."""
        found = Shadow()
        found.epoch, found.claims = self.epoch, self.claims
        found.keys, found.buried = dict(self.keys), dict(self.buried)
        found.owed, found.topped = dict(self.owed), dict(self.topped)
        found.losers = dict(self.losers)
        return found

    def see(self, record: Record) -> Judged:
        """The next record."""
        epoch, version, deadline, kind, cause, status = -1, -1, 0, b"", b"", b""
        for name, value in record.headers:
            if name == "cp-epoch":
                epoch = int(value)
            elif name == "cp-version":
                version = int(value)
            elif name == "cp-kind":
                kind = value
            elif name == "cp-cause":
                cause = value
            elif name == "cp-status":
                status = value
            elif name == "cp-deadline":
                deadline = int(value)
        key = record.key
        before = self.keys.get(key)
        if epoch < self.epoch:
            self.losers[record.offset] = epoch
            if kind not in (b"part", b"claim"):
                self.topped[key] = record.timestamp_ms
                known = before.version if before is not None else 0
                self.owed[key] = max(self.owed.get(key, 0), version, known)
            return Judged(False, before, before, cause, "")
        self.epoch = epoch
        if kind in (b"part", b"claim"):
            self.claims += kind == b"claim"
            return Judged(True, None, None, cause, "")
        if self.topped:
            self.topped.pop(key, None)
        wrong = self._versions(key, version, before, cause)
        if record.value is None:
            self.keys.pop(key, None)
            if before is not None:
                self.buried[key] = before
            self.owed.pop(key, None)
            return Judged(True, before, None, cause, wrong)
        now = _tuple(Counted, (version, epoch, record.value, record.offset, status, deadline))
        self.keys[key] = now
        if self.owed and self.owed.get(key, version) < version:
            del self.owed[key]
        return _tuple(Judged, (True, before, now, cause, wrong))

    def _versions(self, key: bytes, version: int, before: Counted | None, cause: bytes) -> str:
        known = before.version if before is not None else 0
        if version == known + 1:
            return ""
        if version > known and (cause == b"heal" or key in self.owed):
            return ""
        return f"version {version} of {key.decode()} follows version {known}"
