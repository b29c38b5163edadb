"""The order of a partition as its fence: what a claim that was read back, and the offsets of a commit, say.

Where a log cannot refuse a stale write (Kafka), order decides: an owner appends a claim and reads up to it; what comes
later under a lower epoch is void; a commit counts if its offsets follow the owner's last one without a gap, for then
nobody claimed in between. What stands here waits for nothing and reads nothing: a log brings the records, these functions
judge them. The twin in memory, the Kafka connector and the model of racing owners all call them, so that there is one
text of each rule.

An owner: `Seen.take` every record up to the end `E`, `claim_of`, append it, read from `E` to the claim, `read_back`.
A commit: `committing`, append, all offsets in hand `follows`; if it says False, read the gap and `strangers`. Idle: if the
lane's end is not where the last commit left it, read up to it and `strangers` with none of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from contrapas.core.control import (
    CLAIM_PREFIX,
    PART_KEY,
    decode_control,
    encode_control,
    is_control,
    merge_cursor,
    new_control,
    record_headers,
)
from contrapas.core.lane import Control, Draft, Known, Record
from contrapas.errors import Fenced, Indeterminate
from contrapas.log.checks import claimed, epoch_of, version_of

__all__ = [
    "CLAIM_PREFIX",
    "PART_KEY",
    "Losers",
    "Seen",
    "claim_draft",
    "claim_of",
    "committing",
    "control_draft",
    "follows",
    "is_control",
    "owned",
    "read_back",
    "released",
    "strangers",
]


class Seen:
    """What the records of a partition say of its ownership, read in offset order from zero or from what is known."""

    __slots__ = ("control", "epoch", "upto")

    def __init__(self, known: Known | None = None) -> None:
        self.upto = 0 if known is None else known.upto
        """Next offset to read."""
        self.epoch = 0 if known is None else known.epoch
        """Highest epoch seen, 0 for none."""
        self.control: Control | None = None if known is None else known.control
        """As the newest control record or claim that counts says, each source at the largest offset seen."""

    def take(self, record: Record) -> None:
        """The next record. Damaged CP520 for a control record that counts and does not read."""
        self.upto = record.offset + 1
        epoch = epoch_of(record)
        if epoch < self.epoch:
            return
        self.epoch = epoch
        if record.value is not None and is_control(record):
            place = f"log/{record.partition}@{record.offset}"
            control = decode_control(record.value, place=place)
            self.control = control if self.control is None else merge_cursor(self.control, control)


class Losers:
    """The void records of a partition that the newest record of their key does not stand above, by key.

    What a fold must see beside the newest records, so that it owes the same heals as one that sees all: of a key the loser
    of the highest version, until an owner's tombstone or a record above that version follows. Versions and not places
    decide: a key that ended and began anew counts from one again.
    """

    __slots__ = ("of",)

    def __init__(self) -> None:
        self.of: dict[bytes, Record] = {}

    def add(self, record: Record) -> None:
        """A record under a lower epoch than one before it."""
        known = self.of.get(record.key)
        if known is None or version_of(known) <= version_of(record):
            self.of[record.key] = record

    def follow(self, record: Record) -> None:
        """A record that counts."""
        loser = self.of.get(record.key)
        if loser is not None and (
            record.value is None or (top := version_of(loser)) <= 0 or version_of(record) > top
        ):
            del self.of[record.key]


# ---- a claim


def claim_of(seen: Seen, owner: str, *, end: int, partitions: int) -> Control:
    """What a new owner's claim says; its epoch is max(end, highest seen + 1), so that no number is given twice.

    seen: everything below `end`, the end of the lane as it was read.
    """
    return claimed(seen.control or new_control(partitions), owner, max(end, seen.epoch + 1), partitions)


def claim_draft(partition: int, claim: Control, nonce: bytes) -> Draft:
    """A claim under a key of its own, so that no later record takes it from the lane. nonce: never used before."""
    value = encode_control(claim)
    return Draft("", partition, CLAIM_PREFIX + nonce, value, record_headers("claim", claim.epoch, value))


def read_back(epoch: int, end: int, at: int, between: Sequence[Record]) -> None:
    """Judge a claim of `epoch`, chosen with `end` as the lane's end, that stands at `at`. between: what was read there.

    Fenced: a claim or record of our epoch or a higher one came first. Indeterminate: an offset in between was not read,
    so nobody knows; claim again.
    """
    read = {record.offset for record in between if end <= record.offset < at}
    theirs = max((epoch_of(record) for record in between if end <= record.offset < at), default=-1)
    if theirs >= epoch:
        raise Fenced("another claim came first", mine=epoch, theirs=theirs)
    if len(read) != at - end:
        raise Indeterminate(f"offsets are missing between {end} and the claim at {at}")


def owned(seen: Seen, claim: Control) -> Control:
    """The control a new owner begins with: its claim, no source moved back. seen: everything before the claim."""
    return claim if seen.control is None else merge_cursor(seen.control, claim)


# ---- a commit


def committing(held: Control, said: Control) -> Control:
    """The control record of the next commit: what the runtime says, under the epoch, owner and count of the lease."""
    return merge_cursor(
        held,
        said._replace(
            epoch=held.epoch,
            owner=held.owner,
            partitions=held.partitions,
            serial=held.serial + 1,
            horizon=max(said.horizon, held.horizon),
        ),
    )


def released(held: Control) -> Control:
    """The control record that gives a partition up."""
    return held._replace(owner="", serial=held.serial + 1)


def control_draft(partition: int, control: Control) -> Draft:
    """The control record as the last record of a commit."""
    value = encode_control(control)
    return Draft("", partition, PART_KEY, value, record_headers("part", control.epoch, value))


def follows(expected: int, offsets: Sequence[int]) -> bool:
    """Whether a commit stands exactly behind the owner's last record, in order and without a gap: then it counts.

    offsets: of all its records, in the order they were handed over. False: what stands between is to be read and given to
    `strangers`. Indeterminate: an offset is missing (negative), repeated, out of order, or below `expected`.
    """
    at = expected - 1
    for offset in offsets:
        if offset <= at:
            raise Indeterminate(f"a record of the commit has offset {offset} where {at + 1} or more was due")
        at = offset
    return at == expected + len(offsets) - 1


def strangers(
    epoch: int, expected: int, upto: int, mine: Collection[int], found: Iterable[Record]
) -> tuple[Record, ...]:
    """What others wrote from where we left off (`expected`) up to `upto`: records that do not count, by offset.

    mine: offsets of our own commit, none for an idle look. found: everything that was read there, ours or not.
    Fenced: a higher epoch is among them. Indeterminate: an offset is neither ours nor read; a hole is never passed over. A
    later claim of our own epoch lost its race and is void; any other foreign record of our epoch is among what is given,
    for the fold to stop at.
    """
    others = {r.offset: r for r in found if expected <= r.offset < upto and r.offset not in mine}
    theirs = max(map(epoch_of, others.values()), default=-1)
    if theirs > epoch:
        raise Fenced("another owner claimed the partition", mine=epoch, theirs=theirs)
    ours = sum(expected <= offset < upto for offset in mine)
    if len(others) + ours != upto - expected:
        raise Indeterminate(f"offsets are missing between {expected} and {upto}")
    return tuple(r for _, r in sorted(others.items()) if epoch_of(r) < epoch or not is_control(r))
