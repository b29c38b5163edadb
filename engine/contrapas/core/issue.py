"""Issuing an operation: it becomes pending, its undo entry is registered, and what it sends goes out with the record."""

from __future__ import annotations

from typing import Any

from contrapas.author.op import MISSING, Op
from contrapas.core import children, flight, items, kin, limits, messages, undo, unwind, waits
from contrapas.core.envelope import Frame, Join, Node, Pending
from contrapas.core.fresh import fresh_call, fresh_pending
from contrapas.core.outcomes import Kept, dump_body, keep_list, keep_some
from contrapas.core.plans import START, plan_of
from contrapas.core.policies import policy_text
from contrapas.core.work import Line, SagaBug, Unfit, Work
from contrapas.core.world import UNREAD
from contrapas.errors import DataError


def issue(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    """Issue what a line awaits. It waits afterwards, or its answer is known at once and it is to be resumed (L26)."""
    kind = op.kind
    if kind == "command" or kind == "ask":
        _command(work, line, label, op)
    elif kind == "local":
        _local(work, line, label, op)
    elif kind == "wait":
        _wait(work, line, label, op)
    elif kind == "sleep":
        line.node.pending = _pending(work, line, label, op, deadline=limits.moment(work, op))
    elif kind == "child":
        _child(work, line, label, op)
    elif kind == "cancel":
        _cancel(work, line, label, op)
    elif kind == "map":
        _map(work, line, label, op)
    elif kind == "frame":
        _frame(work, line, label, op)
    elif kind in ("all", "first", "some"):
        _join(work, line, label, op)
    elif kind == "result":
        flight.result(work, line, label, op)
    elif kind == "next":
        flight.following(work, line, label, op)
    elif kind == "join":
        flight.join(work, line, label, op)
    elif kind in ("compensate", "unwind"):
        _unwind(work, line, label, kind)
    else:
        raise SagaBug(TypeError(f"{op!r} is no operation that can be awaited here"))


def _pending(work: Work, line: Line, label: str, op: Op[Any], *, deadline: int | None) -> Pending:
    key = work.key(line, label)
    pending = fresh_pending(key, label, work.record.version, op.kind, op.name, work.at)
    pending.deadline = deadline
    return pending


def _command(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    mt = work.types.messages[op.name]
    pending = _pending(work, line, label, op, deadline=limits.moment(work, op))
    pending.types = mt.replies
    pending.target = messages.key_of(mt, op.value)
    pending.undo = undo.register(work, line, op, label=label, key=pending.key, types=mt.replies)
    line.node.pending = pending
    if work.observe:
        cause = waits.take_kept(work, mt.replies)
        if cause is not None:
            work.kept_answers.append((line, pending, cause))
        return
    pending.body = dump_body(op.value)
    if op.retry is not None:
        pending.policy = policy_text(op.retry)
        if op.retry.each_ms is not None:
            pending.each_at = work.at + op.retry.each_ms
    work.send_command(pending)


def _local(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    plan = work.step_plan(op.name)
    if work.observe and not plan.step.observe:
        raise DataError(
            "CP721",
            f"{label} is a local step, which an observed saga does not run",
            fix="@step(observe=True)",
        )
    record = work.record
    key = work.key(line, label)
    pending = fresh_pending(key, label, record.version, "local", op.name, work.at)
    pending.policy = plan.policy if op.retry is None else policy_text(op.retry)
    pending.body = plan.dump(op.value)
    if op.within_ms is not None or op.until is not None:
        pending.deadline = limits.moment(work, op)
    if op.undo is not None and (op.undo is not MISSING or plan.own_undo):
        pending.undo = undo.register(work, line, op, label=label, key=pending.key)
    line.node.pending = pending
    args, kwargs = op.value
    exact = len(args) <= plan.exact and not kwargs and '"$' not in pending.body
    work.steps.append(fresh_call(record, pending, plan.step.timeout_ms, op.value if exact else UNREAD))


def _wait(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    pending = _pending(work, line, label, op, deadline=limits.moment(work, op))
    pending.types = tuple([work.types.message_of(cls).name for cls in op.value])
    line.node.pending = pending
    value = "" if op.correlate is None else str(op.correlate)
    if work.record.map and value in ("", work.saga.key):
        raise kin.by_key(work, label)
    if value and value != work.record.key:
        pending.correlate = value
        pending.wait_id = pending.key
        waits.bind(work, pending, fresh=op.fresh)
        return
    if op.fresh:
        waits.drop_kept(work, pending.types)
        return
    cause = waits.take_kept(work, pending.types)
    if cause is not None:
        work.kept_answers.append((line, pending, cause))


def _child(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    machine = work.world.machines.get(op.name)
    if machine is None:
        raise Unfit(f"no saga {op.name!r} here")
    if work.observe:
        raise DataError("CP721", f"{label} begins a child, which an observed saga does not", fix="s.wait")
    mt = work.type_of(op.value)
    if mt.name not in machine.starts:
        raise DataError(
            "CP402",
            f"{mt.name} does not start {op.name}",
            expected=", ".join(machine.starts) or "nothing",
            got=mt.name,
        )
    pending = _pending(work, line, label, op, deadline=limits.moment(work, op))
    pending.types = machine.outcomes
    pending.target = messages.key_of(mt, op.value)
    pending.correlate = mt.name
    pending.body = dump_body(op.value)
    pending.undo = undo.register(work, line, op, label=label, key=pending.key, types=machine.outcomes)
    line.node.pending = pending
    children.send(work, pending)


def _map(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    if op.many.saga:
        _map_saga(work, line, label, op)
        return
    plan = work.step_plan(op.name)
    if work.observe and not plan.step.observe:
        raise DataError(
            "CP721",
            f"{label} runs a local step, which an observed saga does not",
            fix="@step(observe=True)",
        )
    if not op.value:
        work.resume(line, [] if line.node.frames else Kept(keep_list([], listed=True)))
        return
    pending = _pending(work, line, label, op, deadline=limits.moment(work, op))
    pending.policy = plan.policy if op.retry is None else policy_text(op.retry)
    pending.body = items.body_of(op, [plan.dump(((item,), {})) for item in op.value])
    pending.undo = undo.register_map(work, line, op, pending)
    line.node.pending = pending


def _map_saga(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    if work.observe:
        raise DataError(
            "CP721", f"{label} runs sagas of their own, which an observed saga does not", fix="s.all"
        )
    _limit(work, line, label, op)
    texts = kin.texts_of(work.world, op.name, op.value)
    if not texts:
        work.resume(line, [] if line.node.frames else Kept(keep_list([], listed=True)))
        return
    pending = _pending(work, line, label, op, deadline=None)
    pending.target = kin.NESTED
    pending.body = items.body_of(op, texts)
    pending.undo = undo.register_map(work, line, op, pending)
    line.node.pending = pending


def _cancel(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    """Ask another instance to end; it answers when it has."""
    if work.observe:
        raise DataError("CP721", f"{label}: an observed saga cancels nobody", fix="app.orchestrate(…)")
    key, reason = str(op.value[0]), str(op.value[1])
    messages.checked_key(key, label)
    pending = _pending(work, line, label, op, deadline=None)
    pending.target = key
    line.node.pending = pending
    work.record.out.append(messages.cancel(work.record, pending, reason, work.world))


def _frame(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    machine = work.world.machines.get(op.name)
    if machine is None:
        raise Unfit(f"no saga {op.name!r} here")
    _limit(work, line, label, op)
    args, kwargs = op.value
    try:
        values = plan_of(machine).bind(args, kwargs)
    except TypeError as why:
        work.resume(line, None, why)
        return
    frame = Frame(saga=machine.name, graph=machine.graph, label=START, slots={})
    if op.undo is not None and op.undo is not MISSING:
        frame.undo = undo.register(work, line, op, label=label, key=work.key(line, label))
    line.node.frames.append(frame)
    work.fresh[id(frame)] = values
    if line.up is not None and line.begun is None and len(line.node.frames) == 1:
        work.resume(line)  # a branch of a join: its siblings begin in order of position
    else:
        work.now(line)


def _limit(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    """`within=` of a called saga or join: of a branch as a whole; an awaited one stands in a scope that has it."""
    if op.within_ms is None and op.until is None:
        return
    if line.node.frames:
        raise DataError("CP850", f"{label}: within= outside of a scope", fix="compile the saga")
    limits.limit_branch(work, line, op)


def _join(work: Work, line: Line, label: str, op: Op[Any]) -> None:
    if op.kind == "some" and op.value == (0, "cancel"):  # all given up before they are issued
        work.now(line, [] if line.node.frames else Kept(keep_some([])))
        return
    _limit(work, line, label, op)
    children = [Node() for _ in op.children]
    line.node.join = Join(
        kind=op.kind,
        label=label,
        visit=work.record.version,
        fail_fast=op.fail_fast,
        children=children,
        listed=op.listed,
    )
    if op.kind == "some":
        line.node.join.need, line.node.join.ignore = op.value[0], op.value[1] == "ignore"
    for position, child in enumerate(op.children):
        issue(work, line.child(position), label_of(child), child)
    work.rejoin(line)


def label_of(op: Op[Any]) -> str:
    """The label of an operation inside a join, which has no state of its own."""
    return op.label or (f"{op.kind}({op.name})" if op.kind in ("wait", "map", "child") else op.name)


def _unwind(work: Work, line: Line, label: str, kind: str) -> None:
    """`compensate`, or a scope that failed: its limit has done its work, or counts no more."""
    frame = line.node.frames[-1]
    limit = limits.of_scope(frame)
    if kind == "unwind" and limit is not None and not limit.expired:
        frame.limits = [other for other in frame.limits if other is not limit]
    if not flight.before_unwinding(work, line, label):
        unwind.scope(work, line, kind)
