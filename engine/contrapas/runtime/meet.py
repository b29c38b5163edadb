"""The runtime's side of a rendezvous: load it, let `core.rendezvous` decide, draft the record and the messages."""

from __future__ import annotations

import json

from contrapas.core import rendezvous as rv
from contrapas.core.deadletter import dead_letter
from contrapas.core.decode import Arrival, Rejected, decode, told_headers
from contrapas.core.envelope import Cause
from contrapas.core.lane import Draft, Headers, Record
from contrapas.core.partition import partition as partition_of
from contrapas.runtime.batch import Batch
from contrapas.runtime.partition import Partition, wait_of

_WAY_BACK = ("cp-reply-to", "cp-run")
EarlyEvents = tuple[tuple[str, Cause, rv.Early, bytes], ...]
"""(record key of the rendezvous, the event as a start sees it, the event as it is kept, its digest there)."""


def somebody(p: Partition, key: str) -> bool:
    """An instance waits there."""
    found = p.load_wait(key)
    return found is not None and bool(found.binds)


def event(p: Partition, batch: Batch, a: Arrival, key: str, *, until: int | None = None) -> rv.Meeting:
    """An event that no live instance of its key takes. Gives what became of it. until: it is not kept longer."""
    meeting = p.load_wait(key) or wait_of(key)
    cause = Cause(
        kind="event",
        type=a.type,
        source=a.source,
        id=a.id,
        partition=a.partition,
        offset=a.offset,
        headers=a.record.headers,
        value=a.record.value or b"",
    )
    done = rv.event_arrives(
        meeting,
        cause,
        identity=f"{a.event_source}\0{a.id}",
        position=a.position,
        at=batch.at,
        until=until,
        order=a.order,
    )
    mt = p.setting.world.types.messages.get(a.type)
    match done.verdict:
        case "duplicate":
            p.counts.duplicates += 1
        case "dead":
            bury(p, batch, cause, done.code, f"{key}: {done.reason}", a.key)
            p.counts.dead += 1
        case "parked" if mt is not None and mt.transient:
            p.counts.noop += 1
        case _:
            p.counts.early += 1
    _follow(p, batch, meeting, done)
    return done


def message(p: Partition, batch: Batch, a: Arrival) -> None:
    """`bind`, `unbind` or `delivered`."""
    p.counts.applied += 1
    body: dict[str, object] = a.body
    key = rv.wait_key(str(body.get("type", "")), a.key)
    meeting = p.load_wait(key) or wait_of(key)
    wait_id, instance = str(body.get("wait_id", "")), str(body.get("instance", ""))
    if a.kind == "bind":
        fresh = body.get("fresh") == "yes"
        done = rv.bind(meeting, wait_id=wait_id, instance=instance, at=batch.at, fresh=fresh)
    elif a.kind == "unbind":
        done = rv.unbind(meeting, wait_id=wait_id, instance=instance, at=batch.at)
    else:
        outcome = str(body.get("outcome", ""))
        meant = str(body.get("event", ""))
        done = rv.delivered(meeting, wait_id=wait_id, outcome=outcome, event=meant, at=batch.at)
    _follow(p, batch, meeting, done)


def fire(p: Partition, batch: Batch, key: str) -> tuple[Cause, ...]:
    """A resend is due, an early event's time is over, or an empty rendezvous is forgotten. Gives whose time is over."""
    meeting = p.load_wait(key)
    if meeting is None:
        return ()
    if meeting.empty and meeting.until <= batch.at:
        p.bury(batch, key)
        return ()
    done = rv.timer(meeting, at=batch.at)
    for cause in done.dead:
        bury(p, batch, cause, done.code, f"nobody came for it at {key} within its time", meeting.value)
        p.counts.expired += 1
    _follow(p, batch, meeting, done)
    return done.dead


def early(p: Partition, instance: str) -> EarlyEvents:
    """Events of its key that came before an instance, oldest first."""
    saga, _, key = instance.partition("/")
    found: list[tuple[str, Cause, rv.Early, bytes]] = []
    for type_name in p.setting.routes.early.get(saga, ()):
        where = rv.wait_key(type_name, key)
        meeting = p.load_wait(where)
        if meeting is None or meeting.binds:
            continue
        for kept in rv.waiting(meeting):
            again = decode(record_of(p, kept.cause, key), p.setting.doors)
            if isinstance(again, Rejected):
                continue
            cause = Cause(
                kind="event",
                type=again.type,
                source=again.source,
                id=kept.id,
                partition=again.partition,
                offset=again.offset,
                headers=tuple(
                    h for h in told_headers(again) if not h[0].startswith("cp-") or h[0] in _WAY_BACK
                ),
                value=again.value,
            )
            found.append((where, cause, kept, rv.digest_of(again.event_source, again.id, again.value)))
    found.sort(key=lambda f: f[2].until)
    return tuple(found)


def collected(p: Partition, batch: Batch, events: EarlyEvents, taken: list[str]) -> None:
    """A start took these (by `Cause.id`): they leave their rendezvous in the same commit."""
    ids = frozenset(taken)
    for where in dict.fromkeys(w for w, cause, _, _ in events if cause.id in ids):
        meeting = p.load_wait(where)
        if meeting is not None and rv.collect(meeting, ids, at=batch.at):
            p.write_wait(batch, meeting)


def acknowledge(p: Partition, batch: Batch, a: Arrival) -> None:
    """A delivery came again: it was applied."""
    _delivered(p, batch, a, "applied")


def refuse(p: Partition, batch: Batch, a: Arrival) -> None:
    """A delivery to an instance that is gone."""
    _delivered(p, batch, a, "refused")


def _delivered(p: Partition, batch: Batch, a: Arrival, outcome: str) -> None:
    value = a.headers.get("cp-value", b"").decode(errors="replace")
    identity = a.digest.hex()
    body = {"type": a.type, "value": value, "wait_id": a.wait_id, "event": identity, "outcome": outcome}
    ident = f"{a.to}:{a.wait_id}:{identity}"
    _send(p, batch, value, "delivered", json.dumps(body, ensure_ascii=False).encode(), ident)


def bury(p: Partition, batch: Batch, cause: Cause, code: str, text: str, key: str) -> None:
    """An event kept at a rendezvous to the dead letters."""
    record = record_of(p, cause, key)
    batch.out.append(dead_letter(record, namespace=p.setting.namespace, code=code, error=text, at=batch.at))


def record_of(p: Partition, cause: Cause, key: str) -> Record:
    """A kept event as the record it was."""
    return Record(p.number, cause.offset, key.encode(), cause.value, cause.headers, p.at)


def _follow(p: Partition, batch: Batch, meeting: rv.Rendezvous, done: rv.Meeting) -> None:
    mt = p.setting.world.types.messages.get(meeting.type)
    if mt is not None and mt.transient:
        rv.let_go(meeting)
    if done.changed:
        p.write_wait(batch, meeting)
    for number, duty in enumerate(done.duties):
        key = duty.instance.partition("/")[2]
        ident = f"{meeting.key}@{meeting.version}#{number}"
        if isinstance(duty, rv.Bound):
            body = {
                "type": meeting.type,
                "value": meeting.value,
                "wait_id": duty.wait_id,
                "outcome": duty.outcome,
                "reason": duty.reason,
            }
            value = json.dumps(body, ensure_ascii=False).encode()
            _send(p, batch, key, "bound", value, ident, (("cp-to", duty.instance.encode()),))
            continue
        cause = duty.event.cause
        place = f"{cause.source}/{cause.partition}@{cause.offset}".encode()
        more: Headers = (
            *(h for h in cause.headers if h[0] not in ("cp-kind", "cp-source", "cp-to", "cp-delivery")),
            ("cp-source", place),
            ("cp-to", duty.instance.encode()),
            ("cp-wait", duty.wait_id.encode()),
            ("cp-value", meeting.value.encode()),
        )
        _send(p, batch, key, "deliver", cause.value, ident, more)


def _send(
    p: Partition, batch: Batch, key: str, kind: str, value: bytes, ident: str, more: Headers = ()
) -> None:
    raw = key.encode()
    headers: Headers = (*more, ("cp-kind", kind.encode()))
    if not any(h[0] == "ce_id" for h in more):
        headers = (*headers, ("ce_id", ident.encode()))
    at = partition_of(raw, p.setting.doors.partitions)
    batch.out.append(Draft("in", at, raw, value, headers, ident))
    batch.size += len(value)
