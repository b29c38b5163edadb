"""The first transition: from a start event to the first operation, version 1."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from contrapas.core import kin, nested
from contrapas.core.commands import asked_of, heard
from contrapas.core.copies import copy_cause
from contrapas.core.envelope import Cause, Frame, InstanceRecord, Node
from contrapas.core.moves import machine_of
from contrapas.core.plans import START, plan_of
from contrapas.core.talk import talk_of
from contrapas.core.waits import KEPT_BYTES_MAX, KEPT_MAX, ahead_of_start
from contrapas.core.work import SEEN_MAX, Unfit, Work, remember
from contrapas.core.world import Input, World


def run_of(event: Input) -> str:
    """8 hex digits of the SHA-256 of the start's source position: derived, so that a repeat derives the same."""
    cause = event.cause
    return hashlib.sha256(f"{cause.source}/{cause.partition}@{cause.offset}".encode()).hexdigest()[:8]


def born(event: Input, world: World) -> InstanceRecord:
    """The record of an instance that has not run yet."""
    saga, _, key = event.instance.partition("/")
    mode, on_late = world.modes.get(saga, ("orchestrate", "alert"))
    machine = world.machines.get(saga)
    graph = machine.graph if machine is not None else ""
    record = InstanceRecord(
        instance=event.instance,
        saga=saga,
        key=key,
        version=1,
        epoch=event.epoch,
        writer=event.writer,
        run=run_of(event),
        mode=mode,
        on_late=on_late,
        status="waiting",
        root=Node(frames=[Frame(saga=saga, graph=graph, label=START, slots={})]),
        cause=copy_cause(event.cause),
        at=event.at,
        started_at=event.at,
        start_id=event.cause.id,
        start_digest=hashlib.sha256(event.cause.value).digest(),
    )
    if event.map:
        kin.named(record, event)
    elif event.parent:
        record.parent, record.parent_ops = event.parent, [event.cause.id]
    if machine is not None:
        record.late_replies_ms = machine.late_replies_ms
        if machine.deadline_ms is not None:
            record.deadline = event.at + machine.deadline_ms
    remember(record, event)
    if event.ask is not None:
        heard(record, event.ask)
    if machine is not None and len(machine.starts) > 1:
        record.talk = replace(talk_of(record), began=event.type)
    return record


def collect(record: InstanceRecord, event: Input, world: World) -> list[str]:
    """Early events of this key that the saga will wait for move into its record; gives their ids."""
    taken: list[str] = []
    size = 0
    for number, cause in enumerate(event.early):
        size += cause.size
        if len(taken) >= KEPT_MAX or size > KEPT_BYTES_MAX:
            break
        observed = record.mode == "observe" and any(
            cause.type in mt.replies for mt in world.types.messages.values()
        )
        if observed or ahead_of_start(world, record.saga, cause.type):
            digest = event.early_digests[number] if number < len(event.early_digests) else b""
            record.kept.append(_early(record, cause, digest, world))
            taken.append(cause.id)
            record.seen = [*record.seen[1 - SEEN_MAX :], *event.early_digests[number : number + 1]]
    return taken


def _early(record: InstanceRecord, cause: Cause, digest: bytes, world: World) -> Cause:
    """An early event as the record keeps it; an early command is to be answered."""
    mt = world.types.messages.get(cause.type)
    if mt is None or not mt.command or record.mode == "observe":
        return cause
    headers = dict(cause.headers)
    ident = headers.get("ce_id", cause.id.encode()).decode(errors="replace")
    ask = asked_of(headers, digest=digest, ident=ident, type_name=cause.type, world=world)
    heard(record, ask)
    kept = copy_cause(cause)
    kept.kind, kept.id = "command", ident
    kept.headers = (*[h for h in cause.headers if not h[0].startswith("cp-")], ("cp-ask", ask.name.encode()))
    return kept


def begin(work: Work, event: Input) -> None:
    """Run the saga to its first await."""
    if work.record.map:
        nested.begin(work, event.cause.value.decode())
        return
    frame = work.record.root.frames[0]
    machine = machine_of(frame, work.world)
    if machine is None:
        raise Unfit(f"no saga {frame.saga!r} here")
    work.fresh[id(frame)] = plan_of(machine).bind((event.body,), {})
    work.resume(work.root)
