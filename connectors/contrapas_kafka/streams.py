"""Reading partitions ahead: consumers that are told where to begin, each served by a thread; what comes waits in buffers.

One position of one partition is a `Stream`. A consumer holds many of them, of different partitions; a second position of
the same partition needs a second consumer. Streams that nobody reads any more are let go.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from contrapas.log import NULL, Record
from contrapas_kafka.calls import Calls
from contrapas_kafka.explain import error_of

Spot = tuple[str, int]
POLL_S: Final = 0.01
"""How long the thread waits at a time: what it is told to do waits so long, at most."""
BATCH: Final = 2_000
MANY: Final = 4_000
"""Records of one stream in memory; a partition with more is paused."""
MUCH: Final = 8 << 20
REST_S: Final = 10.0
"""How long the thread of a consumer that reads nothing sleeps."""
SETTINGS: Final[dict[str, object]] = {
    "enable.partition.eof": True,
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 100,
    "queued.max.messages.kbytes": 4_096,  # for each partition
    "max.partition.fetch.bytes": 1_048_576,
    "topic.metadata.refresh.interval.ms": 60_000,
}


class Stream:
    """One position of one partition, and what was read ahead of it."""

    __slots__ = (
        "buffer",
        "busy",
        "end",
        "error",
        "next",
        "paused",
        "shelf",
        "size",
        "spot",
        "used",
        "waiter",
    )

    def __init__(self, shelf: Shelf, spot: Spot, offset: int) -> None:
        self.shelf = shelf
        self.spot = spot
        self.next = offset
        """Offset that the reader asks for next."""
        self.buffer: deque[Record] = deque()
        self.size = 0
        self.end = -1
        """Where the broker said that nothing follows for now."""
        self.error: KafkaError | None = None
        self.paused = False
        self.busy = False
        self.used = time.monotonic()
        self.waiter: asyncio.Future[None] | None = None

    def take(self, max_records: int, max_bytes: int) -> list[Record]:
        """What is there, within limits, at least one record; moves on."""
        buffer = self.buffer
        taken: list[Record] = []
        size = 0
        while buffer and len(taken) < max_records:
            record = buffer[0]
            size += len(record.key) + len(record.value or b"")
            if taken and size > max_bytes:
                break
            taken.append(buffer.popleft())
        if taken:
            self.size -= sum(len(r.key) + len(r.value or b"") for r in taken)
            self.next = taken[-1].offset + 1
        elif self.end > self.next:  # what lies between was removed, or is no record
            self.next = self.end
        return taken


class Shelf:
    """One consumer and its thread. The client's calls exclude each other, so all of them are made there."""

    def __init__(self, hub: Hub, consumer: Consumer) -> None:
        self.hub = hub
        self.consumer = consumer
        self.streams: dict[Spot, Stream] = {}
        """As the loop sees it; the thread's own is `_held`."""
        self._held: dict[Spot, Stream] = {}
        self._orders: deque[Callable[[], None]] = deque()
        self._go = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="contrapas-kafka-reader", daemon=True)
        self._thread.start()

    # ---- on the loop

    def begin(self, spot: Spot, offset: int) -> Stream:
        """Read a partition from an offset on, and no more where it was read before."""
        stream = self.streams[spot] = Stream(self, spot, offset)
        self._order(lambda: self._assign(stream, offset))
        return stream

    def drop(self, stream: Stream) -> None:
        """Read it no more."""
        if self.streams.get(stream.spot) is stream:
            del self.streams[stream.spot]
            self._order(lambda: self._unassign(stream))

    def resume(self, stream: Stream) -> None:
        """Go on with a partition that was paused."""
        self._order(lambda: self._resume(stream))

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        self._go.set()

    # ---- in the thread

    def _assign(self, stream: Stream, offset: int) -> None:
        if (former := self._held.get(stream.spot)) is not None:
            self._unassign(former)
        self._held[stream.spot] = stream
        self.consumer.incremental_assign([TopicPartition(*stream.spot, offset)])

    def _unassign(self, stream: Stream) -> None:
        if self._held.get(stream.spot) is stream:
            del self._held[stream.spot]
            self.consumer.incremental_unassign([TopicPartition(*stream.spot)])

    def _resume(self, stream: Stream) -> None:
        if self._held.get(stream.spot) is stream and stream.paused:
            stream.paused = False
            self.consumer.resume([TopicPartition(*stream.spot)])

    def _serve(self) -> None:
        consumer = self.consumer
        while not self._closing:
            try:
                self._go.clear()
                while self._orders:
                    self._orders.popleft()()
                if not self._held:
                    consumer.poll(0)
                    self._go.wait(REST_S)
                elif (first := consumer.poll(POLL_S)) is not None:
                    self._take([first, *consumer.consume(BATCH, 0)])
            except (KafkaException, RuntimeError) as why:
                self._failed(why)
        try:
            consumer.close()
        except (KafkaException, RuntimeError):
            return

    def _take(self, messages: Sequence[Message]) -> None:
        woken: list[Stream] = []
        spot: Spot = ("", -1)
        stream: Stream | None = None
        for message in messages:
            here = (message.topic() or "", message.partition() or 0)
            if here != spot:
                spot, stream = here, self._held.get(here)
                if stream is not None:
                    woken.append(stream)
            if stream is None:
                continue
            error = message.error()
            if error is None:
                record = record_of(message)
                stream.buffer.append(record)
                stream.size += len(record.key) + len(record.value or b"")
            elif error.code() == KafkaError._PARTITION_EOF:
                stream.end = message.offset() or 0
            else:
                stream.error = error
        for stream in woken:
            if not stream.paused and (len(stream.buffer) > MANY or stream.size > MUCH):
                stream.paused = True
                self.consumer.pause([TopicPartition(*stream.spot)])
        if any(stream.waiter is not None for stream in woken):
            self.hub.wake(woken)

    def _failed(self, why: Exception) -> None:
        """An order of ours was refused, or the client is at its end: every reader hears it, and begins anew."""
        error = error_of(why) or KafkaError(KafkaError._STATE, str(why))
        for stream in self._held.values():
            stream.error = error
        self.hub.wake(list(self._held.values()))
        time.sleep(0.01)

    def close(self) -> None:
        """End the thread, which closes the consumer; waits for it."""
        self._closing = True
        self._go.set()
        self._thread.join(5)


class Hub:
    """The consumers of one kind."""

    def __init__(self, calls: Calls, settings: dict[str, object], *, idle_s: float, wait_ms: int) -> None:
        """idle_s: how long a stream stays that nobody reads. wait_ms: how long the broker keeps a request that it has
        nothing for; what is newly asked for waits so long, at most."""
        self.calls = calls
        self.idle_s = idle_s
        self.settings = {**settings, **SETTINGS, "fetch.wait.max.ms": wait_ms}
        self.shelves: list[Shelf] = []
        self._loop = asyncio.get_running_loop()
        self._making = asyncio.Lock()
        self._tidying: asyncio.TimerHandle | None = None

    async def stream(self, spot: Spot, offset: int) -> Stream:
        """A stream at this very position: one that stands there, or a new one; busy until `rest`."""
        if (found := self.standing(spot, offset)) is not None:
            return found
        async with self._making:
            free = None
            for shelf in self.shelves:
                held = shelf.streams.get(spot)
                if held is None or (not held.busy and held.used < time.monotonic() - 1):
                    free = shelf
                    break
            if free is None:
                consumer = await self.calls.run(lambda: Consumer(self.settings))
                self.shelves.append(free := Shelf(self, consumer))
            stream = free.begin(spot, offset)
            stream.busy = True
        return stream

    def standing(self, spot: Spot, offset: int) -> Stream | None:
        """A stream that stands at this position; busy until `rest`."""
        for shelf in self.shelves:
            found = shelf.streams.get(spot)
            if found is not None and found.next == offset and not found.busy and found.error is None:
                found.busy = True
                return found
        return None

    def rest(self, stream: Stream) -> None:
        """A read ended; the stream stays where it is for the next one."""
        stream.busy = False
        stream.used = time.monotonic()
        if stream.paused and len(stream.buffer) < MANY // 2 and stream.size < MUCH // 2:
            stream.shelf.resume(stream)
        if self._tidying is None:
            self._tidying = self._loop.call_later(self.idle_s, self._tidy)

    def _tidy(self) -> None:
        self._tidying = None
        now = time.monotonic()
        for shelf in self.shelves:
            for old in list(shelf.streams.values()):
                if not old.busy and old.used < now - self.idle_s:
                    self.drop(old)
        if any(shelf.streams for shelf in self.shelves):
            self._tidying = self._loop.call_later(self.idle_s, self._tidy)

    def drop(self, stream: Stream) -> None:
        """Nobody needs this position any more."""
        stream.shelf.drop(stream)

    def wake(self, streams: list[Stream]) -> None:
        """From a shelf's thread: something came."""
        try:
            self._loop.call_soon_threadsafe(_wake, streams)
        except RuntimeError:  # the loop is closed
            return

    async def close(self) -> None:
        """End all consumers."""
        if self._tidying is not None:
            self._tidying.cancel()
        shelves, self.shelves = self.shelves, []
        closing = [self.calls.run(shelf.close) for shelf in shelves]
        await asyncio.gather(*closing, return_exceptions=True)


def _wake(streams: list[Stream]) -> None:
    for stream in streams:
        waiter = stream.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def record_of(message: Message) -> Record:
    """A message as a record: bytes as they are, `NULL` for a null key or header."""
    key = message.key()
    headers: Any = message.headers()
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        NULL if key is None else key,
        message.value(),
        () if not headers else tuple([h if h[1] is not None else (h[0], NULL) for h in headers]),
        message.timestamp()[1],
    )
