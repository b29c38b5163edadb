"""A Hypothesis state machine over one saga: replies of every kind, late and doubled, time, crashes, cancel, in any order.

What is asserted after each step holds for every saga: nothing is sent twice under two ids for one visit, an undo never
runs for a step that failed for certain, what has ended owes nothing, versions grow by one. A saga's own rules go in `check`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contrapas.author.event import Event
from contrapas.codec.strict import load_model
from contrapas.core.envelope import ENDED, InstanceRecord, UndoEntry
from contrapas.testing.sagas import Run, Sagas, Seen
from contrapas.testing.twin import Mode

SKIPS_MS = (1, 1_000, 29_999, 30_000, 60_000, 3_600_000, 86_400_000)
CRASHES_MAX = 3
"""Of one run."""


def model_of(
    saga: Any,
    start: st.SearchStrategy[Event] | None = None,
    *,
    check: Callable[[Run[Any]], None] | None = None,
    prepare: Callable[[Sagas], None] | None = None,
    mode: Mode = "compiled",
) -> type[RuleBasedStateMachine]:
    """The state machine of a saga. start: its first event, else any that its class allows. check: the saga's own rules.
    prepare: stubs and providers."""
    first = st.from_type(_start_type(saga)) if start is None else start

    class Model(_Model):
        pass

    Model.saga, Model.first, Model.mode = saga, first, mode
    Model.checks, Model.prepares = staticmethod(check or _nothing), staticmethod(prepare or _nothing)
    Model.__name__ = Model.__qualname__ = f"Model_of_{saga.name}"
    return Model


def _nothing(_: Any) -> None:
    return None


def _start_type(saga: Any) -> type[Event]:
    import inspect
    import typing

    hints = typing.get_type_hints(saga.fn)
    parameters = list(inspect.signature(saga.fn).parameters)
    found: Any = hints[parameters[1]]
    options: tuple[type[Event], ...] = typing.get_args(found) or (found,)
    return options[0]


class _Model(RuleBasedStateMachine):
    saga: ClassVar[Any]
    first: ClassVar[Any]
    mode: ClassVar[Mode]
    checks: ClassVar[Any]
    prepares: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.sagas = Sagas(mode=self.mode)
        self.prepares(self.sagas)
        self.commands: list[Seen[Any]] = []
        self.sent: list[tuple[Event, str]] = []
        self.crashes = 0
        self.run: Run[Any] | None = None

    def go(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it on this machine's own loop."""
        return self.loop.run_until_complete(work)

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """The first event, once."""
        event = data.draw(self.first, label="start")
        self.run = self.go(self.sagas.start(self.saga, event))
        self.look()

    def look(self) -> None:
        """Meet commands that were sent since."""
        assert self.run is not None
        bench, mine = self.sagas.bench, self.run.instance.encode()
        met = {(c.id, c.attempt) for c in self.commands}
        for message in bench.world.types.messages.values():
            if not message.command:
                continue
            for record in bench.topic(message.topic or "in"):
                headers = dict(record.headers)
                if headers.get("ce_correlationid") != mine or headers.get("ce_type") != message.name.encode():
                    continue
                command = load_model(message.cls, record.value or b"", name=message.name)
                seen: Seen[Any] = Seen(self.run, record, command)
                if (seen.id, seen.attempt) not in met:
                    met.add((seen.id, seen.attempt))
                    self.commands.append(seen)

    @precondition(lambda self: self.commands)
    @rule(data=st.data())
    def reply(self, data: st.DataObject) -> None:
        """Answer any command, answered before or not, with any of its replies or with none that is known."""
        seen = data.draw(st.sampled_from(self.commands), label="command")
        types = self.sagas.bench.world.types
        kind: type = seen.command.__class__
        names = types.message_of(kind).replies
        name = data.draw(st.sampled_from([*names, ""]), label="reply")
        if not name:
            self.go(seen.fail())
        else:
            cls = types.messages[name].cls
            key = types.messages[name].key
            event = data.draw(st.from_type(cls), label=name)
            event = event.model_copy(update={key: self.run.key if self.run else ""})
            self.go(seen.reply(event))
        self.look()

    @rule(ms=st.sampled_from(SKIPS_MS))
    def time_passes(self, ms: int) -> None:
        """Timers fire."""
        self.go(self.sagas.skip(timedelta(milliseconds=ms)))
        self.look()

    @precondition(lambda self: self.crashes < CRASHES_MAX)
    @rule()
    def worker_dies(self) -> None:
        """And another takes over."""
        self.crashes += 1
        self.go(self.sagas.crash())
        self.look()

    @rule()
    def somebody_cancels(self) -> None:
        """An operator."""
        assert self.run is not None
        self.go(self.run.cancel())
        self.look()

    @precondition(lambda self: self.awaited())
    @rule(data=st.data())
    def event_comes(self, data: st.DataObject) -> None:
        """One that it waits for, new or the same again."""
        assert self.run is not None
        known = [s for s in self.sent if type(s[0]).__name__ in self.awaited()]
        again = bool(known) and bool(data.draw(st.booleans(), label="the same again"))
        if again:
            event, ident = data.draw(st.sampled_from(known), label="which")
        else:
            types = self.sagas.bench.world.types
            name = data.draw(st.sampled_from(self.awaited()), label="event")
            event = data.draw(st.from_type(types.messages[name].cls), label=name)
            event = event.model_copy(update={types.messages[name].key: self.run.key})
            ident = self.sagas.ident()
            self.sent.append((event, ident))
        self.go(self.run.send(event, event_id=ident))
        self.look()

    def awaited(self) -> list[str]:
        """Events it waits for now."""
        record = self.sagas.bench.record(self.run.instance) if self.run is not None else None
        if record is None:
            return []
        return sorted({t for p in record.operations() if p.kind == "wait" for t in p.types})

    @invariant()
    def what_holds_for_every_saga(self) -> None:
        """Of the newest record, and of the history."""
        if self.run is None:
            return
        self.sagas.look()
        record = self.sagas.bench.record(self.run.instance)
        if record is None:
            return
        versions = [r.version for r in self.sagas.history if r.instance == self.run.instance]
        assert versions == list(range(1, len(versions) + 1)), f"versions of {self.run.instance}: {versions}"
        if record.status in ENDED:
            assert not list(record.operations()), f"{self.run.instance} has ended, and still waits"
        for entry in entries_of(record):
            assert not (entry.status == "failed" and entry.pending), (
                f"{entry.label} failed, and is taken back"
            )
        self.checks(self.run)

    def teardown(self) -> None:
        """After every run."""
        self.sagas.close()
        self.loop.close()


def entries_of(record: InstanceRecord) -> list[UndoEntry]:
    """Every undo entry of the root line of execution, and those owed."""
    return [*record.root.undo, *record.owed]
