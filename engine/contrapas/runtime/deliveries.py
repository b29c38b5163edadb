"""One partition of one topic, for one service: deliveries per key in order, different keys at the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from contrapas.core.lane import Record
from contrapas.errors import DataError, Retriable
from contrapas.runtime.clock import pause
from contrapas.runtime.memories import check_memory
from contrapas.runtime.reaction import Handler, read_message

if TYPE_CHECKING:
    from contrapas.runtime.services import Runner

POLL_MS = 5_000


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
            if self.source in r.positions:
                await self._remembered(at)
            while True:
                while r.troubles:  # what is in work waits for its database: no use in reading more
                    await pause(r.worker.clock, 50)
                try:
                    records, at = await r.log.read(self.lane, self.number, at, wait_ms=POLL_MS)
                except Retriable:
                    await pause(r.worker.clock, 50)
                    continue
                for record in records:
                    await r.slots.acquire()
                    await self._take(record)
                if at > self.next:
                    self.next = at
                    self._moved()
        finally:
            if not r.closing:
                r.readers.discard(self)
                for task in self.tasks:
                    task.cancel()

    async def _remembered(self, at: int) -> None:
        """What comes again may be as old as the record that comes first: the inbox must remember as much."""
        r = self.runner
        if r.store is None:
            return
        await r.worker.ready.wait()  # then the log's time is known
        first, _ = await r.patient(lambda: r.log.read(self.lane, self.number, at, max_records=1))
        if not first:
            return
        _, end = await r.patient(lambda: r.log.bounds(self.lane, self.number))
        newest, _ = await r.patient(lambda: r.log.read(self.lane, self.number, end - 1, max_records=1))
        now = max([r.worker.log_ms(), *(record.timestamp_ms for record in newest)])
        if first and now > first[0].timestamp_ms:
            place = f"{self.lane}/{self.number}@{at}"
            check_memory(r.store, r.name, r.worker.definition.outage_ms, now - first[0].timestamp_ms, place)

    async def _handler(self, record: Record) -> Handler | None:
        """The reaction it is for."""
        r = self.runner
        return await r.fetching(lambda: read_message(r.handlers, record, self.lane, self.source[0], r.doors))

    async def _take(self, record: Record) -> None:
        try:
            handler = await self._handler(record)
        except DataError:
            pass  # a dead letter, in its turn
        else:
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
        try:
            try:
                handler = await self._handler(record)
                assert handler is not None
                drafts = await r.attempts.handled(handler, record, self.lane, self.source[0])
            except DataError as why:
                drafts = [r.attempts.dead(record, self.lane, why.code, why.text, 1)]
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
