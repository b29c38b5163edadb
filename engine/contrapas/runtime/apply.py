"""From an addressed event to drafts: which record it meets, what the transition made of it, who is told.

Every input ends applied, kept, parked at a rendezvous, in the dead letters or as a recorded no-op; duplicates and what is
not for sagas only count. The sum of these counts is `inputs + more`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from contrapas.author.asked import received
from contrapas.core import again, children
from contrapas.core.commands import ABSENT as ABSENT_
from contrapas.core.commands import BUSY, CLOSED, EXISTS, asked_of, is_door
from contrapas.core.correlate import ABSENT, Targets
from contrapas.core.deadletter import dead_letter
from contrapas.core.decode import VERBS, Arrival, Rejected, fits, told_headers
from contrapas.core.envelope import Answered, Asked, Cause, InstanceRecord, Message
from contrapas.core.lane import Draft, Record
from contrapas.core.load import CONFLICT, DUPLICATE, FRESH, conflict, judge, judge_start
from contrapas.core.messages import reply_message
from contrapas.core.parking import fitting, keeps_messages, parked, undeliverable
from contrapas.core.partition import partition as partition_of
from contrapas.core.rendezvous import digest_of, parse_wait_key
from contrapas.core.talk import STATUS
from contrapas.core.timers import timers
from contrapas.core.transition import migrate, transition
from contrapas.core.work import next_record
from contrapas.core.world import Input, Transition, World
from contrapas.errors import DataError
from contrapas.runtime import items, kin, meet
from contrapas.runtime.batch import Answer, Batch, Due, is_wait
from contrapas.runtime.egress import REFUSED, stopped
from contrapas.runtime.partition import Partition


def transition_of(p: Partition, batch: Batch, event: Input) -> Transition | None:
    """Apply one input to its instance and draft what follows; None when there is no such instance any more."""
    instance, world = event.instance, p.setting.world
    if p.maps or p.litter or kin.is_item(instance):
        kin.addressed(p, event)
    record = p.load(instance)
    event.at, event.epoch, event.writer = batch.at, p.epoch, p.setting.writer
    event.sender = (p.number, p.order)
    mapping = False
    if record is None:
        if event.cause.kind != "start":
            return None
        change = transition(record, event, world)
    else:
        event.published = p.published(instance, batch) and not keeps_messages(record)
        if world.older:
            record = _led_over(p, batch, record, event)
        if p.maps and items.concerns(p, instance, record):
            mapping = True
            items.told(p, event, record)
        if event.outcome == REFUSED and event.cause.source == "local":
            change = stopped(record, event)
        elif event.reason and event.reason.startswith(("CP412", "CP843")):
            change = _unfit(record, event)
        else:
            change = transition(record, event, world)
    _drafted(p, batch, instance, change)
    new = change.record
    if new is not None:
        if mapping or items.concerns(p, instance, new):
            items.follow(p, batch, new, again=event.cause.kind == "operate")
        if new.map:
            items.moved(p, batch, new)
        if new.talk is not None:
            _following(p, batch, new)
    return change


def _following(p: Partition, batch: Batch, record: InstanceRecord) -> None:
    """The next run of a key begins in the transition after the final one, before anything else is heard."""
    if record.talk is None or not record.talk.next_start or not again.free(record):
        return
    cause = Cause(kind="timer", type="next", id=f"{record.instance}@{record.version}:next")
    event = Input(cause=cause, instance=record.instance, at=batch.at, timer="next")
    event.epoch, event.writer = p.epoch, p.setting.writer
    event.sender = (p.number, p.order)
    event.published = p.published(record.instance, batch) and not keeps_messages(record)
    change = transition(record, event, p.setting.world)
    _drafted(p, batch, record.instance, change)
    if change.record is not None and items.concerns(p, record.instance, change.record):
        items.follow(p, batch, change.record, again=False)


def _drafted(p: Partition, batch: Batch, instance: str, change: Transition) -> None:
    batch.steps += change.steps
    new = change.record
    if change.tombstone:
        p.bury(batch, instance)
    elif new is not None:
        p.counts.transitions += 1
        value = change.value
        if p.refused and any(m.to in p.refused for m in new.out):
            undeliverable(new, p.refused, next(iter(p.refused.values())))
            value = b""
        p.write(batch, new, value)
        for ask, done in change.told:
            batch.answers.append(answer_of(new, ask, done))


def answer_of(record: InstanceRecord, ask: Asked, done: Answered) -> Answer:
    """What a door is told that asked a command."""
    said = answer(record, "reply" if done.type else "declined")
    said.id, said.to = ask.id, ask.to
    said.outcome, said.outcome_body = done.type, done.body
    if not done.type:
        said.reason = str(json.loads(done.body).get("reason", ""))
        said.code = DECLINED.get(said.reason, "CP815")
    return said


DECLINED = {CLOSED: "CP815", BUSY: "CP829", EXISTS: "CP412", ABSENT_: "CP414"}
"""Why the engine declined a command -> the code a door shows."""


def _led_over(p: Partition, batch: Batch, record: InstanceRecord, event: Input) -> InstanceRecord:
    """An instance of an earlier version, after the `migrate=` of today's definition, if there is one for it."""
    change = migrate(record, event, p.setting.world)
    if change is None or change.record is None:
        return record
    p.counts.transitions += 1
    p.write(batch, change.record)
    event.published = event.published and not change.record.out
    event.sender = (p.number, p.order)
    return change.record


def _unfit(record: InstanceRecord, event: Input) -> Transition:
    """A step returned what cannot be stored (CP843), or its key was used for another (CP412): trying again gives the same,
    so the instance parks with it."""
    code = event.reason[:5]
    why = DataError(code, event.reason.removeprefix(f"{code} "))
    stopped = fitting(parked(next_record(record, event), event, why, record))
    return Transition(record=stopped, verdict="parked", code=code, reason=event.reason)


def fire(p: Partition, batch: Batch, due: Due) -> None:
    """The next timer of a record; an entry that the record no longer holds is passed over."""
    if due.key in p.litter:
        return
    if is_wait(due.key):
        for cause in meet.fire(p, batch, due.key):
            decline_absent(
                p, batch, cause.type, cause.id, cause.value, dict(cause.headers), parse_wait_key(due.key)[1]
            )
        return
    if due.key in p.maps:
        items.wake(p, batch, due.key)
    _fire(p, batch, due)
    if due.key in p.maps:
        items.arm(p, due.key)


def _fire(p: Partition, batch: Batch, due: Due) -> None:
    record = p.load(due.key)
    if record is None:
        return
    for timer in sorted(timers(record), key=lambda t: t.at):
        if timer.at > batch.at:
            p.postpone(due.key, timer.at)  # those before it changed nothing
            return
        if timer.name == "retention" and not p.published(due.key):
            p.postpone(due.key, batch.at + 1_000)
            return
        cause = Cause(kind="timer", type=timer.name, id=f"{due.key}@{record.version}:{timer.name}")
        event = Input(cause=cause, instance=due.key, at=batch.at, timer=timer.name)
        change = transition_of(p, batch, event)
        if change is None or change.record is not None or change.tombstone:
            return


def decline_absent(
    p: Partition, batch: Batch, type_name: str, ident: str, value: bytes, headers: dict[str, bytes], key: str
) -> None:
    """Tell who asked a command, if no door, that nobody is there to answer it."""
    mt = p.setting.world.types.messages.get(type_name)
    if mt is None or not mt.command:
        return
    source = headers.get("ce_source", b"").decode(errors="replace")
    ident = headers.get("ce_id", ident.encode()).decode(errors="replace")
    ask = asked_of(
        headers,
        digest=digest_of(source, ident, value),
        ident=ident,
        type_name=type_name,
        world=p.setting.world,
    )
    done = Answered(
        name=ask.name, id=ask.id, type="", body=json.dumps({"reason": ABSENT_}), good=False, asked=type_name
    )
    if ask.to and not is_door(ask.to, p.setting.namespace):
        post(p, batch, "door", key, f"{ask.id}#{ABSENT_}", ask, done)


def post(p: Partition, batch: Batch, saga: str, key: str, ident: str, ask: Asked, done: Answered) -> None:
    """An answer to a command, as a message that no record holds."""
    m = reply_message(saga, key, ident, ask, done, p.setting.world, batch.at)
    at = partition_of(m.key, p.setting.doors.partitions) if m.to == "in" else -1
    batch.out.append(Draft(m.to, at, m.key, m.value, m.headers, m.id))
    batch.size += len(m.value)


def reject(p: Partition, batch: Batch, what: Rejected) -> None:
    """An input that does not decode becomes a dead letter with its bytes."""
    p.counts.inputs += 1
    bury_input(p, batch, what.record, what.code, what.text)
    tell(batch, what.headers, Answer("", "", "", "dead", what.code, what.text))


def deliver(p: Partition, batch: Batch, a: Arrival, targets: Targets) -> None:
    """Hand an arrival to its targets."""
    p.counts.inputs += 1
    if a.kind in ("bind", "unbind", "delivered"):
        meet.message(p, batch, a)
        return
    if a.kind in ("answer", "command"):  # `runtime.commands` takes those that are for sagas
        p.counts.ignored += 1
        return
    if targets.dead == "CP402" and a.event_source.startswith(f"/contrapas/{p.setting.namespace}/"):
        p.counts.ignored += 1  # an outcome without a topic, and no saga that waits for it
        return
    if targets.dead:
        _nobody(p, batch, a, targets.dead)
        return
    met = False
    for instance in targets.starts:
        met = True
        begin(p, batch, a, instance)
    waits = targets.waits
    live = any(p.standing(i) == 1 for i in targets.instances)
    if waits and not live and not met and (not targets.instances or meet.somebody(p, waits)):
        done = meet.event(p, batch, a, waits)
        verdict = done.verdict if done.verdict in ("duplicate", "dead") else "kept"
        tell(batch, a.headers, Answer("", "", a.to, verdict, done.code, done.reason))
        return
    for instance in targets.instances:
        _existing(p, batch, a, instance)
    p.counts.more += len(targets.starts) + len(targets.instances) - 1


def begin(p: Partition, batch: Batch, a: Arrival, instance: str) -> None:
    """A start: of the key's first run, or, as its saga says, of a further one."""
    record = p.load(instance)
    if record is not None and "cp-parent" in a.headers:
        _begun_again(p, batch, a, instance)
        return
    if record is not None and _repeated(p, batch, a, record):
        return
    saga = instance.partition("/")[0]
    machine = p.setting.world.machines[saga]
    stale = a.time_ms is not None and not a.stale and machine.entity is None
    if stale and a.time_ms is not None and a.record.timestamp_ms - a.time_ms > machine.retention_ms:
        text = f"{instance}: made {(a.record.timestamp_ms - a.time_ms) // 86_400_000} days before it came, older than the retention"
        bury_input(p, batch, a.record, "CP418", text, instance)
        tell(batch, a.headers, Answer("", "", instance, "dead", "CP418", text))
        return
    event = input_of(a, instance, "start", p.setting.world)
    early = meet.early(p, instance) if record is None else ()
    event.early = tuple(cause for _, cause, _, _ in early)
    event.early_digests = tuple(digest for _, _, _, digest in early)
    account(p, batch, a, instance, transition_of(p, batch, event), early)


def _repeated(p: Partition, batch: Batch, a: Arrival, record: InstanceRecord) -> bool:
    """A start that came before, or, where the saga refuses others, one for a taken key."""
    instance = record.instance
    verdict = judge(record, a)
    if verdict == FRESH and again.verdict(
        record, input_of(a, instance, "start", p.setting.world), p.setting.world
    ) in (
        again.DUPLICATE,
        again.CONFLICT,
    ):
        verdict = judge_start(record, a)
    if verdict == CONFLICT:
        text = f"{instance} was started with another payload: sha-256 {_sha(a.value)}, its own {record.start_digest.hex()[:16]}"
        bury_input(p, batch, a.record, "CP412", text, instance)
        tell(batch, a.headers, answer(record, "refused", "CP412", text))
    elif verdict == DUPLICATE:
        p.counts.duplicates += 1
        tell(batch, a.headers, answer(record, "duplicate"))
    return verdict != FRESH


def _begun_again(p: Partition, batch: Batch, a: Arrival, instance: str) -> None:
    """A child's key is taken: its own parent gets the first answer, anybody else is declined."""
    change = transition_of(p, batch, input_of(a, instance, "start", p.setting.world))
    assert change is not None
    p.counts.applied += change.verdict != "duplicate"
    p.counts.duplicates += change.verdict == "duplicate"
    record = p.load(instance)
    assert record is not None
    namespace, parent = p.setting.namespace, a.headers["cp-parent"].decode(errors="replace")
    if change.verdict == "answered":
        _draft(p, batch, children.answer_of(record, a.id, namespace))
    elif change.verdict == "declined":
        _draft(p, batch, children.declined(parent, a.id, namespace, record.saga))


def _draft(p: Partition, batch: Batch, m: Message) -> None:
    """A message that stands in no record: it is made again if its input is read again."""
    if fits(m.key):
        batch.out.append(
            Draft("in", partition_of(m.key, p.setting.doors.partitions), m.key, m.value, m.headers, m.id)
        )
        batch.size += len(m.value)


def _existing(p: Partition, batch: Batch, a: Arrival, instance: str) -> None:
    record = p.load(instance)
    if record is None:
        _nobody(p, batch, a, "CP414")
        return
    if a.kind == "query":
        p.counts.ignored += 1
        tell(batch, a.headers, answer(record, "state"))
        return
    verdict = judge(record, a)
    if verdict == DUPLICATE:
        p.counts.duplicates += 1
        if a.kind == "deliver":
            meet.acknowledge(p, batch, a)
        tell(batch, a.headers, answer(record, "duplicate"))
        return
    if verdict == CONFLICT:
        text = conflict(record, a)
        bury_input(p, batch, a.record, "CP412", text, instance)
        tell(batch, a.headers, answer(record, "refused", "CP412", text))
        return
    if a.kind == "signal" and a.run and a.run != record.run:
        p.counts.ignored += 1  # a link, and the run that gave it is over
        tell(
            batch,
            a.headers,
            Answer("", "", instance, "refused", "CP815", f"{instance} is another run by now"),
        )
        return
    if a.kind == "operate" and a.headers.get("cp-parent", record.parent.encode()) != record.parent.encode():
        p.counts.ignored += 1  # a parent gives its child up, and this is another one
        return
    if a.kind == "operate" and str(a.body.get("verb")) not in VERBS:
        bury_input(p, batch, a.record, "CP419", f"no such verb: {str(a.body.get('verb'))[:40]!r}", instance)
        return
    event = input_of(a, instance, a.kind, p.setting.world)
    change = transition_of(p, batch, event)
    if event.ask is not None and a.kind == "operate" and change is not None and change.record is None:
        _status(p, batch, instance, event.ask, record.status)
    account(p, batch, a, instance, change, ())


def watcher_of(a: Arrival) -> Asked | None:
    """Of an operation that a saga asked for: who is to hear the status at the end."""
    instance = a.headers.get("ce_correlationid", b"").decode(errors="replace")
    if "/" not in instance or not a.id or "cp-parent" in a.headers or not a.reply_to:
        return None
    name = hashlib.sha256(f"{STATUS}\0{a.id}".encode()).hexdigest()[:16]
    return Asked(name=name, id=a.id, type=STATUS, to="in", instance=instance[:600])


def _status(p: Partition, batch: Batch, instance: str, ask: Asked, status: str | None) -> None:
    """What a saga that cancels another one is told where no record of that one says it."""
    done = Answered(
        name=ask.name, id=ask.id, type="", body=json.dumps({"status": status}), good=True, asked=STATUS
    )
    saga, _, key = instance.partition("/")
    post(p, batch, saga, key, f"{ask.id}#status", ask, done)


def account(
    p: Partition,
    batch: Batch,
    a: Arrival,
    instance: str,
    change: Transition | None,
    early: meet.EarlyEvents = (),
) -> None:
    """Count what became of an arrival, and say it to who asked."""
    record = change.record if change is not None else None
    if change is None:
        p.counts.ignored += 1
        return
    match change.verdict:
        case "duplicate":
            p.counts.duplicates += 1
        case "kept":
            p.counts.kept += 1
        case "no-op" | "declined":
            p.counts.noop += 1
        case "parked":
            p.counts.parked += 1
        case "dead" | "refused" if a.kind not in ("operate", "query", "bound", "deliver"):
            bury_input(p, batch, a.record, change.code or "CP414", change.reason, instance)
        case _:
            p.counts.applied += 1
    if change.collected and early:
        meet.collected(p, batch, early, change.collected)
    now = record if record is not None else p.load(instance)
    if now is not None:
        tell(batch, a.headers, answer(now, change.verdict, change.code, change.reason))
    elif change.tombstone:
        tell(batch, a.headers, Answer("", "", instance, change.verdict))


def _nobody(p: Partition, batch: Batch, a: Arrival, code: str) -> None:
    """No instance and no saga for it: said to a door, a dead letter otherwise."""
    said = Answer("", "", a.to, "absent", code, f"no instance {a.to or a.key}")
    tell(batch, a.headers, said)
    if a.kind == "operate" and (ask := watcher_of(a)) is not None:
        _status(p, batch, a.to, ask, None)
    if a.kind in ("query", "bound", "operate"):
        p.counts.ignored += 1
        return
    if a.kind == "deliver":
        p.counts.noop += 1
        meet.refuse(p, batch, a)
        return
    bury_input(p, batch, a.record, code, said.reason, a.to)


def bury_input(p: Partition, batch: Batch, record: Record, code: str, text: str, instance: str = "") -> None:
    """An input to the dead letters."""
    p.counts.dead += 1
    draft = dead_letter(
        record, namespace=p.setting.namespace, code=code, error=text, at=batch.at, instance=instance
    )
    batch.out.append(draft)
    batch.size += len(draft.value or b"")


def answer(record: InstanceRecord, verdict: str, code: str = "", reason: str = "") -> Answer:
    """What a door is told about an instance."""
    return Answer(
        "",
        "",
        record.instance,
        verdict,
        code,
        reason,
        record.status,
        record.state,
        record.version,
        record.outcome,
        record.outcome_body,
        *shown(record),
    )


def shown(record: InstanceRecord) -> tuple[str, str, str]:
    """Its view, by registered name and JSON text, and its note."""
    talk = record.talk
    return ("", "", "") if talk is None else (talk.view_type, talk.view, talk.note)


def tell(batch: Batch, headers: dict[str, bytes], said: Answer) -> None:
    """Answer the door that an input came by."""
    to = headers.get("cp-reply-to", b"").decode(errors="replace")
    if to and headers.get("cp-kind") in (b"start", b"signal", b"query", b"operate", b"call"):
        said.to = to
        said.id = headers.get("ce_id", b"").decode(errors="replace")
        batch.answers.append(said)


def input_of(a: Arrival, instance: str, kind: str, world: World) -> Input:
    """An arrival as an input of one instance; a command carries its name, and who asks if its saga is to answer."""
    event = Input(
        cause=cause_of(a, kind),
        instance=instance,
        at=0,
        type=a.type,
        body=a.body,
        in_reply_to=a.in_reply_to,
        outcome=a.outcome,
        wait_id=a.wait_id,
        position=a.position,
        digest=a.digest if a.event_source and a.id else b"",
        order=a.order,
    )
    mt = world.types.messages.get(a.type)
    if mt is not None and mt.command and a.kind != "reply":
        received(event.body, event.digest[:8].hex())
        if world.modes.get(instance.partition("/")[0], ("",))[0] != "observe":
            event.ask = asked_of(a.headers, digest=event.digest, ident=a.id, type_name=a.type, world=world)
            event.undoes = a.headers.get("cp-undoes", b"").decode(errors="replace")
    if kind == "start":
        event.parent = a.headers.get("cp-parent", b"").decode(errors="replace")
    elif kind == "operate":
        event.ask = watcher_of(a)
        event.outcome, event.reason = str(a.body["verb"]), str(a.body.get("reason", ""))
    elif kind == "bound":
        body: dict[str, Any] = a.body
        event.type, event.wait_id, event.outcome = (
            str(body["type"]),
            str(body["wait_id"]),
            str(body["outcome"]),
        )
        event.reason, event.value = str(body.get("reason", "")), str(body.get("value", ""))
    elif kind == "deliver":
        event.value = a.headers.get("cp-value", b"").decode(errors="replace")
    elif a.outcome in ("error", "declined") and isinstance(a.body, dict):
        event.reason = str(a.body.get("reason", ""))  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType]
    return event


def cause_of(a: Arrival, kind: str) -> Cause:
    """What the record keeps of an arrival: where it was, and the bytes."""
    return Cause(
        kind=kind,
        type=a.type,
        source=a.source,
        id=a.id,
        partition=a.partition,
        offset=a.offset,
        headers=tuple([h for h in told_headers(a) if not h[0].startswith("cp-")]),
        value=a.value,
    )


def _sha(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:16]


def answer_bytes(said: Answer) -> bytes:
    """An answer as JSON, for a door in another process."""
    return json.dumps(
        {
            "instance": said.instance,
            "verdict": said.verdict,
            "code": said.code,
            "reason": said.reason,
            "status": said.status,
            "state": said.state,
            "version": said.version,
            "outcome": said.outcome,
            "outcome_body": said.outcome_body,
            "view_type": said.view_type,
            "view": said.view,
            "note": said.note,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


__all__ = [
    "ABSENT",
    "answer",
    "answer_bytes",
    "bury_input",
    "cause_of",
    "deliver",
    "fire",
    "reject",
    "transition_of",
]
