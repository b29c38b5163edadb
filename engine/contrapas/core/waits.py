"""Waiting for events: those kept for a state ahead, and the rendezvous of a wait for another key's events.

Rendezvous messages (`bind`, `unbind`, `delivered`: bodies in `core.rendezvous`) go out with the record and again from
its own timers, after 1 s, 2 s … 1 min, until they are acknowledged; both ends know the wait by its id.
"""

from __future__ import annotations

import json

from contrapas.core import commands
from contrapas.core.copies import copy_pending
from contrapas.core.envelope import Cause, InstanceRecord, Node, Pending
from contrapas.core.plans import START
from contrapas.core.reread import reread
from contrapas.core.undo import lines
from contrapas.core.work import Work
from contrapas.core.world import Input, World

KEPT_MAX = 100
KEPT_BYTES_MAX = 256_000
_FIRST_RESEND_MS = 1_000
_LAST_RESEND_MS = 60_000


def room(record: InstanceRecord, cause: Cause, world: World | None = None) -> bool:
    """May one more event be kept: at most 100, or as many as wait in an entity's queue, and at most 256 kB."""
    machine = None if world is None else world.machines.get(record.saga)
    most = KEPT_MAX if machine is None or not machine.queue else machine.queue
    return len(record.kept) < most and sum(c.size for c in record.kept) + cause.size <= KEPT_BYTES_MAX


def ahead(world: World, record: InstanceRecord, type_name: str) -> bool:
    """Does a state ahead wait for events of this type? An observer also expects replies of commands to come."""
    if record.mode == "observe" and any(type_name in mt.replies for mt in world.types.messages.values()):
        return True
    return _ahead(world, record.root, type_name)


def _ahead(world: World, node: Node, type_name: str) -> bool:
    for frame in node.frames:
        machine = world.kept.get((frame.saga, frame.graph)) or world.machines.get(frame.saga)
        if machine is not None and type_name in machine.later.get(frame.label, ()):
            return True
        if any(_ahead(world, begun.node, type_name) for begun in frame.begun):
            return True
    if node.join is not None:
        return any(_ahead(world, child, type_name) for child in node.join.children)
    return False


def ahead_of_start(world: World, saga: str, type_name: str) -> bool:
    """The same for an instance that is about to start."""
    machine = world.machines.get(saga)
    return machine is not None and type_name in machine.later.get(START, ())


def take_kept(work: Work, types: tuple[str, ...]) -> Cause | None:
    """The oldest kept event of one of these types, which is kept no longer (L26)."""
    for i, cause in enumerate(work.record.kept):
        if cause.type in types and cause.kind != "result":
            del work.record.kept[i]
            return cause
    return None


def drop_kept(work: Work, types: tuple[str, ...]) -> None:
    """A wait for what is new: what the instance has kept of these types is let go."""
    record = work.record
    old = [c for c in record.kept if c.type in types and c.kind != "result"]
    if not old:
        return
    record.kept = [c for c in record.kept if c not in old]
    for cause in old:
        ask = reread(cause, record, work.world, work.at).ask
        if ask is not None:
            commands.decline(work, ask, commands.CLOSED)
        work.note(f"no-op: {cause.type} {cause.id} came before the wait")


def bind(work: Work, pending: Pending, *, fresh: bool = False) -> None:
    """Ask the rendezvous of every awaited type for events of a foreign key. fresh: for those that come from now on."""
    for name in pending.types:
        _post(work, "fresh" if fresh else "bind", name, pending.correlate, pending.wait_id)


def leave(work: Work, pending: Pending, *, but: str = "") -> None:
    """A wait ended: take back its binds, the one of type `but` excepted, which its own delivery ended."""
    if not pending.wait_id:
        return
    record = work.record
    record.binds = [b for b in record.binds if b.wait_id != pending.wait_id]
    for name in pending.types:
        if name != but:
            _post(work, "unbind", name, pending.correlate, pending.wait_id)


def unbind_all(work: Work) -> None:
    """Every wait still open ends without its event."""
    for line in lines(work.root):
        pending = line.node.pending
        if pending is not None and pending.wait_id:
            leave(work, pending)


def _post(work: Work, kind: str, type_name: str, value: str, wait_id: str) -> None:
    bound = Pending(
        key=f"{wait_id}|{type_name}",
        label=type_name,
        visit=work.record.version,
        kind=kind,
        name=type_name,
        correlate=value,
        wait_id=wait_id,
        since=work.at,
        retry_at=work.at + _FIRST_RESEND_MS,
    )
    work.record.binds.append(bound)
    _send(work, bound)


def _send(work: Work, bound: Pending) -> None:
    body = {
        "type": bound.name,
        "value": bound.correlate,
        "wait_id": bound.wait_id,
        "instance": work.record.instance,
    }
    kind = bound.kind
    if kind == "fresh":
        kind, body["fresh"] = "bind", "yes"
    work.send_rendezvous(kind, bound.correlate, json.dumps(body, ensure_ascii=False))


def resend(work: Work, key: str) -> bool:
    """The timer of an unacknowledged rendezvous message: say it again."""
    binds = work.record.binds
    for i, bound in enumerate(binds):
        if bound.key == key and bound.retry_at is not None and bound.retry_at <= work.at:
            again = binds[i] = copy_pending(bound)
            again.attempt += 1
            again.retry_at = work.at + min(_FIRST_RESEND_MS << min(bound.attempt, 6), _LAST_RESEND_MS)
            _send(work, again)
            return True
    return False


def acknowledged(work: Work, event: Input) -> None:
    """`bound` from a rendezvous. Refused: another instance waits there already, and this one parks (CP848)."""
    kinds = ("unbind",) if event.outcome == "gone" else ("bind", "fresh")
    record = work.record
    met = [
        b
        for b in record.binds
        if b.wait_id == event.wait_id and b.kind in kinds and event.type in ("", b.name)
    ]
    if not met:
        work.note("no-op: not asked")
        return
    record.binds = [b for b in record.binds if b not in met]
    if event.outcome == "refused":
        words = event.reason or "another instance waits for this value"
        work.park("CP848", "wait", words)


def deliver_answer(work: Work, event: Input, outcome: str) -> None:
    """Tell the rendezvous what became of its delivery."""
    body = {
        "type": event.type,
        "value": event.value,
        "wait_id": event.wait_id,
        "event": event.digest.hex() or event.cause.id,
        "outcome": outcome,
    }
    work.send_rendezvous("delivered", event.value, json.dumps(body, ensure_ascii=False))
