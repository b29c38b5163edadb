"""The inside of the in-memory log: lanes, fences, faults and a compactor, synchronous, for simulators and tests.

It is the reference twin of every backend. Two fences: `refuse` (a stale write does not get in, as on SQLite,
PostgreSQL, NATS) and `order` (it gets in and is void by its place, as on Kafka). Time comes from a clock that is
given; chance from a seed that is given. `log.memory` puts the asynchronous seam around it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from contrapas.core.control import new_control
from contrapas.core.lane import Capabilities, Commit, Control, Draft, Headers, Lane, Record, Source, Topic
from contrapas.core.partition import partition as partition_of
from contrapas.errors import DataError, Fenced, Indeterminate, LogError, Refused, Retriable
from contrapas.log import order
from contrapas.log.checks import check_position, check_size, claimed, epoch_of
from contrapas.log.faults import Faults
from contrapas.log.sharing import Slot, share

Fence = Literal["refuse", "order"]


class VirtualClock:
    """Milliseconds that pass only when told to."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> None:
        """Let time pass; a negative number is a jump backwards."""
        self.now_ms += ms


def wall_ms() -> int:
    """The machine's clock in ms."""
    return time.time_ns() // 1_000_000


class Shelf:
    """One partition of one lane: records by offset, with room for gaps."""

    __slots__ = ("end", "records", "start", "watchers")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.start = 0
        self.end = 0
        self.watchers: set[Callable[[], None]] = set()

    def index(self, offset: int) -> int:
        """Position in the list of the first record at or after `offset`."""
        return bisect_left(self.records, offset, key=lambda r: r.offset)

    def span(self, first: int, last: int) -> list[Record]:
        """Records with first <= offset < last."""
        return self.records[self.index(first) : self.index(last)]


class Part:
    """One partition's ownership: the row of a refusing backend, or what the records say so far."""

    __slots__ = ("control", "epoch", "hold", "seen")

    def __init__(self, partitions: int) -> None:
        self.epoch = 0
        self.control = new_control(partitions)
        self.seen = order.Seen()
        """Order: what the records say that were read so far."""
        self.hold: Hold | None = None


class Hold:
    """One ownership of one partition, as its holder sees it."""

    __slots__ = ("control", "epoch", "expected", "gone", "on_lost", "owner", "partition")

    def __init__(self, partition: int, owner: str, epoch: int, control: Control, expected: int) -> None:
        self.partition = partition
        self.owner = owner
        self.epoch = epoch
        self.control = control
        self.expected = expected
        """Order: the offset that the next commit must begin at."""
        self.gone = False
        self.on_lost: list[Callable[[], None]] = []

    def lose(self) -> None:
        """Know that another owns it now."""
        self.gone = True
        for call in self.on_lost:
            call()
        self.on_lost.clear()


class Claim:
    """Order: a claim on its way, between reading the end and reading it back."""

    __slots__ = ("control", "end", "epoch", "offset", "owner", "partition")

    def __init__(self, partition: int, owner: str, end: int, epoch: int, control: Control) -> None:
        self.partition = partition
        self.owner = owner
        self.end = end
        self.epoch = epoch
        self.control = control
        self.offset = -1


class MemoryStore:
    """One namespace's lanes and topics, shared by any number of `MemoryLog` clients."""

    def __init__(
        self,
        namespace: str,
        partitions: int = 8,
        *,
        clock: Callable[[], int] | None = None,
        fence: Fence = "refuse",
        faults: Faults | None = None,
    ) -> None:
        self.namespace = namespace
        self.partitions = partitions
        self.clock = clock or wall_ms
        self.fence: Fence = fence
        self.faults = faults or Faults()
        self.caps = Capabilities(
            atomic_external=fence == "refuse",
            max_commit_records=5000 if fence == "refuse" else 1000,
            max_record_bytes=1_000_000,
            compaction="owner" if fence == "refuse" else "broker",
            joins_user_sql=False,
        )
        self.lanes: dict[Lane, list[Shelf]] = {
            "log": [Shelf() for _ in range(partitions)],
            "in": [Shelf() for _ in range(partitions)],
        }
        self.parts = [Part(partitions) for _ in range(partitions)]
        self.ids: dict[Lane, str] = {"in": f"{namespace}-in", "log": f"{namespace}-log"}
        self.saved: dict[str, dict[Source, int]] = {}
        self.groups: dict[str, dict[str, tuple[Lane, ...]]] = {}
        self.on_groups: set[Callable[[], None]] = set()
        self.in_flight: list[Callable[[], None]] = []
        """Writes that were sent and have not arrived: `land` lets them."""
        self.history_ms = 7 * 86_400_000
        """Order: what a cleaner may be asked to leave alone (`min.compaction.lag.ms`)."""
        self._nonce = 0
        self._born = 0

    # ---- lanes and topics

    def shelf(self, lane: Lane, partition: int) -> Shelf:
        """A lane's partition by name; LogError CP505 when there is none."""
        shelves = self.lanes.get(self.name_of(lane))
        if shelves is None or not 0 <= partition < len(shelves):
            what = (
                f"topic {lane} does not exist" if shelves is None else f"{lane} has no partition {partition}"
            )
            raise LogError("CP505", what, fix=f"contrapas topic create {lane}", place=f"{lane}/{partition}")
        return shelves[partition]

    def name_of(self, lane: Lane) -> Lane:
        """`<ns>.in` and `<ns>.log` are `in` and `log`."""
        if lane == f"{self.namespace}.in":
            return "in"
        return "log" if lane == f"{self.namespace}.log" else lane

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create what is missing; Refused CP504 when one exists with another count."""
        for name, count in topics.items():
            if (found := self.lanes.get(name)) is None:
                self.lanes[name] = [Shelf() for _ in range(count)]
                self._born += 1
                self.ids[name] = f"{self.namespace}-{self._born}"
            elif len(found) != count:
                raise Refused("CP504", f"topic {name} has {len(found)} partitions, {count} were asked for")

    def drop_topic(self, name: str) -> None:
        """Delete a user's topic; created again it has another id."""
        if name not in ("log", "in"):
            self.lanes.pop(name, None)
            self.ids.pop(name, None)

    def topic(self, lane: Lane) -> Topic | None:
        """Id and count; None when it does not exist."""
        name = self.name_of(lane)
        return Topic(self.ids[name], len(self.lanes[name])) if name in self.lanes else None

    def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """[start, stable end)."""
        shelf = self.shelf(lane, partition)
        return shelf.start, shelf.end

    def read(
        self, lane: Lane, partition: int, offset: int, max_records: int = 1000, max_bytes: int = 4 << 20
    ) -> tuple[list[Record], int]:
        """As `Log.read`, without waiting."""
        self.faults.call("read", partition)
        shelf = self.shelf(lane, partition)
        check_position(self.namespace, self.name_of(lane), partition, offset, shelf.start, shelf.end)
        at = shelf.index(offset)
        taken: list[Record] = []
        size = 0
        for record in shelf.records[at : at + max_records]:
            size += len(record.key) + len(record.value or b"")
            if taken and size > max_bytes:
                break
            taken.append(record)
        if at + len(taken) >= len(shelf.records):
            return taken, shelf.end
        return taken, taken[-1].offset + 1 if taken else offset

    def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """First offset with a timestamp at or after the given one, else the end."""
        shelf = self.shelf(lane, partition)
        at = bisect_left(shelf.records, timestamp_ms, key=lambda r: r.timestamp_ms)
        return shelf.records[at].offset if at < len(shelf.records) else shelf.end

    def latest(self, partition: int, after: int = 0, upto: int | None = None) -> list[Record]:
        """Newest record that counts of each key, by offset; tombstones only with `after`.

        Order: also claims and the losers that a key's newest record does not stand above, so that a fold over this judges
        alike.
        """
        shelf = self.shelf("log", partition)
        span = shelf.span(after, shelf.end if upto is None else upto)
        newest: dict[bytes, Record] = {}
        losers = order.Losers()
        high = 0
        for record in span:
            if self.fence == "order":
                epoch = epoch_of(record)
                if epoch < high:
                    losers.add(record)
                    continue
                high = epoch
                if losers.of:
                    losers.follow(record)
            newest[record.key] = record
        kept = [r for r in newest.values() if r.value is not None or after > 0 or r.key in losers.of]
        return sorted([*kept, *losers.of.values()], key=lambda r: r.offset)

    def append(self, lane: Lane, partition: int, key: bytes, value: bytes | None, headers: Headers) -> Record:
        """Store one record as it is: what `publish`, `commit` and foreign writers come down to."""
        shelf = self.shelf(lane, partition)
        shelf.end += self.faults.gap()
        now = self.clock()
        if shelf.records and shelf.records[-1].timestamp_ms > now:
            now = shelf.records[-1].timestamp_ms
        record = Record(partition, shelf.end, key, value, headers, now)
        shelf.records.append(record)
        shelf.end += 1
        if shelf.watchers:
            for call in tuple(shelf.watchers):
                call()
        return record

    def trim(self, lane: Lane, partition: int, before: int) -> None:
        """Retention: remove what lies below `before` and move the start."""
        shelf = self.shelf(lane, partition)
        del shelf.records[: shelf.index(before)]
        shelf.start = max(shelf.start, min(before, shelf.end))

    def publish(self, drafts: Sequence[Draft]) -> None:
        """As `Log.publish`: a fault may leave a prefix."""
        places = [self._place(d) for d in drafts]
        fault = self.faults.take("publish", -1)
        if fault == "retriable":
            raise Retriable("the log is busy")
        cut = (
            len(drafts)
            if fault in ("", "lost-after")
            else self.faults.cut(len(drafts))
            if fault == "cut"
            else 0
        )

        def write(first: int, last: int) -> None:
            for draft, (lane, partition) in list(zip(drafts, places, strict=True))[first:last]:
                self.append(lane, partition, draft.key, draft.value, draft.headers)

        write(0, cut)
        if fault == "late":
            self.in_flight.append(lambda: write(0, len(drafts)))
        if fault:
            raise Indeterminate("publish was not answered in time")

    def _place(self, draft: Draft) -> tuple[Lane, int]:
        lane = self.name_of(draft.to)
        if lane in ("", "log"):
            raise DataError("CP522", "the log lane takes records only through a lease")
        shelves = self.lanes.get(lane)
        if shelves is None:
            raise LogError(
                "CP505", f"topic {lane} does not exist", fix=f"contrapas topic create {lane}", place=lane
            )
        check_size(draft, self.caps.max_record_bytes + (0 if lane == "in" else 65_536))
        at = draft.partition if draft.partition >= 0 else partition_of(draft.key, len(shelves))
        self.shelf(lane, at)
        return lane, at

    # ---- ownership

    def acquire(self, partition: int, owner: str) -> Hold:
        """Fence, then own. Refusing: the row. Order: a claim, placed and read back."""
        if self.fence == "order":
            claim = self.begin_claim(partition, owner)
            self.place_claim(claim)
            return self.check_claim(claim)
        fault = self.faults.take("acquire", partition)
        if fault == "retriable":
            raise Retriable("the log is busy")
        if fault in ("lost-before", "late", "cut"):
            raise Indeterminate("acquire was not answered in time")
        part = self.parts[partition]
        part.epoch += 1
        part.control = claimed(part.control, owner, part.epoch, self.partitions)
        if fault:
            raise Indeterminate("acquire was not answered in time")
        return self._own(
            part, Hold(partition, owner, part.epoch, part.control, self.shelf("log", partition).end)
        )

    def begin_claim(self, partition: int, owner: str) -> Claim:
        """Order, step 1: read the lane to its end and choose the epoch."""
        part, shelf = self.parts[partition], self.shelf("log", partition)
        self.scan(part, shelf, shelf.end)
        control = order.claim_of(part.seen, owner, end=shelf.end, partitions=self.partitions)
        return Claim(partition, owner, shelf.end, control.epoch, control)

    def place_claim(self, claim: Claim) -> None:
        """Order, step 2: append it under a key of its own."""
        fault = self.faults.take("acquire", claim.partition)
        if fault == "retriable":
            raise Retriable("the log is busy")
        self._nonce += 1
        draft = order.claim_draft(claim.partition, claim.control, b"%016x" % self._nonce)

        def write() -> None:
            record = self.append("log", claim.partition, draft.key, draft.value, draft.headers)
            claim.offset = record.offset

        if fault == "late":
            self.in_flight.append(write)
        elif fault not in ("lost-before", "cut"):
            write()
        if fault:
            raise Indeterminate("the claim was not answered in time")

    def check_claim(self, claim: Claim) -> Hold:
        """Order, step 3: read from the end that was seen to the claim. A higher epoch, or an equal one: Fenced."""
        part, shelf = self.parts[claim.partition], self.shelf("log", claim.partition)
        order.read_back(claim.epoch, claim.end, claim.offset, shelf.span(claim.end, claim.offset))
        self.scan(part, shelf, claim.offset)
        control = order.owned(part.seen, claim.control)
        self.scan(part, shelf, claim.offset + 1)
        hold = Hold(claim.partition, claim.owner, claim.epoch, control, claim.offset + 1)
        return self._own(part, hold)

    def scan(self, part: Part, shelf: Shelf, upto: int) -> None:
        """Order: bring what the records say up to those below `upto`."""
        for record in shelf.span(part.seen.upto, upto):
            part.seen.take(record)
        part.seen.upto = max(part.seen.upto, upto)

    def _own(self, part: Part, hold: Hold) -> Hold:
        former, part.hold = part.hold, hold
        if former is not None:
            former.lose()
        return hold

    # ---- commit

    def commit(self, hold: Hold, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As `Lease.commit`."""
        self._check_commit(hold, log, out)
        places = [self._place(d) for d in out]
        control = order.committing(hold.control, control)
        fault = self.faults.take("commit", hold.partition)
        if fault == "retriable":
            raise Retriable("the log is busy")
        if self.fence == "order":
            return self._commit_in_order(hold, log, control, fault)
        if fault == "lost-before" or fault == "cut":
            raise Indeterminate("the commit was not answered in time")

        def write() -> Commit:
            part = self.parts[hold.partition]
            if part.epoch != hold.epoch:
                raise Fenced("another owner holds the partition", mine=hold.epoch, theirs=part.epoch)
            first = shelf.end
            stamp = self.clock()
            for draft in log:
                stamp = self.append("log", hold.partition, draft.key, draft.value, draft.headers).timestamp_ms
            for draft, (lane, at) in zip(out, places, strict=True):
                self.append(lane, at, draft.key, draft.value, draft.headers)
            part.control = hold.control = control
            hold.expected = shelf.end
            return Commit(first, shelf.end - 1, stamp, True)

        shelf = self.shelf("log", hold.partition)
        if fault == "late":
            self.in_flight.append(lambda: _unless_fenced(write))
            raise Indeterminate("the commit was not answered in time")
        try:
            done = write()
        except Fenced:
            hold.lose()
            raise
        if fault:
            raise Indeterminate("the commit was not answered in time")
        return done

    def _commit_in_order(self, hold: Hold, log: Sequence[Draft], control: Control, fault: str) -> Commit:
        drafts = (*log, order.control_draft(hold.partition, control))
        rows = [(d.key, d.value, d.headers) for d in drafts]
        if fault in ("late", "lost-before"):
            if fault == "late":
                self.in_flight.append(lambda: _ignore(self._write_rows(hold.partition, rows)))
            raise Indeterminate("the commit was not answered in time")
        count = self.faults.cut(len(rows)) if fault == "cut" else len(rows)
        offsets = self._write_rows(hold.partition, rows[:count])
        if fault:
            raise Indeterminate("the commit was not answered in time")
        shelf = self.shelf("log", hold.partition)
        first, last = offsets[0], offsets[-1]
        losers: tuple[Record, ...] = ()
        if not order.follows(hold.expected, offsets):
            losers = self._judge_gap(hold, last + 1, set(offsets))
        hold.expected = last + 1
        hold.control = control
        return Commit(first, last, shelf.records[shelf.index(last)].timestamp_ms, True, losers)

    def look(self, hold: Hold) -> Sequence[Record]:
        """As `Lease.look`."""
        if self.fence == "refuse":
            return ()
        self.faults.call("look", hold.partition)
        end = self.shelf("log", hold.partition).end
        losers = self._judge_gap(hold, end, frozenset())
        hold.expected = end
        return losers

    def _judge_gap(self, hold: Hold, upto: int, mine: Collection[int]) -> tuple[Record, ...]:
        """What others wrote from where we left off: Fenced under a higher epoch, Indeterminate when offsets are missing."""
        shelf = self.shelf("log", hold.partition)
        try:
            return order.strangers(hold.epoch, hold.expected, upto, mine, shelf.span(hold.expected, upto))
        except Fenced:
            hold.lose()
            raise

    def _write_rows(self, partition: int, rows: Sequence[tuple[bytes, bytes | None, Headers]]) -> list[int]:
        offsets: list[int] = []
        for at, (key, value, headers) in enumerate(rows):
            self.faults.between(partition, at)
            offsets.append(self.append("log", partition, key, value, headers).offset)
        return offsets

    def _check_commit(self, hold: Hold, log: Sequence[Draft], out: Sequence[Draft]) -> None:
        if out and not self.caps.atomic_external:
            raise DataError("CP523", "this log does not publish with a commit: publish `out` after it")
        if len(log) + len(out) + 1 > self.caps.max_commit_records:
            raise Retriable(f"a commit holds at most {self.caps.max_commit_records} records")
        for draft in log:
            check_size(draft, self.caps.max_record_bytes)
        if hold.gone and self.fence == "refuse":
            raise Fenced("the lease was given up", mine=hold.epoch, theirs=self.parts[hold.partition].epoch)

    def release(self, hold: Hold) -> None:
        """Give up: `control.owner` becomes empty, if the partition is still ours."""
        part = self.parts[hold.partition]
        if hold.gone or part.hold is not hold:
            hold.lose()
            return
        if self.fence == "order":
            draft = order.control_draft(hold.partition, order.released(hold.control))
            self.append("log", hold.partition, draft.key, draft.value, draft.headers)
        else:
            part.control = part.control._replace(owner="")
        part.hold = None
        hold.lose()

    # ---- compaction, late writes, groups

    def compact(self, hold: Hold, horizon: int) -> int:
        """Remove superseded records below min(horizon, relayed); the owner's work on a refusing backend."""
        part = self.parts[hold.partition]
        if self.fence == "order" or part.epoch != hold.epoch:
            return hold.control.horizon
        horizon = max(part.control.horizon, min(horizon, part.control.relayed))
        self.clean(hold.partition, horizon)
        part.control = hold.control = part.control._replace(horizon=horizon)
        return horizon

    def clean(self, partition: int, below: int, choose: Callable[[Record], bool] = lambda r: True) -> int:
        """A cleaner: of records below `below` with a newer one of their key below it, remove those that `choose` takes.

        Gives the count. What lies at or above `below` supersedes nothing, so that it still follows what is there. Of
        one key the oldest goes first: once one stays, so do those after it.
        """
        shelf = self.shelf("log", partition)
        newest = {r.key: r.offset for r in shelf.records if r.offset < below}
        kept: list[Record] = []
        staying: set[bytes] = set()
        for record in shelf.records:
            if record.offset < newest.get(record.key, 0) and record.key not in staying and choose(record):
                continue
            kept.append(record)
            staying.add(record.key)
        removed = len(shelf.records) - len(kept)
        shelf.records = kept
        return removed

    def land(self, count: int | None = None) -> int:
        """Let late writes arrive, oldest first; gives how many did."""
        batch = self.in_flight[:count]
        del self.in_flight[: len(batch)]
        for write in batch:
            write()
        return len(batch)

    def join(self, group: str, member: str, lanes: Sequence[Lane]) -> None:
        """A member of a group comes."""
        self.groups.setdefault(group, {})[member] = tuple(lanes)
        self._tell()

    def leave(self, group: str, member: str) -> None:
        """A member goes, or is found dead."""
        self.groups.get(group, {}).pop(member, None)
        self._tell()

    def assigned(self, group: str, member: str) -> frozenset[Slot]:
        """What a member should own."""
        members = self.groups.get(group, {})
        slots = [
            (lane, p)
            for lane in members.get(member, ())
            if (found := self.topic(lane)) is not None
            for p in range(found.partitions)
        ]
        return share(members, slots).get(member, frozenset())

    def _tell(self) -> None:
        for call in tuple(self.on_groups):
            call()


def _unless_fenced(write: Callable[[], Commit]) -> None:
    try:
        write()
    except Fenced:
        return


def _ignore(_: object) -> None:
    return
