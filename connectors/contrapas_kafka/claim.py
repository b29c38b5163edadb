"""Becoming the owner of a partition: read the lane to its end, append a claim, read back what stands before it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from contrapas.errors import Indeterminate, Refused
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Control, Known, Record
from contrapas.log.checks import epoch_of
from contrapas.log.order import CLAIM_PREFIX, Losers, Seen, claim_draft, claim_of, owned, read_back
from contrapas_kafka.lease import KafkaLease

if TYPE_CHECKING:
    from contrapas_kafka.log import KafkaLog

NAMES.update(
    {
        "kafka.claim.before": "kafka: the lane is read to its end, no claim is appended",
        "kafka.claim.handed": "kafka: a claim is on its way",
        "kafka.claim.unread": "kafka: a claim is appended, nothing before it is read back",
    }
)
CLAIMS: Final = 5
"""How often a claim is made again that cannot be read back whole."""


class Scan:
    """The log lane of a partition up to an offset: who owned it, and the newest record of each key.

    A restore reads the same records: `Log.latest` goes on from here instead of reading them once more.
    """

    __slots__ = ("after", "claims", "losers", "newest", "seen")

    def __init__(self, known: Known | None = None) -> None:
        self.seen = Seen(known)
        self.after = self.seen.upto
        self.newest: dict[bytes, Record] = {}
        self.losers = Losers()
        """Records of former owners and strangers that no record which counts has followed under a version above."""
        self.claims: dict[bytes, int] = {}
        """Claims, void ones too, with their times."""

    def take(self, records: Iterable[Record]) -> None:
        """The next records."""
        seen, newest, losers = self.seen, self.newest, self.losers
        epoch = seen.epoch
        for record in records:
            key = record.key
            if (of := epoch_of(record)) < epoch:
                losers.add(record)
                if record.value is not None and key.startswith(CLAIM_PREFIX):
                    self.claims[key] = record.timestamp_ms
                continue
            epoch = of
            newest.pop(key, None)  # so that the dict is in the order of offsets
            newest[key] = record
            if losers.of:
                losers.follow(record)
            if key.startswith(b"$"):
                seen.take(record)
                if key.startswith(CLAIM_PREFIX) and record.value is not None:
                    self.claims[key] = record.timestamp_ms
        seen.epoch = epoch

    def living(self) -> list[Record]:
        """What `Log.latest` gives: by offset; tombstones only where something may lie below them."""
        losers = self.losers.of
        if not losers:
            found = list(self.newest.values())
            return found if self.after > 0 else [r for r in found if r.value is not None]
        kept = [r for r in self.newest.values() if r.value is not None or self.after > 0 or r.key in losers]
        return sorted([*kept, *losers.values()], key=lambda r: r.offset)


async def claim(log: KafkaLog, partition: int, owner: str, known: Known | None) -> KafkaLease:
    """Own a partition. Fenced: another claim came first; Indeterminate: no answer; Refused CP504: another count."""
    scan = Scan(known)
    spot = log.spot("log", partition)
    sender = await log.lanes.ready()
    for _ in range(CLAIMS):
        end = await log.raw.end(spot)
        await log.scanned(scan, partition, end)
        _check_count(log, scan)
        control = claim_of(scan.seen, owner, end=end, partitions=log.partitions)
        draft = claim_draft(partition, control, os.urandom(8).hex().encode())
        failpoint("kafka.claim.before")
        sending = await sender.send(spot[0], partition, [(draft.key, draft.value, draft.headers)])
        failpoint("kafka.claim.handed")
        stored = await log.answered(sending, "a claim was not answered in time")
        failpoint("kafka.claim.unread")
        at = stored.last
        between: Sequence[Record] = ()
        if at > end:
            between = await log.range_of(partition, end, at)
        try:
            read_back(control.epoch, end, at, between)
        except Indeterminate:
            continue
        scan.take(between)
        mine = owned(scan.seen, control)
        scan.take([Record(partition, at, draft.key, draft.value, draft.headers, stored.timestamp_ms)])
        scan.seen.upto = at + 1
        scan.claims.pop(draft.key, None)
        return KafkaLease(log, partition, mine, sender, at + 1, scan)
    raise Indeterminate(f"offsets before our claims of partition {partition} are missing", place=spot[0])


def _check_count(log: KafkaLog, scan: Scan) -> None:
    found: Control | None = scan.seen.control
    if found is not None and found.partitions != log.partitions:
        text = f"{log.namespace}.log was made for {found.partitions} partitions, and has {log.partitions}"
        raise Refused("CP504", text, place=log.place)
