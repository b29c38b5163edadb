"""Watches the partitions that are read committed: one whose stable end stands still below its end is named, with the
producer whose transaction holds it (CP511). Others go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from contrapas.errors import ContrapasError
from contrapas_kafka.hanging import Open, Spot, open_in

if TYPE_CHECKING:
    from contrapas_kafka.log import KafkaLog

LOOK_S: Final = 10.0
"""How often it is looked: a transaction that is open at two looks in a row, at one place, is named."""


class Stuck:
    """What a log knows of partitions that are held back."""

    def __init__(self, log: KafkaLog) -> None:
        self.log = log
        self.look_s = LOOK_S
        self.found: list[Open] = []
        self._before: dict[Spot, int] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        """No more."""
        if self._task is not None:
            self._task.cancel()

    def words(self) -> list[str]:
        """For health."""
        return [one.words(self.log.cluster.servers) for one in self.found]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.look_s)
            try:
                await self.look()
            except ContrapasError:  # the cluster does not answer: others say so
                continue

    async def look(self) -> None:
        """Compare both ends of what is read."""
        spots = {spot for shelf in self.log.committed.hub.shelves for spot in shelf.streams}
        held: dict[Spot, int] = {}
        for spot in spots:
            stable = await self.log.admin.end(*spot, stable=True)
            if stable < await self.log.admin.end(*spot, stable=False):
                held[spot] = stable
        same = {spot: at for spot, at in held.items() if self._before.get(spot) == at}
        self._before = held
        if not same:
            self.found = []
            return
        admin = self.log.admin
        self.found = await self.log.calls.run(
            lambda: open_in(self.log.cluster, admin.client(), same), deadline_s=30
        )
