"""Taking over a partition: fence first, then read the tail, then act.

The newest record of each key goes into the index as bytes; only those with work in progress, or with messages that are
not known to have left, are decoded. What had been sent goes out again under the same ids before the first commit, losers
are healed in it, and pending local steps are issued again.
"""

from __future__ import annotations

from typing import NamedTuple

from contrapas.core.correlate import ENDED, LIVE
from contrapas.core.envelope import ENDED as ENDED_STATUSES
from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.envelope_item import ItemRecord, decode_item
from contrapas.core.fold import Fold, Verdict, damage, text_of
from contrapas.core.items import maps_of
from contrapas.core.lane import Draft, Record
from contrapas.core.resume import reissue
from contrapas.core.transition import awaits_release
from contrapas.core.world import Input, StepCall
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Lease, Log
from contrapas.runtime import items
from contrapas.runtime.batch import Batch, Entry, Setting
from contrapas.runtime.careful import TAKEOVERS as CAREFUL_FROM
from contrapas.runtime.careful import Care
from contrapas.runtime.partition import Partition

NAMES["takeover.fenced"] = "a partition was fenced, its tail is unread"
NAMES["takeover.read"] = "the tail is read, nothing is committed under the new epoch"
_AT_WORK = frozenset({b"running", b"retrying", b"unwinding", b"settling", b"paused"})
_ENDED = frozenset(s.encode() for s in ENDED_STATUSES)


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


async def take_over(log: Log, lease: Lease, setting: Setting) -> Takeover:
    """Read the lane of a partition just acquired into a new `Partition`."""
    number = lease.partition
    failpoint("takeover.fenced")
    start, end_in = await log.bounds("in", number)
    _, end = await log.bounds("log", number)
    p = Partition(number, setting, epoch=lease.epoch, control=lease.control, start=start)
    steps: list[StepCall] = []
    out: list[Draft] = []
    alarms: list[str] = []
    found: dict[str, dict[str, list[ItemRecord]]] = {}
    newest = 0
    judge = Fold(f"{setting.namespace}.log", floor=end)
    async for records in log.latest(number, upto=end):
        for record in records:
            newest = max(newest, record.timestamp_ms)
            verdict = judge.judge(record)
            if verdict is Verdict.APPLIED:
                _restore(p, setting, record, steps, out, found)
            elif judge.error is not None:
                raise judge.error
            elif verdict is Verdict.LOSER and not any(name == "cp-epoch" for name, _ in record.headers):
                alarms.append(_stranger(record, setting.namespace))
    items.restored(p, found)
    steps += items.reissued(p)
    p.restored()
    p.heal = [p.healing(key.decode(errors="replace"), version) for key, version in judge.owed.items()]
    if lease.control.takeovers >= CAREFUL_FROM:
        p.care = Care(lease.control.trying, end_in)
        p.care.steps, steps = steps, []
    failpoint("takeover.read")
    return Takeover(p, steps, out, end_in, newest, alarms)


def _retry(record: InstanceRecord) -> Input:
    """The release that an instance waited for is here."""
    cause = Cause(kind="operate", type="retry", source="local", id=f"{record.instance}@{record.version}:fits")
    return Input(cause=cause, instance=record.instance, at=0, outcome="retry", reason="a release that fits")


def _stranger(record: Record, namespace: str) -> str:
    code, what = ("CP411", "an empty value") if record.value is None else ("CP509", "a record")
    place = f"{namespace}.log/{record.partition}@{record.offset}"
    return f"{place} {code} {what} that no owner wrote, for {text_of(record.key)!r}: ours is written again"


def _restore(
    p: Partition,
    setting: Setting,
    record: Record,
    steps: list[StepCall],
    out: list[Draft],
    found: dict[str, dict[str, list[ItemRecord]]],
) -> None:
    headers = dict(record.headers)
    kind = headers.get("cp-kind", b"")
    if record.value is None or kind not in (b"instance", b"rendezvous", b"item"):
        return
    if (bad := damage(record, f"{setting.namespace}.log")) is not None:
        raise bad
    key = record.key.decode()
    status = headers.get("cp-status", b"")
    deadline = headers.get("cp-deadline")
    p.restore(
        key,
        Entry(
            record.value,
            None if deadline is None else int(deadline),
            ENDED if status in _ENDED else LIVE,
            int(headers.get("cp-version", b"0")),
        ),
    )
    if kind == b"item":
        item = decode_item(record.value)
        p.entries[key] = p.entries[key]._replace(deadline=None)
        found.setdefault(item.instance, {}).setdefault(item.map, []).append(item)
        return
    if kind != b"instance":
        return
    if status == b"parked" and awaits_release(body := decode(record.value), setting.world):
        p.results.append(_retry(body))
    pending = status in _AT_WORK
    unsent = record.offset >= p.control.relayed and "cp-out" in headers
    if not pending and not unsent:
        return
    body = decode(record.value)
    if pending:
        steps += reissue(body, p.epoch, setting.world)
        if maps_of(body):
            p.mapping.append(key)
    if unsent:
        batch = Batch(0)
        body.out = [*body.unsent, *body.out]
        p.send(batch, body)
        out += batch.out
