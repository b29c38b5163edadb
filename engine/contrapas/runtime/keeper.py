"""Keeping checkpoints: a reader of the log lane, beside the owner of a partition or in place of one (a standby).

It reads what was written since the last time, folds it by the one rule, and adds it to the file; on a partition that this
worker does not own it does the same, more often, so that a takeover has little left to read. Nobody waits for it, and what
goes wrong with it costs time only. It works off the event loop where it touches the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from contrapas.core.fold import Fold, Verdict, damage
from contrapas.core.lane import Record
from contrapas.errors import ContrapasError, Damaged, LogError
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Lease, Log
from contrapas.runtime.batch import Setting
from contrapas.runtime.checkpoint import Checkpoint, Identity, State
from contrapas.runtime.clock import Clock, pause
from contrapas.runtime.restore import Takeover, history_of, take_over

NAMES["checkpoint.before"] = "a checkpoint is written, it is not sealed"
NAMES["checkpoint.after"] = "a checkpoint is sealed"
EVERY_MS: Final = 60_000
STANDBY_MS: Final = 2_000
LOOK_MS: Final = 2_000
RECORDS_MAX: Final = 100_000
_logger = logging.getLogger("contrapas.runtime")


def folder_of(said: str, url: str) -> Path | None:
    """Where checkpoints are kept: what was said (`none`: nowhere); else beside other state, where the log is a server's."""
    if said:
        return None if said == "none" else Path(said)
    local = url.partition(":")[0] in ("sqlite", "memory")
    return None if local else Path(".contrapas") / "checkpoints"


def changes(judge: Fold, records: Iterable[Record], lane: str) -> dict[bytes, Record | None]:
    """What a stretch of the lane changes in a checkpoint, by the fold's rule; None: the key is no more. ContrapasError for
    what stops a partition: the owner says it aloud, nothing of it goes into a cache."""
    judge.known.clear()  # of each key the newest alone is given: a new run begins again at version 1
    changed: dict[bytes, Record | None] = {}
    for record in records:
        verdict = judge.judge(record)
        bad = judge.error
        if verdict is Verdict.APPLIED:
            bad = damage(record, lane)
            changed[record.key] = record
        elif verdict is Verdict.REMOVED:
            changed[record.key] = None
        if bad is not None:
            raise bad
    return changed


class Keeper:
    """The checkpoint of one partition."""

    def __init__(
        self,
        log: Log,
        folder: Path,
        identity: Identity,
        *,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.log = log
        self.number = identity.partition
        self.name = f"{identity.namespace}.log"
        self.clock = clock
        self.chance = chance
        self.file = Checkpoint(folder / f"{identity.namespace}-{identity.partition}.checkpoint", identity)
        self.upto = 0
        """What the file is true for, as far as is known."""
        self.kept_ms = clock.ms()
        """When it was last brought up, or was found to be."""
        self.horizon: Callable[[], int] = lambda: 0
        """Where an owner compacts: how far it has come."""
        self._one = asyncio.Lock()

    async def load(self) -> State | None:
        """What the file says, for a takeover; None where there is none that this lane could be gone on from."""
        async with self._one:
            try:
                state = await asyncio.to_thread(self.file.state)
            except (OSError, sqlite3.Error) as why:
                _logger.warning("checkpoint %s cannot be read: %s", self.file.path, why)
                return None
        if not state.upto:
            return None
        _, end = await self.log.bounds("log", self.number)
        if state.upto > end:
            self.file.discard(f"it is of a lane with {state.upto} records and more, this one ends at {end}")
            return None
        self.upto = state.upto
        return state

    async def keep(self, every_ms: int = EVERY_MS) -> None:
        """Write it now and then, for as long as the partition is ours, or is not."""
        try:
            while True:
                await pause(self.clock, LOOK_MS * (0.5 + self.chance()))
                if self.clock.ms() - self.kept_ms < every_ms and self.upto:
                    _, end = await self._bounds()
                    if end - self.upto < RECORDS_MAX:
                        continue
                await self.catch_up()
        except (OSError, sqlite3.Error, ValueError, ContrapasError) as why:
            _logger.warning("no more checkpoints of partition %d: %s", self.number, why)
        finally:
            self.file.close()

    async def catch_up(self) -> None:
        """Read what was written since, and add it. Where it cannot now, it is left for the next time."""
        async with self._one:
            try:
                await self._catch_up()
            except (LogError, BlockingIOError) as why:
                _logger.debug("checkpoint of partition %d: %s", self.number, why)
            finally:
                await asyncio.shield(asyncio.to_thread(self.file.close))

    async def _bounds(self) -> tuple[int, int]:
        try:
            return await self.log.bounds("log", self.number)
        except LogError:
            return 0, 0

    async def _catch_up(self) -> None:
        file = self.file
        _, end = await self.log.bounds("log", self.number)
        state = await asyncio.to_thread(file.begin)
        if state.upto > end or state.upto < self.horizon():
            file.discard(f"it is true for offset {state.upto}, which the lane has left behind")
            return
        if state.upto == end:
            self.upto, self.kept_ms = end, self.clock.ms()
            return
        judge = state.fold(self.name, end)
        newest = state.at_ms
        async for records in self.log.latest(self.number, after=state.upto, upto=end):
            newest = max(newest, *[r.timestamp_ms for r in records])
            changed = changes(judge, records, self.name)
            kept = [r for r in changed.values() if r is not None]
            await asyncio.to_thread(file.put, kept, [key for key, r in changed.items() if r is None])
        if self.log.caps.compaction == "broker" and state.upto:
            floor = await self.log.offset_at("log", self.number, newest - history_of(self.log))
            if state.upto < floor:
                file.discard(f"it is true for offset {state.upto}, the history begins at {floor}")
                return
        failpoint("checkpoint.before")
        await asyncio.to_thread(file.seal, State(end, judge.epoch, judge.control, dict(judge.owed), newest))
        failpoint("checkpoint.after")
        self.upto, self.kept_ms = end, self.clock.ms()


class Keepers:
    """The checkpoints of one worker: of what it owns, and as a standby of what it does not."""

    def __init__(
        self,
        log: Log,
        namespace: str,
        folder: Path | None,
        *,
        standby: bool,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.log = log
        self.namespace = namespace
        self.folder = folder
        self.clock = clock
        self.chance = chance
        # where owners compact, only they know how far: nobody else could tell an old checkpoint from a good one
        self.standby = standby and folder is not None and log.caps.compaction == "broker"
        self.tasks: dict[int, asyncio.Task[None]] = {}
        """Partitions of others that are followed."""

    async def of(self, number: int) -> Keeper | None:
        """Who keeps the checkpoint of a partition; None: nobody is to, or the log lane has no id."""
        if self.folder is None or (topic := await self.log.topic("log")) is None:
            return None
        identity = Identity(self.namespace, topic.id, self.log.partitions, number)
        return Keeper(self.log, self.folder, identity, clock=self.clock, chance=self.chance)

    def follow(self, owned: Collection[int]) -> None:
        """Follow what others own, and leave what is ours to its tenure.

        All of it: where brokers compact, the group's assignor decides who takes over, and it asks nobody. It gives what a
        killed member had to whoever has least, by names made at random, so that the second in any order of ours would be
        the next owner only by chance, and each takeover by another one would read the lane from zero.
        """
        for number in range(self.log.partitions) if self.standby else ():
            task = self.tasks.get(number)
            if number in owned:
                if task is not None:
                    task.cancel()
            elif task is None or task.done():
                self.tasks[number] = asyncio.get_running_loop().create_task(self._follow(number))

    async def _follow(self, number: int) -> None:
        try:
            if (keeper := await self.of(number)) is not None:
                await keeper.keep(STANDBY_MS)
        except LogError as why:
            _logger.warning("no standby for partition %d: %s", number, why)

    async def take_over(
        self, lease: Lease, setting: Setting, keeper: Keeper | None, state: State | None
    ) -> Takeover:
        """A takeover from a checkpoint, where it is whole; else from the lane alone."""
        if keeper is None:
            return await take_over(self.log, lease, setting)
        keeper.horizon = lambda: lease.control.horizon
        try:
            return await take_over(self.log, lease, setting, None if state is None else (state, keeper.file))
        except Damaged as why:
            if why.place != str(keeper.file.path):
                raise
            keeper.file.discard(str(why))
            keeper.upto = 0
            return await take_over(self.log, lease, setting)
        finally:
            keeper.file.close()

    async def leave(self, keeper: Keeper | None) -> None:
        """The end of an orderly tenure: what comes next has little to read. It takes a second at most."""
        if keeper is not None:
            with contextlib.suppress(TimeoutError, OSError, sqlite3.Error, ValueError, ContrapasError):
                await asyncio.wait_for(keeper.catch_up(), 1)
