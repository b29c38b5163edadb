"""Services in our workers: each reads its topics in its own group, per key in order, different keys at the same time.

A position moves only behind the oldest delivery that is still unfinished, and a delivery is finished when what it emits
is known to be published; so it runs at least once, and everything it emits has an id derived from the delivery. A command
that comes again is answered with the reply of the first time, as far back as a bounded memory goes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from contrapas.core.deadletter import dead_letter
from contrapas.core.decode import VALUE_MAX
from contrapas.core.lane import Draft, Record
from contrapas.core.rendezvous import digest_of, hashes
from contrapas.errors import DataError, Fenced, Indeterminate, Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.runtime.clock import pause
from contrapas.runtime.reaction import Delivered, Handler, Unfit, read_message

if TYPE_CHECKING:
    from contrapas.runtime.worker import Worker

T = TypeVar("T")
NAMES["service.handled"] = "a reaction has run, nothing it emits is published"
NAMES["service.published"] = "what a reaction emits is published, its position is not saved"
ANSWERS_MAX = 10_000
ANSWERS_BYTES_MAX = 32 << 20
ATTEMPTS = 5
CONCURRENT = 128
SAVE_MS = 200
POLL_MS = 5_000


class Runner:
    """One service in one worker."""

    def __init__(self, worker: Worker, service: Any) -> None:
        self.worker = worker
        self.log = worker.log
        self.name: str = service.name
        self.namespace = worker.setting.namespace
        self.group = f"{self.namespace}.service.{service.name}"
        types = worker.setting.world.types
        self.handlers: dict[str, Handler] = {}
        for cls, reaction in service.reactions.items():
            message = types.message_of(cls)
            self.handlers[message.name] = Handler(
                reaction, message, worker.definition.provided, worker.runner
            )
        self.types = types
        self.answers: OrderedDict[tuple[str, str], tuple[bytes, list[Draft]]] = OrderedDict()
        self.answers_bytes = 0
        self.slots = asyncio.Semaphore(CONCURRENT)
        self.outgoing: deque[tuple[list[Draft], Callable[[], None]]] = deque()
        self.send = asyncio.Event()
        self.positions: dict[tuple[str, int], int] = {}
        self.unsaved: dict[tuple[str, int], int] = {}
        self.closing = False
        """Nothing new is read; what is in work ends."""
        self.tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.readers: set[Reader] = set()

    async def run(self) -> None:
        """Follow the group's assignments until cancelled."""
        lanes = tuple(sorted({h.message.topic or "in" for h in self.handlers.values()}))
        if not lanes:
            return
        membership = self.log.membership(self.group, lanes)
        readers = self.tasks
        besides = [self.worker.spawn(self._publish()), self.worker.spawn(self._save())]
        try:
            async for slots in membership.assignments():
                if self.closing:
                    continue
                for slot in [s for s in readers if s not in slots]:
                    task = readers.pop(slot)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await self._save_now()
                self.positions = dict(await self.patient(lambda: self.log.positions(self.group)))
                for slot in slots:
                    if slot not in readers:
                        readers[slot] = self.worker.spawn(Reader(self, *slot).run())
        finally:
            for task in (*readers.values(), *besides):
                task.cancel()
            await asyncio.gather(*readers.values(), *besides, return_exceptions=True)
            await membership.leave()

    async def drain(self, drain_ms: float) -> None:
        """Read nothing more, let what is in work end, and save how far that was."""
        self.closing = True
        for task in self.tasks.values():
            task.cancel()
        until = self.worker.clock.ms() + drain_ms
        while any(r.open for r in self.readers) and self.worker.clock.ms() < until:
            await pause(self.worker.clock, 10)
        await self._save_now()

    def emit(self, drafts: list[Draft], then: Callable[[], None]) -> None:
        """Have drafts published, then call back."""
        if not drafts:
            then()
            return
        self.outgoing.append((drafts, then))
        self.send.set()

    async def _publish(self) -> None:
        while True:
            self.send.clear()
            if not self.outgoing:
                await self.send.wait()
                continue
            batch = list(self.outgoing)
            self.outgoing.clear()
            drafts = [d for some, _ in batch for d in some]
            failpoint("service.handled")
            wait = 20.0
            while True:
                try:
                    await self.log.publish(drafts)
                    break
                except (Retriable, Indeterminate):
                    await pause(self.worker.clock, wait * (0.5 + self.worker.chance()))
                    wait = min(2 * wait, 5_000.0)
            failpoint("service.published")
            for _, then in batch:
                then()

    async def _save(self) -> None:
        while True:
            await pause(self.worker.clock, SAVE_MS)
            await self._save_now()

    async def _save_now(self) -> None:
        if self.unsaved:
            at, self.unsaved = self.unsaved, {}
            try:
                await self.log.save_positions(self.group, at)
            except (Retriable, Indeterminate, Fenced):
                self.unsaved = {**at, **self.unsaved}

    async def patient(self, look: Callable[[], Awaitable[T]]) -> T:
        """Look something up on the log, as often as it takes until it answers."""
        while True:
            try:
                return await look()
            except Retriable:
                await pause(self.worker.clock, 50 + 100 * self.worker.chance())

    def remember(self, key: tuple[str, str], digest: bytes, drafts: list[Draft]) -> None:
        """What a delivery was answered with."""
        self.answers[key] = (digest, drafts)
        self.answers_bytes += _size(drafts)
        while len(self.answers) > ANSWERS_MAX or self.answers_bytes > ANSWERS_BYTES_MAX:
            _, (_, forgotten) = self.answers.popitem(last=False)
            self.answers_bytes -= _size(forgotten)


def _size(drafts: list[Draft]) -> int:
    return sum(len(d.value or b"") for d in drafts)


class Reader:
    """One partition of one topic, for one service."""

    def __init__(self, runner: Runner, lane: str, number: int) -> None:
        self.runner = runner
        self.lane = lane
        self.number = number
        self.open: OrderedDict[int, None] = OrderedDict()
        """Offsets in work, oldest first."""
        self.next = 0
        self.source: tuple[str, int] = (lane, number)
        self.keys: dict[bytes, deque[Record]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Read and hand out, until the partition is somebody else's."""
        r = self.runner
        topic = await r.patient(lambda: r.log.topic(self.lane))
        name = self.lane if topic is None else f"{self.lane}@{topic.id}"
        self.source = (name, self.number)
        start, _ = await r.patient(lambda: r.log.bounds(self.lane, self.number))
        r.readers.add(self)
        self.next = at = r.positions.get(self.source, start)
        try:
            while True:
                try:
                    records, at = await r.log.read(self.lane, self.number, at, wait_ms=POLL_MS)
                except Retriable:
                    await pause(r.worker.clock, 50)
                    continue
                for record in records:
                    await r.slots.acquire()
                    self._take(record)
                if at > self.next:
                    self.next = at
                    self._moved()
        finally:
            if not r.closing:
                r.readers.discard(self)
                for task in self.tasks:
                    task.cancel()

    def _take(self, record: Record) -> None:
        handler = read_message(self.runner.handlers, record)
        if handler is None or not record.value:
            self.runner.worker.retired.skipped += handler is not None
            self.runner.slots.release()
            return
        self.open[record.offset] = None
        queue = self.keys.get(record.key)
        if queue is not None:
            queue.append(record)
            return
        self.keys[record.key] = deque([record])
        task = self.runner.worker.spawn(self._key(record.key))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _key(self, key: bytes) -> None:
        queue = self.keys[key]
        try:
            while queue:
                await self._one(queue.popleft())
        finally:
            del self.keys[key]
            for _ in queue:
                self.runner.slots.release()

    async def _one(self, record: Record) -> None:
        r = self.runner
        handler = read_message(r.handlers, record)
        assert handler is not None
        try:
            drafts = await self._handled(handler, record)
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            r.emit(drafts, lambda: None if done.done() else done.set_result(None))
            await done
        finally:
            r.slots.release()
        self.open.pop(record.offset, None)
        self._moved()

    def _moved(self) -> None:
        low = next(iter(self.open)) if self.open else self.next
        self.runner.unsaved[self.source] = low

    async def _handled(self, handler: Handler, record: Record) -> list[Draft]:
        r = self.runner
        try:
            delivered = handler.decode(record, lane=self.lane, source=self.source[0])
        except DataError as why:
            return [self._dead(record, why.code, why.text, 1)]
        identity = (delivered.event_source, delivered.id)
        digest = digest_of(delivered.event_source, delivered.id, record.value or b"")
        known = r.answers.get(identity)
        if known is not None:
            if known[0] == digest:
                return known[1]
            text = f"the id {delivered.id[:80]!r} came with other bytes: {hashes(digest, known[0])}"
            return [self._dead(record, "CP412", text, 1)]
        drafts, answered = await self._tried(handler, delivered, record)
        if answered:
            r.remember(identity, digest, drafts)
        return drafts

    async def _tried(
        self, handler: Handler, delivered: Delivered, record: Record
    ) -> tuple[list[Draft], bool]:
        """What it emits, and whether that is an answer. Giving up is none: who sends it again wants another try."""
        r = self.runner
        said = ""
        code = "CP841"
        attempt = 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                events = await handler.call(delivered, attempt)
                drafts = handler.drafts(
                    events, delivered, r.types, r.namespace, r.name, r.worker.setting.doors.partitions
                )
                large = next((d for d in drafts if len(d.value or b"") > VALUE_MAX), None)
                if large is None:
                    return drafts, True
                said, code = f"it returned {len(large.value or b'')} bytes, {VALUE_MAX} are allowed", "CP409"
                break
            except Unfit as why:
                said, code = str(why), "CP604"
                break
            except (Exception, SystemExit) as why:  # noqa: BLE001  whatever a reaction raises is an attempt that failed
                said = f"{type(why).__name__}: {why}"[:1000]
                if attempt < ATTEMPTS:
                    await pause(r.worker.clock, 100.0 * 2 ** (attempt - 1) * (0.5 + r.worker.chance()))
        dead = self._dead(record, code, f"{handler.name}: {said}", attempt)
        gave_up = handler.gave_up(
            delivered, said, r.types, r.namespace, r.name, r.worker.setting.doors.partitions
        )
        return [dead, *gave_up], False

    def _dead(self, record: Record, code: str, text: str, attempts: int) -> Draft:
        return dead_letter(
            record,
            namespace=self.runner.namespace,
            code=code,
            error=text,
            at=record.timestamp_ms,
            instance="",
            lane=self.lane,
            attempts=attempts,
        )
