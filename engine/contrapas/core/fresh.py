"""What every transition makes anew, written out field by field: to call a class with names costs several times as much.

A test compares each with its class called the usual way.
"""

from __future__ import annotations

from typing import Any

from contrapas.core.envelope import Answered, Asked, Cause, InstanceRecord, Pending
from contrapas.core.world import Input, StepCall, Transition

_new = object.__new__
_tuple = tuple[object, ...].__new__


def fresh_pending(key: str, label: str, visit: int, kind: str, name: str, since: int) -> Pending:
    """An operation issued at `since`, in its first attempt."""
    new: Pending = _new(Pending)
    new.key = key
    new.label = label
    new.visit = visit
    new.kind = kind
    new.name = name
    new.types = ()
    new.attempt = 1
    new.deadline = None
    new.retry_at = None
    new.policy = ""
    new.body = ""
    new.correlate = ""
    new.wait_id = ""
    new.undo = -1
    new.since = since
    new.error = ""
    new.each_at = None
    new.target = ""
    new.undoes = ""
    new.raw = b""
    return new


def fresh_call(record: InstanceRecord, pending: Pending, timeout_ms: int, live: Any) -> StepCall:
    """The duty to run a local step once."""
    return _tuple(
        StepCall,
        (
            record.instance,
            pending.key,
            pending.name,
            pending.attempt,
            pending.body,
            timeout_ms,
            pending.label,
            record.epoch,
            live,
            "",
            -1,
            pending.undoes,
        ),
    )


def fresh_transition(
    record: InstanceRecord,
    steps: list[StepCall],
    verdict: str,
    value: bytes,
    told: list[tuple[Asked, Answered]] | None = None,
) -> Transition:
    """What became of an input that moved something."""
    new: Transition = _new(Transition)
    new.record = record
    new.steps = steps
    new.verdict = verdict
    new.code = ""
    new.reason = ""
    new.tombstone = False
    new.collected = []
    new.value = value
    new.told = [] if told is None else told
    return new


def fresh_result(call: StepCall, text: str, live: Any) -> Input:
    """A local step's result, as the input of its instance. text: its JSON; live: the value itself, or UNREAD."""
    cause: Cause = _new(Cause)
    cause.kind = "result"
    cause.type = call.step
    cause.source = "local"
    cause.id = call.key
    cause.partition = -1
    cause.offset = -1
    cause.headers = ()
    cause.value = text.encode()
    cause.note = ""
    new: Input = _new(Input)
    new.cause = cause
    new.instance = call.instance
    new.at = 0
    new.type = call.step
    new.body = text
    new.live = live
    new.in_reply_to = call.key
    new.outcome = "ok"
    new.attempt = call.attempt
    new.error = ""
    new.reason = ""
    new.wait_id = ""
    new.timer = ""
    new.early = ()
    new.early_digests = ()
    new.epoch = 0
    new.writer = ""
    new.position = ""
    new.digest = b""
    new.value = ""
    new.published = True
    new.map = call.map
    new.item = call.item
    new.parent = ""
    new.maps = None
    new.ask = None
    new.undoes = ""
    new.order = None
    new.sender = None
    return new
