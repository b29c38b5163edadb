"""The straight path: the success of a step or command resumes the only frame of an instance, which issues the next one.

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
from contrapas.core.messages import command, key_of
from contrapas.core.outcomes import dump_body, keep_message, keep_step
from contrapas.core.plans import StepPlan
from contrapas.core.policies import policy_text
from contrapas.core.undo import register
from contrapas.core.work import FATAL, Stretch, Work, next_record
from contrapas.core.world import UNREAD, Input, StepCall, World
from contrapas.machine import AWAIT

_KNOWN: Final = {
    InstanceRecord: "instance saga key version epoch writer run mode on_late status root cause at started_at ended_at "
    "deadline pivoted cancel outcome outcome_body error unwound undone paused retain_until late_replies_ms undo_count "
    "start_id start_digest positions seen kept out unsent owed binds parked talk parent parent_ops cancelled_at again head memory",
    Node: "frames pending join unwinding undo result error cancel limit raw",
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
) -> Work | tuple[InstanceRecord, StepCall | None] | None:
    """The successor and the step it issues; or the work in hand, to be finished by the general path; or None: nothing
    was done, the general path it is. The record must be neither parked nor paused."""
    root = record.root
    pending = root.pending
    if pending is None or pending.key != event.in_reply_to or event.outcome != "ok" or event.ask is not None:
        return None
    local = pending.kind == "local" and event.cause.kind == "result"
    if not local and not (
        pending.kind == "command" and event.cause.kind == "reply" and event.type == pending.types[0]
    ):
        return None
    if (
        len(root.frames) != 1
        or root.join is not None
        or root.unwinding is not None
        or record.mode == "observe"
        or root.raw
    ):
        return None
    number = pending.undo
    if number >= 0 and not (root.undo and root.undo[-1].number == number):
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
    value: Any = event.live if local else event.body
    if value is UNREAD:
        value = world.types.steps[pending.name].result.load(event.body)
    elif not local and world.types.messages[event.type].returns:
        value = value.value  # an entity's answer
    new = next_record(record, event)
    node = new.root
    node.pending = None
    if number >= 0:
        entry = node.undo[-1] = copy_undo(node.undo[-1])
        entry.status = "done"
        if entry.needs_reply:
            entry.reply = keep_step(pending.name, event.body) if local else keep_message(world, event.body)
    loaded = at.load(frame)
    ambients = world.ambient(plan.machine) if plan.machine.ambients else ()
    activation = Stretch(new, world.log, world.links)
    saga = Saga(activation)
    raised: BaseException | None = None
    result: tuple[Any, ...] = ()
    try:
        result = plan.function(at.index, value, None, loaded, saga, *ambients)
    except FATAL:
        raise
    except BaseException as why:  # noqa: BLE001  whatever the author's code raises
        raised = why
    if raised is None and not activation.effects and result[0] == AWAIT:
        op: Op[Any] = result[2]
        index: int = result[1]
        state = plan.by_index[index]
        if state is not None and not state.handling and op.until is None:
            if op.kind == "local":
                step = world.step_plans.get(op.name)
                if step is not None:
                    texts = state.save(at.touches, frame.slots, loaded, result[3])
                    node.frames[0] = moved_frame(frame, plan.graph, state.label, texts)
                    return new, _issue_step(new, event, world, activation, saga, state.label, op, step)
            elif op.kind == "command":
                texts = state.save(at.touches, frame.slots, loaded, result[3])
                node.frames[0] = moved_frame(frame, plan.graph, state.label, texts)
                _issue_command(new, event, world, activation, saga, state.label, op)
                return new, None
    work = Work(new, event, world)
    work.activation, work.saga = activation, saga
    activation.work = work
    if ambients:
        work.ambients[plan.machine.name] = ambients
    frames.go_on(work, frame, plan, at, loaded, raised, result)
    return work


def _pending(record: InstanceRecord, event: Input, label: str, op: Op[Any]) -> Pending:
    key = f"{record.instance}/{record.run}/{label}/{record.version}"
    pending = fresh_pending(key, label, record.version, op.kind, op.name, event.at)
    if op.within_ms is not None:
        pending.deadline = event.at + op.within_ms
    return pending


def _undo(
    record: InstanceRecord,
    event: Input,
    world: World,
    activation: Stretch,
    saga: Saga,
    op: Op[Any],
    of: Pending,
) -> int:
    """Register how the operation is taken back."""
    work = Work(record, event, world)
    work.activation, work.saga = activation, saga
    activation.work = work
    return register(work, work.root, op, label=of.label, key=of.key, types=of.types)


def _issue_step(
    record: InstanceRecord,
    event: Input,
    world: World,
    activation: Stretch,
    saga: Saga,
    label: str,
    op: Op[Any],
    step: StepPlan,
) -> StepCall:
    """What `issue` does for a local step."""
    pending = _pending(record, event, label, op)
    pending.policy = step.policy if op.retry is None else policy_text(op.retry)
    pending.body = step.dump(op.value)
    if op.undo is not None and (op.undo is not MISSING or step.own_undo):
        pending.undo = _undo(record, event, world, activation, saga, op, pending)
    record.root.pending = pending
    record.status = "running"
    args, kwargs = op.value
    exact = len(args) <= step.exact and not kwargs and '"$' not in pending.body
    return fresh_call(record, pending, step.step.timeout_ms, op.value if exact else UNREAD)


def _issue_command(
    record: InstanceRecord,
    event: Input,
    world: World,
    activation: Stretch,
    saga: Saga,
    label: str,
    op: Op[Any],
) -> None:
    """What `issue` does for a command."""
    mt = world.types.messages[op.name]
    pending = _pending(record, event, label, op)
    pending.types = mt.replies
    pending.target = key_of(mt, op.value)
    if op.undo is not None and op.undo is not MISSING:
        pending.undo = _undo(record, event, world, activation, saga, op, pending)
    record.root.pending = pending
    pending.body = dump_body(op.value)
    if op.retry is not None:
        pending.policy = policy_text(op.retry)
        if op.retry.each_ms is not None:
            pending.each_at = event.at + op.retry.each_ms
    record.out.append(command(record, pending, world, event.at))
    record.status = "waiting"
