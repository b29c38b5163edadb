"""`transition`: (record, event) to (record, outputs), pure. The one place where an instance moves.

The record given is never changed; what is given back is its successor, with everything that is to leave in it. An input
that cannot be applied is tried once more with fresh ambient values, then the successor is the state before it, parked,
with the input (X5). What an ended instance gets is a recorded no-op. `KeyboardInterrupt`, `SystemExit`, `MemoryError` pass.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from contrapas.core import (
    again,
    cancel,
    children,
    commands,
    expire,
    frames,
    keeping,
    kin,
    moves,
    parking,
    settle,
    start,
    waits,
)
from contrapas.core.copies import noted
from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.envelope_avro import encode
from contrapas.core.fresh import fresh_transition
from contrapas.core.order import numbered
from contrapas.core.reread import keepable, reread
from contrapas.core.status import status_of
from contrapas.core.straight import straight
from contrapas.core.talk import talk_of
from contrapas.core.work import FATAL, Unfit, Work, next_record
from contrapas.core.world import Input, StepCall, Transition, World
from contrapas.errors import Damaged, DataError

_WITHOUT_CODE = frozenset({"kill", "pause", "resume", "skip"})
"""Verbs that run no line of the saga: they are for instances, too, that no code here can continue."""
EVENTS = frozenset({"event", "command", "reply", "signal", "result"})


def transition(record: InstanceRecord | None, event: Input, world: World) -> Transition:
    """What becomes of one input of one instance.

    record: its newest, None if there is none. Gives the next record (version + 1), or none for what changes nothing:
    a duplicate, a refusal, a timer that no longer counts. Raises only X6 and Damaged (a record that contradicts itself).
    """
    kind = event.cause.kind
    if kind == "start":
        return _start(event, world) if record is None else _again(record, event, world)
    if record is None:
        return Transition(record=None, verdict="dead", code="CP414", reason="there is no such instance")
    if kind == "timer":
        return _timer(record, event, world)
    if kind == "operate":
        return _operate(record, event, world)
    if parking.held(record):
        return _held(record, event, world)
    if record.ended_at is not None and not record.owed and not record.root.undo and kind in EVENTS:
        return _nothing(record, event, world, "no-op: finished")
    return _attempt(record, event, world)


def _start(
    event: Input, world: World, before: InstanceRecord | None = None, behind: list[Cause] | None = None
) -> Transition:
    """A run of a key. before: the ended one of the same key; behind: starts that waited with this one."""
    for last in (False, True):
        fresh = _born(event, world, before)
        collected = start.collect(fresh, event, world)
        work = Work(fresh, event, world)
        try:
            again.rest(work, behind or [])
            start.begin(work, event)
            frames.run(work)
            made = _finish(work, "applied")
        except FATAL:
            raise
        except Exception as why:  # noqa: BLE001  whatever it is, it parks this one instance
            if not last:
                continue
            stopped = parking.parked(_born(event, world, before), event, why, None)
            stopped.kept += behind or []
            return _parked(stopped, event, world)
        made.collected = collected
        return made
    raise AssertionError


def _born(event: Input, world: World, before: InstanceRecord | None) -> InstanceRecord:
    fresh = start.born(event, world)
    return fresh if before is None else again.renewed(fresh, before, event)


def _again(record: InstanceRecord, event: Input, world: World) -> Transition:
    """A start for a key that is taken."""
    if event.parent:
        return _begun_again(record, event)
    match again.verdict(record, event, world):
        case again.DUPLICATE if event.ask is not None:
            return _asked_again(record, event, world)
        case again.DUPLICATE:
            return Transition(record=None, verdict="duplicate", reason="started by the same event")
        case again.CONFLICT if event.ask is None:
            reason = "the key was started with another payload"
            return Transition(record=None, verdict="refused", code="CP412", reason=reason)
        case again.RUN:
            return _start(event, world, record)
        case again.EVENT:
            return transition(record, again.as_event(event), world)
        case said:
            return _stepped_aside(record, event, world, said)


def _stepped_aside(record: InstanceRecord, event: Input, world: World, said: str) -> Transition:
    """A start that begins nothing now: kept for the end of this run, after a cancel or not, or let go."""
    work = Work(next_record(record, event), event, world)
    verdict = "kept"
    try:
        if said in (again.CONFLICT, again.PASS) or not again.keep(work, event):
            if event.ask is not None:
                reason = commands.BUSY if said == again.KEEP else commands.EXISTS
                commands.decline(work, event.ask, reason)
            elif said == again.KEEP:
                reason = "the instance keeps no more starts"
                return Transition(record=None, verdict="dead", code="CP846", reason=reason)
            work.note("no-op: the key is taken")
            verdict = "declined" if event.ask is not None else "no-op"
        elif said == again.CANCEL:
            work.record.cancel = "cancel"
            cancel.throw(work, work.root, "restarted")
            frames.run(work)
            verdict = "applied"
        return _finish(work, verdict)
    except (*FATAL, Damaged):
        raise
    except Exception as why:  # noqa: BLE001  whatever it is, it parks this one instance
        return _parked(parking.parked(next_record(record, event), event, why, record), event, world)


def _asked_again(record: InstanceRecord, event: Input, world: World) -> Transition:
    """The same start command under another id: it gets the answer of the first."""
    assert event.ask is not None
    first = next((a for a in talk_of(record).answers if a.id == record.start_id), None)
    work = Work(next_record(record, event), event, world)
    if first is None:
        name = next((a.name for a in talk_of(record).asked if a.id == record.start_id), event.ask.name)
        commands.heard(work.record, replace(event.ask, name=name))
    else:
        commands.repeat(work, event.ask, first)
    work.note("no-op: started by the same command")
    return _finish(work, "duplicate")


def _begun_again(record: InstanceRecord, event: Input) -> Transition:
    """Somebody would begin a child where there is an instance: its own parent gets the first answer, nobody else."""
    op = event.cause.id
    same = hashlib.sha256(event.cause.value).digest() == record.start_digest
    if record.parent != event.parent or not same:
        return Transition(record=None, verdict="declined", reason=children.EXISTS)
    if record.ended_at is not None:
        return Transition(record=None, verdict="answered", reason="it has ended")
    if op in record.parent_ops:
        return Transition(record=None, verdict="duplicate", reason="begun by the same operation")
    if len(record.parent_ops) >= children.OPS_MAX:
        return Transition(record=None, verdict="declined", reason="asked too often")
    new = next_record(record, event)
    new.parent_ops = [*record.parent_ops, op]
    new.cause = noted(new.cause, "asked again by its parent")
    new.status = status_of(new)
    return Transition(record=new, verdict="applied")


def _attempt(record: InstanceRecord, event: Input, world: World) -> Transition:
    """Apply an input; what cannot be applied twice parks the instance with it."""
    for last in (False, True):
        try:
            if world.older and event.outcome not in _WITHOUT_CODE:
                moves.look(
                    record, world
                )  # the shortcut sees today's frames, not what older ones left on the stack
            made = straight(record, event, world)
            if isinstance(made, tuple):
                new, call = made
                return fresh_transition(
                    new, [] if call is None else [call], "applied", _fitting(new, event, world)
                )
            work = made or Work(next_record(record, event), event, world)
            if made is None and world.older and event.outcome not in _WITHOUT_CODE:
                moves.lead_over(work)
            verdict = "applied" if made is not None else _apply(work, record, event)
            frames.run(work)
            if event.cause.kind == "operate":
                _drain(work)
            if verdict == "stale":
                return Transition(record=None, verdict="no-op", reason="the timer no longer counts")
            return _finish(work, verdict)
        except FATAL:
            raise
        except Damaged:
            raise
        except Exception as why:  # noqa: BLE001  whatever it is, it parks this one instance
            if not last:
                continue
            if isinstance(why, _Unappliable) and (stopped := _stop_at(record, event, world, why)) is not None:
                return stopped
            why = why.why if isinstance(why, _Unappliable) else why
            return _parked(parking.parked(next_record(record, event), event, why, record), event, world)
    raise AssertionError


def migrate(record: InstanceRecord, event: Input, world: World) -> Transition | None:
    """The transition in which `migrate=` leads an instance of another version over; None: there is none to be made.

    event: what touches the instance; it is applied after it. What cannot be led over stays, and parks with the event.
    """
    if not world.older or (parking.held(record) and not awaits_release(record, world)):
        return None
    alone = Input(  # the event is not applied yet: its position and id are for the record that applies it
        cause=event.cause,
        instance=record.instance,
        at=event.at,
        epoch=event.epoch,
        writer=event.writer,
        published=event.published,
        sender=event.sender,
    )
    try:
        new = moves.migrated(record, alone, world)
    except Unfit:
        return None
    if new is not None:
        numbered(new, event.sender, world.namespace)
    return None if new is None else Transition(record=new, verdict="applied")


def _apply(work: Work, before: InstanceRecord, event: Input) -> str:
    kind = event.cause.kind
    if kind in EVENTS:
        return _event(work, event)
    if kind == "timer":
        return "applied" if expire.fire(work, event.timer) else "stale"
    if kind == "operate":
        return _verb(work, event)
    if kind == "deliver":
        return _deliver(work, before, event)
    if kind == "bound":
        waits.acknowledged(work, event)
        return "applied"
    work.note(f"no-op: {kind}")
    return "no-op"


def _event(work: Work, event: Input) -> str:
    """A reply, result, event or signal: applied, kept for a state ahead, or a recorded no-op; a command: declined."""
    ask = event.ask
    if ask is not None:
        commands.heard(work.record, ask)
        if commands.overtaken(work, ask, event.undoes):
            return "declined"
    if settle.incoming(work, event):
        return "applied"
    record = work.record
    late = bool(event.in_reply_to) or event.cause.kind == "result"
    if passing(work.world, event):
        work.note("no-op: nobody waits")
        return "no-op"
    if not late and record.ended_at is None and waits.ahead(work.world, record, event.type):
        cause = keepable(event)
        if not waits.room(record, cause, work.world):
            if ask is None:
                return "dead"
            commands.decline(work, ask, commands.BUSY)
            work.note("no-op: too many are kept")
            return "declined"
        record.kept.append(cause)
        work.note("kept")
        return "kept"
    if ask is not None:
        commands.decline(work, ask, commands.CLOSED)
    work.note(
        "no-op: finished"
        if record.ended_at is not None
        else "no-op: late reply"
        if late
        else "no-op: not awaited"
    )
    return "no-op" if ask is None else "declined"


def passing(world: World, event: Input) -> bool:
    """A transient event: it counts where somebody waits, and is never kept."""
    mt = world.types.messages.get(event.type)
    return mt is not None and mt.transient


def _deliver(work: Work, before: InstanceRecord, event: Input) -> str:
    """What a rendezvous hands over: the wait takes it, or it is sent back."""
    record = work.record
    if event.wait_id and settle.delivered(work, event):
        return "applied"
    if event.digest and event.digest in before.seen:
        waits.deliver_answer(work, event, "applied")
        work.note("no-op: delivered before")
    else:
        if event.digest:
            record.seen = list(before.seen)
        waits.deliver_answer(work, event, "refused")
        work.note("no-op: nobody waits; sent back")
    return "no-op"


def _timer(record: InstanceRecord, event: Input, world: World) -> Transition:
    if event.timer == "next":
        following = again.next_run(record, event, world)
        if following is None:
            return Transition(record=None, verdict="no-op", reason="not yet")
        return _start(following[0], world, record, following[1])
    if event.timer == "retention":
        due = record.retain_until is not None and record.retain_until <= event.at and not parking.held(record)
        free = not record.owed and not record.binds and not talk_of(record).next_start
        if due and free:
            return Transition(record=None, tombstone=True)
        return Transition(record=None, verdict="no-op", reason="not yet")
    if parking.held(record) and not event.timer.startswith("bind:"):
        return Transition(record=None, verdict="no-op", reason="held")
    return _attempt(record, event, world)


def _operate(record: InstanceRecord, event: Input, world: World) -> Transition:
    machine = world.machines.get(record.saga)
    entity = machine is not None and machine.entity is not None
    if event.outcome == "clear" or (entity and event.outcome in ("cancel", "kill")):
        refusal = keeping.refusal(record, event, entity=entity)
        if not refusal:
            return Transition(record=None, tombstone=True)
    else:
        refusal = _refusal(record, event.outcome)
    if refusal:
        return Transition(record=None, verdict="refused", code="CP815", reason=refusal)
    return _attempt(record, event, world)


def _refusal(record: InstanceRecord, verb: str) -> str:
    if verb in ("retry", "skip"):
        if record.parked is None:
            return f"{record.instance} is {record.status}, not parked"
        return ""
    if verb == "resume":
        return "" if record.paused else f"{record.instance} is {record.status}, not paused"
    if verb == "version":  # said by a takeover, never by an operator
        return "" if record.parked is None else f"{record.instance} is parked"
    if record.ended_at is not None:
        return f"{record.instance} already ended: {record.status}"
    if record.pivoted and (verb == "cancel" or (verb == "kill" and record.parked is None)):
        return f"{record.instance} is past its point of no return"
    if verb == "pause" and record.paused:
        return f"{record.instance} is paused already"
    return "" if verb in ("cancel", "kill", "pause") else f"unknown verb {verb[:40]!r}"


def _verb(work: Work, event: Input) -> str:
    """What an operator says, or another saga."""
    record = work.record
    if event.ask is not None:
        commands.heard(record, event.ask)
    match event.outcome:
        case "pause":
            record.paused = True
        case "resume":
            record.paused = False
            if record.parked is None:
                parking.issue_again(work)
        case "retry":
            parking.retry(work)
        case "skip":
            parking.skip(work, event.reason)
        case "version":
            work.note("no-op: it fits")
            return "no-op"
        case "cancel" if record.cancel and record.parked is None:
            if not cancel.ask(work, event.reason or "cancelled"):
                work.note("cancelled already; recorded, and thrown again after the grace period")
        case verb:
            record.paused = False
            if record.parked is not None:
                parking.stop(work, verb)
            elif verb == "kill":
                cancel.kill(work)
            else:
                cancel.ask(work, event.reason or "cancelled")
    return "applied"


def _held(record: InstanceRecord, event: Input, world: World) -> Transition:
    """A parked or paused instance keeps what comes; one that waits for code goes on when the code is there."""
    kind = event.cause.kind
    if kind == "bound":
        return _attempt(record, event, world)
    if kind == "deliver":
        return Transition(record=None, verdict="no-op", reason="held; it will be delivered again")
    if record.ended_at is not None and not record.owed:
        return _nothing(record, event, world, "no-op: finished")
    if passing(world, event):
        return _nothing(record, event, world, "no-op: nobody waits")
    cause = keepable(event)
    if kind != "result" and not waits.room(record, cause, world):
        if event.ask is not None:
            return _nothing(record, event, world, "no-op: too many are kept", commands.BUSY)
        reason = "a held instance keeps no more events"
        return Transition(record=None, verdict="dead", code="CP846", reason=reason)
    new = _keeping(record, event, cause)
    value = encode(new)
    if len(value) > world.record_max:
        return Transition(record=None, verdict="dead", code="CP846", reason="it does not fit into the record")
    if awaits_release(record, world):
        moved = _resumed(_keeping(record, event, cause), event, world)
        if moved is not None:
            return moved
    return Transition(record=new, verdict="kept", value=value)


def _keeping(record: InstanceRecord, event: Input, cause: Cause) -> InstanceRecord:
    """The successor that has one more event to look at later."""
    new = next_record(record, event)
    if event.ask is not None:
        commands.heard(new, event.ask)
    new.kept.append(cause)
    new.cause = noted(new.cause, "kept")
    new.status = status_of(new)
    return new


def _resumed(new: InstanceRecord, event: Input, world: World) -> Transition | None:
    work = Work(new, event, world)
    try:
        parking.retry(work)
        frames.run(work)
        _drain(work)
        return _finish(work, "applied")
    except FATAL:
        raise
    except Exception:  # noqa: BLE001  it stays parked
        return None


def awaits_release(record: InstanceRecord, world: World) -> bool:
    """Parked for want of code that is here now."""
    return record.parked is not None and record.parked.code == "CP312" and fits(record, world)


def fits(record: InstanceRecord, world: World) -> bool:
    """Does this worker have code for every place where the instance stands? (CP312 ends by itself.)"""
    steps, machines = world.types.steps, world.machines
    here = all(
        p.kind not in ("local", "map") or p.name in (machines if kin.of_saga(p) else steps)
        for p in record.operations()
    )
    return here and not moves.unfit(record, world)


class _Unappliable(Exception):
    """A kept event could not be applied; those before it could."""

    def __init__(self, at: int, why: Exception) -> None:
        super().__init__(at, why)
        self.at, self.why = at, why


def _drain(work: Work, stop: _Unappliable | None = None) -> None:
    """What was kept while the instance was held, in order: applied, kept for a state ahead, or let go."""
    record = work.record
    if not record.kept or parking.held(record):
        return
    causes, record.kept = record.kept, []
    for at, cause in enumerate(causes):
        if parking.held(record):
            record.kept.append(cause)
            continue
        if stop is not None and at == stop.at:
            parking.with_kept(record, cause, stop.why)
            continue
        try:
            _apply_kept(work, cause)
        except (*FATAL, Damaged):
            raise
        except Exception as why:
            raise _Unappliable(at, why) from why


def _apply_kept(work: Work, cause: Cause) -> None:
    record = work.record
    again_event = reread(cause, record, work.world, work.at)
    if not settle.incoming(work, again_event):
        ahead = record.ended_at is None and waits.ahead(work.world, record, cause.type)
        if ahead and cause.kind != "result":
            record.kept.append(cause)
        else:
            if again_event.ask is not None:
                commands.decline(work, again_event.ask, commands.CLOSED)
            work.note(f"no-op: {cause.type} {cause.id}")
    frames.run(work)


def _stop_at(record: InstanceRecord, event: Input, world: World, stop: _Unappliable) -> Transition | None:
    """The same once more, up to the kept event that cannot be applied: the instance parks with that one."""
    work = Work(next_record(record, event), event, world)
    try:
        _apply(work, record, event)
        frames.run(work)
        _drain(work, stop)
        return _finish(work, "parked")
    except FATAL:
        raise
    except Exception:  # noqa: BLE001  the caller parks the instance where it stood
        return None


def _nothing(
    record: InstanceRecord, event: Input, world: World, note: str, reason: str = commands.CLOSED
) -> Transition:
    """The instance does not move; a command is declined."""
    new = next_record(record, event)
    new.cause = noted(new.cause, note)
    if event.ask is None:
        return Transition(record=new, verdict="no-op")
    work = Work(new, event, world)
    commands.decline(work, event.ask, reason)
    return Transition(record=new, verdict="declined", told=work.told)


def _fitting(record: InstanceRecord, event: Input, world: World) -> bytes:
    """The record's bytes, its messages numbered. DataError CP846 if they are too many."""
    if record.out:
        numbered(record, event.sender, world.namespace)
    value = encode(record)
    size = len(value)
    if size > world.record_max:
        raise DataError(
            "CP846",
            f"the record would have {size} bytes, {world.record_max} are allowed",
            expected=f"at most {world.record_max} bytes",
            got=f"{size} bytes",
            fix="store large values elsewhere and keep their address",
        )
    return value


def _parked(stopped: InstanceRecord, event: Input, world: World) -> Transition:
    """The record of an instance that stands still; it fits in any case."""
    if stopped.talk is not None:
        commands.report(Work(stopped, event, world))
    value = encode(parking.fitting(stopped, world.record_max))
    assert stopped.parked is not None
    code, reason = stopped.parked.code, stopped.parked.error
    return Transition(record=stopped, verdict="parked", code=code, reason=reason, value=value)


def _finish(work: Work, verdict: str) -> Transition:
    """What a transition gave, encoded. DataError CP846 when the record has grown too large."""
    record = work.record
    record.status = status_of(record)
    if record.talk is not None:
        commands.report(work)
    value = _fitting(record, work.event, work.world)
    if verdict == "dead":
        reason = "the instance keeps no more events"
        return Transition(record=None, verdict="dead", code="CP846", reason=reason)
    steps = work.steps
    if work.event.cause.kind == "operate" and steps:
        steps = _still_pending(record, steps)
    made = fresh_transition(record, steps, verdict, value, work.told)
    if record.parked is not None:
        made.code, made.reason = record.parked.code, record.parked.error
        if record.parked.input is None and verdict == "applied":
            made.verdict = "parked"
    return made


def _still_pending(record: InstanceRecord, steps: list[StepCall]) -> list[StepCall]:
    """What an operator's word set going: one call per operation, of those that are in flight."""
    calls = {call.key: call for call in steps}
    flying = {p.key for p in record.operations() if p.kind == "local" and p.retry_at is None}
    return [call for key, call in calls.items() if key in flying]
