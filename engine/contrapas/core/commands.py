"""Commands addressed to sagas: taken, kept or declined; answered once, and the same again to who asks again.

A command stands in the record (`Talk.asked`) from the moment it is taken or kept until it is answered, whether a local
holds it or not. A reply goes out with the transition: to a saga or a topic as a message of the record, to a door as an
answer after the commit. What no state ahead takes the engine declines itself, with a reason and no reply type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contrapas.core import messages
from contrapas.core.envelope import ENDED, Answered, Asked, InstanceRecord, Tell
from contrapas.core.outcomes import dump_body
from contrapas.core.talk import STATUS, UNDONE_MAX, answered, talk_of
from contrapas.core.work import Work
from contrapas.core.world import World

CLOSED, BUSY, EXISTS, ABSENT = "closed", "busy", "exists", "absent"


def asked_of(
    headers: Mapping[str, bytes], *, digest: bytes, ident: str, type_name: str, world: World
) -> Asked:
    """Who asks, from the headers of a command. The way back is a door, the lane, or a topic of one of its replies; any
    other place is not written to."""
    said = {n: headers.get(n, b"").decode(errors="replace") for n in _WAY}
    instance = said["ce_correlationid"]
    way = said["cp-reply-to"]
    if not way and "cp-reply-to" in headers:  # a one-way command
        return Asked(name=digest[:8].hex(), id=ident, type=type_name, to="", instance="", run="")
    lane = f"{world.namespace}.in"
    if not (way == "memory" or _is_door(way, lane)):
        mt = world.types.messages.get(type_name)
        topics = [world.types.messages[r].topic for r in mt.replies] if mt is not None else [""]
        first = topics[0] or "in"
        way = "in" if way in ("in", lane) else way if way and way in topics else first
        if way == "in" and "/" not in instance:
            way = ""
    return Asked(
        name=digest[:8].hex(),
        id=ident,
        type=type_name,
        to=way,
        instance=instance[:600],
        run=said["cp-run"][:64],
    )


_WAY = ("ce_correlationid", "cp-reply-to", "cp-run")


def is_door(way: str, namespace: str) -> bool:
    """A way back that is told after the commit and not stored as a message."""
    return way == "memory" or _is_door(way, f"{namespace}.in")


def _is_door(way: str, lane: str) -> bool:
    return way.startswith(f"{lane}/") and way[len(lane) + 1 :].isdecimal()


def heard(record: InstanceRecord, ask: Asked) -> None:
    """A command is there: it is to be answered. Who asks again under its name is told too, by the newest way."""
    talk = talk_of(record)
    rest = [a for a in talk.asked if not (a.name == ask.name and a.instance == ask.instance)]
    record.talk = replace(talk, asked=[*rest, ask])


def overtaken(work: Work, ask: Asked, undoes: str) -> bool:
    """Says whether a command was taken back before it came. An undo command marks the one it overtakes, and takes out one
    that is still kept."""
    record = work.record
    talk = talk_of(record)
    if ask.id in talk.undone:
        work.note("no-op: taken back before it came")
        decline(work, ask, CLOSED)
        return True
    if undoes and undoes not in talk.undone and not any(a.id == undoes for a in talk.answers):
        met = [a for a in talk.asked if a.id == undoes]
        kept = [c for c in record.kept if c.id == undoes]
        if kept:
            record.kept = [c for c in record.kept if c.id != undoes]
            for old in met:
                decline(work, old, CLOSED)
        elif not met:
            undone = [*talk.undone, undoes][-UNDONE_MAX:]
            record.talk = replace(talk_of(record), undone=undone)
    return False


def reply(work: Work, name: str, event: Any) -> None:
    """`s.reply`: the first one counts."""
    if work.observe:
        work.note(f"reply {type(event).__name__}")
        return
    talk = talk_of(work.record)
    asked = [a for a in talk.asked if a.name == name]
    if not asked:
        work.note("no-op: answered before")
        return
    mt = work.type_of(event)
    body = dump_body(event)
    command = work.types.messages[asked[0].type]
    good = mt.name == command.replies[0]
    _answer(
        work,
        asked,
        Answered(name=name, id=asked[0].id, type=mt.name, body=body, good=good, asked=command.name),
    )


def decline(work: Work, ask: Asked, reason: str) -> None:
    """The engine's own answer: definite, no reply type."""
    body = json.dumps({"reason": reason})
    asked = [a for a in talk_of(work.record).asked if a.name == ask.name] or [ask]
    _answer(work, asked, Answered(name=ask.name, id=ask.id, type="", body=body, good=False, asked=ask.type))


def _answer(work: Work, asked: list[Asked], done: Answered) -> None:
    record = work.record
    record.talk = answered(talk_of(record), done)
    for ask in asked:
        if is_door(ask.to, work.world.namespace):
            work.told.append((ask, done))
        elif ask.to:
            record.out.append(messages.reply(record, ask, done, work.world, work.at))


def repeat(work: Work, ask: Asked, done: Answered) -> None:
    """The answer of the first time, to who asks again."""
    if is_door(ask.to, work.world.namespace):
        work.told.append((ask, done))
    elif ask.to:
        work.record.out.append(messages.reply(work.record, ask, done, work.world, work.at))


def tell(work: Work, command: Any, after: int | None, later_id: str = "") -> None:
    """`s.tell`: now, or as a timer of the record. later_id: what its handle says."""
    record = work.record
    mt = work.type_of(command)
    key, body = messages.key_of(mt, command), dump_body(command)
    if work.observe:
        work.note(f"tell {mt.name}")
    elif after is None:
        ident = messages.message_id(record)
        record.out.append(messages.tell(record, mt, ident, key, body, work.world, work.at))
    else:
        talk = talk_of(record)
        later = Tell(id=later_id, at=work.at + after, type=mt.name, key=key, body=body)
        record.talk = replace(talk, tells=[*talk.tells, later])


def untell(work: Work, ident: str) -> None:
    """`s.untell`: it does not leave, unless it has left."""
    if work.observe:
        work.note("untell")
    talk = talk_of(work.record)
    if any(t.id == ident for t in talk.tells):
        work.record.talk = replace(talk, tells=[t for t in talk.tells if t.id != ident])


def told(work: Work, ident: str) -> bool:
    """The time of a delayed one has come."""
    talk = talk_of(work.record)
    due = next((t for t in talk.tells if t.id == ident and t.at <= work.at), None)
    if due is None:
        return False
    work.record.talk = replace(talk, tells=[t for t in talk.tells if t is not due])
    mt = work.types.messages[due.type]
    work.record.out.append(messages.tell(work.record, mt, ident, due.key, due.body, work.world, work.at))
    return True


def close(work: Work) -> None:
    """The instance has ended: what is unanswered is declined, but for what starts the next run."""
    if talk_of(work.record).tells:
        work.record.talk = replace(talk_of(work.record), tells=[])
    talk = talk_of(work.record)
    waiting = {dict(cause.headers).get("cp-ask", b"").decode() for cause in talk.next_start}
    for ask in talk.asked:
        if ask.type != STATUS and ask.name not in waiting:
            decline(work, ask, CLOSED)


def known(record: InstanceRecord, name: str) -> Answered | None:
    """The answer that a command got."""
    return next((a for a in talk_of(record).answers if a.name == name), None)


def waits_for(record: InstanceRecord, name: str) -> bool:
    """It was taken and is not answered yet."""
    return any(a.name == name for a in talk_of(record).asked)


def report(work: Work) -> None:
    """Who waits for the end of this instance hears its status, once it has ended or parked (`s.cancel`)."""
    record = work.record
    if record.talk is None or not (record.status in ENDED or record.status == "parked"):
        return
    for ask in [a for a in record.talk.asked if a.type == STATUS]:
        tell_status(work, ask)


def tell_status(work: Work, ask: Asked) -> None:
    """Its status now."""
    record = work.record
    body = json.dumps({"status": record.status})
    done = Answered(name=ask.name, id=ask.id, type="", body=body, good=True, asked=STATUS)
    record.talk = replace(talk_of(record), asked=[a for a in talk_of(record).asked if a is not ask])
    record.out.append(messages.reply(record, ask, done, work.world, work.at))
