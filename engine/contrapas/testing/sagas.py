"""`Sagas`: what a test says to its sagas, and what it sees of them. In memory, with time in the test's hands.

The fixture `sagas` of the pytest plugin gives one. `start` gives a `Run`; `expect` a command that the run has sent; `reply`
its answer, as the participant would give it. Nothing sleeps, nothing is downloaded, no socket is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Concatenate, Generic, Literal, cast

from typing_extensions import TypeVar

from contrapas.author.duration import Duration, duration_ms
from contrapas.author.entity import Entity, spec_of
from contrapas.author.event import Command, Event
from contrapas.author.op import Op
from contrapas.author.saga import Saga, SagaDef
from contrapas.author.step import StepDef
from contrapas.codec.strict import load_model
from contrapas.compiler.entities import handlers_of
from contrapas.core.envelope import InstanceRecord
from contrapas.core.lane import Draft, Headers, Record
from contrapas.core.partition import home_of
from contrapas.core.world import World
from contrapas.errors import DataError, Refused
from contrapas.runtime.build import build
from contrapas.runtime.clock import JumpClock
from contrapas.runtime.definition import Definition, SagaUse
from contrapas.runtime.doors import event_draft, key_of, plain_draft, topic_draft, value_of
from contrapas.runtime.reach import reach
from contrapas.testing.bench import Bench
from contrapas.testing.coverage import Coverage
from contrapas.testing.handlers import native_of
from contrapas.testing.twin import Mode, Twins

E = TypeVar("E", bound=Event)
R_co = TypeVar("R_co", covariant=True)
Ok = TypeVar("Ok", bound=Event)
Fail = TypeVar("Fail", bound=Event)
C = TypeVar("C", bound=Command[Any, Any])
C_co = TypeVar("C_co", bound=Command[Any, Any], covariant=True)
NAMESPACE = "test"


class Seen(Generic[C_co]):
    """A command that a run has sent, and how to answer it."""

    def __init__(self, run: Run[Any], record: Record, command: C_co) -> None:
        self._run = run
        self._record = record
        self.command = command
        """What was sent."""
        self.headers = {name: value.decode(errors="replace") for name, value in record.headers}

    @property
    def id(self) -> str:
        """Its id: the same at every attempt."""
        return self.headers.get("ce_id", "")

    @property
    def attempt(self) -> int:
        """From 1."""
        return int(self.headers.get("cp-attempt", "1"))

    async def reply(self: Seen[Command[Ok, Fail]], event: Ok | Fail) -> None:
        """Answer it, as its participant would: the first reply type of the command is the success."""
        types = self._run.sagas.bench.world.types
        message, mine = types.message_of(type(event)), types.message_of(type(self.command))
        if message.name not in mine.replies:
            allowed = " or ".join(mine.replies)
            raise DataError(
                "CP402", f"{message.name} is no reply to {mine.name}", expected=allowed, got=message.name
            )
        outcome = "ok" if message.name == mine.replies[0] else "declined"
        await self._answer(message.name, message.topic, value_of(message, event), outcome)

    async def fail(self, reason: str = "the participant gave up") -> None:
        """Answer that the participant does not know what became of it: the outcome is unknown."""
        types = self._run.sagas.bench.world.types
        mine = types.message_of(type(self.command))
        topic = types.messages[mine.replies[0]].topic
        await self._answer("", topic, b'{"reason":%s}' % _json(reason), "error")

    async def _answer(self, name: str, topic: str, value: bytes, outcome: str) -> None:
        sagas, key = self._run.sagas, self._record.key
        sagas.count += 1
        by = self.headers.get("ce_correlationid", self._run.instance)
        headers: Headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", f"reply-{sagas.count}".encode()),
            ("ce_source", b"/test"),
            *((("ce_type", name.encode()),) if name else ()),
            ("ce_partitionkey", key),
            ("content-type", b"application/json"),
            ("ce_correlationid", by.encode()),
            ("cp-kind", b"reply"),
            ("cp-in-reply-to", self.id.encode()),
            ("cp-outcome", outcome.encode()),
        )
        if "cp-run" in self.headers:
            headers = (*headers, ("cp-run", self.headers["cp-run"].encode()))
        to = topic or "in"
        if to == "in":
            key = by.partition("/")[2].encode()
            headers = (*headers, ("cp-to", by.encode()))
        await sagas.publish(Draft(to, 0, key, value, headers, f"reply-{sagas.count}"))

    def __repr__(self) -> str:
        return f"<seen {self.command!r}>"


class Run(Generic[R_co]):
    """One instance under test."""

    def __init__(self, sagas: Sagas, saga: str, key: str) -> None:
        self.sagas = sagas
        self.saga = saga
        self.key = key
        self.instance = f"{saga}/{key}"
        self._met: dict[tuple[str, int], int] = {}

    @property
    def record(self) -> InstanceRecord:
        """Its newest record. AssertionError when there is none."""
        found = self.sagas.bench.record(self.instance)
        assert found is not None, f"there is no instance {self.instance}"
        return found

    @property
    def status(self) -> str:
        """One of the ten words: `waiting`, `done`, `compensated`, `parked` …"""
        return self.record.status

    @property
    def state(self) -> str:
        """Label of the state it is in."""
        return self.record.state

    @property
    def outcome(self) -> R_co:
        """The event it returned. AssertionError while there is none, saying where the instance stands."""
        record = self.record
        assert record.outcome, f"{self.instance} has no outcome: {self._where()}"
        message = self.sagas.bench.world.types.messages[record.outcome]
        return cast(R_co, load_model(message.cls, record.outcome_body.encode(), name=message.name))

    @property
    def locals(self) -> dict[str, str]:
        """The innermost frame's variables, as the record has them: JSON text by name."""
        frames = self.record.root.frames
        return dict(frames[-1].slots) if frames else {}

    async def expect(self, command: type[C]) -> Seen[C]:
        """The oldest command of that class that the run, or an item of its maps, has sent and the test has not met yet; a further attempt counts
        as a further command. AssertionError when there is none, saying what there is instead."""
        await self.sagas.settle()
        mine = self.sagas.bench.world.types.message_of(command)
        for record in self.sagas.bench.topic(mine.topic or "in"):
            headers = dict(record.headers)
            if headers.get("ce_type") != mine.name.encode():
                continue
            if not self._asked(headers.get("ce_correlationid", b"").decode()):
                continue
            place = headers.get("ce_id", b"").decode(), int(headers.get("cp-attempt", b"1"))
            if place in self._met:
                continue
            self._met[place] = record.offset
            return Seen(self, record, load_model(mine.cls, record.value or b"", name=mine.name))
        raise AssertionError(f"{self.instance} has not sent {mine.name}: {self._where()}")

    def _asked(self, by: str) -> bool:
        """Whether it was this instance, or one of the items of its maps."""
        while by and by != self.instance:
            by = home_of(by)
        return by != ""

    async def send(self, event: Event, *, event_id: str = "") -> None:
        """An event for this instance: on the topic of its class, as any service may publish it; one without a topic goes
        to the instance itself. The same event_id again is a duplicate."""
        sagas = self.sagas
        message = sagas.known(type(event))
        ident = event_id or sagas.ident()
        if message.topic:
            await sagas.send(event, event_id=ident)
            return
        draft = event_draft(
            sagas.bench.setting,
            message,
            value_of(message, event),
            kind="signal",
            key=self.key,
            to=self.instance,
            event_id=ident,
            at=0,
        )
        await sagas.publish(draft)

    async def cancel(self, reason: str = "the test says so") -> None:
        """Throw `Cancelled` at its await: handlers run, then what is left unwinds."""
        await self._operate("cancel", reason)

    async def kill(self, reason: str = "the test says so") -> None:
        """Unwind it without running a line of it any more."""
        await self._operate("kill", reason)

    async def retry(self) -> None:
        """What an operator does with a parked instance."""
        await self._operate("retry", "")

    async def _operate(self, verb: str, reason: str) -> None:
        body = {"verb": verb, "reason": reason}
        setting = self.sagas.bench.setting
        await self.sagas.publish(
            plain_draft(setting, "operate", self.instance, body, event_id=self.sagas.ident())
        )

    def _where(self) -> str:
        record = self.sagas.bench.record(self.instance)
        if record is None:
            return "there is no such instance"
        waits = ", ".join(f"{p.label} for {' | '.join(p.types) or p.name}" for p in record.operations())
        why = f" ({record.parked.code} {record.parked.error})" if record.parked is not None else ""
        return f"it is {record.status}{why} in {record.state or 'no state'}" + (
            f", waiting at {waits}" if waits else ""
        )


class Sagas:
    """The sagas of one test. Made by the fixture `sagas`."""

    def __init__(
        self, *, mode: Mode = "both", crash: tuple[int, str] | None = None, coverage: Coverage | None = None
    ) -> None:
        self.mode: Mode = mode if crash is None else "compiled"
        self.count = 0
        self._crash = crash
        self._coverage = coverage
        self._uses: dict[str, SagaUse] = {}
        self._services: list[Any] = []
        self._entities: list[type[Entity]] = []
        self._provided: dict[Any, Callable[[], Any]] = {}
        self._stubs: dict[str, Callable[..., Any]] = {}
        self._calls: dict[str, list[tuple[Any, ...]]] = {}
        self._bench: Bench | None = None
        self.twins: Twins | None = None

    # ---- what is under test

    def use(self, app: Any) -> None:
        """Everything that an `App` declares: its sagas in their modes, its services, what it provides."""
        definition: Definition = app.definition()
        self._uses |= {u.saga.name: u for u in definition.sagas}
        self._services += definition.services
        self._entities += [cls for cls in definition.entities if cls not in self._entities]
        self._provided |= definition.provided
        self._renew()

    def observe(self, *sagas: SagaDef[..., Any], on_late: Literal["alert", "compensate"] = "alert") -> None:
        """Run these sagas as observers: `start` them by the events of services."""
        self._uses |= {s.name: SagaUse(saga=s, mode="observe", on_late=on_late) for s in sagas}
        self._renew()

    def orchestrate(self, *sagas: SagaDef[..., Any]) -> None:
        """Know these sagas before the first `start`: their events may come early, or start them."""
        self._uses |= {s.name: SagaUse(saga=s, mode="orchestrate") for s in sagas}
        self._renew()

    def serve(self, *services: Any) -> None:
        """Let these services answer and react, instead of the test; of entities, let their handlers run."""
        for one in services:
            if isinstance(one, type) and issubclass(one, Entity):
                self._entities.append(one)
            else:
                self._services.append(one)
        self._renew()

    def provide(self, kind: Any, make: Callable[[], Any]) -> None:
        """Supply ambient parameters of that type."""
        self._provided[kind] = make
        self._renew()

    def stub(
        self,
        step: StepDef[..., Any] | Callable[..., Any],
        *,
        returns: Any = None,
        raises: BaseException | None = None,
        calls: Callable[..., Any] | None = None,
    ) -> list[tuple[Any, ...]]:
        """Replace a local step by a value, an exception, or a function. Gives the list of its calls' arguments, which
        grows. A step that raises is tried again by its policy, as in earnest: let time pass with `skip`."""
        if not isinstance(step, StepDef):
            raise TypeError(f"{step!r:.80} is no @step")
        met = self._calls.setdefault(step.name, [])

        def stub(*args: Any, **kwargs: Any) -> Any:
            met.append((*args, *kwargs.values()))
            if raises is not None:
                raise raises
            return calls(*args, **kwargs) if calls is not None else returns

        self._stubs[step.name] = stub
        self._renew()
        return met

    # ---- what happens

    async def start(
        self,
        saga: Callable[Concatenate[Saga, E, ...], Op[R_co]],
        event: E,
        /,
        *,
        event_id: str = "",
    ) -> Run[R_co]:
        """Start an instance from its first event, and let it go as far as it goes by itself."""
        found = cast("SagaDef[..., Any]", saga)
        if found.name not in self._uses:
            self._uses[found.name] = SagaUse(saga=found, mode="orchestrate")
            self._renew()
        message = self.known(type(event))
        key = key_of(message, event)
        run: Run[R_co] = Run(self, found.name, key)
        draft = event_draft(
            self.bench.setting,
            message,
            value_of(message, event),
            kind="start",
            key=key,
            to=run.instance,
            event_id=event_id or self.ident(),
            at=0,
        )
        await self.publish(draft)
        return run

    def run(self, saga: Callable[Concatenate[Saga, E, ...], Op[R_co]], key: str, /) -> Run[R_co]:
        """An instance that something else has started."""
        return Run(self, cast("SagaDef[..., Any]", saga).name, key)

    def entity(self, cls: type[Entity], key: str, /) -> Run[Any]:
        """An entity of the test, by its key: what its handlers send is met there."""
        return Run(self, spec_of(cls).name, key)

    async def send(self, event: Event, /, *, event_id: str = "") -> None:
        """Publish an event on the topic of its class, as any service may."""
        message = self.known(type(event))
        ident = event_id or self.ident()
        key = key_of(message, event)
        await self.publish(
            topic_draft(self.bench.setting, message, value_of(message, event), key=key, event_id=ident, at=0)
        )

    async def skip(self, duration: Duration) -> None:
        """Let time pass; timers fire in order, each before anything later."""
        await self.bench.skip(duration_ms(duration, what="skip", zero=True))
        self.look()

    async def crash(self) -> None:
        """The worker dies and another one takes over; nothing that was committed is lost."""
        self._forget_twins()
        self.bench.take_over()
        await self.settle()

    @property
    def clock(self) -> JumpClock:
        """Time as the engine sees it: `clock()` gives ms since 1970."""
        return self.bench.clock

    @property
    def history(self) -> list[InstanceRecord]:
        """Every record committed, in order."""
        return self.bench.history

    def published(self, event: type[E]) -> list[E]:
        """Events of that class on their topic, in order: what sagas emitted and returned, and what the test sent. One that
        was published again after a crash, under the same id, counts once, as for any consumer with an inbox."""
        message = self.bench.world.types.message_of(event)
        found: dict[bytes, E] = {}
        for record in self.bench.topic(message.topic or "in"):
            headers = dict(record.headers)
            if headers.get("ce_type") == message.name.encode():
                ident = headers.get("ce_id", b"%d" % record.offset)
                found.setdefault(ident, load_model(message.cls, record.value or b"", name=message.name))
        return list(found.values())

    def model(
        self,
        saga: Callable[Concatenate[Saga, E, ...], Op[Any]],
        start: Any = None,
        *,
        check: Callable[[Run[Any]], None] | None = None,
    ) -> Any:
        """A Hypothesis state machine of that saga, with the stubs and providers of this test: replies, delays,
        duplicates, reordering, crashes. `start`: a strategy for its first event. `check`: the saga's own rules, asserted
        after every step. Run it with `hypothesis.stateful.run_state_machine_as_test(sagas.model(place_order))`.
        """
        try:
            from contrapas.testing.model import model_of
        except ModuleNotFoundError as why:
            raise Refused(
                "CP510", "sagas.model() needs hypothesis", fix="pip install 'contrapas[testing]'"
            ) from why

        def prepare(other: Sagas) -> None:
            other._uses |= self._uses
            other._services += self._services
            other._entities += self._entities
            other._provided |= self._provided
            other._stubs |= self._stubs

        return model_of(saga, start, check=check, prepare=prepare)

    # ---- inside

    async def settle(self) -> None:
        """Let everything happen that can without time passing. The other methods do it by themselves."""
        await self.bench.settle()
        self.look()

    async def publish(self, draft: Draft) -> None:
        """Put a message on its topic or lane, then let everything happen."""
        self.bench.log.store.publish([draft])
        await self.settle()

    def ident(self) -> str:
        """An id that no other message of this test has."""
        self.count += 1
        return f"test-{self.count}"

    def known(self, cls: type) -> Any:
        """A registered event or command. DataError CP402: no saga or service of the test mentions it."""
        return self.bench.world.types.message_of(cls)

    @property
    def bench(self) -> Bench:
        """The worker under test. RuntimeError before anything was started."""
        if self._bench is None:
            if not self._uses and not self._services:
                raise RuntimeError("nothing is under test yet: await sagas.start(...) first")
            definition, world = self._world()
            self._bench = Bench(definition, world, crash=self._crash)
        return self._bench

    def _renew(self) -> None:
        if self._bench is not None:
            self._forget_twins()
            self._bench.adopt(*self._world())

    def _world(self) -> tuple[Definition, World]:
        definition = Definition(
            namespace=NAMESPACE,
            sagas=tuple(self._uses.values()),
            services=tuple(self._services),
            entities=tuple(self._entities),
            provided=self._provided,
        )
        world = replace(build(definition), links=None)  # in a test nobody signs: links are the same each time
        steps = cast("dict[str, Any]", world.types.steps)
        for name, stub in self._stubs.items():
            if name in steps:
                steps[name] = replace(steps[name], fn=stub, is_async=False, supplied=(), store=None)
        if self._coverage is not None:
            self._coverage.knows(world)
        found = reach((u.saga for u in definition.sagas), definition.entities)
        handlers = [h for cls in found.entities for h in handlers_of(cls)]
        clock = self._bench.clock if self._bench is not None else None
        self.twins = Twins(
            {s.name: native_of(s) for s in [*found.sagas, *handlers]},
            self.mode,
            lambda: (clock or self.clock)(),
            world.types,
        )
        return definition, self.twins.beside(world)

    def _forget_twins(self) -> None:
        if self.twins is not None:
            self.twins.close()

    def look(self) -> None:
        """Raise what the native twin found; the other methods do it by themselves."""
        if self.twins is not None:
            self.twins.complain()

    def close(self) -> None:
        """The test is over: coverage is noted, a disagreement raised."""
        if self._bench is not None:
            if self._coverage is not None:
                self._coverage.walked(self._bench.history)
            self._bench.close()
        try:
            self.look()
        finally:
            self._forget_twins()


def _json(text: str) -> bytes:
    import json

    return json.dumps(text, ensure_ascii=False).encode()
