"""One simulated process: it takes partitions over, runs them, loses them, dies; another process comes in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast

from contrapas.core.envelope import InstanceRecord
from contrapas.core.world import Input, StepCall
from contrapas.errors import ContrapasError, Fenced, Indeterminate, Retriable
from contrapas.failpoints import NAMES, arm
from contrapas.log import Lease, Log
from contrapas.runtime.batch import Answer, Setting
from contrapas.runtime.restore import take_over
from contrapas.testing.bench import at_once
from contrapas.testing.simulation.clock import WorkerClock
from contrapas.testing.simulation.station import SimStation, StationEyes
from contrapas.testing.simulation.steps import ScriptedRunner
from contrapas.testing.simulation.store import Busy, SimLease, SimLog, SimStore
from contrapas.testing.simulation.universe import Universe

if TYPE_CHECKING:
    from contrapas.log.memory_store import Hold


class Killed(BaseException):
    """The process dies here."""


class WorkerEyes(StationEyes, Protocol):
    """Who watches what a worker does."""

    def starts(self, worker: SimWorker, partition: int, epoch: int, call: StepCall) -> None:
        """A local step is about to be run, or adopted."""
        ...

    def runs(self, worker: SimWorker, call: StepCall) -> None:
        """The body of a local step runs."""
        ...

    def result(self, worker: SimWorker, partition: int, epoch: int, now: int) -> None:
        """The result of a step, run under `epoch`, is taken under `now`."""
        ...

    def answered(self, worker: SimWorker, answer: Answer) -> None:
        """A door is told."""
        ...

    def acquired(self, worker: SimWorker, hold: Hold) -> None:
        """A worker believes that it owns a partition, and has read nothing yet."""
        ...

    def stops(self, worker: SimWorker, partition: int, why: ContrapasError) -> None:
        """A partition stops: somebody has to look at it."""
        ...

    def retired(self, s: SimStation) -> None:
        """A station is gone."""
        ...

    def died(self, worker: SimWorker) -> None:
        """The process is gone."""
        ...


class SimWorker:
    """A process with its clocks, its steps, its partitions."""

    def __init__(
        self,
        universe: Universe,
        store: SimStore,
        setting: Setting,
        eyes: WorkerEyes,
        name: str,
        *,
        ahead_ms: int = 0,
    ) -> None:
        self.universe = universe
        self.store = store
        self.setting = setting
        self.eyes = eyes
        self.name = name
        self.clock = WorkerClock(universe, ahead_ms=ahead_ms)
        self.log = SimLog(store)
        self.runner = ScriptedRunner(setting.world.types, self._result, self.clock, self)
        self.runner.on_fatal = self._fatal
        self.stations: dict[int, SimStation] = {}
        self.all: list[SimStation] = []
        """Stations that live, those that are still taking over included."""
        self.wanted: frozenset[int] = frozenset()
        self.alive = True
        self.paused_until = 0
        self.letting_go = False
        self.taking = False
        self._trying: set[int] = set()

    # ---- membership

    def assign(self, partitions: Iterable[int]) -> None:
        """What the group says it should own."""
        self.wanted = frozenset(partitions)
        for s in list(self.all):
            if s.number not in self.wanted:
                s.leave()
        for number in self.wanted:
            self.want(number, self.universe.chance.below(20))
        self.look_timers()

    def want(self, number: int, delay_ms: int) -> None:
        """Try to own a partition, before long."""
        if number in self._trying:
            return
        self._trying.add(number)
        self.universe.at(delay_ms, lambda: self._try(number))

    def rush(self, number: int) -> None:
        """Take a partition at once, in the middle of what somebody else does."""
        if self.alive and self.paused_until <= self.universe.now:
            self.wanted |= {number}
            self.guarded(number, lambda: self._take(number))

    def _try(self, number: int) -> None:
        self._trying.discard(number)
        if not self.alive or number not in self.wanted or any(s.number == number for s in self.all):
            return
        if self.paused_until > self.universe.now:
            self.want(number, self.paused_until - self.universe.now)
            return
        self.guarded(number, lambda: self._take(number))

    def _take(self, number: int) -> None:
        self.taking = True
        try:
            hold = self.store.acquire(number, self.name)
        finally:
            self.taking = False
        self.universe.note(f"{self.name} owns {number}, epoch {hold.epoch}")
        if number in self.store.torn:
            self.store.torn.discard(number)
            self.universe.sometimes["prefix of a batch repaired"] += 1
        self.eyes.acquired(self, hold)
        lease = SimLease(self.store, hold)
        saved = self.store.disk.pick(number)
        known = None if saved is None else (saved.state, saved)
        taken = at_once(take_over(cast(Log, self.log), cast(Lease, lease), self.setting, known))
        if saved is not None:
            old = self.store.fence == "order" and saved.state.upto < self.store.offset_at(
                "log", number, taken.timestamp_ms - self.log.history_ms
            )
            some = "an old checkpoint was not used" if old else "restored from a checkpoint"
            self.universe.sometimes[some] += 1
        s = SimStation(self, lease, taken.partition, self.setting, taken)
        self.eyes.taken(s, taken, 0 if saved is None else saved.state.upto)
        if taken.timestamp_ms:
            s.log_clock.saw(taken.timestamp_ms)
        self.all.append(s)
        s.soon(self.universe.chance.below(5))

    def guarded(self, number: int, act: Callable[[], Any]) -> None:
        """Do something for a partition; what goes wrong goes where `Worker` lets it go."""
        try:
            act()
        except Killed:
            self.die()
        except Fenced:
            running = any(one.partition == number for one in self.runner.running.values())
            self.universe.sometimes["fenced with steps in flight"] += running
            self._drop(number)
            self.runner.drop(number)
            self.want(number, 20 + self.universe.chance.below(200))
        except Indeterminate:
            self._drop(number)
            self.want(number, 5 + self.universe.chance.below(20))
        except (Retriable, Busy):
            self._release(number)
            self.want(number, 200 + self.universe.chance.below(800))
        except ContrapasError as why:
            self._release(number)
            self.eyes.stops(self, number, why)

    def _drop(self, number: int) -> None:
        for s in list(self.all):
            if s.number == number:
                s.drop()

    def _release(self, number: int) -> None:
        for s in list(self.all):
            if s.number == number:
                at_once(s.lease.release())
                s.drop()

    def freed(self, number: int) -> None:
        """A partition was given up in order."""
        if number in self.wanted:
            self.want(number, 20)

    # ---- timers after a takeover

    def look_timers(self) -> None:
        """Timers fire once ingress of every partition we own has met the ends of the takeover."""
        if any(number not in self.stations for number in self.wanted):
            return
        if any(s.behind for s in self.stations.values()):
            return
        for s in self.stations.values():
            if s.partition.release_at is None and s.phase == 2:
                s.partition.release_at = self.store.bounds("in", s.number)[1]
                s.soon()

    # ---- what happens to it

    def trouble(self, weight: float) -> None:
        """Chance looks whether something happens to the process that just decided a batch of so many transitions."""
        u = self.universe
        chance, rates = u.chance, u.rates
        if chance.calm:
            return
        if chance.fault("pause", min(0.3, rates.pause * weight)):
            self.pause(u.chance.below(40_000))
        if chance.fault("clock jump", min(0.3, rates.jump * weight)):
            self.clock.wall_ahead_ms += int((chance.bad() - 0.5) * 7_200_000)

    def pause(self, ms: int) -> None:
        """Stand still, as under SIGSTOP; others do not."""
        u = self.universe
        self.paused_until = u.now + ms
        u.note(f"{self.name} stands still for {ms} ms")

    def die(self) -> None:
        """As under kill -9."""
        if not self.alive:
            return
        self.universe.note(f"{self.name} dies")
        self.alive = False
        self.letting_go = True
        for s in list(self.all):
            s.drop()
        self.runner.running.clear()
        self.eyes.died(self)

    def retire(self, s: SimStation) -> None:
        """A station is gone."""
        if s in self.all:
            self.all.remove(s)
        self.eyes.retired(s)

    def _fatal(self, why: BaseException) -> None:
        self.universe.note(f"{self.name}: {why}")
        self.die()

    # ---- what stations and steps tell

    def _result(self, partition: int, epoch: int, event: Input) -> None:
        station = self.stations.get(partition)
        if self.alive and station is not None:
            station.result(epoch, event)

    def answered(self, answer: Answer) -> None:
        """A door in this process is told."""
        self.eyes.answered(self, answer)

    def ended(self, record: InstanceRecord) -> None:
        """Nobody waits in this process."""


class Killer:
    """Kills the worker that passes a place, now and then."""

    def __init__(self) -> None:
        self.left = -1
        self.passed = 0
        self.places: dict[str, int] = {}
        self.on_kill: Callable[[str], bool] = lambda place: True

    def arm(self) -> None:
        """Stand at every place of the runtime that a simulated worker passes."""
        for name in NAMES:
            if not name.startswith(("step.", "sqlite", "service")):
                arm(name, self._at(name))

    def _at(self, name: str) -> Callable[[], None]:
        places = self.places

        def pass_by() -> None:
            places[name] = places.get(name, 0) + 1
            self.passed += 1
            self.left -= 1
            if self.left == 0 and self.on_kill(name):
                raise Killed(name)

        return pass_by
