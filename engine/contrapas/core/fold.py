"""The fold: which records of a partition count. One rule for restores, standbys and readers, in any language.

Per partition the highest epoch seen rules, control records and claims included; a record below it is a loser; of the
rest the newest of a key is its state. Ours also checks that versions follow each other:

| record of instance k                                                                  | verdict                |
|---------------------------------------------------------------------------------------|------------------------|
| epoch lower than the highest seen, or none; a tombstone without an epoch              | LOSER: k is owed a heal|
| version = known + 1; k unknown and version 1; above the known one as a heal, or owed  | APPLIED                |
| any other version above the known one, older than the history floor                   | APPLIED                |
| version not above the known one, older than the floor                                 | STALE: counted         |
| the last two, younger than the floor                                                  | STOP: CP509            |
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from enum import Enum

from contrapas.core.control import decode_control, is_control, merge_cursor
from contrapas.core.lane import Control, Record
from contrapas.errors import Damaged

_TOP = 1 << 63
_NEGATIVE = re.compile(rb"-[0-9]{1,18}")
_FEW: dict[bytes | None, int] = {b"%d" % number: number for number in range(256)}
"""Most versions and epochs are among these; a restore reads three numbers of each record."""


class Verdict(Enum):
    """What a record is to the state of its key."""

    APPLIED = "applied"
    REMOVED = "removed"
    """A tombstone of the owner: the key is gone."""
    LOSER = "loser"
    """Written by a former owner or a stranger; not applied, and its key is owed a heal."""
    STALE = "stale"
    """Older than the history floor and not above what is known; a heal follows it."""
    CONTROL = "control"
    """A control record or a claim that counts: `Fold.control` and `Fold.epoch` moved."""
    VOID = "void"
    """A control record or a claim of a former owner."""
    STOP = "stop"
    """A foreign writer, a truncated lane or a defect: the partition stops with `Fold.error`."""


class Fold:
    """One partition's fold. Feed it records in offset order; it gives the verdict and keeps no values.

    floor: history floor, an offset: below it compaction explains a jump. While the newest records of each key are read
    (`Log.latest`), it is the offset up to which they are read. It may be moved forward at any time.
    """

    __slots__ = ("control", "epoch", "error", "floor", "headers", "known", "losers", "name", "owed", "stale")

    def __init__(self, name: str = "log", *, floor: int = 0, epoch: int = 0) -> None:
        self.name = name
        self.floor = floor
        self.epoch = epoch
        """Highest epoch seen."""
        self.known: dict[bytes, int] = {}
        """Version of each living key."""
        self.owed: dict[bytes, int] = {}
        """Keys that a loser lies on, with the version that a heal must be above. Part of the state: a checkpoint keeps it."""
        self.control: Control | None = None
        """As the newest control record or claim that counts says, each source at the largest offset seen."""
        self.losers = 0
        self.stale = 0
        self.error: Damaged | None = None
        self.headers: dict[str, bytes] = {}
        """Those of the record judged last: who goes on with it need not look them up again."""

    def judge(self, record: Record) -> Verdict:
        """Verdict on the next record. Damaged CP520 for a control record that does not read."""
        _, _, key, value, pairs, _ = record
        self.headers = headers = dict(pairs)
        if (epoch := _FEW.get(said := headers.get("cp-epoch"), -1)) < 0:
            epoch = number_of(said)
        if key[:1] == b"$" and is_control(record):
            return self._judge_control(record, epoch)
        if (version := _FEW.get(said := headers.get("cp-version"), -1)) < 0:
            version = number_of(said)
        if epoch < 0 or epoch < self.epoch:
            self.losers += 1
            self.owed[key] = max(self.owed.get(key, 0), version, self.known.get(key, 0))
            return Verdict.LOSER
        self.epoch = epoch
        if value is None:
            self.known.pop(key, None)
            self.owed.pop(key, None)
            return Verdict.REMOVED
        if version < 0:
            if said is not None:
                place = f"{self.name}/{record.partition}@{record.offset}"
                self.error = no_number(record.key, "cp-version", said, place)
                return Verdict.STOP
            self.owed.pop(key, None)
            return Verdict.APPLIED
        known = self.known.get(key, 0)
        if version != known + 1 and not self._may_jump(record, version, known, headers):
            return Verdict.STALE if self.error is None else Verdict.STOP
        self.known[key] = version
        if self.owed and self.owed.get(key, version) < version:
            del self.owed[key]
        return Verdict.APPLIED

    def _may_jump(self, record: Record, version: int, known: int, headers: dict[str, bytes]) -> bool:
        old = record.offset < self.floor
        if version > known and (old or record.key in self.owed or headers.get("cp-cause") == b"heal"):
            return True
        if old:
            self.stale += 1
            return False
        self.error = Damaged(
            "CP509",
            f"version {version} of {text_of(record.key)} does not follow version {known}",
            expected=f"version {known + 1} under epoch {self.epoch}",
            got=f"version {version}",
            fix="look for another writer of this lane: contrapas log verify",
            place=f"{self.name}/{record.partition}@{record.offset}",
        )
        return False

    def _judge_control(self, record: Record, epoch: int) -> Verdict:
        if epoch < self.epoch:
            self.losers += 1
            return Verdict.VOID
        self.epoch = epoch
        if record.value is not None:
            place = f"{self.name}/{record.partition}@{record.offset}"
            control = decode_control(record.value, place=place)
            self.control = control if self.control is None else merge_cursor(self.control, control)
        return Verdict.CONTROL


def damage(record: Record, name: str = "log") -> Damaged | None:
    """CP520 when a record's checksum (`cp-sum`) is missing or is not that of its value; None when all is well."""
    if record.value is None:
        return None
    stored = next((value for header, value in record.headers if header == "cp-sum"), b"")
    computed = b"%08x" % zlib.crc32(record.value)
    if stored == computed:
        return None
    said = stored.decode(errors="replace") or "no checksum"
    return Damaged(
        "CP520",
        f"the checksum of {text_of(record.key)} differs",
        expected=said,
        got=computed.decode(),
        fix="restore the record from a backup, or park the instance",
        place=f"{name}/{record.partition}@{record.offset}",
    )


def fold(records: Iterable[Record], *, floor: int = 0) -> tuple[Fold, dict[bytes, Record]]:
    """The fold of some records and the newest record that counts of each living key; raises what stops a partition."""
    judge = Fold(floor=floor)
    states: dict[bytes, Record] = {}
    for record in records:
        match judge.judge(record):
            case Verdict.APPLIED:
                states[record.key] = record
            case Verdict.REMOVED:
                states.pop(record.key, None)
            case Verdict.STOP:
                assert judge.error is not None
                raise judge.error
            case _:
                pass
    return judge, states


def text_of(key: bytes) -> str:
    """A key as a message shows it."""
    return key[:200].decode(errors="replace")


def header_number(record: Record, name: str, value: bytes | None, lane: str = "log") -> int | None:
    """What a header of ours says, None where it is not there. Damaged CP520 for what is no number of 64 bits."""
    if value is None:
        return None
    if (number := number_of(value)) >= 0:
        return number
    if _NEGATIVE.fullmatch(value):
        return int(value)
    raise no_number(record.key, name, value, f"{lane}/{record.partition}@{record.offset}")


def no_number(key: bytes, name: str, value: bytes, place: str) -> Damaged:
    """CP520 of a header that is no number."""
    return Damaged(
        "CP520",
        f"header {name} of {text_of(key)} is no number",
        expected="a number of 64 bits",
        got=text_of(value[:40]),
        fix="restore the record from a backup, or park the instance",
        place=place,
    )


def number_of(value: bytes | None) -> int:
    """A number of at most 64 bits, -1 for anything else."""
    if value is None or len(value) > 19 or not value.isdigit():
        return -1
    number = int(value)
    return number if number < _TOP else -1
