"""One worker on one partition, in memory, that moves only when a test says so: the real decider, no broker, no waiting.

Time stands until it is moved. Every transition is a commit of its own, so that a crash can be put before or after each.
Plain steps run where they stand; async ones on the test's loop. Everything else is the engine's own code: decoding,
correlation, transition, commit on a `MemoryLog`, takeover after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from contrapas.core.decode import VALUE_MAX
from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import decode as decode_instance
from contrapas.core.lane import Draft, Record
from contrapas.core.world import StepCall, StepType, Types, World
from contrapas.errors import DataError
from contrapas.log.memory import MemoryLog
from contrapas.participant import Receipt, Row, draft_of, outgoing_of
from contrapas.participant.rows import digest
from contrapas.runtime.attempts import ATTEMPTS
from contrapas.runtime.batch import BATCH_MS_MAX, Batch, Duties
from contrapas.runtime.clock import JumpClock
from contrapas.runtime.definition import Definition
from contrapas.runtime.ingress import Source, inbound, topics_of
from contrapas.runtime.partition import Partition
from contrapas.runtime.processor import decide
from contrapas.runtime.reaction import Delivered, Handler, read_message
from contrapas.runtime.restore import take_over
from contrapas.runtime.steps import Running, StepRunner
from contrapas.runtime.transactions import packed, unpacked
from contrapas.runtime.worker import create_topics, setting_of

TURNS_MAX = 100_000
STEP_TURNS_MAX = 1_000_000


class Stuck(RuntimeError):
    """It moves and moves, and does not come to rest."""


class Bench:
    """A namespace under test. `settle` lets everything happen that can without time passing; `skip` lets time pass."""

    def __init__(self, definition: Definition, world: World, *, crash: tuple[int, str] | None = None) -> None:
        self.clock = JumpClock()
        self.log = MemoryLog(definition.namespace, 1, clock=self.clock)
        self.crash = crash
        """(n, `before` or `after`): the worker dies at its n-th commit, once."""
        self.commits = 0
        self.history: list[InstanceRecord] = []
        """Every record committed, in order."""
        self._runner: InlineRunner | None = None
        self.adopt(definition, world)

    def adopt(self, definition: Definition, world: World) -> None:
        """Go on with another definition: what a new release does."""
        self.definition = definition
        self.world = world
        self.setting = setting_of(self.log, definition, world, writer="test")
        at_once(create_topics(self.log, definition, self.setting))
        self.handlers = [
            (service.name, lanes_of(mine), mine)
            for service in definition.services
            if (mine := handlers_of(service, world, definition.provided))
        ]
        self._answered: dict[tuple[str, str], list[Draft]] = {}
        self._positions: dict[tuple[str, str], int] = {}
        self.take_over()

    def take_over(self) -> None:
        """Become the owner, as a worker does that finds the partition free."""
        if self._runner is not None:
            self._runner.drop(0)
            self._runner.close()
        self.lease = at_once(self.log.acquire(0, "test"))
        taken = at_once(take_over(self.log, self.lease, self.setting))
        self.p: Partition = taken.partition
        self.p.care = None
        self.p.release_at = 0
        self._runner = InlineRunner(self.world.types, self._result, self.clock)
        self.log.store.publish(taken.out)
        self._commit(self.p.open(self.clock()), control_only=True)
        for call in taken.steps:
            self._runner.start(0, self.p.epoch, call)

    def _result(self, partition: int, epoch: int, event: Any) -> None:
        if epoch == self.p.epoch:
            self.p.results.append(event)

    # ---- moving

    async def settle(self) -> None:
        """Until nothing can happen without time passing."""
        assert self._runner is not None
        for _ in range(TURNS_MAX):
            moved = self._ingress()
            moved |= await self._services()
            moved |= self._decide()
            if not moved and self._runner.busy():
                await self._wait()
                continue
            if not moved:
                return
        raise Stuck(f"{self.definition.namespace} does not come to rest: is there a loop without a wait?")

    async def skip(self, ms: int) -> None:
        """Let time pass; what falls due on the way happens in its order."""
        end = self.clock() + ms
        await self.settle()
        while (at := self.p.next_timer()) is not None and at <= end:
            self.clock.advance(max(0, at - self.clock()))
            await self.settle()
        self.clock.advance(max(0, end - self.clock()))
        await self.settle()

    async def _wait(self) -> None:
        """Async steps that really wait are waited for."""
        assert self._runner is not None
        for turn in range(STEP_TURNS_MAX):
            if self.p.results or not self._runner.busy():
                return
            await asyncio.sleep(0 if turn < 100 else 0.001)

    def _decide(self) -> bool:
        p, now = self.p, self.clock()
        records, after = self.log.store.read("in", 0, p.fetched)
        if records:
            p.feed(records, after)
        p.fetched = after
        p.complete_until = max(p.complete_until, now)
        if not p.ready(now):
            return bool(records)
        ticks: Iterator[float] = count(0, int(BATCH_MS_MAX) + 1)
        self._commit(decide(p, now, lambda: next(ticks)))
        return True

    def _commit(self, batch: Batch, *, control_only: bool = False) -> None:
        p = self.p
        if batch.empty and not control_only:
            self._do(p.passed(batch))
            return
        at = ""
        if batch.log and not control_only:
            self.commits += 1
            at = self.crash[1] if self.crash is not None and self.crash[0] == self.commits else ""
        if at == "before":
            self._die()
            return
        done = at_once(self.lease.commit(batch.log, batch.out, p.next_control(batch)))
        self.history += [r for d in batch.log if (r := self._written(d)) is not None]
        if at:
            self._die()
            return
        self._do(p.committed(batch, done, self.lease.control))

    def _die(self) -> None:
        self.crash = None
        self.take_over()

    def _written(self, draft: Draft) -> InstanceRecord | None:
        kind = dict(draft.headers).get("cp-kind")
        if draft.value is None or kind != b"instance":
            return None
        found = self.p.load(draft.key.decode())
        version = dict(draft.headers).get("cp-version", b"")
        if found is not None and version == b"%d" % found.version:
            return found
        return decode_instance(draft.value)  # a further one of the same instance came in the same commit

    def _do(self, duties: Duties) -> None:
        assert self._runner is not None
        for call in duties.steps:
            self._runner.start(0, self.p.epoch, call)
        self.log.store.publish(duties.out)

    # ---- topics

    def _ingress(self) -> bool:
        moved = False
        store = self.log.store
        for name in topics_of(self.setting):
            topic = store.topic(name)
            if topic is None:
                continue
            source = Source(name, topic.id, 0)
            place = (source.name, 0)
            at = self.p.settled.get(place, 0)
            records, after = store.read(name, 0, at)
            store.publish([d for r in records if (d := inbound(self.p, source, r)) is not None])
            self.p.settled[place] = after
            moved |= after != at
        return moved

    async def _services(self) -> bool:
        moved = False
        for name, lanes, mine in self.handlers:
            for lane in lanes:
                at = self._positions.get((name, lane), 0)
                records, after = self.log.store.read(lane, 0, at)
                self._positions[name, lane] = after
                moved |= after != at
                for record in records:
                    handler = read_message(mine, record, lane, lane, self.setting.doors)
                    if handler is not None and record.value:
                        await self._react(name, lane, handler, record)
        return moved

    async def _react(self, service: str, lane: str, handler: Handler, record: Record) -> None:
        """A reaction of a service, five attempts; a redelivery gets the first answer."""
        topic = self.log.store.topic(lane)
        d = handler.decode(
            record, lane=lane, source=f"{lane}@{topic.id if topic else ''}", doors=self.setting.doors
        )
        known = self._answered.get((service, d.id))
        if known is None or handler.store is not None:  # with a store its inbox knows
            known = await self._tried(service, handler, d)
        self.log.store.publish(known)

    async def _tried(self, service: str, handler: Handler, d: Any) -> list[Draft]:
        types, namespace, why = self.world.types, self.definition.namespace, ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if handler.store is not None:
                    return await in_transaction(handler, d, types, namespace, service, attempt)
                events = await handler.call(d, attempt)
            except Exception as raised:  # noqa: BLE001  whatever a reaction raises is an attempt that failed
                why = f"{type(raised).__name__}: {raised}"
                continue
            drafts = handler.drafts(events, d, types, namespace, service, 1)
            if any(len(draft.value or b"") > VALUE_MAX for draft in drafts):
                raise DataError("CP409", f"{handler.name} returned more than {VALUE_MAX} bytes")
            self._answered[service, d.id] = drafts
            return drafts
        return handler.gave_up(d, why, types, namespace, service, 1)

    # ---- looking

    def record(self, instance: str) -> InstanceRecord | None:
        """The newest record of an instance; None once it is gone, or if it never was."""
        return self.p.load(instance)

    def topic(self, lane: str) -> list[Record]:
        """Everything on a topic, in order."""
        store = self.log.store
        return list(store.lanes[name][0].records) if (name := store.name_of(lane)) in store.lanes else []

    def close(self) -> None:
        """Let go of running steps."""
        if self._runner is not None:
            self._runner.drop(0)
            self._runner.close()


class InlineRunner(StepRunner):
    """Runs plain functions where they are called, in no thread: a test sees one order of things."""

    def _thread(self, one: Running, step: StepType, args: Any, kwargs: Any) -> None:
        def run() -> Any:
            return step.fn(*args, **kwargs)

        async def inline() -> Any:
            return run()

        self._drive(one.partition, one.epoch, one.call, replace(step, fn=inline, is_async=True), (), {})

    async def _plain(self, call: Callable[[], Any]) -> Any:
        return call()

    def _fatal(self, call: StepCall, why: BaseException) -> None:
        raise why


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what only pretends to wait: an in-memory log."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as done:
        return done.value


async def in_transaction(
    handler: Handler, d: Delivered, types: Types, namespace: str, service: str, attempt: int
) -> list[Draft]:
    """One attempt on a store, as workers make it; what it emits is sent at once, by no relay."""
    content_type = d.headers.get("content-type", b"").decode(errors="replace")
    key = digest(handler.message.name, content_type, d.record.value or b"")
    receipt = Receipt(namespace, service, d.event_source, d.id, key)
    async with handler.store.begin() as tx:
        known = await tx.take(receipt, undoes=d.undoes)
        if known is not None:
            again = known.outcome == "done" and known.digest == key and known.reply
            return [draft_of(Row(0, unpacked(known.reply), 0), namespace)] if again else []
        happened = await tx.happened(receipt, d.undoes) if d.undoes else None
        events = await handler.call(d, attempt, happened)
        rows = [
            outgoing_of(draft, namespace) for draft in handler.drafts(events, d, types, namespace, service, 1)
        ]
        reply = next(
            (row for row in rows if handler.message.command and row.type in handler.message.replies), None
        )
        await tx.finish(
            receipt,
            reply=None if reply is None else packed(reply),
            reply_type="" if reply is None else reply.type,
            rows=(),
        )
    return [draft_of(Row(0, row, 0), namespace) for row in rows]


def handlers_of(service: Any, world: World, provided: Mapping[Any, Any]) -> dict[str, Handler]:
    """A service's reactions by registered name of what they take."""
    found: dict[str, Handler] = {}
    for cls, reaction in service.reactions.items():
        message = world.types.message_of(cls)
        found[message.name] = Handler(reaction, message, provided, service.store)
    return found


def lanes_of(handlers: Mapping[str, Handler]) -> tuple[str, ...]:
    """The topics that these reactions read."""
    return tuple(sorted({h.message.topic or "in" for h in handlers.values()}))
