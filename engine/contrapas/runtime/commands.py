"""Commands on the inbound lane: to the one saga that takes them, else early, declined, or a service's own affair."""

from __future__ import annotations

from contrapas.core import commands
from contrapas.core.copies import noted
from contrapas.core.correlate import Routes, correlate
from contrapas.core.decode import Arrival
from contrapas.core.envelope import Answered, Asked, InstanceRecord
from contrapas.core.load import CONFLICT, DUPLICATE, conflict, judge
from contrapas.core.parking import keeps_messages
from contrapas.core.work import next_record
from contrapas.core.world import World
from contrapas.runtime import apply, meet
from contrapas.runtime.batch import Answer, Batch
from contrapas.runtime.partition import Partition


def asks(a: Arrival, world: World, routes: Routes) -> bool:
    """It is a command that one of our sagas is to answer: an observing saga takes it for an event."""
    mt = world.types.messages.get(a.type)
    if mt is None or not mt.command or a.kind not in ("command", "event", "start", "signal"):
        return False
    return a.kind == "command" or bool(taker(a.type, world, routes))


def taker(type_name: str, world: World, routes: Routes) -> str:
    """The orchestrated saga that takes a command, or starts by it; empty: none."""
    several = (*routes.starts.get(type_name, ()), *routes.takes.get(type_name, ()))
    return next((s for s in several if world.modes[s][0] != "observe"), "")


def deliver(p: Partition, batch: Batch, a: Arrival) -> None:
    """Hand a command to its saga."""
    world, routes = p.setting.world, p.setting.routes
    saga = taker(a.type, world, routes)
    if not saga:
        _elsewhere(p, batch, a)
        return
    p.counts.inputs += 1
    instance = f"{saga}/{a.key}"
    ask = _ask(a, world)
    if a.to and a.to != instance:
        _absent(p, batch, a, ask, a.to)
        return
    record = p.load(instance)
    starts = saga in routes.starts.get(a.type, ())
    if record is None:
        if starts:
            apply.begin(p, batch, a, instance)
        elif commands.is_door(ask.to, p.setting.namespace):
            _absent(p, batch, a, ask, instance)
        else:
            meet.event(p, batch, a, f"$wait/{a.type}/{a.key}", until=_deadline(a))
        return
    if _known(p, batch, a, record, ask):
        return
    event = apply.input_of(a, instance, "start" if starts else "command", world)
    apply.account(p, batch, a, instance, apply.transition_of(p, batch, event))


def _elsewhere(p: Partition, batch: Batch, a: Arrival) -> None:
    """No saga answers it: an observing one takes it for an event, else it is a service's, or somebody else's."""
    routes = p.setting.routes
    if a.type in routes.starts or a.type in routes.takes:
        a.kind = "event"
        apply.deliver(p, batch, a, correlate(a, routes, p.standing))
        return
    p.counts.inputs += 1
    p.counts.ignored += 1


def _ask(a: Arrival, world: World) -> Asked:
    return commands.asked_of(a.headers, digest=a.digest, ident=a.id, type_name=a.type, world=world)


def _known(p: Partition, batch: Batch, a: Arrival, record: InstanceRecord, ask: Asked) -> bool:
    """The same id came before: its answer again, or nothing until there is one."""
    done = commands.known(record, ask.name)
    verdict = judge(record, a)
    if verdict == CONFLICT:
        text = conflict(record, a)
        apply.bury_input(p, batch, a.record, "CP412", text, record.instance)
        if commands.is_door(ask.to, p.setting.namespace):
            said = apply.answer(record, "refused", "CP412", text)
            said.id, said.to = ask.id, ask.to
            batch.answers.append(said)
        return True
    waiting = record.talk is not None and any(b.name == ask.name for b in record.talk.asked)
    if done is None and not waiting and verdict != DUPLICATE:
        return False
    p.counts.duplicates += 1
    if done is not None:
        _again(p, batch, record, ask, done)
    elif waiting and record.talk is not None and ask not in record.talk.asked:
        _heard(p, batch, a, record, ask)
    return True


def _heard(p: Partition, batch: Batch, a: Arrival, record: InstanceRecord, ask: Asked) -> None:
    """Who asks again by another way is to hear the reply there, when it comes."""
    event = apply.input_of(a, record.instance, "command", p.setting.world)
    event.at, event.epoch, event.writer = batch.at, p.epoch, p.setting.writer
    event.published = p.published(record.instance, batch) and not keeps_messages(record)
    event.digest, event.position = b"", ""
    new = next_record(record, event)
    commands.heard(new, ask)
    new.cause = noted(new.cause, "no-op: asked again")
    p.counts.transitions += 1
    p.write(batch, new)


def _again(p: Partition, batch: Batch, record: InstanceRecord, ask: Asked, done: Answered) -> None:
    """An answer that was given once, without a record of its own."""
    if commands.is_door(ask.to, p.setting.namespace):
        batch.answers.append(apply.answer_of(record, ask, done))
    elif ask.to:
        apply.post(p, batch, record.saga, record.key, f"{record.instance}@{done.name}", ask, done)


def _deadline(a: Arrival) -> int | None:
    text = a.headers.get("cp-within", b"")
    return int(text) if text.isdigit() and len(text) < 16 else None


def _absent(p: Partition, batch: Batch, a: Arrival, ask: Asked, instance: str) -> None:
    p.counts.ignored += 1
    if commands.is_door(ask.to, p.setting.namespace):
        batch.answers.append(Answer(ask.id, ask.to, instance, "declined", "CP414", commands.ABSENT))
    else:
        apply.decline_absent(p, batch, a.type, a.id, a.value, a.headers, a.key)
