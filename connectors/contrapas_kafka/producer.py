"""A producer that neither reorders nor leaves holes: batches are handed over in one go, one report comes for each.

With `enable.idempotence` and `enable.gapless.guarantee`, and no time-out inside the client, what a partition stored is
always a prefix of what was handed over. So the report of a batch's last record speaks for the whole batch, and only that
one costs Python anything. `produce` puts into a queue and waits for nothing; reports are served by a thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contrapas.errors import ContrapasError, Fenced, Indeterminate, LogError, Retriable
from contrapas.log import NULL, Headers
from contrapas_kafka.calls import Calls
from contrapas_kafka.explain import error_of, explain, is_fatal, is_refusal
from contrapas_kafka.options import Cluster

Row = tuple[bytes, bytes | None, Headers]
Report = Callable[[KafkaError | None, Message], None]
ROOM: Final[Mapping[str, object]] = {
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 262_144,
}
LARGER: Final[Mapping[str, object]] = {"message.max.bytes": 1_100_000}
"""Of the producer of everything else: dead letters are larger than what they hold."""
POLL_S: Final = 0.5
CONNECT_S: Final = 5.0
FULL_S: Final = 0.005
LAST_S: Final = 0.5


class Stored(NamedTuple):
    """Where the last record of a batch is."""

    last: int
    timestamp_ms: int


class Client(Protocol):
    """What we use of `confluent_kafka.Producer`; tests put another in its place."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        *,
        on_delivery: Report | None = None,
        headers: list[tuple[str, bytes | None]],
    ) -> None:
        """Queue one record. BufferError: the queue is full."""
        ...

    def poll(self, timeout: float) -> int:
        """Serve reports."""
        ...


MakeClient = Callable[[dict[str, object]], Client]


def real(settings: dict[str, object]) -> Client:
    """A client of a real cluster, which has learnt its brokers: the first acknowledgement then comes half a second sooner."""
    producer = Producer(settings)
    producer.list_topics(timeout=CONNECT_S)
    client: Any = producer
    return cast("Client", client)


class Sender:
    """One producer and the thread that serves its reports. Dead after a fatal error: `Senders` makes a new one."""

    def __init__(self, client: Client, cluster: Cluster) -> None:
        self.client = client
        self.cluster = cluster
        self._fatal: BaseException | KafkaError | None = None
        """Why it ends, once the reports are in that say what of it is which topic's refusal."""
        self.place = cluster.place
        self.dead: BaseException | KafkaError | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[Stored]] = set()
        self._reports: list[tuple[asyncio.Future[Stored], str, KafkaError | None, int, int]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="contrapas-kafka-reports", daemon=True)
        self._thread.start()

    async def send(
        self, topic: str, partition: int, rows: Sequence[Row], *, nulls: bool = False
    ) -> asyncio.Future[Stored]:
        """Hand records over, in order; the future is the answer for all of them. nulls: `NULL` may be among keys and headers.

        Retriable: the queue was full, nothing was handed over. Indeterminate: the producer is dead, or died meanwhile.
        """
        if self.dead is not None:
            raise self._died()
        stored: asyncio.Future[Stored] = self._loop.create_future()
        self._waiting.add(stored)
        produce, last, at = self.client.produce, len(rows) - 1, 0

        def report(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            self._reports.append(
                (stored, topic, error, -1 if offset is None else offset, message.timestamp()[1])
            )

        while True:
            try:
                for at in range(at, last):  # noqa: B020  it goes on where the queue was full
                    key, value, headers = _nulls(rows[at]) if nulls else rows[at]
                    produce(topic, value, key, partition, headers=[*headers])
                at = last
                key, value, headers = _nulls(rows[at]) if nulls else rows[at]
                produce(topic, value, key, partition, on_delivery=report, headers=[*headers])
                return stored
            except BufferError:
                if not at:
                    self._waiting.discard(stored)
                    raise Retriable("the producer's queue is full", place=self.place) from None
                await asyncio.sleep(FULL_S)
                if self.dead is not None:
                    raise self._died() from None
            except (KafkaException, SystemError, RuntimeError) as why:
                self._waiting.discard(stored)
                raise self._refused(why, topic, at) from why

    def _refused(self, why: Exception, topic: str, at: int) -> ContrapasError:
        """`produce` raised. What it says of one record before any was handed over concerns that record only."""
        error = error_of(why)
        if error is None or is_fatal(error):  # SystemError: an error of `produce` while a report was pending
            self._die(why)
            return self._died()
        if at:  # a part is on its way, and the rest will not follow
            return Indeterminate(f"a record was refused: {self._words(why)}", place=topic)
        return explain(why, self.cluster, sent=False, resource=topic, operation="Write")

    # ---- the thread that serves reports

    def _serve(self) -> None:
        client = self.client
        while not self._closing:
            try:
                client.poll(POLL_S)
                ended = self._fatal
            except (KafkaException, SystemError, RuntimeError) as why:
                ended = why
            if ended is not None:
                self._last_reports()
                self._tell(partial(self._die, ended))
                return
            if self._reports:
                reports, self._reports = self._reports, []
                if not self._tell(partial(self._answer, reports)):
                    return

    def _last_reports(self) -> None:
        """A topic that refuses a record ends the producer; the reports that follow name the topic and its reason."""
        self.dead = self.dead or self._fatal or RuntimeError("a fatal error")
        until = time.monotonic() + LAST_S
        while time.monotonic() < until and len(self._reports) < len(self._waiting):
            try:
                self.client.poll(FULL_S)
            except (KafkaException, SystemError, RuntimeError):
                time.sleep(FULL_S)
        reports, self._reports = self._reports, []
        self._tell(partial(self._answer, reports))

    def _tell(self, call: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def on_error(self, error: KafkaError) -> None:
        """The client's `error_cb`, on the serving thread."""
        if is_fatal(error):
            self._fatal = error

    # ---- on the loop

    def _answer(self, reports: list[tuple[asyncio.Future[Stored], str, KafkaError | None, int, int]]) -> None:
        for stored, topic, error, offset, timestamp in reports:
            self._waiting.discard(stored)
            if error is not None and is_fatal(error):
                self.dead = self.dead or error
                self._fatal = self._fatal or error
            if stored.done():
                continue
            if error is not None:  # before its offset: a refused record carries its index in the batch there
                stored.set_exception(self._reported(error, topic))
            elif offset < 0:
                text = "the broker knew the batch and not its place"
                stored.set_exception(Indeterminate(text, place=topic))
            else:
                stored.set_result(Stored(offset, timestamp))

    def _reported(self, error: KafkaError, topic: str) -> ContrapasError:
        if self.dead is not None and not is_refusal(error):
            return self._died()
        found = explain(error, self.cluster, sent=True, resource=topic, operation="Write")
        if isinstance(found, Retriable | Fenced):  # of that record perhaps; what went before it may stand
            return Indeterminate(found.text, place=topic)
        return found

    def _die(self, why: BaseException | KafkaError) -> None:
        """No record goes through this producer any more, and what is on its way is not known."""
        self.dead = why
        self._closing = True
        self._give_up(self._died())

    def _give_up(self, why: LogError) -> None:
        for stored in self._waiting:
            if not stored.done():
                stored.set_exception(why)
                stored.exception()  # whoever waited may be gone
        self._waiting.clear()

    def _words(self, why: BaseException | KafkaError | None) -> str:
        error = why if isinstance(why, KafkaError) else error_of(why) if why is not None else None
        return self.cluster.scrub(error.str() if error is not None else str(why) or type(why).__name__)

    def _died(self) -> LogError:
        return Indeterminate(f"the producer has failed for good: {self._words(self.dead)}", place=self.place)

    def close(self) -> None:
        """Stop serving reports; nobody learns any more what became of what is on its way."""
        self._closing = True
        self._give_up(Indeterminate("the log was closed", place=self.place))

    def end(self) -> None:
        """Let go of the client; may take a moment."""
        self._thread.join(2 * POLL_S)
        self.client = _Gone()


def _nulls(row: Row) -> tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]:
    """A row as the client takes nulls."""
    key, value, headers = row
    return None if key is NULL else key, value, [(n, None if said is NULL else said) for n, said in headers]


class _Gone:
    def produce(self, *_: object, **__: object) -> None:
        raise RuntimeError("the producer is closed")

    def poll(self, timeout: float) -> int:
        return 0


class Senders:
    """The producer of one kind: made when it is first needed, and anew after one has died."""

    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, object],
        make: MakeClient = real,
    ) -> None:
        """settings: over those of the cluster. make: in tests, another client."""
        self.calls = calls
        self.cluster = calls.cluster
        self.settings = {**self.cluster.producer(), **ROOM, **settings}
        self.make = make
        self._sender: Sender | None = None
        self._making = asyncio.Lock()

    async def ready(self) -> Sender:
        """The producer that lives. Retriable: the cluster does not answer."""
        if (found := self._sender) is not None and found.dead is None:
            return found
        async with self._making:
            if (found := self._sender) is not None:
                if found.dead is None:
                    return found
                await self._end(found)
            holder: list[Sender] = []

            def trouble(error: KafkaError) -> None:
                if holder:
                    holder[0].on_error(error)

            settings = {**self.settings, "error_cb": trouble}
            client = await self.calls.run(lambda: self.make(settings))
            holder.append(sender := Sender(client, self.cluster))
            self._sender = sender
            return sender

    async def _end(self, sender: Sender) -> None:
        sender.close()
        try:
            await self.calls.run(sender.end)
        except LogError:
            return

    async def close(self) -> None:
        """Let go."""
        if self._sender is not None:
            await self._end(self._sender)
            self._sender = None
