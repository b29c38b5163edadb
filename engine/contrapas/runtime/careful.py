"""Careful mode: at the third takeover in a row without a release somebody's input or step may be what kills the owners.

One thing at a time, each named in the control record before it is tried. Die four owners in a row with the same thing in
hand, the next one parks that one instance (CP844) and goes on. Fewer prove nothing: owners are also killed from outside,
as often as somebody likes, and a step that takes long is then in hand each time; what comes through in between takes the
suspicion away. The mode ends with what had been waiting at the takeover, or sooner: whatever killed the last owner was in its
batch, so it stands close behind the cursor. What else waits does not wait for one commit each.
"""

from __future__ import annotations

import json
from typing import Any

from contrapas.core import start
from contrapas.core.decode import Arrival, Rejected, decode
from contrapas.core.envelope import ENDED, Cause, InstanceRecord
from contrapas.core.lane import Record
from contrapas.core.load import FRESH, judge
from contrapas.core.parking import fitting, parked
from contrapas.core.status import status_of
from contrapas.core.work import next_record
from contrapas.core.world import Input, StepCall
from contrapas.errors import DataError
from contrapas.runtime.batch import TRANSITIONS_MAX, Batch
from contrapas.runtime.partition import Partition

TAKEOVERS = 3
SUSPECTS = 2 * TRANSITIONS_MAX
"""So many inputs behind the cursor are tried one by one. Each moves it: what stands further off comes nearer with each death."""
DEATHS = 4
"""So many careful owners in a row must have died with one thing in hand before it is blamed."""


class Care:
    """What careful mode remembers of one partition."""

    def __init__(self, blamed: str, end: int) -> None:
        body: dict[str, Any] = json.loads(blamed) if blamed else {}
        self.blamed = body.get("what", "")
        """What the last owner had in hand when it died."""
        self.deaths = int(body.get("deaths", 0)) + 1
        """How many owners in a row have died with it."""
        self.instance = body.get("instance", "")
        self.end = end
        """Of the inbound lane at the takeover, or of what is suspected on it."""
        self.named = ""
        """What the control record names now: it may be tried."""
        self.in_hand = ""
        """Key of the step that runs."""
        self.trying = ""
        """What every commit says while it runs."""
        self.steps: list[StepCall] = []

    @property
    def parks_step(self) -> bool:
        """The step that the last owners had in hand is to blame."""
        return self.blamed.startswith("step ") and self.deaths >= DEATHS

    def name(self, what: str, instance: str) -> str:
        """What goes into the control record before `what` is tried."""
        deaths = self.deaths if what == self.blamed else 0
        return json.dumps({"what": what, "instance": instance, "deaths": deaths}, ensure_ascii=False)


def decide(p: Partition, care: Care, now: int) -> Batch | None:
    """One batch with one thing in it; None: nothing special, take the next thing as usual."""
    if p.heal:
        return p.open(now)
    if care.parks_step:
        return _park_step(p, care, now)
    if care.in_hand:
        return None
    if care.steps:
        call = care.steps.pop(0)
        batch = p.open(now)
        batch.trying = care.trying = care.name(f"step {call.key}", call.instance)
        batch.steps = [call]
        care.in_hand = call.key
        return batch
    if p.results:
        return None
    if p.inputs and p.inputs[0].offset < care.end:
        record = p.inputs[0]
        what = what_of(record)
        if care.blamed == what and care.deaths >= DEATHS:
            return _park_input(p, care, now)
        if care.named != what:
            batch = p.open(now)
            batch.trying = care.name(what, "")
            care.named = what
            return batch
        return None
    if p.inputs or p.fetched >= care.end:  # what stands there now came after the takeover
        p.care = None
    return None


def took(care: Care, batch: Batch) -> None:
    """A batch was decided: its steps are issued one at a time, and what was in hand is through."""
    for work in batch.taken:
        if isinstance(work, Input) and work.in_reply_to == care.in_hand:
            care.in_hand = care.trying = ""
    if batch.taken:
        care.named = ""
        care.steps.extend(batch.steps)
        batch.steps = []


def what_of(record: Record) -> str:
    """An input by its place."""
    return f"in {record.partition}@{record.offset}"


def _park_step(p: Partition, care: Care, now: int) -> Batch:
    key, care.blamed = care.blamed.removeprefix("step "), ""
    batch = p.open(now)
    record = p.load(care.instance)
    care.steps = [c for c in care.steps if c.instance != care.instance]
    if record is not None and record.parked is None:
        cause = Cause(kind="result", type="crash", source="local", id=key)
        event = Input(cause=cause, instance=care.instance, at=batch.at, in_reply_to=key, outcome="error")
        event.epoch, event.writer, event.reason = p.epoch, p.setting.writer, "the worker died with it"
        event.published = p.published(care.instance)
        why = DataError(
            "CP844", f"step {key} was running when its worker died, {care.deaths} careful times in a row"
        )
        p.write(batch, _stopped(next_record(record, event), event, why, record))
        p.counts.transitions += 1
    return batch


def _park_input(p: Partition, care: Care, now: int) -> Batch:
    from contrapas.core.correlate import correlate
    from contrapas.runtime import apply

    arrival = decode(p.inputs[0], p.setting.doors)
    care.blamed = ""
    batch = p.open(now)
    record = p.inputs.popleft()
    p.input_bytes -= len(record.value or b"")
    batch.position = record.offset + 1
    batch.taken.append(record)
    p.counts.inputs += 1
    why = DataError(
        "CP844",
        f"this input was in hand when the worker died, {care.deaths} careful times in a row: {what_of(record)}",
    )
    if isinstance(arrival, Rejected):
        apply.bury_input(p, batch, record, arrival.code, arrival.text)
        return batch
    targets = correlate(arrival, p.setting.routes, p.standing)
    met = False
    for instance in (*targets.starts, *targets.instances):
        before = p.load(instance)
        kind = "start" if instance in targets.starts else arrival.kind
        event = apply.input_of(arrival, instance, kind, p.setting.world)
        event.at, event.epoch, event.writer = batch.at, p.epoch, p.setting.writer
        if before is None and instance in targets.starts:
            born = start.born(event, p.setting.world)
            p.write(batch, _stopped(born, event, why, None))
        elif before is not None and instance not in targets.starts and _may_stop(before, arrival):
            event.published = p.published(instance)
            p.write(batch, _stopped(next_record(before, event), event, why, before))
        else:
            continue
        met = True
    if met:
        p.counts.parked += 1
    else:
        apply.bury_input(p, batch, record, "CP844", why.text)
    return batch


def _may_stop(record: InstanceRecord, arrival: Arrival) -> bool:
    """It stands with what is to blame in hand. What ended, and what has applied it before, has nothing to take up again."""
    return record.parked is None and record.status not in ENDED and judge(record, arrival) == FRESH


def _stopped(
    record: InstanceRecord, event: Input, why: DataError, before: InstanceRecord | None
) -> InstanceRecord:
    stopped = fitting(parked(record, event, why, before))
    stopped.status = status_of(stopped)
    return stopped
