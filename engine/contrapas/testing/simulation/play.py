"""One simulated world from its first start to its last look: safety phase, liveness phase, final checks, trace hash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from contrapas.author.event import Event
from contrapas.author.link import Claims, Link, sign
from contrapas.core.envelope import InstanceRecord
from contrapas.core.lane import Draft, Record
from contrapas.core.partition import partition as partition_of
from contrapas.core.world import World
from contrapas.errors import ContrapasError, Indeterminate, Retriable
from contrapas.failpoints import disarm
from contrapas.runtime.batch import Setting
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition
from contrapas.runtime.doors import event_draft, key_of, plain_draft, topic_draft, value_of
from contrapas.runtime.ingress import topics_of
from contrapas.runtime.worker import TOPIC_PARTITIONS, setting_of
from contrapas.testing.simulation.chance import Chance
from contrapas.testing.simulation.final import look
from contrapas.testing.simulation.group import Group
from contrapas.testing.simulation.load import Load
from contrapas.testing.simulation.mailbox import Mailbox
from contrapas.testing.simulation.memo import remembering
from contrapas.testing.simulation.options import Options
from contrapas.testing.simulation.steps import scripted
from contrapas.testing.simulation.store import SimStore
from contrapas.testing.simulation.universe import Universe, Wrong
from contrapas.testing.simulation.watch import Watch
from contrapas.testing.simulation.worker import Killer, SimWorker
from contrapas.testing.simulation.worries import Worries

DAY_MS = 86_400_000
SECRET = "simulated " * 8
LONG_DAYS = 45
"""After the end of everything: what ended is buried by then."""
EVENTS_MAX, EVENTS_EACH = 50_000, 1_000
"""Things that happen in a phase, and how many more for each instance."""
IDLE_MAX = 20_000
"""So many of them and no record written by any: it turns on the spot."""
_worlds: dict[int, World] = {}
_settings: dict[tuple[int, int], Setting] = {}


def world_of(definition: Definition) -> World:
    """Compiled once in a process."""
    found = _worlds.get(id(definition))
    if found is None:
        found = _worlds[id(definition)] = build(definition, strict=False)
    return found


@dataclass(slots=True)
class Outcome:
    """What came of one world."""

    options: Options
    transitions: int
    faults: Mapping[str, int]
    seen: Mapping[str, int]
    sometimes: Mapping[str, int]
    trace: str
    tape: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    wrong: str = ""
    """Name and text of the invariant that does not hold; empty: all do."""
    events: list[str] = field(default_factory=list[str])


class Play:
    """One world."""

    def __init__(self, load: Load, options: Options, chance: Chance) -> None:
        self.load = load
        self.options = options
        self.universe = Universe(options, chance)
        self.chance = chance
        definition = load.definition
        self.store = SimStore(definition.namespace, self.universe)
        if options.gaps:
            self.store.faults.gaps = options.gaps
        self.books: Any = None
        """What the load keeps for its steps."""
        self.bodies = load.steps(self)
        self.world = self.release(definition)
        self.entities = frozenset(n for n, m in self.world.machines.items() if m.entity is not None)
        self.setting = self.setting_for(self.world, "door")
        self._topics()
        self.watch = Watch(self.universe, options.fence == "order")
        self.watch.observes = all(use.mode == "observe" for use in definition.sagas)
        self.store.eyes = self.watch
        self.mailbox = Mailbox(self)
        self.store.on_record = self._stored
        self.store.on_stranger = self._strange
        self.group = Group(self)
        self.workers: list[SimWorker] = []
        self._born = 0
        self._ids = 0
        self.mutated: list[str] = []
        """Ids under which other bytes were sent too."""
        self.cancelled: set[str] = set()
        """Instances that somebody wanted to stop."""
        self.started: dict[str, Event] = {}
        """Instance -> its start."""
        self.ended: dict[str, InstanceRecord] = {}
        """Every instance as it was at the end."""
        self.killer = Killer()
        self.worries = Worries(self)
        self.watch.stopped = self.worries.repair
        self.watch.bury = self._died
        self.watch.first_unread = self._first_unread
        self.watch.trimmed = lambda number: self.store.lanes["in"][number].start > 0
        self.store.rival = self._rival
        self._owner_of: dict[tuple[str, int], int] = {}
        self._ingested = frozenset(topics_of(self.setting))

    # ---- building

    def release(self, definition: Definition) -> World:
        """The world of a release, as a process of its own has it."""
        world = world_of(definition)
        types = _Stubbed(world.types, self.bodies) if self.bodies else world.types
        return replace(world, types=types, older={}, links=_link)

    def setting_for(self, world: World, name: str) -> Setting:
        """What a worker of that release shares; what routes and doors are is worked out once in a process."""
        which = (id(self.load.definition), self.options.partitions)
        found = _settings.get(which)
        if found is None:
            named: Any = _Named(self.store)
            found = _settings[which] = setting_of(named, self.load.definition, world, writer=name)
        doors = replace(found.doors, types=world.types)
        return replace(found, world=world, doors=doors, caps=self.store.caps, writer=name)

    def _topics(self) -> None:
        names = {m.topic for m in self.world.types.messages.values() if m.topic}
        names |= {f"{self.load.definition.namespace}.dlq"}
        count = min(TOPIC_PARTITIONS, self.options.partitions)
        self.store.create_topics({name: count for name in sorted(names)})

    def hire(self, definition: Definition | None = None) -> SimWorker:
        """A new process joins."""
        self._born += 1
        name = f"w{self._born}"
        world = self.release(definition or self.load.definition)
        skew = self.options.skew_ms
        worker = SimWorker(
            self.universe, self.store, self.setting_for(world, name), self.watch, name,
            ahead_ms=self.chance.between(-skew, skew),
        )  # fmt: skip
        self.workers.append(worker)
        self.group.join(worker)
        return worker

    def _died(self, worker: SimWorker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        self.group.lost(worker)
        self.universe.at(self.chance.below(8_000), self._hire_again)

    def _first_unread(self, number: int, at: int) -> int:
        shelf = self.store.lanes["in"][number]
        if at >= shelf.end:
            return 0
        index = shelf.index(at)
        return shelf.records[index].timestamp_ms if index < len(shelf.records) else 0

    def _rival(self, number: int) -> None:
        """Another worker takes a partition at this very moment."""
        others = [w for w in self.workers if not any(s.number == number for s in w.all) and not w.taking]
        if others:
            self.chance.pick(others).rush(number)

    def _hire_again(self) -> None:
        if len(self.workers) < self.options.workers:
            self.hire()

    # ---- what is stored wakes who reads it

    def _stored(self, lane: str, record: Record) -> None:
        number = record.partition
        if lane == "in":
            for worker in self.workers:
                station = worker.stations.get(number)
                if station is not None and station.batch is None and not station.turning:
                    station.soon()
            return
        if lane in self._ingested:
            place = (lane, number)
            owner = self._owner_of.get(place)
            if owner is None:
                owner = partition_of(f"{lane}/{number}".encode(), self.options.partitions)
                self._owner_of[place] = owner
            for worker in self.workers:
                station = worker.stations.get(owner)
                if station is not None:
                    station.fresh = True
                    if station.batch is None:
                        station.soon()
        self.mailbox.arrived(lane, record)

    def _strange(self, number: int) -> None:
        for worker in self.workers:
            station = worker.stations.get(number)
            if station is not None:
                station.told_stranger()

    def partition_of(self, key: bytes) -> int:
        """Of a key."""
        return partition_of(key, self.options.partitions)

    # ---- clients

    def ident(self) -> str:
        """A new id of a client."""
        self._ids += 1
        return f"c{self._ids}"

    def begin(self, number: int) -> None:
        """The n-th start, through a door or on a topic; sometimes twice."""
        load = self.load
        event = load.start(self, number)
        message = self.world.types.message_of(type(event))
        key = key_of(message, event)
        ident = self.ident()
        value = value_of(message, event)
        saga = load.saga or self.setting.routes.starts[message.name][0]
        instance = f"{saga}/{key}"
        now = self.universe.now
        self.started[instance] = event
        if self.chance.order() < load.door or not message.topic:
            draft = event_draft(
                self.setting, message, value, kind="start", key=key, to=instance, event_id=ident,
                at=now, reply_to="memory",
            )  # fmt: skip
        else:
            draft = topic_draft(self.setting, message, value, key=key, event_id=ident, at=now)
        self.say(draft, lambda: self.watch.acked.__setitem__(ident, instance))
        if self.chance.fault("duplicate start", self.universe.rates.duplicate):
            self.universe.at(self.chance.below(60_000), lambda: self.say(draft))
        if self.chance.fault("other bytes under one id", self.universe.rates.duplicate / 2):
            other = draft._replace(value=value + b" ")
            self.universe.at(
                self.chance.below(60_000), lambda: self.say(other, lambda: self.mutated.append(ident))
            )
        load.later(self, number, key)

    def tell(self, event: Event, delay_ms: int, *, to: str = "") -> None:
        """An event, later: on its topic, or with `to` as a signal for one instance."""
        message = self.world.types.message_of(type(event))
        ident, key, value = self.ident(), key_of(message, event), value_of(message, event)

        def send() -> None:
            now = self.universe.now
            if to:
                draft = event_draft(
                    self.setting, message, value, kind="signal", key=to.partition("/")[2], to=to,
                    event_id=ident, at=now,
                )  # fmt: skip
            else:
                draft = topic_draft(self.setting, message, value, key=key, event_id=ident, at=now)
            self.say(draft)
            if self.chance.fault("duplicate delivery", self.universe.rates.duplicate):
                self.universe.at(self.chance.below(60_000), lambda: self.say(draft))

        self.universe.at(delay_ms, send)

    def operate(self, instance: str, verb: str, delay_ms: int) -> None:
        """What people do to an instance: `cancel`, `kill`, `retry`, `pause`, `resume`."""
        ident = self.ident()
        if verb in ("cancel", "kill"):
            self.cancelled.add(instance)
        body = {"verb": verb, "reason": "simulated"}
        self.universe.at(
            delay_ms, lambda: self.say(plain_draft(self.setting, "operate", instance, body, event_id=ident))
        )

    def say(self, draft: Draft, acknowledged: Callable[[], None] | None = None) -> None:
        """Publish until it is acknowledged."""
        try:
            self.store.publish([draft])
        except (Retriable, Indeterminate):
            self.universe.at(20 + self.chance.below(500), lambda: self.say(draft, acknowledged))
            return
        if acknowledged is not None:
            acknowledged()

    # ---- the phases

    def run(self) -> Outcome:
        """The whole of it."""
        wrong = ""
        try:
            with remembering(self.watch.memo):
                self._safety()
                self._liveness()
                look(self)
        except Wrong as why:
            wrong = str(why)
        except ContrapasError as why:
            wrong = f"defect: {why}"
        finally:
            disarm()
        u = self.universe
        for name, count in self.killer.places.items():
            u.sometimes[f"passed {name}"] += count
        return Outcome(
            self.options, u.transitions, self.chance.faults, u.seen, u.sometimes, u.trace(),
            self.chance.tape, wrong, [f"{b}" for b in u.events] if wrong else [],
        )  # fmt: skip

    def _safety(self) -> None:
        options, u = self.options, self.universe
        for _ in range(options.workers):
            self.hire()
        for number in range(max(1, options.instances // self.load.weight)):
            u.at(self.chance.below(options.spread_ms), partial(self.begin, number))
        self.killer.arm()
        self.worries.begin()
        end = u.now + options.spread_ms + 60_000
        self._until(end)

    def _until(self, end: int) -> None:
        """Let things happen until then; what moves for ever, or moves and writes nothing, is found by it."""
        u = self.universe
        most = EVENTS_MAX + EVENTS_EACH * self.options.instances
        steps = idle = written = 0
        while (at := u.next_at()) is not None and at <= end:
            u.step()
            steps += 1
            if u.written != written:
                written, idle = u.written, steps
            elif steps - idle > IDLE_MAX:
                raise Wrong("I-31", f"{IDLE_MAX} things have happened, and nothing was written")
            if steps > most:
                raise Wrong("I-31", "it moves and moves, and does not come to rest")

    def _liveness(self) -> None:
        """Everything is healed; it goes on until nothing is left to happen."""
        u = self.universe
        u.note("nothing goes wrong from here on")
        self.chance.calm = True
        self.worries.heal()
        while len(self.workers) < 1:
            self.hire()
        end = u.now + (self.load.days + (LONG_DAYS if self.options.long else 0)) * DAY_MS
        self._until(end)


def _link(instance: str, run: str, type_name: str, body: str, until: int) -> Link:
    """A signed link, whatever the environment says."""
    claims = Claims(instance=instance, run=run, type=type_name, body=body, until=until)
    return Link(token=sign(SECRET, claims), url="/link")


class _Stubbed:
    """A registry whose steps have the load's bodies."""

    def __init__(self, types: Any, bodies: Mapping[str, Callable[..., Any]]) -> None:
        self._types = types
        self.steps = {
            name: scripted(step, bodies[name]) if name in bodies else step
            for name, step in types.steps.items()
        }
        self.messages = types.messages
        self.message_of = types.message_of
        self.dump_exception = types.dump_exception
        self.load_exception = types.load_exception

    def __getattr__(self, name: str) -> Any:
        return getattr(self._types, name)


class _Named:
    """As much of a log as a setting asks for."""

    def __init__(self, store: SimStore) -> None:
        self.partitions = store.partitions
        self.caps = store.caps
