"""A start event for a key that is taken: what `@saga(again=...)` says becomes of it, and the next run of the key.

One run at a time. What would begin a new run while the old one unwinds, settles, is parked or cannot be cancelled is
kept in its record and starts in the transition after the final one. A new run counts versions on and takes over what
tells duplicates, so that an old one stays one.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from contrapas.core import commands
from contrapas.core.copies import copy_cause
from contrapas.core.envelope import Cause, InstanceRecord, Talk
from contrapas.core.plans import START
from contrapas.core.reread import keepable, reread
from contrapas.core.talk import STATUS, talk_of
from contrapas.core.waits import KEPT_BYTES_MAX, KEPT_MAX, ahead
from contrapas.core.work import Work, remember
from contrapas.core.world import Input, World

REFUSE, DELIVER, RESTART, SKIP = "refuse", "deliver", "restart", "skip"
DUPLICATE, CONFLICT, EVENT, RUN, KEEP, CANCEL, PASS = (
    "duplicate",
    "conflict",
    "event",
    "run",
    "keep",
    "cancel",
    "pass",
)


def free(record: InstanceRecord) -> bool:
    """A new run may begin: the old one has ended and owes nothing."""
    return record.ended_at is not None and not record.owed and record.parked is None


def dying(record: InstanceRecord) -> bool:
    """It only ends any more: cancelled, unwinding as a whole, or settling."""
    unwinding = record.root.unwinding
    whole = unwinding is not None and unwinding.whole and unwinding.then != "resume"
    return record.ended_at is not None or bool(record.cancel) or whole


def verdict(record: InstanceRecord, event: Input, world: World) -> str:
    """What a start event that is no duplicate by id does to a key that is taken."""
    machine = world.machines.get(record.saga)
    policy = machine.again if machine is not None else REFUSE
    starts = machine.starts if machine is not None else ()
    began = talk_of(record).began or (starts[0] if starts else event.type)
    if event.type != began and not dying(record) and takes(record, event.type, world):
        return EVENT
    if policy == REFUSE:
        same = hashlib.sha256(event.cause.value).digest() == record.start_digest
        return DUPLICATE if same else CONFLICT
    if free(record) and not talk_of(record).next_start:
        return RUN
    if policy == SKIP:
        return PASS
    if policy == DELIVER:
        return KEEP if dying(record) else EVENT
    if dying(record) or record.parked is not None or record.paused or record.pivoted:
        return KEEP
    return CANCEL


def takes(record: InstanceRecord, type_name: str, world: World) -> bool:
    """A state now or ahead waits for it."""
    return any(type_name in p.types for p in record.operations() if p.kind == "wait") or ahead(
        world, record, type_name
    )


def as_event(event: Input) -> Input:
    """A start event as an ordinary one of the running instance."""
    event.cause = copy_cause(event.cause)
    event.cause.kind = "command" if event.ask is not None else "event"
    return event


def keep(work: Work, event: Input) -> bool:
    """Keep a start for the end of this run; False: there is no room. `restart` keeps the newest only."""
    record = work.record
    machine = work.world.machines[record.saga]
    cause = keepable(event)
    if machine.again == RESTART:
        for old in talk_of(record).next_start:
            _superseded(work, old)
        waiting: list[Cause] = []
    else:
        waiting = list(talk_of(record).next_start)
        if len(waiting) >= KEPT_MAX or sum([c.size for c in waiting]) + cause.size > KEPT_BYTES_MAX:
            return False
    if event.ask is not None:
        commands.heard(record, event.ask)
    record.talk = replace(talk_of(record), next_start=[*waiting, cause])
    work.note("kept: it starts the next run")
    return True


def _superseded(work: Work, old: Cause) -> None:
    event = reread(old, work.record, work.world, work.at)
    if event.ask is not None:
        commands.decline(work, event.ask, commands.EXISTS)


def renewed(fresh: InstanceRecord, old: InstanceRecord, event: Input) -> InstanceRecord:
    """A new run's record takes over what outlives a run."""
    fresh.version = old.version + 1
    fresh.positions, fresh.seen = old.positions, old.seen
    fresh.memory = b""
    remember(fresh, event)
    fresh.unsent = [] if event.published else [*old.unsent, *old.out]
    fresh.binds = list(old.binds)
    before, now = talk_of(old), talk_of(fresh)
    heard = {a.name for a in now.asked}
    asked = [a for a in before.asked if a.type != STATUS and a.name not in heard]
    talk = replace(now, asked=[*now.asked, *asked], answers=before.answers, undone=before.undone)
    fresh.talk = talk if talk != Talk() else None
    return fresh


def next_run(record: InstanceRecord, event: Input, world: World) -> tuple[Input, list[Cause]] | None:
    """The start that waits, as an input, and those behind it; None if none waits or the key is not free yet."""
    waiting = list(talk_of(record).next_start)
    if not waiting or not free(record):
        return None
    start = reread(waiting[0], record, world, event.at)
    start.cause = copy_cause(start.cause)
    start.cause.kind = "start"
    start.epoch, start.writer, start.published = event.epoch, event.writer, event.published
    start.sender = event.sender
    return start, waiting[1:]


def rest(work: Work, causes: list[Cause]) -> None:
    """Starts that waited behind the first are events of the new run (`deliver`)."""
    record = work.record
    machine = work.world.machines[record.saga]
    for cause in causes:
        again = reread(cause, record, work.world, work.at)
        if cause.type in machine.later.get(START, ()):
            record.kept.append(keepable(as_event(again)))
        elif again.ask is not None:
            commands.decline(work, again.ask, commands.CLOSED)
        else:
            work.note(f"no-op: {cause.type} {cause.id} is not awaited")
