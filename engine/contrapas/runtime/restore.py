"""Taking over a partition: fence first, then read the tail, then act.

The newest record of each key goes into the index as bytes; only those with work in progress, or with messages that are
not known to have left, are decoded. What had been sent goes out again under the same ids before the first commit, losers
are healed in it, and pending local steps are issued again.
"""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

from contrapas.core.correlate import ENDED, LIVE
from contrapas.core.envelope import ENDED as ENDED_STATUSES
from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.envelope_item import ItemRecord, decode_item
from contrapas.core.fold import Fold, Verdict, damage, header_number, text_of
from contrapas.core.items import maps_of
from contrapas.core.lane import Draft, Record
from contrapas.core.moves import unfit
from contrapas.core.order import place_of
from contrapas.core.resume import reissue
from contrapas.core.transition import awaits_release
from contrapas.core.world import Input, StepCall
from contrapas.errors import Damaged
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Lease, Log
from contrapas.runtime import graphs, heal, items, kin
from contrapas.runtime.batch import Batch, Entry, Setting
from contrapas.runtime.careful import TAKEOVERS as CAREFUL_FROM
from contrapas.runtime.careful import Care
from contrapas.runtime.partition import Partition
from contrapas.runtime.sweep import HISTORY_MS

NAMES["takeover.fenced"] = "a partition was fenced, its tail is unread"
NAMES["takeover.read"] = "the tail is read, nothing is committed under the new epoch"
_AT_WORK = frozenset({b"running", b"retrying", b"unwinding", b"settling", b"paused"})
_ENDED = frozenset(s.encode() for s in ENDED_STATUSES)
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


async def take_over(log: Log, lease: Lease, setting: Setting) -> Takeover:
    """Read the lane of a partition just acquired into a new `Partition`."""
    number = lease.partition
    failpoint("takeover.fenced")
    start, end_in = await log.bounds("in", number)
    _, end = await log.bounds("log", number)
    p = Partition(number, setting, epoch=lease.epoch, control=lease.control, start=start)
    steps: list[StepCall] = []
    out: list[Placed] = []
    alarms: list[str] = []
    found: list[str] = []
    later: list[Record] = []
    newest = 0
    judge = Fold(f"{setting.namespace}.log", floor=end)
    losers: dict[bytes, Record] = {}
    async for records in log.latest(number, upto=end):
        for record in records:
            newest = max(newest, record.timestamp_ms)
            verdict = judge.judge(record)
            if verdict is Verdict.APPLIED:
                if _restore(p, setting, record, found):
                    later.append(record)
            elif judge.error is not None:
                raise judge.error
            elif verdict is Verdict.LOSER:
                losers[record.key] = record
                if heal.is_stranger(record):
                    alarms.append(heal.alarm_of(record, judge.name))
            elif verdict is Verdict.REMOVED:
                losers.pop(record.key, None)
    p.restored()
    alarms += graphs.learn(setting.world, [(key, value) for key, (_, value) in p.graphs.items()])
    for record in later:  # once it is known which other versions they may stand in
        _resume(p, setting, record, steps, out)
    p.counts.losers = judge.losers
    lost = _lost(p, losers, newest - history_of(log), judge.name)
    for key, version in judge.owed.items():
        if key not in lost:
            heal.owe(p, key, version)
    items.restored(p, _items(p, found))
    steps = [call for call in steps if call.instance not in p.litter]
    steps += items.reissued(p)
    p.publish = graphs.owed(p)
    if lease.control.takeovers >= CAREFUL_FROM:
        p.care = Care(lease.control.trying, end_in)
        p.care.steps, steps = steps, []
    failpoint("takeover.read")
    out.sort(key=itemgetter(0))
    return Takeover(p, steps, [draft for _, draft in out], end_in, newest, alarms, list(lost.values()))


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


def _items(p: Partition, keys: list[str]) -> dict[str, dict[str, list[ItemRecord]]]:
    """What stands of maps, by instance and map, heals included."""
    found: dict[str, dict[str, list[ItemRecord]]] = {}
    for key in keys:
        item = decode_item(p.entries[key].value)
        found.setdefault(item.instance, {}).setdefault(item.map, []).append(item)
    return found


def _restore(p: Partition, setting: Setting, record: Record, found: list[str]) -> bool:
    """Put a record into the index; says whether there is more to do about it. found: keys of items."""
    headers = dict(record.headers)
    lane = f"{setting.namespace}.log"
    kind = headers.get("cp-kind", b"")
    if kind == b"graph" and record.value is not None and damage(record) is None:
        version = header_number(record, "cp-version", headers.get("cp-version"), lane) or 0
        p.graphs[text_of(record.key)] = (version, record.value)
    if record.value is None or kind not in (b"instance", b"rendezvous", b"item"):
        return False
    if (bad := damage(record, lane)) is not None:
        raise bad
    try:
        key = record.key.decode()
    except UnicodeDecodeError:
        place = f"{lane}/{record.partition}@{record.offset}"
        raise Damaged("CP520", "a record's key is no text", got=record.key.hex()[:80], place=place) from None
    status = headers.get("cp-status", b"")
    p.restore(
        key,
        Entry(
            record.value,
            header_number(record, "cp-deadline", headers.get("cp-deadline"), lane),
            ENDED if status in _ENDED else LIVE,
            header_number(record, "cp-version", headers.get("cp-version"), lane) or 0,
        ),
    )
    if kind == b"item":
        p.entries[key] = p.entries[key]._replace(deadline=None)
        found.append(key)
    elif kind == b"instance" and kin.is_item(key):
        p.kin.append(key)
    unsent = record.offset >= p.control.relayed and "cp-out" in headers
    return kind == b"instance" and (status == b"parked" or status in _AT_WORK or unsent)


def _resume(p: Partition, setting: Setting, record: Record, steps: list[StepCall], out: list[Placed]) -> None:
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
        p.send(batch, body)
        place = (0, 0)
        for draft in batch.out:  # what has no number, of an earlier release, stays behind what went before it
            place = place_of(draft.headers) or place
            out.append((place, draft))
