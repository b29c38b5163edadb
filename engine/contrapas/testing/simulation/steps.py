"""Local steps as a script: they succeed, fail, hang, answer late or twice, or take their worker with them.

Everything but the execution is the runtime's `StepRunner`: adoption of running copies, time limits, results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from contrapas.core.world import StepCall, StepType, Types
from contrapas.runtime.steps import Deliver, Running, StepRunner
from contrapas.testing.simulation.clock import WorkerClock

if TYPE_CHECKING:
    from contrapas.testing.simulation.worker import SimWorker

FATES = ("fails", "fails after", "hangs", "hangs after", "late", "twice", "kills", "kills after")


class ScriptedRunner(StepRunner):
    """All steps of one simulated worker."""

    def __init__(self, types: Types, deliver: Deliver, clock: WorkerClock, worker: SimWorker) -> None:
        super().__init__(types, deliver, clock)
        self.worker = worker

    def start(self, partition: int, epoch: int, call: StepCall) -> None:
        """As `StepRunner.start`, seen by whoever watches."""
        self.worker.eyes.starts(self.worker, partition, epoch, call)
        self.worker.universe.sometimes["a running step was adopted"] += call.key in self.running
        super().start(partition, epoch, call)

    def _drive(
        self, partition: int, epoch: int, call: StepCall, step: StepType, args: Any, kwargs: Any
    ) -> None:
        self._thread(Running(partition, epoch, call), step, args, kwargs)

    def _thread(self, one: Running, step: StepType, args: Any, kwargs: Any) -> None:
        worker, u, call = self.worker, self.worker.universe, one.call
        self.running[call.key] = one
        limit = self._clock.call_later(call.timeout_ms, lambda: self._expire(one))
        one.limit = limit
        one.cancel = _nothing if step.is_async else None
        fate = FATES[int(u.chance.bad() * len(FATES))] if u.chance.fault("step", u.rates.step) else ""
        if fate.startswith("kills") and u.chance.bad() > 0.08:  # it costs the worker: rarer than the others
            fate = "twice"
        if fate:
            u.chance.faults[f"step: {fate}"] += 1

        def work() -> Any:
            worker.eyes.runs(worker, call)
            return step.fn(*args, **kwargs)

        if fate == "kills":
            u.at(0, worker.die)
            return
        value: Any = None
        why: BaseException | None = OSError("the network is away")
        if fate not in ("fails", "hangs"):
            try:
                value, why = work(), None
            except Exception as raised:  # noqa: BLE001  whatever a step raises is its outcome
                why = raised
        if fate == "kills after":
            u.at(0, worker.die)
            return
        if fate.startswith("hangs"):  # nothing can end a thread; one day it ends by itself
            u.at(40_000 + u.chance.below(60_000), lambda: self._done(one, step, None, OSError("at last")))
            return
        if fate == "fails after":
            why = OSError("the answer was lost")
        delay = u.chance.below(call.timeout_ms + 5_000 if fate == "late" else 20)
        u.at(delay, lambda: self._done(one, step, value, why))
        if fate == "twice":
            u.at(delay + u.chance.below(2_000), lambda: self._done(one, step, value, why))

    def _done(self, one: Running, step: StepType, value: Any, why: BaseException | None) -> None:
        if not self.worker.alive:
            return
        if self.worker.paused_until > self.worker.universe.now:
            self.worker.universe.at(
                self.worker.paused_until - self.worker.universe.now,
                lambda: self._done(one, step, value, why),
            )
            return
        self._ended(one, step, value, why)


def _nothing() -> None:
    return


def scripted(step: StepType, fn: Callable[..., Any]) -> StepType:
    """A step whose body is the load's."""
    return replace(step, fn=fn, is_async=False)
