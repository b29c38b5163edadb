"""Taking over a partition: fence first, then read the tail, then act.

The newest record of each key goes into the index as bytes; only those with work in progress, or with messages that are
not known to have left, are decoded. What had been sent goes out again under the same ids before the first commit, losers
are healed in it, and pending local steps are issued again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import NamedTuple, Protocol
from zlib import crc32

from contrapas.core.correlate import ENDED, LIVE
from contrapas.core.envelope import ENDED as ENDED_STATUSES
from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.envelope_item import ItemRecord, decode_item
from contrapas.core.fold import Fold, Verdict, damage, header_number, number_of, text_of
from contrapas.core.items import maps_of
from contrapas.core.lane import Draft, Record
from contrapas.core.moves import unfit
from contrapas.core.order import place_of, was_refused
from contrapas.core.parking import keeps_messages
from contrapas.core.resume import reissue
from contrapas.core.transition import awaits_release
from contrapas.core.world import Input, StepCall
from contrapas.errors import Damaged
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Lease, Log
from contrapas.log.collector import uncollected
from contrapas.runtime import graphs, heal, items, kin
from contrapas.runtime.batch import Batch, Entry, Setting
from contrapas.runtime.careful import SUSPECTS, Care
from contrapas.runtime.careful import TAKEOVERS as CAREFUL_FROM
from contrapas.runtime.checkpoint import State
from contrapas.runtime.partition import Partition
from contrapas.runtime.sweep import HISTORY_MS

NAMES["takeover.fenced"] = "a partition was fenced, its tail is unread"
NAMES["takeover.read"] = "the tail is read, nothing is committed under the new epoch"
_AT_WORK = frozenset({b"running", b"retrying", b"unwinding", b"settling", b"paused"})
_ENDED = frozenset(s.encode() for s in ENDED_STATUSES)
_KINDS = frozenset({b"instance", b"rendezvous", b"item"})
_OFFSET = attrgetter("offset")
_tuple = tuple[object, ...].__new__
Placed = tuple[tuple[int, int], Draft]
"""A message to be sent again, by its number: in that order, for who hears a number takes those below it for heard."""


class Takeover(NamedTuple):
    """A restored partition and what is owed before its first batch."""

    partition: Partition
    steps: list[StepCall]
    """Pending local steps, to be issued again."""
    out: list[Draft]
    """Messages at or above `relayed`, to be published again, in order."""
    end: int
    """End of the inbound lane as of the takeover."""
    timestamp_ms: int
    """Newest timestamp seen."""
    alarms: list[str]
    """Records of strangers on the log lane: they change nothing, and are said aloud."""
    lost: list[str]
    """Keys of which only a loser is left: compaction may have erased the owner's record under it."""
    owners: Mapping[str, str]
    """Whose the messages of `out` are, by their ids."""


class Saved(Protocol):
    """What is known of the log lane up to an offset: a checkpoint."""

    def batches(self) -> AsyncIterator[list[Record]]:
        """The newest record that counts of each key, in no order. Damaged when they are not what was saved."""
        ...


class _Found:
    """What is read of a lane, before anything is decided."""

    def __init__(self, p: Partition, setting: Setting) -> None:
        self.p = p
        self.setting = setting
        self.items: dict[str, None] = {}
        self.later: dict[bytes, Record] = {}
        """Records about which there is more to do."""
        self.losers: dict[bytes, Record] = {}
        self.alarms: list[str] = []
        self.newest = 0

    def keep(self, record: Record, headers: Mapping[str, bytes]) -> None:
        """The newest record of a key so far."""
        later = self.later
        if later:
            later.pop(record.key, None)
        if _restore(self.p, self.setting, record, headers, self.items):
            later[record.key] = record

    def drop(self, key: bytes) -> None:
        """A tombstone."""
        name = key.decode(errors="replace")
        self.losers.pop(key, None)
        self.later.pop(key, None)
        self.items.pop(name, None)
        self.p.entries.pop(name, None)
        self.p.graphs.pop(name, None)

    async def read(self, log: Log, judge: Fold, after: int, end: int) -> None:
        """The lane from an offset on. What stops a partition is raised.

        Only the newest record of a key is given, so the versions before `after` are not told to the fold: a key may have
        ended in between and begun again, from version 1 on.
        """
        async for records in log.latest(self.p.number, after=after, upto=end):
            with uncollected():
                self._judged(judge, records)

    def _judged(self, judge: Fold, records: Sequence[Record]) -> None:
        for record in records:
            self.newest = max(self.newest, record.timestamp_ms)
            verdict = judge.judge(record)
            if verdict is Verdict.APPLIED:
                self.keep(record, judge.headers)
            elif judge.error is not None:
                raise judge.error
            elif verdict is Verdict.LOSER:
                self.losers[record.key] = record
                if heal.is_stranger(record):
                    self.alarms.append(heal.alarm_of(record, judge.name))
            elif verdict is Verdict.REMOVED:
                self.drop(record.key)


async def take_over(
    log: Log, lease: Lease, setting: Setting, saved: tuple[State, Saved] | None = None
) -> Takeover:
    """Read the lane of a partition just acquired into a new `Partition`. saved: a checkpoint to begin from, if there is
    one that can be used; Damaged CP520 with its path as the place when it turns out to be damaged."""
    number = lease.partition
    failpoint("takeover.fenced")
    start, end_in = await log.bounds("in", number)
    _, end = await log.bounds("log", number)
    name = f"{setting.namespace}.log"
    found = judge = None
    if saved is not None and saved[0].upto <= end and saved[0].upto >= lease.control.horizon:
        found = _Found(
            Partition(number, setting, epoch=lease.epoch, control=lease.control, start=start), setting
        )
        judge = saved[0].fold(name, end)
        async for records in saved[1].batches():
            with uncollected():
                for record in records:
                    found.keep(record, dict(record.headers))
        found.newest = saved[0].at_ms
        await found.read(log, judge, saved[0].upto, end)
        if setting.caps.compaction == "broker":
            floor = await log.offset_at("log", number, found.newest - history_of(log))
            if saved[0].upto < floor:  # a tombstone, or the end of a run, may be gone that it never saw
                found = judge = None
    if found is None or judge is None:
        found = _Found(
            Partition(number, setting, epoch=lease.epoch, control=lease.control, start=start), setting
        )
        judge = Fold(name, floor=end)
        await found.read(log, judge, 0, end)
    p, losers, alarms = found.p, found.losers, found.alarms
    steps: list[StepCall] = []
    out: list[Placed] = []
    owners: dict[str, str] = {}
    p.restored()
    alarms += graphs.learn(setting.world, [(key, value) for key, (_, value) in p.graphs.items()])
    for record in sorted(
        found.later.values(), key=_OFFSET
    ):  # once it is known which other versions they may stand in
        _resume(p, setting, record, steps, out, owners)
    p.counts.losers = judge.losers
    lost = _lost(p, losers, found.newest - history_of(log), judge.name)
    for key, version in judge.owed.items():
        if key not in lost:
            heal.owe(p, key, version)
    p.kin = [name for name in dict.fromkeys(p.kin) if name in p.entries]
    items.restored(p, _items(p, found.items))
    steps = [call for call in steps if call.instance not in p.litter]
    steps += items.reissued(p)
    p.publish = graphs.owed(p)
    if lease.control.takeovers >= CAREFUL_FROM:
        p.care = Care(lease.control.trying, min(end_in, p.position + SUSPECTS))
        p.care.steps, steps = steps, []
    failpoint("takeover.read")
    out.sort(key=itemgetter(0))
    drafts = [draft for _, draft in out]
    return Takeover(p, steps, drafts, end_in, found.newest, alarms, list(lost.values()), owners)


def history_of(log: Log) -> int:
    """ms for which a log keeps every record, where its broker compacts: its `history_ms`, else the default."""
    return getattr(log, "history_ms", None) or HISTORY_MS


def _lost(p: Partition, losers: dict[bytes, Record], floor_ms: int, lane: str) -> dict[bytes, str]:
    """Keys of which only a loser is left, older than the history: whether an owner's record was under it nobody can
    tell any more. It is not removed: it is the last that is left."""
    if p.setting.caps.compaction != "broker":
        return {}
    return {
        key: f"{lane}/{record.partition}@{record.offset} CP509 a record of a former owner lies where the record of "
        f"{text_of(key)!r} may have been: the time without a worker was longer than the history"
        for key, record in losers.items()
        if record.timestamp_ms < floor_ms and not heal.known_version(p, key)
    }


def _retry(record: InstanceRecord) -> Input:
    """The release that an instance waited for is here."""
    cause = Cause(kind="operate", type="retry", source="local", id=f"{record.instance}@{record.version}:fits")
    return Input(cause=cause, instance=record.instance, at=0, outcome="retry", reason="a release that fits")


def _look(record: InstanceRecord) -> Input:
    """An instance at work that this release cannot continue: it parks before a step of it runs."""
    cause = Cause(
        kind="operate", type="version", source="local", id=f"{record.instance}@{record.version}:version"
    )
    return Input(
        cause=cause, instance=record.instance, at=0, outcome="version", reason="a release that does not fit"
    )


def _items(p: Partition, keys: Iterable[str]) -> dict[str, dict[str, list[ItemRecord]]]:
    """What stands of maps, by instance and map, heals included."""
    found: dict[str, dict[str, list[ItemRecord]]] = {}
    for key in keys:
        item = decode_item(p.entries[key].value)
        found.setdefault(item.instance, {}).setdefault(item.map, []).append(item)
    return found


def _restore(
    p: Partition, setting: Setting, record: Record, headers: Mapping[str, bytes], found: dict[str, None]
) -> bool:
    """Put a record into the index; says whether there is more to do about it. found: keys of items."""
    _, offset, raw, value, _, _ = record
    kind = headers.get("cp-kind", b"")
    if kind == b"graph" and value is not None and damage(record) is None:
        version = header_number(record, "cp-version", headers.get("cp-version"), setting.lane) or 0
        p.graphs[text_of(raw)] = (version, value)
    if value is None or kind not in _KINDS:
        return False
    if headers.get("cp-sum") != b"%08x" % crc32(value) and (bad := damage(record, setting.lane)) is not None:
        raise bad
    try:
        key = raw.decode()
    except UnicodeDecodeError:
        place = f"{setting.lane}/{record.partition}@{offset}"
        raise Damaged("CP520", "a record's key is no text", got=raw.hex()[:80], place=place) from None
    status = headers.get("cp-status", b"")
    said = headers.get("cp-deadline")
    deadline = None if said is None else header_number(record, "cp-deadline", said, setting.lane)
    if (version := number_of(told := headers.get("cp-version"))) < 0:
        version = header_number(record, "cp-version", told, setting.lane) or 0
    if kind == b"item":
        deadline = None
        found[key] = None
    p.restore(key, _tuple(Entry, (value, deadline, ENDED if status in _ENDED else LIVE, version)))
    if kind != b"instance":
        return False
    if kin.is_item(key):
        p.kin.append(key)
    if status == b"parked" or status in _AT_WORK:
        return True
    return "cp-out" in headers and offset >= p.control.relayed


def _resume(
    p: Partition,
    setting: Setting,
    record: Record,
    steps: list[StepCall],
    out: list[Placed],
    owners: dict[str, str],
) -> None:
    """What the takeover of a partition owes an instance: its steps, its messages, another look at what it parked for."""
    headers = dict(record.headers)
    status = headers.get("cp-status", b"")
    assert record.value is not None
    if status == b"parked" and awaits_release(stopped := decode(record.value), setting.world):
        p.results.append(_retry(stopped))
    pending = status in _AT_WORK
    unsent = record.offset >= p.control.relayed and "cp-out" in headers
    if not pending and not unsent:
        return
    body = decode(record.value) if unsent else p.load(record.key.decode()) or decode(record.value)
    if pending and setting.world.older and unfit(body, setting.world):
        p.results.append(_look(body))
    elif pending:
        steps += reissue(body, p.epoch, setting.world)
        if maps_of(body):
            p.mapping.append(record.key.decode())
    if unsent:
        batch = Batch(0)
        body.out = [*body.unsent, *body.out]
        if keeps_messages(
            body
        ):  # what was refused stays until an operator says `retry`; the rest may not have left
            body.out = [m for m in body.out if not was_refused(m)]
        p.send(batch, body)
        place = (0, 0)
        for draft in batch.out:  # what has no number, of an earlier release, stays behind what went before it
            place = place_of(draft.headers) or place
            out.append((place, draft))
            owners[draft.message_id] = body.instance
