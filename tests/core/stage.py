"""A stage for one instance: feeds inputs to `transition`, through bytes after every one, and watches the rules that hold
always: the record given is untouched, encoding is exact, the status is one of the ten, ids repeat when computed again.
"""

from __future__ import annotations

import hashlib
from typing import Any

from contrapas.codec.registry import Registry
from contrapas.core.envelope import STATUSES, Cause, InstanceRecord, Message, Pending, UndoEntry
from contrapas.core.envelope_avro import decode, encode
from contrapas.core.headers import headers_of
from contrapas.core.outcomes import dump_body
from contrapas.core.rendezvous import digest_of
from contrapas.core.resume import reissue
from contrapas.core.timers import next_deadline, timers
from contrapas.core.transition import transition
from contrapas.core.undo import walk
from contrapas.core.world import Input, StepCall, Transition, World
from contrapas.machine import Machine
from tests.core import shop
from tests.core.general import in_general, written_in_general


class Stage:
    """One instance, its world, and a clock."""

    def __init__(
        self,
        *machines: Machine,
        mode: str = "orchestrate",
        on_late: str = "alert",
        registry: Registry = shop.REGISTRY,
    ) -> None:
        self.world = World(
            namespace="shop",
            machines={m.name: m for m in machines},
            types=registry,
            modes={machines[0].name: (mode, on_late)},
            ambient=lambda _: (),
        )
        self.instance = f"{machines[0].name}/o-9"
        self.now = 1_000_000
        self.offset = 0
        self.value: bytes | None = None
        self.warm: InstanceRecord | None = None
        """The same record as a worker holds it: never read from bytes, with what it keeps of earlier ones."""
        self.last = Transition(record=None)
        self.sent: list[Message] = []
        self.calls: list[StepCall] = []
        self.path: list[tuple[str, str]] = []

    @property
    def record(self) -> InstanceRecord:
        assert self.value is not None
        return decode(self.value)

    @property
    def status(self) -> str:
        return self.record.status

    def feed(self, event: Input) -> Transition:
        """One transition, twice: computed again, without any shortcut, it must give the same bytes and duties."""
        before = None if self.value is None else decode(self.value)
        change = transition(before, event, self.world)
        if before is not None:
            assert encode(before) == self.value, "transition changed the record it was given"
        again = in_general(None if self.value is None else decode(self.value), event, self.world)
        assert change.verdict == again.verdict and change.steps == again.steps
        assert (change.code, change.reason) == (again.code, again.reason)
        self.last = change
        self._warmed(event, change)
        if change.record is not None:
            assert again.record is not None
            value = encode(change.record)
            assert value == written_in_general(again.record), "computed again, the transition differs"
            assert change.value in (b"", value) and headers_of(change.record, value) == headers_of(
                again.record, value
            )
            assert encode(decode(value)) == value and decode(value) == change.record
            assert change.record.status in STATUSES
            assert change.record.version == (1 if before is None else before.version + 1)
            headers_of(change.record, value)
            due = min((t.at for t in timers(change.record)), default=None)
            assert next_deadline(change.record) == due, "the heap would not hold the next timer"
            self.value = value
            self.sent += change.record.out
            self.path.append((change.record.status, change.record.state))
        self.calls += change.steps
        if change.tombstone:
            self.value = None
        return change

    def _warmed(self, event: Input, cold: Transition) -> None:
        """The same from the record that a worker has in memory, whose branches it may share with the next one."""
        before = self.warm
        change = transition(before, event, self.world)
        if before is not None:
            assert written_in_general(before) == self.value, "transition changed the record it was given"
        assert (change.verdict, change.steps, change.code) == (cold.verdict, cold.steps, cold.code)
        assert (change.record is None) == (cold.record is None)
        if change.record is not None and cold.record is not None:
            assert encode(change.record) == written_in_general(cold.record), "kept bytes are out of date"
            self.warm = change.record
        if change.tombstone:
            self.warm = None

    def _input(self, kind: str, *, type: str = "", body: Any = None, data: bytes = b"", **more: Any) -> Input:
        self.offset += 1
        ident = f"e{self.offset}"
        cause = Cause(
            kind=kind,
            type=type,
            source="in",
            id=ident,
            partition=0,
            offset=self.offset,
            headers=(("ce_id", ident.encode()),),
            value=data,
        )
        return Input(
            cause=cause,
            instance=self.instance,
            at=self.now,
            type=type,
            body=body,
            epoch=1,
            writer="w",
            position="in/0",
            digest=digest_of("test", ident, data),
            **more,
        )

    def start(self, message: Any = None, **more: Any) -> Transition:
        message = message or shop.OrderPlaced(order_id="o-9", cents=4200)
        return self.feed(
            self._input(
                "start", type=type(message).__name__, body=message, data=dump_body(message).encode(), **more
            )
        )

    def event(self, message: Any, kind: str = "event", **more: Any) -> Transition:
        """An event or, with `in_reply_to`, a reply."""
        cls: Any = message.__class__
        name = self.world.types.message_of(cls).name
        return self.feed(self._input(kind, type=name, body=message, data=dump_body(message).encode(), **more))

    def reply(self, message: Any, label: str = "", key: str = "") -> Transition:
        """The answer to the pending operation of a label (the only one if empty)."""
        key = key or self.pending(label).key
        return self.event(message, "reply", in_reply_to=key)

    def result(self, value: Any, label: str = "", key: str = "") -> Transition:
        """A local step's good result."""
        pending = None if key else self.pending(label)
        key = key or self.pending(label).key
        step = self.world.types.steps[
            pending.name if pending else next(c.step for c in self.calls if c.key == key)
        ]
        event = self._input("result", body=step.result.dump(value), in_reply_to=key)
        event.position, event.digest = "", b""
        event.cause.headers = ()
        return self.feed(event)

    def answer(self, pending: Pending, value: Any) -> Transition:
        """The good result of one local step in flight."""
        dumped = self.world.types.steps[pending.name].result.dump(value)
        event = self._input("result", body=dumped, in_reply_to=pending.key)
        event.position, event.digest = "", b""
        return self.feed(event)

    def fails(self, why: BaseException, label: str = "", *, attempt: int = 0) -> Transition:
        """A local step's exception."""
        pending = self.pending(label)
        event = self._input(
            "result", in_reply_to=pending.key, outcome="error", attempt=attempt or pending.attempt
        )
        event.error = self.world.types.dump_exception(why)
        event.position, event.digest = "", b""
        return self.feed(event)

    def gave_up(self, label: str = "") -> Transition:
        """A handler's answer that the outcome is unknown."""
        return self.feed(
            self._input("reply", in_reply_to=self.pending(label).key, outcome="error", reason="database away")
        )

    def operate(self, verb: str, reason: str = "") -> Transition:
        return self.feed(self._input("operate", outcome=verb, reason=reason))

    def later(self, ms: int) -> list[Transition]:
        """Let time pass; timers fire one by one, in order, each as a transition."""
        until = self.now + ms
        done: list[Transition] = []
        while self.value is not None:
            due = sorted((t for t in timers(self.record) if t.at <= until), key=lambda t: (t.at, t.name))
            if not due:
                break
            self.now = max(self.now, due[0].at)
            event = self._input("timer", type=due[0].name, timer=due[0].name)
            event.position, event.digest = "", b""
            done.append(self.feed(event))
            if self.last.record is None:
                break
        self.now = until
        return done

    def pending(self, label: str = "") -> Pending:
        """The operation in flight of a label."""
        found = [p for p in self.record.operations() if not label or p.label == label]
        assert found, f"nothing pending {label!r}: {[p.label for p in self.record.operations()]}"
        return found[0]

    def labels(self) -> list[str]:
        """Labels of what is in flight."""
        return [p.label for p in self.record.operations()]

    def took(self, name: str) -> list[Message]:
        """Messages sent so far of a type."""
        return [m for m in self.sent if dict(m.headers).get("ce_type") == name.encode()]

    def types_sent(self) -> list[str]:
        """Types of what was sent, in order."""
        return [dict(m.headers).get("ce_type", b"").decode() for m in self.sent]

    def undo(self, label: str) -> UndoEntry:
        """The undo entry of a step, on a stack or owed."""
        record = self.record
        todo = [record.root]
        while todo:
            node = todo.pop()
            for _, entry in walk(node.undo):
                if entry.label == label and (entry.kind != "group" or entry.branches):
                    return entry
            if node.join is not None:
                todo += node.join.children
            todo += [begun.node for frame in node.frames for begun in frame.begun]
        return next(entry for entry in record.owed if entry.label == label)

    def reissued(self) -> list[StepCall]:
        return reissue(self.record, 2, self.world)


def sha(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
