"""One world of ring 2: ring 1's world, with real workers and clients on a loop of its own in the place of its workers.

Log, participants, faults, watcher, last look and trace are ring 1's. Here are what processes are made of, who dies when,
people who ask through doors, and the end: everybody stops in order, and nothing is left over.
"""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from contrapas.core.lane import Lane, Record
from contrapas.errors import ContrapasError
from contrapas.failpoints import NAMES, arm, disarm
from contrapas.log.memory_store import Hold
from contrapas.runtime import ingress, read, services, sweep
from contrapas.runtime.definition import Definition
from contrapas.testing.simulation.chance import Chance
from contrapas.testing.simulation.final import look
from contrapas.testing.simulation.group import Group
from contrapas.testing.simulation.load import Load
from contrapas.testing.simulation.loop import OWNER, Killed, gather, loop_of, wait_for
from contrapas.testing.simulation.memo import remembering
from contrapas.testing.simulation.network import NetMembership, Team
from contrapas.testing.simulation.options import Options
from contrapas.testing.simulation.people import Doors
from contrapas.testing.simulation.play import DAY_MS, Outcome, Play
from contrapas.testing.simulation.process import Process, coro_name, watched
from contrapas.testing.simulation.universe import Wrong
from contrapas.testing.simulation.worker import Killer
from contrapas.testing.simulation.worries import Worries

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
OVER = frozenset({b"done", b"compensated", b"failed"})
REST_MS = 10_000
"""After the last instance has ended: idle commits, heals."""
MOVES_MAX = 60
"""So often a partition may change hands where nothing goes wrong: people restart who goes one thing at a time."""
PATIENT: tuple[tuple[Any, str, Any], ...] = (
    (read, "LOOK_MS", HOUR_MS),
    (sweep, "EVERY_MS", DAY_MS),
    (services, "SAVE_MS", HOUR_MS),
    (ingress, "GROWN_MS", DAY_MS),
)
"""What looks again and again: while nothing goes wrong any more it may do so seldom, for a world may last for months."""


class Stage(Play):
    """One world of ring 2."""

    def __init__(self, load: Load, options: Options, chance: Chance) -> None:
        super().__init__(load, options, chance)
        shuffle = (0.0, 0.3, 1.0)[chance.below(3)]
        self.loop = loop_of(self.universe, shuffle=shuffle)
        self.processes: list[Process] = cast(Any, self.workers)
        self.all: list[Process] = []
        """Those that are gone too."""
        self.waiters: dict[tuple[Lane, int], list[asyncio.Future[None]]] = {}
        self.teams: dict[str, Team] = {}
        self.killer: RingKiller = RingKiller()
        self.worries: RingWorries = RingWorries(self)
        self.watch.stopped = self.worries.repair
        self.watch.first_unread = lambda number, at: 0  # what is on its way is unread, and may be
        self.store.rival = lambda number: None
        self.doors = Doors(self)
        if any(True for _ in load.definition.services):
            self.mailbox.reacts = False
        self.group = RingGroup(self)
        self._moves: Counter[int] = Counter()
        self.closing = False
        """Nobody is started again."""
        self.buried = False
        """The world is over."""
        self.visits_left = -1
        self.visits = 0
        self._rests_at = 0
        self.lag = max(1, options.lag_ms // 20)

    # ---- what processes ask of it

    def latency(self) -> int:
        """ms of one way to the log or back."""
        chance = self.chance
        if chance.fault("slow log", self.universe.rates.retriable):
            return chance.below(12_000)
        return chance.below(self.lag + 1)

    def look(self, eye: Callable[[Any], Any]) -> None:
        """Have the watcher look, from within a process: what it finds ends the world, whoever catches it."""
        try:
            eye(self.watch)
        except Wrong as why:
            self.wrong(why)
            raise
        except Exception as why:
            self.wrong(Wrong("watch", f"{type(why).__name__}: {why}"))
            raise

    def wrong(self, why: Wrong) -> Wrong:
        """Something does not hold: the world ends with the first that is found, whoever catches it."""
        self.loop.found = self.loop.found or why
        return why

    def joins(self, member: NetMembership) -> None:
        """A process asks for its share."""
        if member.group.endswith(".workers"):
            member.process.assign(member.process.wanted)
            return
        self.teams.setdefault(member.group, Team(self, member.lanes)).join(member)

    def owned(self, process: Process, hold: Hold) -> None:
        """A partition has another owner. I-31: once nothing goes wrong, partitions come to rest."""
        self.watch.acquired(cast(Any, process), hold)
        if self.chance.calm and not self.closing:
            self._moves[hold.partition] += 1
            if self._moves[hold.partition] > MOVES_MAX:
                text = f"partition {hold.partition} changes hands for ever, and nothing goes wrong"
                raise self.wrong(Wrong("I-31", text))

    def leaves(self, member: NetMembership) -> None:
        """A member goes."""
        if member.group.endswith(".workers"):
            self.group.leave(cast(Any, member.process))
        else:
            self.teams[member.group].leave(member)

    # ---- processes

    def hire(self, definition: Definition | None = None) -> Any:
        """As `Play.hire`."""
        self._born += 1
        mine = definition or self.load.definition
        process = Process(self, f"w{self._born}", mine, self.release(mine))
        self.processes.append(process)
        self.all.append(process)
        self.group.join(cast(Any, process))
        return process

    def gone(self, process: Process) -> None:
        """A process is no more: the group finds out after a while, and another comes."""
        u = self.universe
        for member in process.memberships:
            if not member.group.endswith(".workers"):
                u.at(self.chance.below(10_000), partial(self.leaves, member))
        if process in self.processes:
            self.processes.remove(process)
        if not self.closing:
            self._died(cast(Any, process))

    def exited(self, process: Process) -> None:
        """A process is over, in order or with an error: nothing of it is left."""
        if not process.alive:
            return
        self.universe.seen["I-43"] += 1
        left = sorted(coro_name(t) for t in self.loop.pending(process) if t not in process.excused)
        if left:
            raise Wrong("I-43", f"{process.name} is over, and goes on: {left}")
        process.alive = False
        self.gone(process)

    def steps_on(self, process: Process) -> bool:
        """A callback of a process is about to run: now and then it is killed there."""
        self.visits += 1
        self.visits_left -= 1
        if self.visits_left == 0:
            self.worries.next_visit()
            if self.chance.strike("crash"):
                self.chance.faults["crash: at an await"] += 1
                process.die()
                return True
        return False

    # ---- what is stored wakes who reads it

    def _stored(self, lane: str, record: Record) -> None:
        for came in self.waiters.pop((lane, record.partition), ()):
            self.universe.at(self.latency(), partial(_wake, came))
        if lane != "in":
            self.mailbox.arrived(lane, record)

    def _strange(self, number: int) -> None:
        """Owners look by themselves."""

    def begin(self, number: int) -> None:
        """The n-th start: half of them by people at doors."""
        if self.chance.order() < 0.5 * self.load.door:
            self.doors.start(number)
        else:
            super().begin(number)

    # ---- the phases

    def run(self) -> Outcome:
        """The whole of it."""
        wrong = ""
        u = self.universe
        try:
            with self._swapped(), remembering(self.watch.memo):
                self._safety()
                self._liveness()
                look(self)
                self._close()
        except Wrong as why:
            wrong = str(why)
        except ContrapasError as why:
            wrong = f"defect: {why}"
        finally:
            disarm()
            self._bury()
        for name, count in self.killer.places.items():
            u.sometimes[f"passed {name}"] += count
        return Outcome(
            self.options, u.transitions, self.chance.faults, u.seen, u.sometimes, u.trace(),
            self.chance.tape, wrong, [f"{b}" for b in u.events] if wrong else [],
        )  # fmt: skip

    @contextmanager
    def _swapped(self) -> Generator[None]:
        """The world's clock, no logging, no waiting for what nobody waits for."""
        clocks: tuple[tuple[Any, str, Any], ...] = (
            (time, "monotonic", lambda: self.universe.now / 1000),
            (time, "time", lambda: self.universe.now / 1000),
            (time, "time_ns", lambda: self.universe.now * 1_000_000),
            (asyncio, "wait_for", wait_for),
            (asyncio, "gather", gather),
            *((module, name, getattr(module, name)) for module, name, _ in PATIENT),
        )
        before = [(where, name, getattr(where, name)) for where, name, _ in clocks]
        logging.disable(logging.CRITICAL)
        try:
            for where, name, ours in clocks:
                setattr(where, name, ours)
            with self.loop.running(), watched(), warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                yield
        finally:
            logging.disable(logging.NOTSET)
            for where, name, theirs in before:
                setattr(where, name, theirs)

    def _until(self, end: int) -> None:
        self.loop.run_until(end)

    def _liveness(self) -> None:
        u = self.universe
        u.note("nothing goes wrong from here on")
        self.chance.calm = True
        self.worries.heal()
        for module, name, value in PATIENT:
            setattr(module, name, value)
        if not self.processes:
            self.hire()
        end = u.now + self.load.days * DAY_MS
        self._rests_at = u.now + REST_MS
        while u.now < end and not self._over():
            at = u.next_at()
            self.loop.run_until(max(u.now, at or 0) + MINUTE_MS)
        self.loop.run_until(u.now + HOUR_MS + REST_MS)

    def _over(self) -> bool:
        """Nothing is left to be done, or to be waited for."""
        return (
            not self.doors.asking
            and self.universe.now > self._rests_at
            and all(
                c.status in OVER
                for shadow in self.watch.shadows
                for key, c in shadow.keys.items()
                if key[:1] != b"$" and key.partition(b"/")[0].decode() not in self.entities
            )
        )

    def _close(self) -> None:
        """Everybody stops in order, and nothing is left over."""
        u = self.universe
        u.seen["I-44"] += 1
        self.closing = True
        for process in list(self.processes):
            process.stop()
        self.loop.run_until(u.now + 120_000)
        for process in self.all:
            if process.alive:
                names = sorted({coro_name(t) for t in self.loop.pending(process)})
                raise Wrong("I-43", f"{process.name} was told to stop, and did not: {names}")
        self.doors.closed()
        for task in self.loop.failed():
            raise Wrong("loop", f"{coro_name(task)} failed with {task.exception()!r}, and nobody has seen it")
        left = [coro_name(t) for t in self.loop.pending(None)]
        if left:
            raise Wrong("loop", f"left over: {left}")

    def _bury(self) -> None:
        """What was killed in the middle is taken apart: nobody is there to hear what it says."""
        self.buried = True
        for task, _ in self.loop.tasks:
            setattr(task, "_log_destroy_pending", False)  # noqa: B010
            if task.done():
                if not task.cancelled():
                    task.exception()
                continue
            coro: Any = task.get_coro()
            try:
                coro.close()
            except BaseException:  # noqa: BLE001, S112
                continue


def _wake(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_result(None)


class RingGroup(Group):
    """The group of a world's workers: what it says comes late, and in its order."""

    def __init__(self, play: Play) -> None:
        super().__init__(play)
        self._said = 0
        self._heard: dict[str, int] = {}

    def _tell(self, worker: Any, mine: frozenset[int]) -> None:
        self._said += 1
        number, u = self._said, self.play.universe

        def arrives() -> None:
            if worker in self.members and self._heard.get(worker.name, 0) < number:
                self._heard[worker.name] = number
                worker.assign(mine)

        late = u.chance.fault("slow coordinator", u.rates.rebalance)
        u.at(u.chance.below(20_000 if late else 40), arrives)


class RingKiller(Killer):
    """Kills the process that passes a place, now and then."""

    def arm(self) -> None:
        """As `Killer.arm`, at every place."""
        for name in NAMES:
            if not name.startswith("sqlite"):
                arm(name, self._at(name))

    def _at(self, name: str) -> Callable[[], None]:
        def pass_by() -> None:
            process: Process | None = OWNER.get()
            if process is None or not process.alive:
                return
            self.places[name] = self.places.get(name, 0) + 1
            self.passed += 1
            self.left -= 1
            if self.left == 0 and self.on_kill(name):
                process.die()
                raise Killed(name)

        return pass_by


class RingWorries(Worries):
    """What goes wrong with the world at large, of ring 2."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stage = stage

    def begin(self) -> None:
        """As `Worries.begin`."""
        super().begin()
        self.next_visit()

    def next_visit(self) -> None:
        """When a process is killed between two callbacks next."""
        stage = self.stage
        rate = self.u.rates.crash
        if rate:
            each = (stage.visits + 4_000) / (self.u.transitions + 25)
            stage.visits_left = self.u.chance.gap(2 * each / rate)

    def _next_death(self) -> None:
        super()._next_death()
        self.play.killer.left *= 2  # the other half between two callbacks

    def heal(self) -> None:
        """As `Worries.heal`."""
        self.stage.visits_left = -1
        for process in self.stage.processes:
            process.cut_until = 0
        super().heal()
        for process in self.stage.processes:
            process.resume()

    def _look(self) -> None:
        moved = self.u.transitions - self._looked
        super()._look()
        chance, rates = self.u.chance, self.u.rates
        for _ in range(moved if not chance.calm else 0):
            if chance.fault("pause", rates.pause):
                self._somebody(lambda p: p.pause(chance.below(40_000)))
            if chance.fault("link down", rates.pause):
                self._somebody(lambda p: setattr(p, "cut_until", self.u.now + chance.below(20_000)))
            if chance.fault("stop", rates.release):
                self._somebody(lambda p: p.stop())

    def _somebody(self, act: Callable[[Process], None]) -> None:
        living = [p for p in self.stage.processes if p.alive and not p.stopping_since]
        if living:
            act(self.u.chance.pick(living))

    def _restart(self) -> None:
        """As `Worries._restart`."""
        for process in self.stage.processes:
            for view in list(process.all):
                if view.partition.care is not None and (self.u.chance.calm or self.u.chance.order() < 0.1):
                    view.leave()

    def _deploy(self) -> None:
        """A worker is replaced by one of another release."""
        if self.stage.processes:
            process = self.u.chance.pick(self.stage.processes)
            self.stage.hire(self.stage.load.other if self.u.chance.order() < 0.5 else None)
            process.stop()
