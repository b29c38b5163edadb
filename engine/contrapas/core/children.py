"""Children: instances that a saga begins and waits for (X13). Start, answer and cancel travel on the inbound lane.

The start's id is the operation's key; so is what the answer replies to. A child knows its parent by instance and run: the
same parent, asking again for the same key, gets the first answer; anybody else is declined.
"""

from __future__ import annotations

import json
from typing import Final

from contrapas.core.envelope import InstanceRecord, Message, Pending
from contrapas.core.lane import Headers
from contrapas.core.messages import VALUE_MAX, time_text, trace_headers
from contrapas.core.work import Work
from contrapas.errors import DataError

CHILD: Final = "@child"
"""In the place of a step's name: the entry takes back what a child did."""
OPS_MAX: Final = 256
EXISTS: Final = "exists"
_JSON: Final = ("content-type", b"application/json")
_SPEC: Final = ("ce_specversion", b"1.0")


def parent_of(record: InstanceRecord) -> str:
    """How children know an instance."""
    return f"{record.instance}/{record.run}"


def instance_of(parent: str) -> str:
    """The instance in a parent's name."""
    return parent.rpartition("/")[0]


def send(work: Work, pending: Pending) -> None:
    """Begin a child, with the record."""
    record = work.record
    value = pending.body.encode()
    if len(value) > VALUE_MAX:
        raise DataError("CP409", f"{pending.correlate} has {len(value)} bytes, {VALUE_MAX} are allowed")
    key = pending.target.encode()
    headers: Headers = (
        ("ce_id", pending.key.encode()),
        _SPEC,
        ("ce_source", f"/contrapas/{work.world.namespace}/{record.saga}".encode()),
        ("ce_type", pending.correlate.encode()),
        _JSON,
        ("ce_subject", key),
        ("ce_time", time_text(work.at)),
        ("ce_partitionkey", key),
        ("ce_correlationid", record.instance.encode()),
        ("ce_causationid", record.cause.id.encode()),
        ("cp-kind", b"start"),
        ("cp-to", f"{pending.name}/{pending.target}".encode()),
        ("cp-parent", parent_of(record).encode()),
        *trace_headers(record.cause),
    )
    record.out.append(Message(to="in", key=key, value=value, headers=headers, id=pending.key))


def forward(work: Work, pending: Pending) -> None:
    """The saga is cancelled or killed: so is the child it waits for."""
    record = work.record
    verb = "kill" if record.cancel == "kill" else "cancel"
    key = pending.target.encode()
    ident = f"{pending.key}!{verb}"
    body = json.dumps({"verb": verb, "reason": f"{verb} of {record.instance}"}, ensure_ascii=False)
    headers: Headers = (
        ("ce_id", ident.encode()),
        ("ce_source", f"/contrapas/{work.world.namespace}/{record.saga}".encode()),
        ("cp-kind", b"operate"),
        ("cp-to", f"{pending.name}/{pending.target}".encode()),
        ("cp-parent", parent_of(record).encode()),
        _JSON,
    )
    record.out.append(Message(to="in", key=key, value=body.encode(), headers=headers, id=ident))


def answer(work: Work) -> None:
    """A child has ended: whoever waits for it is told."""
    record = work.record
    for op in record.parent_ops:
        record.out.append(answer_of(record, op, work.world.namespace))


def answer_of(record: InstanceRecord, op: str, namespace: str) -> Message:
    """What an ended child tells one operation: its outcome, or that it has none."""
    if record.outcome:
        return _answer(record.parent, op, "ok", record.outcome_body, record.outcome, namespace, record.saga)
    if not record.error and not record.unwound:
        return _answer(record.parent, op, "done", "null", "", namespace, record.saga)
    reason = json.dumps({"reason": record.error[:1000] or "failed"}, ensure_ascii=False)
    return _answer(record.parent, op, "declined", reason, "", namespace, record.saga)


def declined(parent: str, op: str, namespace: str, saga: str) -> Message:
    """What anybody is told who would begin a child where there is another one."""
    return _answer(parent, op, "declined", json.dumps({"reason": EXISTS}), "", namespace, saga)


def _answer(
    parent: str, op: str, outcome: str, body: str, type_name: str, namespace: str, saga: str
) -> Message:
    instance = instance_of(parent)
    key = instance.partition("/")[2].encode()
    ident = f"{op}!answer"
    headers: Headers = (
        ("ce_id", ident.encode()),
        _SPEC,
        ("ce_source", f"/contrapas/{namespace}/{saga}".encode()),
        *((("ce_type", type_name.encode()),) if type_name else ()),
        _JSON,
        ("cp-kind", b"reply"),
        ("cp-to", instance.encode()),
        ("cp-in-reply-to", op.encode()),
        ("cp-outcome", outcome.encode()),
    )
    return Message(to="in", key=key, value=body.encode(), headers=headers, id=ident)
