"""Joining in mid-stream: an observing saga meets an event whose start it never saw."""

from __future__ import annotations

from contrapas.core.decode import Arrival
from contrapas.core.outcomes import dump_body
from contrapas.errors import ContrapasError, DataError
from contrapas.runtime import apply
from contrapas.runtime.batch import Batch
from contrapas.runtime.partition import Partition


def meets(p: Partition, batch: Batch, a: Arrival) -> bool:
    """What the app says of an event that no instance takes: adopted, or only counted; False: it is kept as early."""
    unmatched = p.setting.world.unmatched
    takers = p.setting.routes.takes.get(a.type, ())
    if not unmatched or not takers or a.to or a.in_reply_to and a.kind != "reply":
        return False
    if any(p.standing(f"{saga}/{a.key}") for saga in takers):
        return False
    adopting = [saga for saga in takers if unmatched.get(saga) == "adopt"]
    for saga in adopting:
        _adopt(p, batch, a, saga)
    if adopting:
        return True
    if all(unmatched.get(saga) == "count" for saga in takers):
        p.counts.ignored += 1
        p.counts.unmatched += 1
        return True
    return False


def _adopt(p: Partition, batch: Batch, a: Arrival, saga: str) -> None:
    """Start a saga by what its function makes of the event; the event itself is the first that it keeps."""
    machine = p.setting.world.machines[saga]
    instance = f"{saga}/{a.key}"
    assert machine.adopt is not None
    try:
        first = machine.adopt(a.body)
        mt = p.setting.world.types.message_of(first.__class__)
        if mt.name not in machine.starts:
            raise DataError("CP402", f"{saga}: adopt= gave {mt.name}", expected=", ".join(machine.starts))
        if str(getattr(first, mt.key)) != a.key:
            raise DataError("CP413", f"{saga}: adopt= gave another key", expected=a.key[:80])
        body = dump_body(first)
    except Exception as why:  # noqa: BLE001  whatever the author's function raises, the event is not lost
        code = why.code if isinstance(why, ContrapasError) else "CP847"
        apply.bury_input(p, batch, a.record, code, f"adopt= of {saga}: {why}"[:500], instance)
        return
    event = apply.input_of(a, instance, "start", p.setting.world)
    early = apply.cause_of(a, "event")
    event.early, event.early_digests = (early,), (event.digest,)
    event.type, event.body, event.cause.type = mt.name, first, mt.name
    event.cause.value, event.cause.note = body.encode(), f"adopted from {a.type}"
    event.parent = ""
    apply.account(p, batch, a, instance, apply.transition_of(p, batch, event))
