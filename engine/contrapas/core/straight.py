"""The straight path: a local step's result resumes the only frame of an instance, which issues its next step.

Nearly every transition of a busy worker is this one. What the general path does for any shape of instance in some fifty
calls is done here for this one shape in a dozen, with the very same outcome: tests compare the two byte for byte. What
does not look like it is left to the general path, before the author's code ran; what turns out to be something else
afterwards is handed over in the middle, so that the author's code runs once.
"""

from __future__ import annotations

from dataclasses import MISSING as UNSET
from dataclasses import fields
from typing import Any, Final

from contrapas.author.op import MISSING, Op
from contrapas.author.saga import Saga
from contrapas.core import frames
from contrapas.core.copies import copy_undo, moved_frame
from contrapas.core.envelope import Frame, InstanceRecord, Node, Pending
from contrapas.core.fresh import fresh_call, fresh_pending
from contrapas.core.outcomes import keep_step
from contrapas.core.policies import policy_text
from contrapas.core.undo import register
from contrapas.core.work import FATAL, Stretch, Work, next_record
from contrapas.core.world import UNREAD, Input, StepCall, World
from contrapas.machine import AWAIT

_KNOWN: Final = {
    InstanceRecord: "instance saga key version epoch writer run mode on_late status root cause at started_at ended_at "
    "deadline pivoted cancel outcome outcome_body error unwound undone paused retain_until late_replies_ms undo_count "
    "start_id start_digest positions seen kept out unsent owed binds parked talk parent parent_ops cancelled_at again head memory",
    Node: "frames pending join unwinding undo result error cancel limit",
    Frame: "saga graph label slots scopes undo begun limits",
    Pending: "key label visit kind name types attempt deadline retry_at policy body correlate wait_id undo since error "
    "each_at target undoes raw",
}


def _unknown(cls: Any) -> tuple[tuple[str, Any], ...]:
    """Fields that this path was not made for, with their defaults: where one of them is set, it is not walked."""
    found: list[tuple[str, Any]] = []
    for f in fields(cls):
        make: Any = f.default_factory
        if f.name not in _KNOWN[cls].split() and (f.default is not UNSET or make is not UNSET):
            found.append((f.name, f.default if make is UNSET else make()))
    return tuple(found)


_OF_RECORD, _OF_NODE, _OF_FRAME, _OF_PENDING = map(_unknown, (InstanceRecord, Node, Frame, Pending))
_CHANGES: Final = bool(_OF_RECORD or _OF_NODE or _OF_FRAME or _OF_PENDING)


def _strange(record: InstanceRecord, pending: Pending) -> bool:
    """Is a field set that came later than this path?"""
    looked = (
        (record, _OF_RECORD),
        (record.root, _OF_NODE),
        (record.root.frames[0], _OF_FRAME),
        (pending, _OF_PENDING),
    )
    return any(getattr(of, name) != usual for of, unknown in looked for name, usual in unknown)


def straight(
    record: InstanceRecord, event: Input, world: World
) -> Work | tuple[InstanceRecord, StepCall] | None:
    """The successor and the step it issues; or the work in hand, to be finished by the general path; or None: nothing
    was done, the general path it is. The record must be neither parked nor paused."""
    root = record.root
    pending = root.pending
    if (
        pending is None
        or pending.key != event.in_reply_to
        or pending.kind != "local"
        or event.outcome != "ok"
    ):
        return None
    if (
        len(root.frames) != 1
        or root.join is not None
        or root.unwinding is not None
        or record.mode == "observe"
    ):
        return None
    number = pending.undo
    if event.cause.kind != "result" or (number >= 0 and not (root.undo and root.undo[-1].number == number)):
        return None
    frame = root.frames[0]
    if record.talk is not None or record.parent or record.again or record.cancelled_at is not None:
        return None
    if root.limit is not None or frame.begun or frame.limits or (_CHANGES and _strange(record, pending)):
        return None
    plan = world.plans.get(frame.saga)
    if (
        plan is None
        or plan.flies
        or plan.graph != frame.graph
        or plan.machine is not world.machines.get(frame.saga)
    ):
        return None
    at = plan.by_label.get(frame.label)
    if at is None:
        return None
    value: Any = event.live
    if value is UNREAD:
        value = world.types.steps[pending.name].result.load(event.body)
    new = next_record(record, event)
    node = new.root
    node.pending = None
    if number >= 0:
        entry = node.undo[-1] = copy_undo(node.undo[-1])
        entry.status = "done"
        if entry.needs_reply:
            entry.reply = keep_step(pending.name, event.body)
    loaded = at.load(frame)
    ambients = world.ambient(plan.machine) if plan.machine.ambients else ()
    activation = Stretch(new, world.log)
    saga = Saga(activation)
    raised: BaseException | None = None
    result: tuple[Any, ...] = ()
    try:
        result = plan.function(at.index, value, None, loaded, saga, *ambients)
    except FATAL:
        raise
    except BaseException as why:  # noqa: BLE001  whatever the author's code raises
        raised = why
    if raised is None and not activation.effects and result[0] == AWAIT and _at_leisure(result[2]):
        index: int = result[1]
        op: Op[Any] = result[2]
        state = plan.by_index[index]
        step = world.step_plans.get(op.name)
        if state is not None and not state.handling and step is not None:
            texts = state.save(at.touches, frame.slots, loaded, result[3])
            node.frames[0] = moved_frame(frame, plan.graph, state.label, texts)
            pending = fresh_pending(
                f"{new.instance}/{new.run}/{state.label}/{new.version}",
                state.label,
                new.version,
                "local",
                op.name,
                event.at,
            )
            pending.policy = step.policy if op.retry is None else policy_text(op.retry)
            pending.body = step.dump(op.value)
            if op.within_ms is not None:
                pending.deadline = event.at + op.within_ms
            if op.undo is not None and (op.undo is not MISSING or step.own_undo):
                work = Work(new, event, world)
                work.activation, work.saga = activation, saga
                pending.undo = register(work, work.root, op, label=state.label, key=pending.key)
            node.pending = pending
            new.status = "running"
            args, kwargs = op.value
            exact = len(args) <= step.exact and not kwargs and '"$' not in pending.body
            return new, fresh_call(new, pending, step.step.timeout_ms, op.value if exact else UNREAD)
    work = Work(new, event, world)
    work.activation, work.saga = activation, saga
    activation.work = work
    if ambients:
        work.ambients[plan.machine.name] = ambients
    frames.go_on(work, frame, plan, at, loaded, raised, result)
    return work


def _at_leisure(op: Any) -> bool:
    """A local step without a moment at which it must be over."""
    return op.kind == "local" and op.until is None
