"""People of ring 2: they start, ask and wait through the clients of processes that may die while they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contrapas.author.event import Event
from contrapas.core.envelope import ENDED
from contrapas.errors import ContrapasError, Refused
from contrapas.runtime.doors import key_of
from contrapas.testing.simulation.loop import Killed
from contrapas.testing.simulation.universe import Wrong

if TYPE_CHECKING:
    from contrapas.testing.simulation.process import Process
    from contrapas.testing.simulation.stage import Stage

PATIENCE = 3
"""Nobody waits for an end more often."""
TRIES_MAX = 40
"""Nobody need ask more often, once nothing goes wrong any more."""
AGAIN_MS = 30_000
"""Whoever has heard nothing for so long asks again, at another door, under the same id."""


class Doors:
    """All people of a world."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.asking = 0

    def start(self, number: int) -> None:
        """Somebody starts the n-th instance."""
        stage = self.stage
        load = stage.load
        event = load.start(stage, number)
        message = stage.world.types.message_of(type(event))
        key = key_of(message, event)
        saga = load.saga or stage.setting.routes.starts[message.name][0]
        stage.started[f"{saga}/{key}"] = event
        Somebody(self, saga, key, event).ask()
        load.later(stage, number, key)

    def closed(self) -> None:
        """Everybody has had an answer."""
        if self.asking:
            raise Wrong("I-31", f"{self.asking} people have had no answer")


class Somebody:
    """Who starts one instance, and perhaps waits for its end."""

    def __init__(self, doors: Doors, saga: str, key: str, event: Event) -> None:
        self.doors = doors
        self.stage = doors.stage
        self.saga = saga
        self.instance = f"{saga}/{key}"
        self.event = event
        self.ident = self.stage.ident()
        self.done = False
        self.tries = self.calm = 0
        self.waits = self.stage.chance.order() < 0.4
        doors.asking += 1

    def ask(self) -> None:
        """At some door that is open."""
        stage = self.stage
        if self.done:
            return
        self.tries += 1
        if stage.chance.calm:
            self.calm += 1
            if self.calm > TRIES_MAX:
                raise Wrong(
                    "I-31",
                    f"{self.ident} has asked {self.tries} times for {self.instance}, and hears nothing",
                )
        open_ = [p for p in stage.processes if p.alive and not p.stopping_since]
        if open_:
            process = stage.chance.pick(open_)
            process.serve(self._asks(process, self.tries))
        stage.universe.at(AGAIN_MS, lambda: self._again(self.tries))

    def _again(self, tries: int) -> None:
        if not self.done and tries == self.tries:
            self.ask()

    async def _asks(self, process: Process, tries: int) -> None:
        stage, client = self.stage, process.client
        timeout_ms = 10_000 if stage.chance.order() < 0.5 else 0
        try:
            told = await client.start(self.saga, self.event, event_id=self.ident, timeout_ms=timeout_ms)
            stage.watch.acked[self.ident] = self.instance
            if timeout_ms:
                self._true(told.status, told.version)
            if self.waits and tries <= PATIENCE:
                ended = await client.wait(self.instance, timeout_ms=20_000)
                self._true(ended.status, ended.version)
                stage.universe.sometimes["somebody has waited for an end"] += 1
        except Refused as why:
            if why.code == "CP412":
                stage.wrong(Wrong("I-35", f"{self.ident} is told {why}"))
            return
        except ContrapasError as why:
            stage.universe.sometimes[f"somebody was told {why.code}"] += 1
            return
        except Killed:
            raise
        if not self.done:
            self.done = True
            self.doors.asking -= 1

    def _true(self, status: str, version: int) -> None:
        """I-50: what a door says has been so."""
        stage: Any = self.stage
        stage.universe.seen["I-50"] += 1
        number = stage.store.partition_of(self.instance)
        shadow = stage.watch.shadows[number]
        key = self.instance.encode()
        counted = shadow.keys.get(key) or shadow.buried.get(key)
        if version and (counted is None or counted.version < version):
            stage.wrong(
                Wrong(
                    "I-50",
                    f"{self.ident} is told version {version} ({status}) of {self.instance}, which is {counted}"[
                        :400
                    ],
                )
            )
        if status in ENDED and counted is not None and counted.status.decode() != status:
            stage.wrong(Wrong("I-50", f"{self.ident} is told {self.instance} is {status}"))
