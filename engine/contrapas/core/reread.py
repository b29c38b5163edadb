"""Events that an instance keeps, and how they are read again: a kept cause is an input in full."""

from __future__ import annotations

from contrapas.author.asked import ask_of, received
from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.outcomes import load_body
from contrapas.core.talk import talk_of
from contrapas.core.world import Input, World

_OURS = (
    "cp-in-reply-to", "cp-outcome", "cp-attempt", "cp-reason", "cp-verb", "cp-ask", "cp-wait", "cp-value", "cp-digest",
)  # fmt: skip


def keepable(event: Input) -> Cause:
    """The input as a cause from which `reread` makes it again. Results of local steps carry their value along."""
    cause = event.cause
    headers = tuple(h for h in cause.headers if h[0] not in _OURS)
    value = cause.value
    if cause.kind == "result":
        value = (
            event.body if event.outcome == "ok" and isinstance(event.body, str) else event.error
        ).encode()
    if event.in_reply_to:
        headers += (("cp-in-reply-to", event.in_reply_to.encode()),)
    if event.outcome != "ok":
        headers += (("cp-outcome", event.outcome.encode()),)
    if event.attempt:
        headers += (("cp-attempt", b"%d" % event.attempt),)
    if event.reason:
        headers += (("cp-reason", event.reason.encode()),)
    if (
        event.wait_id
    ):  # a rendezvous handed it over: which wait it is for, and what to answer when it was taken
        headers += (("cp-wait", event.wait_id.encode()), ("cp-value", event.value.encode()))
        headers += (("cp-digest", event.digest.hex().encode()),)
    if name := ask_of(event.body):
        headers += (("cp-ask", name.encode()),)
    return Cause(
        kind=cause.kind,
        type=event.type or cause.type,
        source=cause.source,
        id=cause.id,
        partition=cause.partition,
        offset=cause.offset,
        headers=headers,
        value=value,
    )


def reread(cause: Cause, record: InstanceRecord, world: World, at: int) -> Input:
    """A kept input once more. DataError when its type is not known here any more."""
    said = {name: value.decode(errors="replace") for name, value in cause.headers if name in _OURS}
    event = Input(
        cause=cause,
        instance=record.instance,
        at=at,
        type=cause.type,
        in_reply_to=said.get("cp-in-reply-to", ""),
        outcome=said.get("cp-outcome", "ok"),
        attempt=int(said.get("cp-attempt", "0")),
        reason=said.get("cp-reason", ""),
        wait_id=said.get("cp-wait", ""),
        value=said.get("cp-value", ""),
        digest=bytes.fromhex(said.get("cp-digest", "")),
        epoch=record.epoch,
        writer=record.writer,
    )
    if cause.kind == "result":
        if event.outcome == "ok":
            event.body = cause.value.decode()
        else:
            event.error = cause.value.decode()
    elif cause.kind in ("start", "event", "command", "reply", "signal", "deliver") and cause.type:
        event.body = received(load_body(world, cause.type, cause.value), said.get("cp-ask", ""))
        if "cp-ask" in said:
            event.ask = next((a for a in talk_of(record).asked if a.name == said["cp-ask"]), None)
    return event
