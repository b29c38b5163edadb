"""Limits in time of scopes and of branches (X16): at expiry `Cancelled` is thrown, the scope leaves as `StepFailed`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from contrapas.author.op import Op
from contrapas.core import cancel
from contrapas.core.begun import reason
from contrapas.core.envelope import Frame, Limit
from contrapas.core.undo import lines
from contrapas.core.work import Line, Work


def moment(work: Work, op: Op[Any]) -> int | None:
    """When an operation's `within=` or `until=` ends, in ms of log time."""
    return moment_of(work, op.within_ms, op.until)


def moment_of(work: Work, within_ms: int | None, until: datetime | None) -> int | None:
    """The same of a length or a moment."""
    if within_ms is not None:
        return work.at + within_ms
    return None if until is None else -(-int(until.timestamp() * 1_000_000) // 1000)


def enter(work: Work, line: Line, frame: Frame, within_ms: int | None, until: datetime | None) -> None:
    """A limited scope was opened: the frame's last."""
    made = _limit(work, line, len(frame.scopes) - 1, moment_of(work, within_ms, until))
    frame.limits = [*frame.limits, made]


def limit_branch(work: Work, line: Line, op: Op[Any]) -> None:
    """A called saga or a join that is a branch is limited as a whole."""
    deadline = moment(work, op)
    if deadline is not None:
        line.node.limit = _limit(work, line, -1, deadline)


def _limit(work: Work, line: Line, depth: int, deadline: int | None) -> Limit:
    return Limit(depth=depth, key=work.mint("scope", line.suffix), since=work.at, deadline=deadline)


def of_scope(frame: Frame) -> Limit | None:
    """The limit of a frame's innermost open scope."""
    depth = len(frame.scopes) - 1
    return next((limit for limit in frame.limits if limit.depth == depth >= 0), None)


def fire(work: Work, key: str) -> bool:
    """A limit's time is over; says whether it still counted."""
    for line in lines(work.root):
        limit = line.node.limit
        if limit is not None and limit.key == key:
            return _expire(work, line, -1, limit)
        for at, frame in enumerate(line.node.frames):
            for limit in frame.limits:
                if limit.key == key:
                    return _expire(work, line, at, limit)
    return False


def _expire(work: Work, line: Line, at: int, limit: Limit) -> bool:
    if limit.expired or limit.deadline is None or limit.deadline > work.at:
        return False
    if work.record.pivoted or (work.observe and work.record.on_late != "compensate"):
        work.note(f"late: {'a branch' if at < 0 else 'a scope'} expired, {reason(limit)}")
        limit.deadline = None
        return True
    limit.expired = True
    _drop_inside(line, at, limit.depth)
    cancel.throw(work, line, reason(limit))
    return True


def _drop_inside(line: Line, at: int, depth: int) -> None:
    """Of nested limits the outermost expired one counts."""
    for number, frame in enumerate(line.node.frames):
        if number < at:
            continue
        inner = depth if number == at else -1
        if number > at or inner >= 0:
            frame.limits = [limit for limit in frame.limits if number == at and limit.depth <= inner]
        for begun in frame.begun:
            if number > at or begun.depth > inner:
                _drop_all(line.flight(begun))
    if line.node.join is not None:
        for position in range(len(line.node.join.children)):
            _drop_all(line.child(position))


def _drop_all(line: Line) -> None:
    for inner in lines(line):
        cancel.unlimit(inner)
