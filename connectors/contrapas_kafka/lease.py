"""Ownership of one partition: a commit counts if its offsets follow our last one, for then nobody claimed in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from contrapas.errors import ContrapasError, DataError, Fenced, Indeterminate, Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Commit, Control, Draft, Record
from contrapas.log.checks import check_size
from contrapas.log.order import committing, control_draft, is_control, released, strangers
from contrapas_kafka.producer import Row, Sender, Stored

if TYPE_CHECKING:
    from contrapas_kafka.claim import Scan
    from contrapas_kafka.log import KafkaLog

NAMES.update(
    {
        "kafka.commit.before": "kafka: a commit is about to be handed over",
        "kafka.commit.handed": "kafka: a commit is handed over, its answer not there",
        "kafka.commit.accepted": "kafka: a commit is stored, its offsets are not compared",
        "kafka.gap.before": "kafka: a commit did not follow the last one, what stands between is unread",
        "kafka.release.before": "kafka: about to give a partition up",
        "kafka.release.handed": "kafka: the record that gives a partition up is on its way",
    }
)
BLIND_S: Final = 30.0
"""An owner that cannot read so long gives up: its commits may count, but it could heal nothing."""
RELEASE_S: Final = 5.0
FORGOTTEN: Final = 100
"""Claims that one commit removes."""
_PLENTY: Final = 65_536


class KafkaLease:
    """Ownership of one partition of a `KafkaLog`."""

    def __init__(
        self, log: KafkaLog, partition: int, control: Control, sender: Sender, expected: int, scan: Scan
    ) -> None:
        """sender: the producer that wrote the claim; another one would not be behind what this one has on its way."""
        self.log = log
        self.partition = partition
        self.epoch = control.epoch
        self.control = control
        self.sender = sender
        self.expected = expected
        """Offset that the next commit begins at if nobody writes in between."""
        self.first = expected
        """Where the newest commit begins."""
        self.gone = False
        self.scan: Scan | None = scan
        """What the claim read; `Log.latest` takes it."""
        self._topic = log.spot("log", partition)[0]
        self._owed = {key: _version(r) for key, r in scan.losers.of.items() if not is_control(r)}
        self._claims = scan.claims
        """Of former owners, with their times: removed when they are older than the history age and nothing is owed."""
        self._lost = asyncio.Event()
        self._in_flight = False
        self._blind_since = 0.0
        """Since when what others wrote cannot be read."""

    # ---- commits

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As the seam says: one batch, appended once; what it is given back are the offsets, and these are compared."""
        drafts = self._checked(log, out)
        control = committing(self.control, control)
        drafts.append(control_draft(self.partition, control))
        rows: list[Row] = [draft[2:5] for draft in drafts]  # key, value, headers
        failpoint("kafka.commit.before")
        self._in_flight = True
        try:
            sending = await self.sender.send(self._topic, self.partition, rows)
            failpoint("kafka.commit.handed")
            stored = await self.log.answered(sending, "a commit was not answered in time")
            failpoint("kafka.commit.accepted")
            losers = await self._compared(rows, stored)
        except Retriable:
            raise
        except DataError as why:
            self.lose()
            if (
                why.code == "CP409" and await self.log.shrunk()
            ):  # nothing of it stands there: what is too large parks
                raise Indeterminate(
                    f"the log lane takes less than it did: {why.text}", place=why.place
                ) from why
            raise
        except BaseException:
            self.lose()  # unclear, or another's: the next owner, under a new epoch, reads it from the lane
            raise
        finally:
            self._in_flight = False
        self.control = control
        self.scan = None
        if self._owed or losers:
            self._healed(drafts, losers)
        return Commit(self.first, stored.last, stored.timestamp_ms, self.log.durable, losers)

    def _checked(self, log: Sequence[Draft], out: Sequence[Draft]) -> list[Draft]:
        if self.gone:
            raise Fenced("the lease was given up", mine=self.epoch)
        if self.sender.dead is not None:
            self.lose()
            raise Indeterminate("the producer of this lease has failed", place=self.log.place)
        if out:
            raise DataError("CP523", "this log does not publish with a commit: publish `out` after it")
        caps = self.log.caps
        if len(log) + 1 > caps.max_commit_records:
            raise Retriable(f"a commit holds at most {caps.max_commit_records} records")
        limit = caps.max_record_bytes
        for draft in log:
            if draft.value is not None and len(draft.value) > limit - _PLENTY or len(draft.headers) > 32:
                check_size(draft, limit)
        drafts = [*log]
        if not log and self._claims and not self._owed:
            drafts += self._forgotten()
        return drafts

    async def _compared(self, rows: Sequence[Row], stored: Stored) -> tuple[Record, ...]:
        """Whether the commit counts, and who wrote in between.

        What a partition stored is a prefix of what was handed over, in order. So all of it is there if the last record is,
        and if that stands where it must, no offset is left for anybody else.
        """
        expected, upto = self.expected, stored.last + 1
        self.first = expected
        if upto - expected < len(rows):
            raise Indeterminate(f"a commit of {len(rows)} ends at {stored.last}, {expected} was due")
        if upto - expected == len(rows):
            self.expected = upto
            return ()
        failpoint("kafka.gap.before")
        found = await self._range(expected, upto)
        mine = _ours(rows, found)
        losers = self._judged(expected, upto, mine, found)
        if len(mine) != len(rows):
            raise Indeterminate(f"a commit of {len(rows)} is not whole between {expected} and {stored.last}")
        self.first = mine[0]
        self.expected = upto
        return losers

    def _judged(
        self, expected: int, upto: int, mine: Sequence[int], found: Sequence[Record]
    ) -> tuple[Record, ...]:
        try:
            return strangers(self.epoch, expected, upto, mine, found)
        except (Fenced, Indeterminate):
            self.lose()
            raise

    async def _range(self, first: int, upto: int) -> list[Record]:
        """What stands there. Not to be had now: unclear."""
        try:
            return await self.log.range_of(self.partition, first, upto)
        except Retriable as why:
            raise Indeterminate(
                f"what stands before a commit is not read: {why.text}", place=why.place
            ) from why

    def _healed(self, drafts: Sequence[Draft], losers: Sequence[Record]) -> None:
        for record in losers:
            self._owe(record)
        for draft in drafts if self._owed else ():
            owed = self._owed.get(draft.key)
            if owed is not None and (draft.value is None or _version(draft) > owed):
                del self._owed[draft.key]

    def _owe(self, record: Record) -> None:
        if not is_control(record):
            self._owed[record.key] = max(_version(record), self._owed.get(record.key, 0))

    def _forgotten(self) -> list[Draft]:
        """Tombstones for former owners' claims that nothing on the lane needs any more."""
        before = self.log.now_ms() - self.log.history_ms
        old = [key for key, at in self._claims.items() if at < before][:FORGOTTEN]
        for key in old:
            del self._claims[key]
        headers = (("cp-kind", b"claim"), ("cp-epoch", b"%d" % self.epoch))
        return [Draft("", self.partition, key, None, headers) for key in old]

    # ---- between commits

    async def compact(self, horizon: int, *, budget_ms: int) -> int:
        """The broker compacts. What is promised: nothing younger than the history age is removed."""
        before = self.log.now_ms() - self.log.history_ms
        floor = await self.log.offset_at("log", self.partition, before)
        reached = max(self.control.horizon, min(horizon, floor))
        self.control = self.control._replace(horizon=reached)
        return reached

    async def look(self) -> Sequence[Record]:
        if self.gone:
            raise Fenced("the lease was given up", mine=self.epoch)
        expected = self.expected
        try:
            end = await self.log.raw.end((self._topic, self.partition))
            found: list[Record] = []
            if end > expected and not self._in_flight:
                found = await self.log.range_of(self.partition, expected, end)
        except Retriable:
            now = time.monotonic()
            self._blind_since = self._blind_since or now
            if now - self._blind_since > BLIND_S:
                self.lose()
            raise
        self._blind_since = 0.0
        if end == expected or self._in_flight or self.expected != expected:  # a commit looks for itself
            return ()
        if end < expected:
            self.lose()
            raise Indeterminate(f"the lane ends at {end}, our last record stands at {expected - 1}")
        losers = self._judged(expected, end, (), found)
        self.expected = end
        for record in losers:
            self._owe(record)
        return losers

    async def lost(self) -> None:
        await self._lost.wait()

    def lose(self) -> None:
        """Know that ownership is gone."""
        self.gone = True
        self.scan = None
        self._lost.set()
        self.log.forget(self)

    async def release(self) -> None:
        if self.gone:
            return
        failpoint("kafka.release.before")
        self.gone = True
        draft = control_draft(self.partition, released(self.control))
        try:
            sending = await self.sender.send(
                self._topic, self.partition, [(draft.key, draft.value, draft.headers)]
            )
            failpoint("kafka.release.handed")
            async with asyncio.timeout(RELEASE_S):
                await sending
        except (ContrapasError, TimeoutError):
            pass
        finally:
            self.lose()


def _ours(rows: Sequence[Row], found: Sequence[Record]) -> list[int]:
    """Offsets of our records among what was read: they stand there in the order they were handed over."""
    mine: list[int] = []
    for record in found:
        if len(mine) == len(rows):
            break
        key, value, headers = rows[len(mine)]
        if record.key == key and record.value == value and record.headers == headers:
            mine.append(record.offset)
    return mine


def _version(record: Record | Draft) -> int:
    for name, value in record.headers:
        if name == "cp-version" and value.isdigit() and len(value) < 20:
            return int(value)
    return 0
