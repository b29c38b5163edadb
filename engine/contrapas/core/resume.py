"""After a takeover: what the record says is pending is issued again, under the same idempotency keys."""

from __future__ import annotations

from contrapas.core.envelope import InstanceRecord
from contrapas.core.world import StepCall, World


def reissue(record: InstanceRecord, epoch: int, world: World) -> list[StepCall]:
    """Local steps in progress, one call each. None while parked, nor for an attempt that is still to come; a paused
    instance's steps go on, as they would have without the takeover."""
    if record.parked is not None:
        return []
    calls: list[StepCall] = []
    for pending in record.operations():
        if pending.kind != "local" or pending.retry_at is not None:
            continue
        step = world.types.steps.get(pending.name)
        if step is not None:
            calls.append(
                StepCall(
                    instance=record.instance,
                    key=pending.key,
                    step=pending.name,
                    attempt=pending.attempt,
                    body=pending.body,
                    timeout_ms=step.timeout_ms,
                    label=pending.label,
                    epoch=epoch,
                    undoes=pending.undoes,
                )
            )
    return calls
