"""What one partition holds and decides: values in, duties out. It waits for nothing, reads no clock, draws no number.

The index keeps the newest record of every key as bytes; a record is decoded when it is touched, and a few stay decoded.
A batch is built in memory with an undo list. Nothing leaves before its commit is known to count: `committed` gives the
duties, `abort` puts everything back as it was. The shell around it (`processor`) reads, commits and dispatches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from contrapas.core.correlate import ABSENT, ENDED, LIVE
from contrapas.core.envelope import ENDED as ENDED_STATUSES
from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import decode as decode_instance
from contrapas.core.envelope_avro import encode as encode_instance
from contrapas.core.envelope_rendezvous import decode as decode_rendezvous
from contrapas.core.envelope_rendezvous import encode as encode_rendezvous
from contrapas.core.headers import headers_with
from contrapas.core.lane import Commit, Control, Draft, Headers, Record, Source
from contrapas.core.partition import partition as partition_of
from contrapas.core.rendezvous import Rendezvous, parse_wait_key
from contrapas.core.rendezvous import next_deadline as wait_deadline
from contrapas.core.timers import next_deadline
from contrapas.core.world import Input
from contrapas.errors import ContrapasError
from contrapas.runtime.batch import (
    BATCH_BYTES_MAX,
    BATCH_MS_MAX,
    CACHE_MAX,
    TRANSITIONS_MAX,
    UNSENT_BYTES_MAX,
    UNSENT_MAX,
    Batch,
    Counts,
    Due,
    Duties,
    Entry,
    Leaving,
    Setting,
    Work,
    checksum,
    kind_of,
)
from contrapas.runtime.index import Index, Timers

_tuple = tuple[object, ...].__new__
"""Once per transition: a named tuple called by its name takes a detour through Python."""
_ROOM = 8
"""Drafts kept free in a commit: one transition may add a few more than its own record."""


class Partition:
    """One partition under one epoch. A new epoch is a new object."""

    def __init__(
        self, number: int, setting: Setting, *, epoch: int, control: Control, start: int = 0
    ) -> None:
        self.number = number
        self.setting = setting
        self.epoch = epoch
        self.control = control
        self.entries = Index()
        self.timers = Timers(self.entries)
        self.counts = Counts()
        self.results: deque[Input] = deque()
        self.inputs: deque[Record] = deque()
        self.input_bytes = 0
        self.source: Source = ("in", number)
        self.position = control.cursor.get(self.source, start)
        """Next offset to decide."""
        self.fetched = self.position
        """Next offset to read."""
        self._bare = (0, 0)
        """Nothing stands from the first of these offsets up to the second: where the newest gap that was read lies."""
        self.complete_until = 0
        """Every input stamped before this moment of log time has been read."""
        self.release_at: int | None = None
        """Timers are held until the decider has passed this offset of the inbound lane; None: still unknown."""
        self.settled: dict[Source, int] = dict(control.cursor)
        """What the next control record says: positions of commits that are known to count."""
        self.written: dict[Source, int] = dict(control.cursor)
        self.relayed = control.relayed
        self.written_relayed = control.relayed
        self.draining = False
        """Only results of local steps are still taken: a stop is coming."""
        self.care: Any = None
        """Careful mode (`careful.Care`), else None."""
        self.inflight: Batch | None = None
        """Being decided or committed: what it changed is not true yet."""
        self.refused: dict[str, ContrapasError] = {}
        """Topics that refused a message of the batch that was just taken back: whoever sends there parks."""
        self.unsent: dict[str, int] = {}
        self.unsent_bytes = 0
        self.heal: dict[bytes, Draft] = {}
        """Owed, by key: written first of all."""
        self.void = False
        """A control record of a former owner lies on ours."""
        self.graphs: dict[str, tuple[int, bytes]] = {}
        """Machine graphs of this partition: record key -> version, value."""
        self.publish: list[Draft] = []
        """Graphs to be written, or let go, with the next commit."""
        self._cache: dict[str, InstanceRecord] = {}
        self._outgoing: deque[tuple[int, int, list[tuple[str, int]] | None, int]] = deque()
        """Commits whose messages have not left: position, `relayed`, who sent, bytes; without senders: none to wait for."""
        self.at = 0
        self.order = 0
        """The number of the next message that leaves under this epoch; it counts on over what an abort takes back."""
        self.maps: dict[str, dict[str, Any]] = {}
        """Maps in progress (`core.items.Progress`), by instance and key."""
        self.mapping: list[str] = []
        """Instances at work on maps, as a takeover finds them."""
        self.litter: dict[str, None] = {}
        """Item records of maps that are no more: to be removed."""
        self.kin: list[str] = []
        """Records that items have of their own, as a takeover finds them."""

    # ---- what comes in

    def feed(self, records: Sequence[Record], after: int) -> None:
        """Records of the inbound lane, in order, and the offset to read next."""
        self.inputs.extend(records)
        self.input_bytes += sum(len(r.value or b"") for r in records)
        self.fetched = after

    def skip(self, after: int) -> None:
        """Nothing stands between what was read and `after`: records were removed, or another's transaction ended there."""
        first, last = self._bare
        self._bare = (first if last == self.fetched else self.fetched, after)
        self.fetched = after
        self.position = self._beyond(self.position)
        if self.source in self.settled or not self._outgoing:
            self.settled[self.source] = self._beyond(self.settled.get(self.source, self.position))

    def _beyond(self, position: int) -> int:
        """The same position behind what is no record: a timer would wait for that one for ever."""
        first, last = self._bare
        return last if first <= position < last else position

    def wants_input(self) -> bool:
        """Room for more: bounded by count and bytes, and by what has not left yet."""
        if sum(self.unsent.values()) > UNSENT_MAX or self.unsent_bytes > UNSENT_BYTES_MAX:
            return False
        return len(self.inputs) < TRANSITIONS_MAX // 2 and self.input_bytes < BATCH_BYTES_MAX

    def next_timer(self) -> int | None:
        """When the next timer is due, in ms of log time."""
        first = self.timers.first()
        return None if first is None else first[0]

    def ready(self, now: int) -> bool:
        """Something can be decided."""
        if self.heal:
            return True
        if self.care is not None and self.care.in_hand:
            return bool(self.results)
        if self.care is not None and (self.care.steps or self.care.parks_step):
            return True
        if self.results or self.publish:
            return True
        if self.draining:
            return False
        if self.inputs or any(key not in self.unsent for key in self.litter):
            return True
        return self._due(now) is not None

    def wakes_at(self) -> int | None:
        """When a timer may be worth a look, in ms of log time; None: what happens next is no timer."""
        if self.timers_held or self.draining or (self.care is not None and self.care.in_hand):
            return None
        return self.next_timer()

    def must_confirm(self, now: int) -> bool:
        """A timer is due, and only a look at the lane's end tells whether an earlier input is still unread."""
        at = self.next_timer()
        return at is not None and at <= now and not self.inputs and self.complete_until < at

    @property
    def timers_held(self) -> bool:
        """What had come before the takeover, and was late on its way here, is heard before any timer."""
        if self.release_at is None:
            return True
        position = self.inflight.position if self.inflight is not None else self.position
        return self._beyond(position) < self.release_at

    # ---- one batch

    def open(self, now: int) -> Batch:
        """Begin a batch at `now`, ms of log time; time never goes back within a partition."""
        self.at = max(self.at, now)
        batch = self.inflight = Batch(self.at, position=self.position, counts=self.counts.copy())
        room = self.setting.caps.max_commit_records - _ROOM
        for draft in self.heal.values():
            if len(batch.log) >= room or batch.size > BATCH_BYTES_MAX:
                return batch
            batch.log.append(draft)
            batch.size += len(draft.value or b"")
            batch.healed += 1
        if self.publish:
            batch.log.extend(self.publish)
            batch.published = len(self.publish)
        return batch

    def take(self, batch: Batch, elapsed_ms: Callable[[], float]) -> Iterator[Work]:
        """Results of local steps first, then inputs and due timers by log time; ends when drained or full."""
        if batch.healed < len(self.heal):
            return  # what is written of a key must follow its heal
        began = elapsed_ms()
        most = self.setting.caps.max_commit_records - _ROOM
        while len(batch.log) < TRANSITIONS_MAX and len(batch.log) + len(batch.out) < most:
            work = self.results.popleft() if self.results else self._next(batch)
            if work is None:
                return
            batch.taken.append(work)
            yield work
            if self.care is not None or batch.size > BATCH_BYTES_MAX or elapsed_ms() - began > BATCH_MS_MAX:
                return

    def _next(self, batch: Batch) -> Work | None:
        if self.draining:
            return None
        due = self._due(batch.at)
        if due is not None and not (self.inputs and self.inputs[0].timestamp_ms < due.at):
            self.timers.pop()
            return due
        if self.inputs:
            record = self.inputs.popleft()
            self.input_bytes -= len(record.value or b"")
            batch.position = record.offset + 1
            return record
        return None

    def _due(self, now: int) -> Due | None:
        first = self.timers.first()
        if first is None or first[0] > now or self.timers_held:
            return None
        return None if not self.inputs and self.complete_until < first[0] else Due(*first)

    def standing(self, instance: str) -> int:
        """ABSENT, LIVE or ENDED."""
        entry = self.entries.get(instance)
        return ABSENT if entry is None or instance in self.litter else entry.standing

    def load(self, instance: str) -> InstanceRecord | None:
        """The newest record of an instance, decoded on first touch. Damaged CP520 stops the partition."""
        record = self._cache.get(instance)
        if record is None:
            entry = self.entries.get(instance)
            if entry is None:
                return None
            record = decode_instance(entry.value)
            self._remember(instance, record)
        return record

    def decoded(self) -> Iterable[tuple[str, InstanceRecord]]:
        """Those that need not be decoded again."""
        return self._cache.items()

    def committed_record(self, instance: str) -> InstanceRecord | None:
        """What the last commit says about an instance, for doors that only look."""
        if self.inflight is not None and instance in self.inflight.undo:
            entry = self.inflight.undo[instance]
            return None if entry is None else decode_instance(entry.value)
        return self.load(instance)

    def load_wait(self, key: str) -> Rendezvous | None:
        """A rendezvous, decoded anew: whoever asks may change it."""
        entry = self.entries.get(key)
        return None if entry is None else decode_rendezvous(entry.value)

    def published(self, instance: str, batch: Batch | None = None) -> bool:
        """Whether everything this instance ever sent is known to have left, or is stored with its record. In a batch that
        is being decided, what it sent there already has not."""
        if instance in self.unsent:
            return False
        if batch is None or instance not in batch.sending:
            return True
        return self.setting.caps.atomic_external

    def write(self, batch: Batch, record: InstanceRecord, value: bytes = b"") -> None:
        """Draft an instance's new record, with its messages. value: its bytes, if they are there already."""
        instance = record.instance
        value = value or encode_instance(record)
        deadline = next_deadline(record)
        status = record.status
        ended = status in ENDED_STATUSES
        entries = self.entries
        if instance not in batch.undo:
            batch.undo[instance] = entries.get(instance)
        entries.hold(instance, (value, deadline, ENDED if ended else LIVE, record.version))
        cache = self._cache
        cache[instance] = record
        if len(cache) > CACHE_MAX:
            del cache[next(iter(cache))]
        headers = headers_with(record, value, deadline)
        batch.log.append(_tuple(Draft, ("", self.number, instance.encode(), value, headers, "")))
        batch.size += len(value)
        if deadline is not None:
            batch.armed.append(Due(deadline, instance))
        if record.out:
            self.order += len(record.out)
            self.send(batch, record)
        if ended or status == "parked":
            batch.ended.append(record)

    def send(self, batch: Batch, record: InstanceRecord) -> None:
        """Draft what a record sends."""
        count = self.setting.doors.partitions
        own = f"{self.setting.namespace}.in"
        batch.starts.append(len(batch.out))
        for m in record.out:
            to = "in" if m.to in ("in", own) else m.to
            at = partition_of(m.key, count) if to == "in" else -1
            batch.out.append(Draft(to, at, m.key, m.value, m.headers, m.id))
            batch.size += len(m.value)
        batch.senders.append((record.instance, len(record.out)))
        batch.sending.add(record.instance)

    def write_wait(self, batch: Batch, meeting: Rendezvous) -> None:
        """Draft a rendezvous."""
        meeting.version += 1
        meeting.epoch, meeting.writer = self.epoch, self.setting.writer
        key = meeting.key
        value = encode_rendezvous(meeting)
        deadline = wait_deadline(meeting)
        self._set(batch, key, Entry(value, deadline, LIVE, meeting.version))
        headers = (
            ("cp-kind", b"rendezvous"),
            ("cp-version", b"%d" % meeting.version),
            ("cp-epoch", b"%d" % self.epoch),
            ("cp-deadline", b"%d" % deadline),
            ("cp-sum", checksum(value)),
        )
        batch.log.append(Draft("", self.number, key.encode(), value, headers))
        batch.size += len(value)
        batch.armed.append(Due(deadline, key))

    def bury(self, batch: Batch, key: str) -> None:
        """Draft a tombstone: the record's time has ended."""
        entry = self.entries.get(key)
        version = 0 if entry is None else entry.version
        self._set(batch, key, None)
        self._cache.pop(key, None)
        kind = kind_of(key)
        headers = (("cp-kind", kind), ("cp-version", b"%d" % (version + 1)), ("cp-epoch", b"%d" % self.epoch))
        batch.log.append(Draft("", self.number, key.encode(), None, headers))

    def graph_draft(self, key: str, value: bytes | None, *, above: int = 0, heal: bool = False) -> Draft:
        """A record of a machine graph, one version above what is there; None: it is let go."""
        version = max(above, self.graphs[key][0] if key in self.graphs else 0) + 1
        headers: Headers = (
            ("cp-kind", b"graph"),
            ("cp-version", b"%d" % version),
            ("cp-epoch", b"%d" % self.epoch),
        )
        if heal:
            headers = (*headers, ("cp-cause", b"heal"))
        if value is None:
            self.graphs.pop(key, None)
        else:
            self.graphs[key] = (version, value)
            headers = (*headers, ("cp-sum", checksum(value)))
        return Draft("", self.number, key.encode(), value, headers)

    def forget(self, instance: str) -> None:
        """Decode it anew when it is touched."""
        self._cache.pop(instance, None)

    def postpone(self, key: str, at: int) -> None:
        """Look at a record's timers again at `at`: what is due cannot happen yet."""
        entry = self.entries[key]
        self.entries[key] = entry._replace(deadline=at)
        self.timers.add(at, key)

    def next_control(self, batch: Batch | None) -> Control:
        """What a commit says about the partition: positions as of commits that have returned."""
        return self.control._replace(
            cursor=dict(self.settled),
            relayed=self.relayed,
            trying=(batch.trying if batch is not None else "") or (self.care.trying if self.care else ""),
        )

    # ---- after it

    def committed(self, batch: Batch, commit: Commit, control: Control) -> Duties:
        """The batch counts: move on, and say what must happen now. control: as the lease holds it now."""
        self.control = control
        self.inflight = None
        self.refused.clear()
        self.written, self.written_relayed = dict(control.cursor), control.relayed
        self.counts.commits += 1
        self.counts.healed += batch.healed
        for key in list(islice(self.heal, batch.healed)):
            del self.heal[key]
        self.void = False
        del self.publish[: batch.published]
        self.position = batch.position = self._beyond(batch.position)
        for due in batch.armed:
            self.timers.add(due.at, due.key)
        self.timers.tidy()
        out = batch.out
        if self.setting.caps.atomic_external or not out:
            if not self._outgoing:
                self.settled[self.source] = batch.position
                self.relayed = commit.last + 1
            else:
                self._outgoing.append((batch.position, commit.last + 1, None, 0))
            out = []
        else:
            size = sum(len(d.value or b"") for d in out)
            self._outgoing.append((batch.position, commit.last + 1, batch.senders, size))
            self.unsent_bytes += size
            for instance, count in batch.senders:
                self.unsent[instance] = self.unsent.get(instance, 0) + count
            out = Leaving(out)
            out.owners = tuple(
                [(at, n, who) for at, (who, n) in zip(batch.starts, batch.senders, strict=True)]
            )
        return Duties(batch.steps, out, batch.answers, batch.ended)

    def passed(self, batch: Batch) -> Duties:
        """Nothing had to be written: what came was known, or asked for what is committed."""
        self.inflight = None
        self.position = batch.position = self._beyond(batch.position)
        if not self._outgoing:
            self.settled[self.source] = batch.position
        else:  # behind messages that have not left: it counts when they have
            self._outgoing.append((batch.position, self._outgoing[-1][1], None, 0))
        return Duties([], [], batch.answers, [])

    def left(self) -> None:
        """The oldest batch of messages that `committed` handed out is known to be published."""
        position, relayed, senders, size = self._outgoing.popleft()
        self.unsent_bytes -= size
        for instance, count in senders or ():
            rest = self.unsent[instance] - count
            if rest:
                self.unsent[instance] = rest
            else:
                del self.unsent[instance]
        self.settled[self.source] = self._beyond(position)
        self.relayed = relayed
        while self._outgoing and self._outgoing[0][2] is None:
            position, relayed, _, _ = self._outgoing.popleft()
            self.settled[self.source], self.relayed = self._beyond(position), relayed

    def abort(self, batch: Batch) -> None:
        """Nothing of the batch happened: previous bytes back, inputs and results back where they came from."""
        self.inflight = None
        if batch.counts is not None:
            self.counts = batch.counts
        for key, entry in batch.undo.items():
            self._cache.pop(key, None)
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry
                if entry.deadline is not None:
                    self.timers.add(entry.deadline, key)
        for work in reversed(batch.taken):
            if isinstance(work, Record):
                self.inputs.appendleft(work)
                self.input_bytes += len(work.value or b"")
            elif isinstance(work, Input):
                self.results.appendleft(work)
            elif work.key not in batch.undo:
                self.timers.add(work.at, work.key)

    def behind(self) -> bool:
        """The control record on the log says less than is known: worth a commit of its own when idle."""
        if self.heal or self.void:
            return True
        return self.settled != self.written or self.relayed > self.written_relayed + 1

    # ---- the index

    def restore(self, key: str, entry: Entry) -> None:
        """Put one record of the log into the index, at takeover."""
        value, deadline, standing, version = entry
        self.entries.hold(key, (value, deadline, standing, version))
        if deadline is not None:
            self.timers.put(deadline, key)

    def restored(self) -> None:
        """The index is complete: order the timers."""
        self.timers.order()

    def put(self, batch: Batch, key: str, entry: Entry) -> None:
        """Put the newest record of a key into the index, for as long as the batch stands."""
        self._set(batch, key, entry)

    def _set(self, batch: Batch, key: str, entry: Entry | None) -> None:
        if key not in batch.undo:
            batch.undo[key] = self.entries.get(key)
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry

    def _remember(self, instance: str, record: InstanceRecord) -> None:
        cache = self._cache
        cache[instance] = record
        if len(cache) > CACHE_MAX:
            del cache[next(iter(cache))]


def wait_of(key: str) -> Rendezvous:
    """A rendezvous that was not there yet."""
    type_name, value = parse_wait_key(key)
    return Rendezvous(type=type_name, value=value)
