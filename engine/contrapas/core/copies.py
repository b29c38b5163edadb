"""Copies for one transition: nodes and joins are copied whole, leaves (pending, undo entry, frame) when they change.

A leaf that stands in a record is never changed; who wants to change one copies it first. So a transition costs what it
touches, and the record it was given stays as it was. The copies are written out field by field, which is several times
as fast as any general way; a test compares them with the fields that there are.
"""

from __future__ import annotations

from contrapas.core.envelope import (
    Begun,
    Cause,
    Frame,
    InstanceRecord,
    Join,
    Limit,
    Node,
    Pending,
    UndoEntry,
)

_new = object.__new__


def copy_pending(old: Pending) -> Pending:
    """An operation in flight."""
    new: Pending = _new(Pending)
    new.key = old.key
    new.label = old.label
    new.visit = old.visit
    new.kind = old.kind
    new.name = old.name
    new.types = old.types
    new.attempt = old.attempt
    new.deadline = old.deadline
    new.retry_at = old.retry_at
    new.policy = old.policy
    new.body = old.body
    new.correlate = old.correlate
    new.wait_id = old.wait_id
    new.undo = old.undo
    new.since = old.since
    new.error = old.error
    new.each_at = old.each_at
    new.target = old.target
    new.undoes = old.undoes
    new.raw = b""
    return new


def copy_frame(old: Frame) -> Frame:
    """A frame; its slots are shared, for they are replaced and never changed."""
    new: Frame = _new(Frame)
    new.saga = old.saga
    new.graph = old.graph
    new.label = old.label
    new.slots = old.slots
    new.scopes = old.scopes
    new.undo = old.undo
    new.begun = old.begun
    new.limits = old.limits
    return new


def moved_frame(old: Frame, graph: str, label: str, slots: dict[str, str]) -> Frame:
    """A frame at its next await."""
    new: Frame = _new(Frame)
    new.saga = old.saga
    new.graph = graph
    new.label = label
    new.slots = slots
    new.scopes = old.scopes
    new.undo = old.undo
    new.begun = old.begun
    new.limits = old.limits
    return new


def copy_cause(old: Cause) -> Cause:
    """A cause, so that a note on it stays here."""
    new: Cause = _new(Cause)
    new.kind = old.kind
    new.type = old.type
    new.source = old.source
    new.id = old.id
    new.partition = old.partition
    new.offset = old.offset
    new.headers = old.headers
    new.value = old.value
    new.note = old.note
    return new


def noted(old: Cause, note: str) -> Cause:
    """A cause with a note of its own."""
    new = copy_cause(old)
    new.note = note
    return new


def copy_undo(old: UndoEntry) -> UndoEntry:
    """An entry with branch lists of its own; the entries in them are shared."""
    new: UndoEntry = _new(UndoEntry)
    new.number = old.number
    new.label = old.label
    new.visit = old.visit
    new.key = old.key
    new.status = old.status
    new.kind = old.kind
    new.name = old.name
    new.body = old.body
    new.captures = old.captures
    new.saga = old.saga
    new.graph = old.graph
    new.types = old.types
    new.step = old.step
    new.reply = old.reply
    new.needs_reply = old.needs_reply
    new.policy = old.policy
    new.within_ms = old.within_ms
    new.branches = [list(branch) for branch in old.branches]
    new.unknown_at = old.unknown_at
    new.lost = old.lost
    new.owed_until = old.owed_until
    new.pending = old.pending
    new.note = old.note
    new.undo_failed = old.undo_failed
    new.raw = b""
    return new


def copy_join(old: Join) -> Join:
    """A join and the nodes below it. Branches that a record holds as bytes are shared until somebody looks into them."""
    new: Join = _new(Join)
    new.kind = old.kind
    new.label = old.label
    new.visit = old.visit
    new.fail_fast = old.fail_fast
    new.children = [child if child.raw else copy_node(child) for child in old.children]
    new.done_order = list(old.done_order)
    new.winner = old.winner
    new.thrown = old.thrown
    new.listed = old.listed
    new.need = old.need
    new.ignore = old.ignore
    return new


def copy_begun(old: Begun) -> Begun:
    """An operation in flight and the nodes below it."""
    new: Begun = _new(Begun)
    new.label = old.label
    new.visit = old.visit
    new.depth = old.depth
    new.node = copy_node(old.node)
    new.suffix = old.suffix
    new.saga = old.saga
    new.number = old.number
    new.ended = old.ended
    new.given = old.given
    new.owed = old.owed
    return new


def copy_limit(old: Limit) -> Limit:
    """A limit."""
    new: Limit = _new(Limit)
    new.depth = old.depth
    new.key = old.key
    new.since = old.since
    new.deadline = old.deadline
    new.expired = old.expired
    return new


def _frames(old: list[Frame]) -> list[Frame]:
    """Frames with something in flight are copied whole; the others when they change."""
    new = list(old)
    for i, frame in enumerate(old):
        if frame.begun or frame.limits:
            made = new[i] = copy_frame(frame)
            made.begun = [copy_begun(begun) for begun in frame.begun]
            made.limits = [copy_limit(limit) for limit in frame.limits]
    return new


def copy_node(old: Node) -> Node:
    """A node that may be changed, and the nodes below it."""
    new: Node = _new(Node)
    new.frames = _frames(old.frames) if old.frames else []
    new.limit = None if old.limit is None else copy_limit(old.limit)
    new.pending = old.pending
    new.join = None if old.join is None else copy_join(old.join)
    new.unwinding = old.unwinding
    new.undo = list(old.undo)
    new.result = old.result
    new.error = old.error
    new.cancel = old.cancel
    new.raw = b""
    return new


def copy_record(old: InstanceRecord) -> InstanceRecord:
    """A record that may be changed: its node tree and its lists are its own, the dedupe memory excepted."""
    new: InstanceRecord = _new(InstanceRecord)
    new.instance = old.instance
    new.saga = old.saga
    new.key = old.key
    new.version = old.version
    new.epoch = old.epoch
    new.writer = old.writer
    new.run = old.run
    new.mode = old.mode
    new.on_late = old.on_late
    new.status = old.status
    new.root = copy_node(old.root)
    new.cause = old.cause
    new.at = old.at
    new.started_at = old.started_at
    new.ended_at = old.ended_at
    new.deadline = old.deadline
    new.pivoted = old.pivoted
    new.cancel = old.cancel
    new.outcome = old.outcome
    new.outcome_body = old.outcome_body
    new.error = old.error
    new.unwound = old.unwound
    new.undone = old.undone
    new.paused = old.paused
    new.retain_until = old.retain_until
    new.late_replies_ms = old.late_replies_ms
    new.undo_count = old.undo_count
    new.start_id = old.start_id
    new.start_digest = old.start_digest
    new.positions = old.positions
    new.seen = old.seen
    new.kept = list(old.kept)
    new.out = []
    new.unsent = old.unsent
    new.owed = list(old.owed)
    new.binds = list(old.binds)
    new.parked = old.parked
    new.talk = old.talk
    new.parent = old.parent
    new.parent_ops = old.parent_ops
    new.cancelled_at = old.cancelled_at
    new.again = old.again
    new.head = old.head
    new.memory = old.memory
    return new
