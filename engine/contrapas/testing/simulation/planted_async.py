"""Planted bugs of the code that waits: lost wake-ups, tasks forgotten, cancels unheard, answers before their time (ring 2)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from contrapas.testing.simulation.planted import RUNTIME, Bug


def _anew(right: Any) -> Any:
    """A partition that comes back is taken at once: nobody waits for the end of what was there."""

    def settle(self: Any) -> None:
        for number in self._assigned:
            station = self.stations.get(number)
            if station is not None and station.stopping:
                self._tenures.pop(number, None)
        right(self)

    return settle


def _nothing(right: Any) -> Any:
    def nothing(*args: Any, **more: Any) -> None:
        """Forgotten."""

    return nothing


def _unheard(right: Any) -> Any:
    """A result lies there, and nobody is woken."""

    def result(self: Any, epoch: int, event: Any) -> None:
        if epoch == self.partition.epoch and self.failure is None:
            self.partition.results.append(event)

    return result


def _unflushed(right: Any) -> Any:
    """Given up in order, and what has not left yet is taken for sent."""

    async def last(self: Any, s: Any, keeper: Any) -> None:
        while s.outgoing:
            if dict(s.outgoing.popleft()[0].headers).get("cp-kind") != b"answer":
                s.partition.left()
        await right(self, s, keeper)

    return last


def _marked_first(right: Any) -> Any:
    """What is on its way is noted as sent."""

    async def publish(s: Any) -> None:
        while True:
            while s.outgoing:
                drafts = s.outgoing.popleft()
                if dict(drafts[0].headers).get("cp-kind") != b"answer":
                    s.partition.left()
                await s.egress.send(drafts)
                s.wake.set()
            s.send.clear()
            await s.send.wait()

    return publish


def _deaf(right: Any) -> Any:
    """A pause hears nothing of being cancelled."""

    async def pause(clock: Any, delay_ms: float) -> None:
        try:
            await right(clock, delay_ms)
        except asyncio.CancelledError:
            return

    return pause


def _always_wanted(right: Any) -> Any:
    """What was taken away while it was restored is kept."""

    def wanted(self: Any, number: int) -> bool:
        return not self._stopping

    return wanted


def _goes_on(right: Any) -> Any:
    """A source is read on after its partition was lost."""

    async def ingest(s: Any, source: Any) -> None:
        try:
            await right(s, source)
        except asyncio.CancelledError:
            asyncio.get_running_loop().create_task(right(s, source))
            raise

    return ingest


def _leads(right: Any) -> Any:
    """The position of a service moves over what is still in work."""

    def moved(self: Any) -> None:
        self.runner.unsaved[self.source] = self.next

    return moved


def _impatient(right: Any) -> Any:
    """Who reads answers gives up at the first `Retriable`."""

    async def read(self: Any) -> None:
        _, at = await self.log.bounds("in", self._lane)
        self._reading.set()
        while True:
            _, at = await self.log.read("in", self._lane, at, wait_ms=5_000)

    return read


def _runs_on(right: Any) -> Any:
    """An attempt whose time is over is not ended."""

    def expire(self: Any, one: Any) -> None:
        if one.future is None:
            one.cancel = lambda: None
        right(self, one)

    return expire


def _unsent(right: Any) -> Any:
    """Messages lie ready, and who sends them is not woken."""

    def dispatch(s: Any, duties: Any) -> None:
        send, s.send = s.send, asyncio.Event()
        right(s, duties)
        s.send = send

    return dispatch


def _too_early(right: Any) -> Any:
    """A stop that comes before the first step of a worker is forgotten."""

    async def stop(self: Any, drain_ms: float = 30_000) -> None:
        if self._finished is not None:
            await right(self, drain_ms)

    return stop


def _beside(right: Any) -> Any:
    """Who lets timers go belongs to nobody."""

    def hold(self: Any, s: Any) -> None:
        right(self, s)
        s.tasks[:] = [t for t in s.tasks if t.get_coro().__name__ != "_release_timers"]

    return hold


def _bug(name: str, what: str, place: str, wrongly: Any, **other: Any) -> Bug:
    return Bug(name=name, what=what, places={f"{RUNTIME}.{place}": wrongly}, **other)


STEPS = ("bank", "capricious", "copies", "family")
_ALL: Sequence[Bug] = (
    _bug("A-01", "a new tenure does not wait for the old one", "worker:Worker._settle", _anew, rates={"rebalance": 0.1}),
    _bug("A-02", "steps of a lost partition are forgotten", "steps:StepRunner.drop", _nothing, loads=STEPS),
    _bug("A-03", "a result wakes nobody", "station:Station.result", _unheard, loads=STEPS),
    _bug("A-04", "given up, what has not left is taken for sent", "worker:Worker._last", _unflushed, loads=("order", "travel", "stubborn"), fence="order", rates={"rebalance": 0.1}),
    _bug("A-05", "messages are noted as sent before they are", "worker:dispatch.publish", _marked_first, loads=("order", "travel", "stubborn"), fence="order", rates={"crash": 0.1, "publish": 0.5}),
    _bug("A-06", "what a task raises is swallowed", "station:Station.fail", _nothing, rates={"retriable": 0.1}),
    _bug("A-07", "a pause does not hear that it is cancelled", "egress:pause", _deaf, rates={"publish": 0.3, "rebalance": 0.05}),
    _bug("A-08", "what was taken away meanwhile is kept", "worker:Worker._wanted", _always_wanted, rates={"rebalance": 0.05}),
    _bug("A-09", "a source is read on after its partition is lost", "ingress:ingest", _goes_on, loads=("order", "claim", "travel")),
    _bug("A-10", "a service's position leads its work", "deliveries:Reader._moved", _leads, loads=("observed",), rates={"crash": 0.1}),
    _bug("A-11", "who reads answers gives up", "client:Client._read_answers", _impatient, rates={"retriable": 0.1}),
    _bug("A-12", "an attempt whose time is over goes on", "steps:StepRunner._expire", _runs_on, loads=STEPS, rates={"step": 0.3}),
    _bug("A-13", "who sends messages is not woken", "commit:dispatch", _unsent, loads=("order", "travel", "stubborn"), fence="order"),
    _bug("A-14", "a stop before the first step is forgotten", "worker:Worker.stop", _too_early, rates={"release": 0.05}),
    _bug("A-15", "who lets timers go is left over", "worker:Worker._hold_no_longer", _beside, rates={"release": 0.05}),
    _bug("A-16", "a further attempt runs, its step is answered", "processor:spare", _nothing, rates={"retriable": 0.1}),
)  # fmt: skip
ASYNC_BUGS: Mapping[str, Bug] = {bug.name: bug for bug in _ALL}
