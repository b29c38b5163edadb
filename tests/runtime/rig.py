"""A namespace under test: workers on one log, killed and started again in one process, time in the test's hands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from contrapas import failpoints
from contrapas.core.world import World
from contrapas.log import Log
from contrapas.log.memory import MemoryLog
from contrapas.runtime.client import Client
from contrapas.runtime.clock import JumpClock
from contrapas.runtime.definition import Definition
from contrapas.runtime.worker import Worker


class Killed(BaseException):
    """Stands for kill -9: nothing of the process runs on."""


class Rig:
    """One log, one definition, at most a few workers."""

    def __init__(self, log: Any, definition: Definition, world: World, clock: JumpClock) -> None:
        self.log = log
        self.definition = definition
        self.world = world
        self.clock = clock
        self.tasks: list[asyncio.Task[None]] = []
        self.workers: list[Worker] = []
        self.clients: list[Client] = []

    async def worker(self, log: Log | None = None, **more: Any) -> Worker:
        """Start a worker and wait until it owns its partitions."""
        own = log or self.log.peer()
        w = Worker(
            own,
            self.definition,
            self.world,
            owner=f"w{len(self.workers)}",
            clock=self.clock,
            chance=lambda: 0.5,
            **more,
        )
        self.workers.append(w)
        self.tasks.append(asyncio.create_task(w.run()))
        for _ in range(2000):
            if w.ready.is_set() or self.tasks[-1].done():
                break
            await self.turn()
            if "checkpoints" in more:
                await asyncio.sleep(0.002)  # a file is read by a thread
        return w

    def client(self, worker: Worker | None = None) -> Client:
        """A client in the last worker's process, unless told otherwise."""
        w = worker or self.workers[-1]
        c = Client(w.log, w.setting, worker=w)
        self.clients.append(c)
        return c

    async def turn(self, ms: float = 0, times: int = 1) -> None:
        """Let the loop run, and time pass."""
        for _ in range(times):
            await asyncio.sleep(0)
            if ms:
                self.clock.advance(ms)

    async def until(self, true: Callable[[], bool], *, ms: float = 1, turns: int = 4000) -> None:
        """Let time pass until something is so."""
        for _ in range(turns):
            if true():
                return
            await self.turn(ms)
            await asyncio.sleep(0)
        raise AssertionError("it did not come about")

    async def killed(self, index: int = -1) -> None:
        """Wait until an armed failpoint has killed a worker."""
        task = self.tasks[index]
        for _ in range(4000):
            if task.done():
                break
            await self.turn(1)
        assert task.done(), "nothing killed the worker"
        with contextlib.suppress(Killed, asyncio.CancelledError):
            await task
        self._dead(index)

    def _dead(self, index: int) -> None:
        """The group finds out."""
        log: Any = self.workers[index].log
        for member in log._members:
            self.log.store.leave(member.group, member.member)

    async def kill(self, index: int = -1) -> None:
        """kill -9, from outside."""
        self.tasks[index].cancel()
        with contextlib.suppress(Killed, asyncio.CancelledError):
            await self.tasks[index]
        self._dead(index)

    async def close(self) -> None:
        """End everything."""
        failpoints.disarm()
        for client in self.clients:
            await client.close()
        for i in range(len(self.tasks)):
            with contextlib.suppress(BaseException):
                await self.kill(i)

    def records(self, lane: str = "log") -> list[Any]:
        """Everything on a lane, by partition and offset."""
        store = self.log.store
        return [r for shelf in store.lanes.get(lane, []) for r in shelf.records]

    def status(self, instance: str) -> str:
        """Status of an instance by its newest record's headers."""
        found = [r for r in self.records() if r.key == instance.encode()]
        return dict(found[-1].headers)["cp-status"].decode() if found and found[-1].value is not None else ""

    def versions(self, instance: str) -> list[int]:
        """Versions of an instance's records, in order of the lane."""
        return [int(dict(r.headers)["cp-version"]) for r in self.records() if r.key == instance.encode()]


def kill_at(name: str, nth: int = 1) -> None:
    """Arm a failpoint: the nth visit kills."""
    left = nth

    def act() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            failpoints.disarm(name)
            raise Killed(name)

    failpoints.arm(name, act)


@contextlib.asynccontextmanager
async def rig_of(
    definition: Definition, world: World, *, partitions: int = 2, fence: Any = "refuse"
) -> AsyncGenerator[Rig]:
    """A rig on a log in memory."""
    clock = JumpClock()
    log = MemoryLog(definition.namespace, partitions, clock=clock, fence=fence)
    rig = Rig(log, definition, world, clock)
    try:
        yield rig
    finally:
        await rig.close()
