"""An outbox in memory whose rows a test commits in any order, with the faults that a test asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from contrapas.errors import Fenced, Retriable
from contrapas.participant import Claim, Horizon, Outgoing, Row, Store


class Table:
    """What survives a relay: rows, some of them not committed yet, and the relay's own row."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.open: set[int] = set()
        """Numbers that were handed out to transactions that run."""
        self.top = 0
        self.epoch = 0
        self.last = 0
        self.owner = ""
        self.alive = False

    def take(self) -> int:
        """A number, as a transaction takes it."""
        self.top += 1
        self.open.add(self.top)
        return self.top

    def commit(self, seq: int, message: Outgoing) -> None:
        """The row appears."""
        self.rows[seq] = Row(seq, message, 0)
        self.open.discard(seq)

    def add(self, key: str, n: int, topic: str = "events", **more: Any) -> Outgoing:
        """A committed row."""
        message = Outgoing(f"{key}-{n}", topic, key, "Made", b'{"n":%d}' % n, "/services/shop", **more)
        self.commit(self.take(), message)
        return message


class FakeOutbox:
    """One relay's view of a `Table`."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.name = "shop"
        self.outbox = self
        self.fail: dict[str, list[BaseException]] = {}
        """Method -> what its next calls raise."""
        self.calls: list[str] = []
        self.held = Horizon(0, 0, "")

    def store(self) -> Store:
        return cast("Store", self)

    async def _call(self, name: str) -> None:
        await asyncio.sleep(0)
        self.calls.append(name)
        if left := self.fail.get(name):
            raise left.pop(0)

    async def claim(self, name: str, owner: str) -> Claim:
        await self._call("claim")
        t = self.table
        if t.alive and t.owner != owner:
            raise Fenced(f"{t.owner} relays {name}")
        t.epoch, t.owner, t.alive = t.epoch + 1, owner, True
        return Claim(t.epoch, t.last)

    async def upto(self, last: int, *, wait_ms: int) -> int:
        await self._call("upto")
        until = asyncio.get_running_loop().time() + wait_ms / 1000
        while True:
            t = self.table
            top = min(t.open) - 1 if t.open else t.top
            if top > last or asyncio.get_running_loop().time() >= until:
                return max(top, last)
            await asyncio.sleep(0.001)

    async def page(self, after: int, upto: int, limit: int) -> Sequence[Row]:
        await self._call("page")
        return [self.table.rows[s] for s in sorted(self.table.rows) if after < s <= upto][:limit]

    async def advance(self, name: str, epoch: int, seq: int) -> None:
        await self._call("advance")
        if epoch != self.table.epoch:
            raise Fenced("a newer claim exists")
        self.table.last = max(self.table.last, seq)

    async def horizon(self) -> Horizon:
        await self._call("horizon")
        return self.held

    async def release(self, name: str, epoch: int) -> None:
        await self._call("release")
        if epoch == self.table.epoch:
            self.table.alive = False


BUSY = Retriable("the database is busy")
