"""The log of ring 2 as one process sees it: the seam over ring 1's store, each call a message there and an answer back.

What was asked for happens in the world, whatever becomes of who asked: a call that is cancelled, or whose process dies, may
still be carried out. `Retriable`, `Indeterminate`, `Fenced`, late and cut batches come from the store, as in ring 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from contrapas.core.lane import Commit, Control, Draft, Known, Lane, Record, Source, Topic
from contrapas.log.checks import check_source
from contrapas.log.memory_store import Hold
from contrapas.log.sharing import Slot, share
from contrapas.runtime.restore import Takeover
from contrapas.testing.simulation.shadow import Shadow
from contrapas.testing.simulation.store import SimStore
from contrapas.testing.simulation.universe import Wrong

if TYPE_CHECKING:
    from contrapas.testing.simulation.process import Process, View
    from contrapas.testing.simulation.stage import Stage

T = TypeVar("T")
SLOW_MS = 12_000
FOREVER_MS = 400 * 86_400_000
BUSY = frozenset({"feed", "publish", "ingest", "sweep", "_watch"})
"""Coroutines that work for one partition under one epoch."""


class NetLog:
    """One process's client of the log."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.stage: Stage = process.stage
        self.store: SimStore = process.stage.store
        self.partitions = self.store.partitions
        self.caps = self.store.caps
        self.namespace = self.store.namespace
        self.history_ms = self.stage.options.history_ms
        self.tails: dict[int, Shadow] = {}
        """What counted in a partition of the log lane when its end was last asked for."""

    async def trip(self, act: Callable[[], T]) -> T:
        """There and back: `act` happens in the world, its answer, or what it raises, comes later."""
        u = self.stage.universe
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def go() -> None:
            if self.process.cut_until > u.now:  # the link is down: what was sent arrives when it is up again
                u.at(self.process.cut_until - u.now, go)
                return
            value: Any = None
            why: Exception | None = None
            try:
                value = act()
            except Wrong:
                raise
            except Exception as raised:  # noqa: BLE001  the caller's
                why = raised
            u.at(self.stage.latency(), partial(tell, answer, value, why))

        if self.process.alive:
            u.at(self.stage.latency(), go)
        return await answer

    # ---- ownership

    async def acquire(self, partition: int, owner: str, *, known: Known | None = None) -> NetLease:
        """As `Log.acquire`; under the order fence others come between its steps."""
        self._dropped(partition)
        store = self.store
        if store.fence == "order":
            claim = await self.trip(lambda: store.begin_claim(partition, owner))
            await self.trip(lambda: store.place_claim(claim))
            hold = await self.trip(lambda: store.check_claim(claim))
        else:
            hold = await self.trip(lambda: store.acquire(partition, owner))
        self.stage.universe.note(f"{self.process.name} owns {partition}, epoch {hold.epoch}")
        if partition in store.torn:
            store.torn.discard(partition)
            self.stage.universe.sometimes["prefix of a batch repaired"] += 1
        self.stage.owned(self.process, hold)
        return NetLease(self, hold)

    def _dropped(self, partition: int) -> None:
        """I-16: nothing of an earlier epoch works on when the next begins."""
        self.stage.universe.seen["I-16"] += 1
        for task in self.stage.loop.pending(self.process):
            coro: Any = task.get_coro()
            if coro is None or coro.__name__ not in BUSY or coro.cr_frame is None:
                continue
            s = coro.cr_frame.f_locals.get("s")
            if s is not None and s.number == partition:
                raise self.stage.wrong(
                    Wrong(
                        "I-16",
                        f"{coro.__name__} of partition {partition} works on under epoch {s.lease.epoch}",
                    )
                )
        if partition in self.process.worker.stations:
            text = f"partition {partition} is taken again, its old station is still in place"
            raise self.stage.wrong(Wrong("I-16", text))

    # ---- reading

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """As `Log.bounds`."""

        def act() -> tuple[int, int]:
            if lane == "log":
                self.tails[partition] = self.stage.watch.shadows[partition].copy()
            return self.store.bounds(lane, partition)

        return await self.trip(lambda: self._read(act))

    def _read(self, act: Callable[[], T]) -> T:
        self.store.faults.call("read", 0)
        return act()

    async def read(
        self,
        lane: Lane,
        partition: int,
        offset: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 4 << 20,
        wait_ms: int = 0,
    ) -> tuple[Sequence[Record], int]:
        """As `Log.read`. While nothing goes wrong any more a poll is answered when there is something: a slow log."""
        store, u = self.store, self.stage.universe

        def act() -> tuple[list[Record], int]:
            return store.read(lane, partition, offset, max_records, max_bytes)

        found = await self.trip(act)
        if found[0] or wait_ms <= 0:
            return found
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self.stage.waiters.setdefault((store.name_of(lane), partition), [])
        if store.bounds(lane, partition)[1] > found[1]:
            came.set_result(None)
        waiters.append(came)
        timer = asyncio.get_running_loop().call_later(
            (FOREVER_MS if u.chance.calm else wait_ms) / 1000, tell, came, None, None
        )
        try:
            await came
        finally:
            timer.cancel()
            if came in waiters:
                waiters.remove(came)
        after = found[1]
        return await self.trip(lambda: store.read(lane, partition, after, max_records, max_bytes))

    async def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """As `Log.latest`, in a few batches."""

        def act() -> list[Record]:
            if partition in self.tails:
                self.tails[partition].damaged = self.stage.watch.damaged.get(partition)
            return self.store.latest(partition, after, upto)

        records = await self.trip(lambda: self._read(act))
        size = max(1, len(records) // 3)
        for at in range(0, len(records), size):
            yield records[at : at + size]
            await self.trip(lambda: None)

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """As `Log.offset_at`."""
        return await self.trip(
            lambda: self._read(lambda: self.store.offset_at(lane, partition, timestamp_ms))
        )

    async def topic(self, lane: Lane) -> Topic | None:
        """As `Log.topic`."""
        return await self.trip(lambda: self.store.topic(lane))

    # ---- writing beside the log lane

    async def publish(self, drafts: Sequence[Draft]) -> None:
        """As `Log.publish`."""
        some = tuple(drafts)
        await self.trip(lambda: self.store.publish(some))

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """As the log in memory has it."""
        await self.trip(lambda: self.store.create_topics(topics))

    async def positions(self, group: str) -> Mapping[Source, int]:
        """As `Log.positions`."""
        return await self.trip(lambda: self._read(lambda: dict(self.store.saved.get(group, {}))))

    async def save_positions(self, group: str, at: Mapping[Source, int]) -> None:
        """As `Log.save_positions`."""
        some = dict(at)

        def act() -> None:
            for source, _ in some:
                check_source(source, self.store.topic(source.rpartition("@")[0]))
            self.store.saved.setdefault(group, {}).update(some)

        await self.trip(lambda: self._read(act))

    def membership(self, group: str, lanes: Sequence[Lane]) -> NetMembership:
        """As `Log.membership`."""
        member = NetMembership(self.process, group, lanes)
        self.process.memberships.append(member)
        self.stage.joins(member)
        return member

    async def close(self) -> None:
        """Nothing is held."""


def tell(answer: asyncio.Future[Any], value: Any, why: Exception | None) -> None:
    """Answer who still waits."""
    if answer.done():
        return
    if why is None:
        answer.set_result(value)
    else:
        answer.set_exception(why)


class NetLease:
    """Ownership of one partition, as one process holds it."""

    def __init__(self, log: NetLog, hold: Hold) -> None:
        self.log = log
        self.stage = log.stage
        self.store = log.store
        self.hold = hold
        self.partition = hold.partition
        self.epoch = hold.epoch
        self.control: Control = hold.control
        self.view: View | None = None
        """The station under this lease, once there is one."""
        self.taken: Takeover | None = None
        self.tail: Shadow | None = None
        """What counted when its tail was read."""
        self.fenced = False

    async def commit(self, log: Sequence[Draft], out: Sequence[Draft], control: Control) -> Commit:
        """As `Lease.commit`."""
        if self.fenced:
            raise self.stage.wrong(
                Wrong(
                    "I-14", f"partition {self.partition} goes on under epoch {self.epoch}, which was fenced"
                )
            )
        drafts, leaving, view = tuple(log), tuple(out), self.view
        batch = None if view is None else view.partition.inflight
        if batch is not None and batch.log is not log:
            batch = None

        def act() -> Commit:
            watch: Any = self.stage.watch
            if view is not None:
                watch.offers(view, batch)
            watch.controls(self.partition, control)
            done = self.store.commit(self.hold, drafts, leaving, control)
            if view is not None:
                watch.stands(view, done.first, done.last)
            return done

        try:
            done = await self.log.trip(act)
        except Exception as why:
            self.fenced = type(why).__name__ == "Fenced"
            raise
        self.control = self.hold.control
        return done

    async def compact(self, horizon: int, *, budget_ms: int) -> int:
        """As `Lease.compact`."""
        reached = await self.log.trip(lambda: self.store.compact(self.hold, horizon))
        self.control = self.hold.control
        return reached

    async def look(self) -> Sequence[Record]:
        """As `Lease.look`."""
        return await self.log.trip(lambda: self.store.look(self.hold))

    async def lost(self) -> None:
        """As `Lease.lost`: some clients find out at once, some later, some never."""
        chance, u = self.stage.chance, self.stage.universe
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        delay = chance.below(3_000) if chance.order() < 0.7 else FOREVER_MS
        if self.hold.gone:
            return
        self.hold.on_lost.append(lambda: u.at(delay, partial(tell, gone, None, None)))
        await gone

    async def release(self) -> None:
        """As `Lease.release`."""
        await self.log.trip(lambda: self.store.release(self.hold))
        self.stage.universe.note(f"{self.log.process.name} has released {self.partition}")


class NetMembership:
    """One member of a group, told what its coordinator says: late, and sometimes wrong."""

    def __init__(self, process: Process, group: str, lanes: Sequence[Lane]) -> None:
        self.process = process
        self.group = group
        self.lanes = tuple(lanes)
        self.told: frozenset[Slot] | None = None
        self.left = False
        self._changed = asyncio.Event()

    def tell(self, slots: frozenset[Slot]) -> None:
        """The coordinator says so."""
        self.told = slots
        self._changed.set()

    async def assignments(self) -> AsyncIterator[frozenset[Slot]]:
        """As `Membership.assignments`."""
        while not self.left:
            told, self.told = self.told, None
            if told is not None:
                yield told
                continue
            self._changed.clear()
            await self._changed.wait()

    async def leave(self) -> None:
        """As `Membership.leave`."""
        self.left = True
        await self.process.log.trip(lambda: self.process.stage.leaves(self))


class Team:
    """The group of one service's readers."""

    def __init__(self, stage: Stage, lanes: tuple[Lane, ...]) -> None:
        self.stage = stage
        self.lanes = lanes
        self.members: list[NetMembership] = []

    def join(self, member: NetMembership) -> None:
        """One comes."""
        self.members.append(member)
        self.deal()

    def leave(self, member: NetMembership) -> None:
        """One goes."""
        if member in self.members:
            self.members.remove(member)
            self.deal()

    def deal(self) -> None:
        """Who reads what."""
        slots = [(lane, n) for lane in self.lanes for n in range(len(self.stage.store.lanes[lane]))]
        dealt = share([m.process.name for m in self.members], slots)
        for member in self.members:
            mine = dealt.get(member.process.name, frozenset())
            self.stage.universe.at(self.stage.chance.below(40), partial(member.tell, mine))
