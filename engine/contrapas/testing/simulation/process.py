"""One process of ring 2: a real `Worker` and a real `Client` on the world's loop. It can be killed, stopped, made to stand still.

The runtime's code runs as it is. What is put in its place is only what looks on (`Watched…`, each a subclass that tells the
watcher and calls what it has inherited), the log, the clock, and the bodies of steps.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future as Ticket
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from contrapas.core.lane import Draft
from contrapas.core.world import Input, StepCall, StepType, World
from contrapas.errors import ContrapasError
from contrapas.log import Log
from contrapas.runtime import worker as worker_module
from contrapas.runtime.batch import Answer, Batch, Counts, Leaving
from contrapas.runtime.client import Client
from contrapas.runtime.clock import Handle
from contrapas.runtime.definition import Definition
from contrapas.runtime.egress import Refusal, Sender
from contrapas.runtime.partition import Partition
from contrapas.runtime.station import Station
from contrapas.runtime.steps import Running, StepRunner
from contrapas.runtime.worker import Worker
from contrapas.testing.simulation.loop import OWNER, Call, Killed
from contrapas.testing.simulation.network import NetLease, NetLog, NetMembership
from contrapas.testing.simulation.station import RUNNING
from contrapas.testing.simulation.universe import Wrong

if TYPE_CHECKING:
    from contrapas.testing.simulation.stage import Stage

DRAIN_MS = 5_000
STOPS_WITHIN_MS = 60_000
"""Beyond what running steps are given, and what the world was in its way: a stop is over by then."""
FATES = ("fails", "fails after", "hangs", "hangs after", "late", "ignores", "kills", "kills after")


class LoopClock:
    """`runtime.clock.Clock` of one process."""

    def __init__(self, stage: Stage) -> None:
        self._u = stage.universe
        self._loop = stage.loop
        self._began = self._u.now

    def ms(self) -> float:
        """Monotonic ms since this process began."""
        return self._u.now - self._began

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Handle:
        """Call back once."""
        return self._loop.call_later(math.ceil(max(delay_ms, 0.0)) / 1000, callback)


class View:
    """A station, as the watcher and the last look want to see it."""

    def __init__(self, process: Process, station: Station, lease: NetLease) -> None:
        self.worker = process
        self.station = station
        self.number = station.number
        self.partition = station.partition
        self.lease = lease
        self.hold = lease.hold
        self.phase = RUNNING

    def leave(self) -> None:
        """Give it up in order; who is to own it takes it again."""
        self.station.stop()


class Process:
    """One process."""

    def __init__(self, stage: Stage, name: str, definition: Definition, world: World) -> None:
        self.stage = stage
        self.name = name
        self.alive = True
        self.paused_until = 0
        self.held: list[Call] | None = None
        self.cut_until = 0
        """Its link to the log is down until then."""
        self.letting_go = False
        self.all: list[View] = []
        self.memberships: list[NetMembership] = []
        self.wanted: frozenset[int] = frozenset()
        self.stopping_since = 0
        self.guests: list[asyncio.Task[Any]] = []
        """People's questions that are in work here."""
        self.context: Context = copy_context()
        self.context.run(OWNER.set, self)
        self.store = stage.store
        self.log = NetLog(self)
        self.worker: WatchedWorker = self.context.run(self._made, definition, world)
        self.client = Client(cast(Log, self.log), self.worker.setting, worker=self.worker, draw=stage.ident)
        self.main = self.spawn(self._main())
        self.excused: set[Any] = {self.main}
        """Tasks that nothing ends: those of steps that do not hear that they are cancelled."""

    def _made(self, definition: Definition, world: World) -> WatchedWorker:
        return WatchedWorker(
            cast(Log, self.log), definition, world, owner=self.name, clock=LoopClock(self.stage),
            chance=self.stage.chance.order, threads=2,
        )  # fmt: skip

    def serve(self, work: Any) -> None:
        """Somebody asks here."""
        self.guests = [t for t in self.guests if not t.done()]
        self.guests.append(self.spawn(work))

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task of this process."""
        return self.stage.loop.create_task(work, context=self.context.copy())

    async def _main(self) -> None:
        try:
            await self.worker.run()
        except Exception as why:  # noqa: BLE001  the process ends with it, and is started again
            if self.stage.buried:
                return
            self.stage.universe.note(f"{self.name} ends: {type(why).__name__}: {why}")
            if not isinstance(why, ContrapasError):
                self.stage.wrong(Wrong("loop", f"{self.name} ended with {type(why).__name__}: {why}"))
        for guest in self.guests:
            guest.cancel()
        await asyncio.gather(*self.guests, return_exceptions=True)
        await self.client.close()
        await self.log.close()
        self.stage.universe.at(0, lambda: self.stage.exited(self))

    @property
    def stations(self) -> dict[int, View]:
        """What it runs now."""
        mine = self.worker.stations
        return {v.number: v for v in self.all if mine.get(v.number) is v.station}

    # ---- what happens to it

    def visited(self) -> bool:
        """As `Owner.visited`."""
        return not self.stage.steps_on(self)

    def assign(self, partitions: Any) -> None:
        """What the group says that it should own."""
        self.wanted = frozenset(partitions)
        for member in self.memberships:
            if member.group.endswith(".workers"):
                member.tell(frozenset(("in", n) for n in self.wanted))

    def want(self, number: int, delay_ms: int) -> None:
        """The coordinator says again what it should own."""
        self.stage.universe.at(delay_ms, lambda: self.assign(self.wanted))

    def rush(self, number: int) -> None:
        """Be told to own a partition."""
        self.assign(self.wanted | {number})

    def pause(self, ms: int) -> None:
        """Stand still, as under SIGSTOP; others do not."""
        u = self.stage.universe
        self.paused_until = u.now + ms
        if self.held is None:
            self.held = []
        u.note(f"{self.name} stands still for {ms} ms")
        u.at(ms, self.resume)

    def resume(self) -> None:
        """Go on, if it is time."""
        if self.held is not None and self.paused_until <= self.stage.universe.now:
            self.stage.loop.resume(self)

    def die(self) -> None:
        """As under kill -9."""
        if not self.alive:
            return
        self.stage.universe.note(f"{self.name} dies")
        self.alive = False
        self.letting_go = True
        self.stage.gone(self)

    def stop(self, drain_ms: int = DRAIN_MS) -> None:
        """As SIGTERM has it."""
        if not self.alive or self.stopping_since:
            return
        u = self.stage.universe
        u.note(f"{self.name} is stopped")
        self.stopping_since = u.now
        self.spawn(self.worker.stop(drain_ms))
        u.at(drain_ms + STOPS_WITHIN_MS, lambda: self._late(u.now))

    def _late(self, now: int) -> None:
        """I-43: a stop ends in time."""
        self.stage.universe.seen["I-43"] += 1
        if self.alive and not self.main.done() and self.paused_until + STOPS_WITHIN_MS < now:
            names = sorted({coro_name(t) for t in self.stage.loop.pending(self)})
            raise Wrong("I-43", f"{self.name} was told to stop {now - self.stopping_since} ms ago: {names}")


def coro_name(task: asyncio.Task[Any]) -> str:
    """What a task does."""
    coro: Any = task.get_coro()
    return getattr(coro, "__qualname__", repr(coro))


def _mine() -> Process:
    found = OWNER.get()
    assert found is not None
    return cast(Process, found)


class WatchedWorker(Worker):
    """A worker that tells what the watcher wants to know."""

    process: Process

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.process = _mine()
        keepers: Any = self.keepers
        right: Any = keepers.take_over

        async def take_over(lease: Any, setting: Any, keeper: Any, state: Any) -> Any:
            taken = await right(lease, setting, keeper, state)
            lease.taken, lease.tail = taken, lease.log.tails.pop(lease.partition)
            return taken

        keepers.take_over = take_over

    def _stops(self, number: int, why: ContrapasError) -> None:
        self.process.stage.look(lambda w: w.stops(self.process, number, why))
        super()._stops(number, why)

    def _retire(self, counts: Counts) -> None:
        for view in [v for v in self.process.all if v.partition.counts is counts]:
            self.process.all.remove(view)
            if self.process.alive:
                self.process.stage.look(partial(_retired, view))
        super()._retire(counts)

    def answered(self, answer: Answer) -> None:
        """As `Worker.answered`."""
        if self.process.alive:
            self.process.stage.look(lambda w: w.answered(self.process, answer))
        super().answered(answer)


def _retired(view: View, watch: Any) -> None:
    watch.retired(view)


class WatchedStation(Station):
    """A station that tells what it sends, takes and passes over."""

    def __init__(self, log: Any, lease: Any, partition: Partition, *args: Any, **more: Any) -> None:
        super().__init__(log, lease, partition, *args, **more)
        process = self.process = _mine()
        view = self.view = View(process, self, lease)
        lease.view = view
        process.all = [v for v in process.all if v.number != view.number] + [view]
        self.egress = WatchedSender(self.egress, view)
        lease.tail.stale = not self.owns()
        process.stage.look(lambda w: w.taken(view, lease.taken, 0, lease.tail))
        process.stage.look(lambda w: w.sends(view, lease.taken.out))

    def owns(self) -> bool:
        """Nobody else has taken the partition, whether it is known here or not."""
        return self.view.lease.store.parts[self.number].hold is self.view.hold

    async def commit(self, p: Partition, batch: Batch) -> None:
        """As `Station.commit`."""
        if batch.empty and self.process.alive:
            self.process.stage.look(lambda w: w.passed(self.view, batch))
        await super().commit(p, batch)

    def result(self, epoch: int, event: Input) -> None:
        """As `Station.result`."""
        before = len(self.partition.results)
        super().result(epoch, event)
        if len(self.partition.results) > before:
            process = self.process
            process.stage.look(lambda w: w.result(process, self.number, epoch, self.partition.epoch))


class WatchedSender(Sender):
    """What one partition sends."""

    def __init__(self, right: Sender, view: View) -> None:
        super().__init__(right.log, right.namespace, right.clock, right.chance)
        self.view = view

    async def send(self, drafts: Sequence[Draft]) -> list[Refusal]:
        """As `Sender.send`."""
        if isinstance(drafts, Leaving) and self.view.worker.alive:
            self.view.worker.stage.look(lambda w: w.sends(self.view, list(drafts)))
        return await super().send(drafts)


class WatchedRunner(StepRunner):
    """The steps of one process: the runtime's runner, with bodies that take their time and go wrong."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.process = _mine()
        self._pool = cast(Any, Pool(self.process, self._threads))

    def start(self, partition: int, epoch: int, call: StepCall) -> None:
        """As `StepRunner.start`, seen by whoever watches."""
        if not self.process.alive:
            return
        stage = self.process.stage
        station: Any = self.process.worker.stations.get(partition)
        if station is not None and station.partition.epoch == epoch and not station.owns():
            stage.universe.sometimes["a former owner that does not know starts a step"] += 1
        else:
            stage.look(lambda w: w.starts(self.process, partition, epoch, call))
        stage.universe.sometimes["a running step was adopted"] += call.key in self.running
        super().start(partition, epoch, call)

    def _drive(
        self, partition: int, epoch: int, call: StepCall, step: StepType, args: Any, kwargs: Any
    ) -> None:
        super()._drive(partition, epoch, call, self._written(step, call), args, kwargs)

    def _thread(self, one: Running, step: StepType, args: Any, kwargs: Any) -> None:
        if self.process.stage.chance.order() < 0.5:  # as if it were written `async def`
            self._drive(one.partition, one.epoch, one.call, replace(step, is_async=True), args, kwargs)
            return
        super()._thread(one, self._blocking(step, one.call), args, kwargs)

    def _fate(self) -> str:
        u = self.process.stage.universe
        fate = FATES[int(u.chance.bad() * len(FATES))] if u.chance.fault("step", u.rates.step) else ""
        if fate.startswith("kills") and u.chance.bad() > 0.08:  # it costs the worker: rarer than the others
            fate = "fails"
        if fate:
            u.chance.faults[f"step: {fate}"] += 1
        return fate

    def _ran(self, call: StepCall) -> None:
        self.process.stage.look(lambda w: w.runs(self.process, call))

    def _written(self, step: StepType, call: StepCall) -> StepType:
        """An async step: it waits, is slow, hears nothing of being cancelled."""
        fate, u = self._fate(), self.process.stage.universe
        body = step.fn

        async def work(*args: Any, **kwargs: Any) -> Any:
            if u.chance.order() < 0.7:
                await asyncio.sleep(u.chance.below(30) / 1000)
            if fate == "kills":
                self.process.die()
                raise Killed
            if fate == "hangs":
                await asyncio.sleep(call.timeout_ms)
            if fate == "fails":
                raise OSError("the network is away")
            self._ran(call)
            value = body(*args, **kwargs)
            if fate == "kills after":
                self.process.die()
                raise Killed
            if fate == "fails after":
                raise OSError("the answer was lost")
            if fate == "late":
                await asyncio.sleep((call.timeout_ms + u.chance.below(4_000) - 2_000) / 1000)
            elif fate == "hangs after":
                await asyncio.sleep(call.timeout_ms)
            elif fate == "ignores":
                self.process.excused.add(asyncio.current_task())
                for _ in range(3):
                    try:
                        await asyncio.sleep(u.chance.below(call.timeout_ms + 2_000) / 1000)
                        break
                    except asyncio.CancelledError:
                        u.sometimes["a step does not hear that it is cancelled"] += 1
            return value

        return replace(step, fn=work, is_async=True)

    def _blocking(self, step: StepType, call: StepCall) -> StepType:
        """A plain step: in a thread, that nothing ends."""
        fate, stage = self._fate(), self.process.stage
        body = step.fn

        def work(*args: Any, **kwargs: Any) -> Any:
            if fate == "kills":
                self.process.die()
                raise Killed
            stage.loop.thread_ms = stage.chance.below(30)
            if fate in ("hangs", "hangs after", "late", "ignores"):
                stage.loop.thread_ms = stage.chance.below(2 * call.timeout_ms)
            if fate in ("hangs", "fails"):
                raise OSError("the network is away")
            self._ran(call)
            value = body(*args, **kwargs)
            if fate == "kills after":
                self.process.die()
                raise Killed
            if fate == "fails after":
                raise OSError("the answer was lost")
            return value

        return replace(step, fn=work)


class Pool:
    """A pool of threads without threads: so many at a time, each begins at a moment of the seed's choice."""

    def __init__(self, process: Process, size: int) -> None:
        self.process = process
        self.free = size
        self.queue: list[tuple[Ticket[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def submit(self, fn: Callable[..., Any], *args: Any) -> Ticket[Any]:
        """As `Executor.submit`."""
        ticket: Ticket[Any] = Ticket()
        self.queue.append((ticket, fn, args))
        stage = self.process.stage
        stage.universe.at(stage.chance.below(5), self._next)
        return ticket

    def _next(self) -> None:
        process, u = self.process, self.process.stage.universe
        if not process.alive or not self.queue or not self.free:
            return
        if process.paused_until > u.now:
            u.at(process.paused_until - u.now, self._next)
            return
        ticket, fn, args = self.queue.pop(0)
        loop = process.stage.loop
        self.free -= 1
        loop.threaded(ticket, process.context.copy(), fn, args, 0)
        u.at(loop.threaded_ms, self._over)

    def _over(self) -> None:
        self.free += 1
        self._next()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Executor.shutdown`."""
        for ticket, _, _ in self.queue if cancel_futures else ():
            ticket.cancel()


@contextmanager
def watched() -> Generator[None]:
    """For as long as the block lasts workers make watched stations and runners."""
    right: Sequence[tuple[str, Any]] = (("Station", WatchedStation), ("StepRunner", WatchedRunner))
    before = [(name, getattr(worker_module, name)) for name, _ in right]
    for name, ours in right:
        setattr(worker_module, name, ours)
    try:
        yield
    finally:
        for name, theirs in before:
            setattr(worker_module, name, theirs)
