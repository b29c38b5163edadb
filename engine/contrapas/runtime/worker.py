"""`Worker`: a process's share of a namespace. It joins the group, takes partitions over, runs them, and lets them go.

One task per owned partition lives through its epochs: acquire, restore, run; fenced, it drops everything and asks
membership before it tries again; in doubt, it acquires anew at once. A stop finishes the commit in flight, lets running
steps end for a while, writes cursor and `relayed`, and releases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from contrapas.codec.avro_forms import OwnSchemas
from contrapas.codec.schemas import EMPTY, Schemas
from contrapas.core.correlate import routes_of
from contrapas.core.decode import Doors
from contrapas.core.envelope import InstanceRecord
from contrapas.core.size import LIMIT
from contrapas.core.world import Input, Types, World
from contrapas.errors import ContrapasError, Fenced, Indeterminate, LogError, Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Lease, Log, Membership
from contrapas.runtime import commit, dispatch, ingress, processor, read
from contrapas.runtime.batch import Answer, Counts, Setting
from contrapas.runtime.care import care
from contrapas.runtime.checkpoint import State
from contrapas.runtime.clock import Clock, RealClock, pause
from contrapas.runtime.definition import Definition
from contrapas.runtime.keeper import Keeper, Keepers
from contrapas.runtime.memories import check_memories
from contrapas.runtime.reach import reach
from contrapas.runtime.relay import Relay, RelayState
from contrapas.runtime.schema_desk import Address, SchemaDesk
from contrapas.runtime.services import Runner
from contrapas.runtime.station import Station
from contrapas.runtime.steps import StepRunner
from contrapas.runtime.stores import examine, stores_of
from contrapas.runtime.sweep import sweep
from contrapas.runtime.watchdog import Watchdog

NAMES["revoke"] = "a partition is to be given up, its commit in flight has ended"
NAMES["release.before"] = "the last commit of a partition is written, it is not released"
INGRESS_WAIT_MS = 60_000
TOPIC_PARTITIONS = 4
"""Of a user's topic that we make ourselves: each costs a reader, and one file has one writer anyway."""
COUNTED = tuple(f.name for f in fields(Counts))
STUCK_MS = 30_000
_logger = logging.getLogger("contrapas.runtime")


@dataclass(slots=True)
class Health:
    """How a worker is: `green`, `amber` or `red`, and why."""

    colour: str = "green"
    reasons: list[str] = field(default_factory=list[str])
    owned: tuple[int, ...] = ()
    steps: int = 0
    relays: tuple[RelayState, ...] = ()
    """One for each store: how far its outbox is, and what holds it back."""


class Worker:
    """Runs the sagas and services of one app on one log."""

    def __init__(
        self,
        log: Log,
        definition: Definition,
        world: World,
        *,
        owner: str = "",
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        threads: int = 32,
        checkpoints: Path | None = None,
        standby: bool = False,
    ) -> None:
        self.log = log
        self.definition = definition
        self.clock = clock or RealClock()
        self.chance = chance
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        schemas, self.desk = schemas_of(definition, world.types, self.clock, chance)
        self.setting = replace(
            setting_of(log, definition, world, writer=self.owner, schemas=schemas), desk=self.desk
        )
        self.runner = StepRunner(
            world.types, self._result, self.clock, threads=threads, namespace=self.setting.namespace
        )
        self.runner.on_fatal = self._fatal
        self.stations: dict[int, Station] = {}
        self.retired = Counts()
        """Counts of stations that are gone."""
        self.troubles: dict[int, str] = {}
        self.stopped: set[int] = set()
        """Partitions that do not move again by themselves."""
        self.watchdog = Watchdog()
        self.answers: dict[str, asyncio.Future[Answer]] = {}
        self.waiting: dict[str, list[asyncio.Future[InstanceRecord]]] = {}
        self.ready = asyncio.Event()
        """Every partition assigned at first has been taken over."""
        self._assigned: frozenset[int] = frozenset()
        self._tenures: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self._drain_ms = 30_000.0
        self._membership: Membership | None = None
        self._finished: asyncio.Future[None] | None = None
        self._besides: list[asyncio.Task[None]] = []
        self.services = [Runner(self, service) for service in definition.services]
        self.stores = stores_of(definition, world)
        self.relays = [
            Relay(store, log, definition.namespace, owner=self.owner, clock=self.clock, chance=chance)
            for store in self.stores
            if store.sender == "relay"
        ]
        self._relaying: list[asyncio.Task[None]] = []
        self.keepers = Keepers(
            log, self.setting.namespace, checkpoints, standby=standby, clock=self.clock, chance=chance
        )

    # ---- life

    async def run(self) -> None:
        """Work until `stop`, or until something happens that must end the process."""
        loop = asyncio.get_running_loop()
        self._finished = loop.create_future()
        check_memories(self)
        await create_topics(self.log, self.definition, self.setting)
        await examine(self.stores)
        if self._stopping:  # told so before it began: it joins nothing
            self.desk.close()
            return
        if isinstance(self.clock, RealClock):
            self.watchdog.start()
        follow: list[asyncio.Task[None]] = []
        if self.setting.world.modes or self.definition.entities:
            self._membership = self.log.membership(f"{self.setting.namespace}.workers", ("in",))
            follow = [
                loop.create_task(self._follow(self._membership)),
                self.spawn(ingress.follow_growth(self)),
            ]
        else:  # services alone own no instances: those belong to the workers that know the sagas
            self.ready.set()
        self._besides = [self.spawn(service.run()) for service in self.services]
        self._besides += [self.spawn(care(store, self.clock, self.chance)) for store in self.stores]
        self._relaying = [self.spawn(relay.run()) for relay in self.relays]
        try:
            await self._finished
        finally:
            self._stopping = True
            self.watchdog.stop()
            tasks = (
                *follow, *self._besides, *self._relaying, *self._tenures.values(), *self.keepers.tasks.values(),
            )  # fmt: skip
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.runner.close()
            self.desk.close()

    async def stop(self, drain_ms: float = 30_000) -> None:
        """Give everything up in order: no new input, running steps end, last commit, release."""
        if self._stopping:
            return
        self._stopping = True
        if self._finished is None:  # it has not begun, and will not
            return
        self._drain_ms = drain_ms
        if self._membership is not None:
            await self._membership.leave()
        for station in self.stations.values():
            station.partition.draining = True
        until = self.clock.ms() + drain_ms
        while self.runner.busy() and self.clock.ms() < until:
            await pause(self.clock, 20)
        await asyncio.gather(*(s.drain(max(0.0, until - self.clock.ms())) for s in self.services))
        for task in self._besides:
            task.cancel()
        for station in list(self.stations.values()):
            station.stop()
        if self._tenures:
            await asyncio.wait(self._tenures.values(), timeout=10)
        if self._relaying:  # what steps and services have committed by now still leaves
            left = max(1_000.0, until - self.clock.ms())
            await asyncio.gather(*(relay.stop(left) for relay in self.relays))
        if not self._finished.done():
            self._finished.set_result(None)

    async def _follow(self, membership: Membership) -> None:
        try:
            async for slots in membership.assignments():
                self._assigned = frozenset(p for _, p in slots)
                self._settle()
        except Exception as why:  # noqa: BLE001  the process ends with it
            self._fatal(why)

    def _settle(self) -> None:
        if self._stopping:
            return
        for number, station in self.stations.items():
            if number not in self._assigned:
                station.stop()
        self.keepers.follow(self._assigned)
        for number in self._assigned:
            task = self._tenures.get(number)
            if task is None or task.done():
                self.stopped.discard(number)
                self._tenures[number] = asyncio.get_running_loop().create_task(self._tenure(number))
        self._look_ready()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure is the process's."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._spawned)
        return task

    def _spawned(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (why := task.exception()) is not None:
            self._fatal(why)

    def _fatal(self, why: BaseException) -> None:
        if isinstance(why, SystemExit):
            words = f"the app's code ended the worker: sys.exit({why.code!r})"
            why = ContrapasError("CP844", words, fix="raise an exception instead")
        if self._finished is not None and not self._finished.done():
            self._finished.set_exception(
                why if not isinstance(why, StopIteration) else RuntimeError("StopIteration")
            )

    def _stops(self, number: int, why: ContrapasError) -> None:
        """A partition that cannot go on is said aloud; the others go on. None left: the process ends with the reason."""
        self.troubles[number] = str(why)
        self.stopped.add(number)
        _logger.error("partition %d of %s stops: %s", number, self.setting.namespace, why)
        if self._assigned <= self.stopped:
            self._fatal(why)
        self._look_ready()

    # ---- one partition

    def _wanted(self, number: int) -> bool:
        return not self._stopping and number in self._assigned

    async def _tenure(self, number: int) -> None:
        """Own a partition for as long as membership says so, through as many epochs as it takes."""
        while self._wanted(number):
            lease: Lease | None = None
            try:
                keeper = await self.keepers.of(number)
                state = None if keeper is None else await keeper.load()
                known = None if state is None else state.known
                lease = await self.log.acquire(number, self.owner, known=known)
                self._measure()
                await self._epoch(lease, keeper, state)
                self.troubles.pop(number, None)
            except Fenced:
                self.runner.drop(number)
                await pause(self.clock, 20 + 200 * self.chance())
            except Indeterminate:
                await pause(self.clock, 5 + 20 * self.chance())
            except Retriable as why:
                self.troubles[number] = str(why)
                if lease is not None:
                    await self._release(lease)
                await pause(self.clock, 200 + 800 * self.chance())
            except ContrapasError as why:
                if lease is not None:
                    await self._release(lease)
                self._stops(number, why)
                return
            except asyncio.CancelledError:
                raise
            except BaseException as why:
                self._fatal(why)
                if isinstance(why, SystemExit):
                    return
                raise

    def _measure(self) -> None:
        """How large a record may be: the log may have learnt that it takes less than it should, headers included."""
        caps = self.log.caps
        most = min(LIMIT, caps.max_record_bytes * 10 // 11)
        if most != self.setting.world.record_max:
            _logger.error("the log takes records of %d bytes only; larger ones park: contrapas doctor", most)
            self.setting = replace(
                self.setting, caps=caps, world=replace(self.setting.world, record_max=most)
            )

    async def _epoch(self, lease: Lease, keeper: Keeper | None, state: State | None) -> None:
        number = lease.partition
        taken = await self.keepers.take_over(lease, self.setting, keeper, state)
        p = taken.partition
        s = Station(
            self.log,
            lease,
            p,
            self.setting,
            clock=self.clock,
            runner=self.runner,
            ears=self,
            chance=self.chance,
        )
        if taken.timestamp_ms:
            s.log_clock.saw(taken.timestamp_ms)
        for alarm in taken.alarms:
            _logger.warning("%s", alarm)
        for words in taken.lost:
            _logger.error("%s", words)
        s.lost = taken.lost
        if taken.out:
            await dispatch.send_again(s, taken.out, taken.owners)
        p.relayed = max(p.relayed, 0)
        loop = asyncio.get_running_loop()
        s.on_caught_up = self._look_timers
        await ingress.begin(s)
        self.stations[number] = s
        if not self._wanted(number):  # taken away, or to be stopped, while it was restored
            s.stop()
        tasks = s.tasks
        tasks += [loop.create_task(read.feed(s)), loop.create_task(dispatch.publish(s))]
        tasks += [loop.create_task(self._watch(s)), loop.create_task(sweep(s))]
        tasks += [] if keeper is None else [loop.create_task(keeper.keep())]
        late = self.clock.call_later(INGRESS_WAIT_MS, lambda: self._hold_no_longer(s))
        try:
            await commit.commit_control(s)  # its time is the first sample of the log's clock
            while p.heal:  # before the first input
                await commit.commit_control(s)
            self._look_ready()
            self._look_timers()
            for call in taken.steps:
                self.runner.start(number, p.epoch, call)
            await processor.run(p, s)
            failpoint("revoke")
            await self._last(s, keeper)
        finally:
            late.cancel()
            self.stations.pop(number, None)
            self._retire(p.counts)
            tasks += s.reading.values()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _last(self, s: Station, keeper: Keeper | None) -> None:
        """The end of an orderly tenure: what was sent is known, the cursor is level, the partition is free."""
        self.runner.drop(s.number)
        until = self.clock.ms() + 1_000
        while s.outgoing and self.clock.ms() < until:
            await pause(self.clock, 5)
        if s.partition.behind():
            await commit.commit_control(s)
        await self.keepers.leave(keeper)
        failpoint("release.before")
        await s.lease.release()

    async def _release(self, lease: Lease) -> None:
        try:
            await lease.release()
        except LogError:
            return

    async def _watch(self, s: Station) -> None:
        await s.lease.lost()
        if not s.stopping:
            s.fail(Fenced(f"partition {s.number} of {self.setting.namespace} has another owner"))

    # ---- what stations tell

    def _result(self, number: int, epoch: int, event: Input) -> None:
        station = self.stations.get(number)
        if station is not None:
            station.result(epoch, event)

    def answered(self, answer: Answer) -> None:
        """A door in this process is told."""
        future = self.answers.pop(answer.id, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def ended(self, record: InstanceRecord) -> None:
        """Whoever waits for an instance is woken."""
        for future in self.waiting.pop(record.instance, ()):
            if not future.done():
                future.set_result(record)

    def _look_ready(self) -> None:
        if all(n in self.stations or n in self.troubles for n in self._assigned):
            self.ready.set()

    def _look_timers(self) -> None:
        """Timers fire once ingress of every partition we own has met the ends of the takeover."""
        if not all(n in self.stations or n in self.troubles for n in self._assigned):
            return
        if any(s.behind for s in self.stations.values()):
            return
        for s in self.stations.values():
            self._hold_no_longer(s)

    def _hold_no_longer(self, s: Station) -> None:
        """What ingress has put on the lane by now is still heard first."""
        if s.partition.release_at is None and not s.releasing:
            s.releasing = True
            s.tasks.append(self.spawn(self._release_timers(s)))

    async def _release_timers(self, s: Station) -> None:
        try:
            _, end = await self.log.bounds("in", s.number)
        except LogError as why:
            s.fail(why)
            return
        s.partition.release_at = end
        s.wake.set()

    def _retire(self, counts: Counts) -> None:
        for name in COUNTED:
            setattr(self.retired, name, getattr(self.retired, name) + getattr(counts, name))

    # ---- for people

    def counts(self) -> Counts:
        """The census over all partitions this worker has owned."""
        total = Counts()
        for counts in (self.retired, *(s.partition.counts for s in self.stations.values())):
            for name in COUNTED:
                setattr(total, name, getattr(total, name) + getattr(counts, name))
        return total

    def health(self) -> Health:
        """Red when a partition that should be ours cannot move, or the loop stood still for long."""
        found = Health(owned=tuple(sorted(self.stations)), steps=self.runner.busy())
        found.colour, blocked = self.watchdog.colour()
        if blocked:
            found.reasons.append(blocked)
        for number in sorted(self._assigned):
            if (why := self.troubles.get(number)) is not None:
                found.colour = "red"
                found.reasons.append(f"partition {number}: {why}")
        stalled: Callable[[], Sequence[Any]] = getattr(self.log, "stalled", tuple)
        for who in stalled():
            found.colour = "red"
            found.reasons.append(
                f"partition {who.partition}: held by {who.owner or 'a process'} on {who.host}, pid {who.pid}, "
                f"silent for {who.silent_ms // 1000} s: continue or kill that process"
            )
        if waits := self.desk.reasons():
            found.colour = "red"
            found.reasons += waits
        held: Callable[[], Sequence[str]] = getattr(self.log, "held_back", tuple)
        for words in held():
            found.colour = "amber" if found.colour == "green" else found.colour
            found.reasons.append(words)
        for service in self.services:
            if service.egress.trouble:
                found.colour = "red"
                found.reasons.append(
                    f"service {service.name}: messages wait to leave: {service.egress.trouble}"
                )
            if said := next(iter(service.troubles.values()), ""):
                found.colour = "red"
                waiting = len(service.troubles)
                found.reasons.append(
                    f"service {service.name}: {waiting} deliveries wait for its database: {said}"
                )
        now = self.clock.ms()
        for number, s in self.stations.items():
            p = s.partition
            if s.egress.trouble:
                found.colour = "red"
                found.reasons.append(
                    f"partition {number}: {sum(p.unsent.values())} messages wait to leave: {s.egress.trouble}"
                )
            if (p.inputs or p.results or p.inflight) and now - s.moved_ms > STUCK_MS:
                found.colour = "red"
                found.reasons.append(
                    f"partition {number}: nothing decided for {(now - s.moved_ms) / 1000:.0f} s"
                )
            if s.lost and found.colour == "green":
                found.colour = "amber"
            found.reasons += s.lost[:10]
            if p.timers_held and now - s.acquired_ms > STUCK_MS and found.colour == "green":
                found.colour = "amber"
                found.reasons.append(f"partition {number}: timers wait for {len(s.behind)} sources")
        found.relays = tuple(relay.state() for relay in self.relays)
        for state in found.relays:
            if state.colour != "green" and found.colour != "red":
                found.colour = state.colour
            found.reasons += [f"outbox {state.store}: {why}" for why in state.reasons]
        return found

    def log_ms(self) -> int:
        """About the log's time, good enough for days: 0 while nothing of it was seen."""
        seen = max((s.log_clock.now() for s in self.stations.values()), default=0)
        return seen or (time.time_ns() // 1_000_000 if isinstance(self.clock, RealClock) else 0)

    def owns(self, number: int) -> bool:
        """This worker runs that partition now."""
        return number in self.stations


def setting_of(
    log: Log, definition: Definition, world: World, *, writer: str, schemas: Schemas = EMPTY
) -> Setting:
    """What all partitions of a worker, or a client, share."""
    by_topic: dict[str, list[str]] = {}
    routes = routes_of(world, commands_of(definition, world))
    for message in world.types.messages.values():
        if message.topic and (not message.command or routes.mentions(message.name)):
            by_topic.setdefault(message.topic, []).append(message.name)
    return Setting(
        namespace=definition.namespace,
        world=world,
        routes=routes,
        doors=Doors(
            types=world.types,
            partitions=log.partitions,
            mappings={m.topic: m for m in definition.topics},
            by_topic={t: tuple(n) for t, n in by_topic.items()},
            namespace=definition.namespace,
            schemas=schemas,
        ),
        caps=log.caps,
        writer=writer,
    )


def schemas_of(
    definition: Definition, types: Types, clock: Clock, chance: Callable[[], float]
) -> tuple[Schemas, SchemaDesk]:
    """What this process knows of schemas, and who asks for others."""
    address: Address | None = definition.registry
    schemas = Schemas(OwnSchemas(types.messages).of_fingerprint, registry=address is not None)
    return schemas, SchemaDesk(schemas, address, clock, chance)


def commands_of(definition: Definition, world: World) -> frozenset[str] | None:
    """The commands that the app's sagas may send: whose replies they are told. None: not known, so all of them."""
    if not definition.sagas:
        return None if world.modes else frozenset()
    known = {id(m.cls): m.name for m in world.types.messages.values() if m.command}
    return frozenset(
        known[id(cls)] for cls in reach(u.saga for u in definition.sagas).events if id(cls) in known
    )


async def create_topics(log: Log, definition: Definition, setting: Setting) -> None:
    """Make the topics that the app names where the log keeps them itself, at the first start. LogError CP505 with the
    command that makes them where a server is shared with others: nothing is made there unasked."""
    make: Any = getattr(log, "create_topics", None)  # `isinstance` would not see through a log around another
    names = topics_of(definition, setting.world) | {f"{setting.namespace}.dlq"}
    count = min(TOPIC_PARTITIONS, log.partitions)
    missing = {n: count for n in sorted(names) if await log.topic(n) is None}
    if not missing:
        return
    if make is not None:
        await make(missing)
        return
    some = f"topic {next(iter(missing))} is" if len(missing) == 1 else f"{len(missing)} topics are"
    where = str(getattr(log, "place", "URL"))
    fix = (
        f"contrapas topic create --log '{where}' --namespace {setting.namespace} {' '.join(missing)} --apply"
    )
    raise LogError("CP505", f"{some} missing: {', '.join(missing)}", fix=fix, place=where)


def topics_of(definition: Definition, world: World) -> set[str]:
    """Topics that an app names: of its messages, and those it reads by a mapping."""
    named = {m.topic for m in world.types.messages.values() if m.topic}
    return named | {m.topic for m in definition.topics}
