"""One owned partition in a running process: its lease, its decider, what wakes it, what it still has to send.

A station lives under one epoch. It implements `processor.Shell` with the verbs of `read`, `commit` and `dispatch`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from contrapas.codec.framing import Ref
from contrapas.core.envelope import InstanceRecord
from contrapas.core.lane import Draft, Record
from contrapas.core.world import Input
from contrapas.log import Lease, Log
from contrapas.runtime import commit, heal, read
from contrapas.runtime.batch import Answer, Batch, Setting
from contrapas.runtime.clock import Clock, LogClock
from contrapas.runtime.egress import Sender
from contrapas.runtime.partition import Partition
from contrapas.runtime.schema_desk import SchemaDesk
from contrapas.runtime.steps import StepRunner

_logger = logging.getLogger("contrapas.runtime")


class Ears(Protocol):
    """Who in this process is told what became true."""

    def answered(self, answer: Answer) -> None:
        """A door's question is decided."""
        ...

    def ended(self, record: InstanceRecord) -> None:
        """An instance ended or parked."""
        ...


class Station:
    """Everything around one partition under one epoch."""

    def __init__(
        self,
        log: Log,
        lease: Lease,
        partition: Partition,
        setting: Setting,
        *,
        clock: Clock,
        runner: StepRunner,
        ears: Ears,
        chance: Callable[[], float],
    ) -> None:
        self.log = log
        self.lease = lease
        self.partition = partition
        self.setting = setting
        self.clock = clock
        self.log_clock = LogClock(clock)
        self.runner = runner
        self.ears = ears
        self.chance = chance
        self.number = partition.number
        self.wake = asyncio.Event()
        self.stopping = False
        """Finish the commit in flight, take nothing new."""
        self.failure: BaseException | None = None
        self.outgoing: deque[list[Draft]] = deque()
        """Batches of messages still to be published, oldest first."""
        self.send = asyncio.Event()
        self.egress = Sender(log, setting.namespace, clock, chance)
        self.room = asyncio.Event()
        self.acquired_ms = clock.ms()
        self.moved_ms = clock.ms()
        """When something was last decided: health looks at it."""
        self.reading: dict[tuple[str, int], asyncio.Task[None]] = {}
        """Sources that are followed: topic and partition."""
        self.behind: set[object] = set()
        """Sources that have not met their end of the takeover yet."""
        self.releasing = False
        self.lost: list[str] = []
        """What the takeover could not make out, for health."""
        self.looks = setting.caps.compaction == "broker"
        """Others can write to our lane, and only a look shows it: the log does not refuse a stale write."""
        self.looked_ms = clock.ms()
        """When the end of our lane was last where we had left it, or what lies there was read."""
        self.look_at = clock.ms() + read.LOOK_MS
        self.on_caught_up: Callable[[], None] = lambda: None
        self.tasks: list[asyncio.Task[None]] = []
        """What works beside the loop; it ends with the station."""

    async def read(self, p: Partition) -> bool:
        """`processor.Shell`."""
        return await read.read(self)

    async def commit(self, p: Partition, batch: Batch) -> None:
        """`processor.Shell`."""
        await commit.commit(self, batch)

    async def wanted(self, ref: Ref) -> None:
        """`processor.Shell`."""
        desk: SchemaDesk = self.setting.desk
        await desk.want(ref, lambda: self.stopping or self.failure is not None)

    def now(self) -> int:
        """`processor.Shell`."""
        return self.log_clock.now()

    def elapsed(self) -> float:
        """`processor.Shell`."""
        return self.clock.ms()

    def result(self, epoch: int, event: Input) -> None:
        """A local step ended. It counts only under the epoch that issued or adopted it."""
        if epoch == self.partition.epoch and self.failure is None:
            self.partition.results.append(event)
            self.wake.set()

    def stood(self, losers: Sequence[Record]) -> None:
        """A commit stands, or a look was answered: nobody else owns the partition; what others wrote is owed a heal."""
        self.looked_ms = self.clock.ms()
        self.look_at = self.looked_ms + read.LOOK_MS
        if losers:
            told = heal.lose(self.partition, losers)
            for alarm in told:
                _logger.warning("%s", alarm)
            if len(losers) > len(told):
                _logger.info(
                    "partition %d of %s: %d records of former owners after our claim change nothing",
                    self.number, self.setting.namespace, len(losers) - len(told),
                )  # fmt: skip

    def caught_up(self, source: object) -> None:
        """A source has met the end it had at the takeover."""
        self.behind.discard(source)
        if not self.behind:
            self.on_caught_up()

    def stop(self) -> None:
        """Take nothing new; results of steps that are here already are still written."""
        self.stopping = True
        self.partition.draining = True
        self.wake.set()

    def fail(self, why: BaseException) -> None:
        """A task beside the loop failed: the loop ends with it."""
        if self.failure is None:
            self.failure = why
        self.wake.set()
