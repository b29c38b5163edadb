"""A bench for the conformance suite over a real broker: its faults are made between us and the client."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from contrapas.errors import Indeterminate, Retriable
from contrapas.log import Draft, Log, Record
from contrapas.log.order import CLAIM_PREFIX
from contrapas.testing.conformance import Bench, MakeBench
from contrapas_kafka.log import KafkaLog
from contrapas_kafka.options import Cluster
from contrapas_kafka.producer import Row, Sender, Senders, Stored
from tests.kafka import Broker

LANES: dict[str, dict[str, str]] = {
    "log": {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": "604800000",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": "1048588",
    },
    "in": {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048588"},
}
"""Settings of the lanes, as far as tests need them."""


_producers: dict[str, Producer] = {}


def create(address: str, topics: Mapping[str, int], settings: Mapping[str, str] | None = None) -> None:
    """Create topics, and wait until they are there."""
    admin: Any = AdminClient({"bootstrap.servers": address})
    new = [NewTopic(name, count, 1, config=dict(settings or {})) for name, count in topics.items()]
    for done in admin.create_topics(new).values():
        done.result(60)
    until = time.monotonic() + 60
    while True:  # created is not yet led
        specs: Any = OffsetSpec
        wanted = {
            TopicPartition(name, p): specs.latest() for name, count in topics.items() for p in range(count)
        }
        try:
            for done in admin.list_offsets(wanted).values():
                done.result(5)
            return
        except (KafkaException, TimeoutError):
            assert time.monotonic() < until, "topics have no leaders"
            time.sleep(0.02)


def lanes(address: str, namespace: str, count: int = 8, **settings: str) -> None:
    """Both lanes of a namespace. settings: of the log lane, `_` for `.`."""
    said = {name.replace("_", "."): value for name, value in settings.items()}
    create(address, {f"{namespace}.log": count}, {**LANES["log"], **said})
    create(address, {f"{namespace}.in": count}, LANES["in"])


def append(address: str, topic: str, partition: int, drafts: Sequence[Draft]) -> None:
    """Write with a plain producer, past everything of ours."""
    if (producer := _producers.get(address)) is None:
        producer = _producers[address] = Producer({"bootstrap.servers": address, "linger.ms": 0})
        producer.list_topics(timeout=10)
    for d in drafts:
        producer.produce(topic, d.value, d.key, partition, headers=[*d.headers])
    assert producer.flush(20) == 0


class Unreliable:
    """A producer that does with what is handed over as told: cuts it, holds it back, loses the answer."""

    def __init__(self, inner: Sender, bench: KafkaBench, kind: str) -> None:
        self.inner = inner
        self.bench = bench
        self.kind = kind

    @property
    def dead(self) -> object:
        """As the real one."""
        return self.inner.dead

    async def send(
        self, topic: str, partition: int, rows: Sequence[Row], *, nulls: bool = False
    ) -> asyncio.Future[Stored]:
        call = "acquire" if rows[0][0].startswith(CLAIM_PREFIX) else self.kind
        script = self.bench.scripts.get(call)
        fault = script.popleft() if script else ""
        if fault == "retriable":
            raise Retriable("as told")
        if fault in ("late", "lost-before", "cut"):
            if fault == "late":
                self.bench.late.append((topic, partition, rows))
            if fault == "cut" and (some := rows[: self.bench.chance.randrange(len(rows))]):
                await (await self.inner.send(topic, partition, some, nulls=nulls))
            return _unanswered()
        if call == "commit" and self.bench.on_between is not None:
            return await self._one_by_one(topic, partition, rows)
        sent = await self.inner.send(topic, partition, rows, nulls=nulls)
        if fault == "lost-after":
            await sent
            return _unanswered()
        return sent

    async def _one_by_one(self, topic: str, partition: int, rows: Sequence[Row]) -> asyncio.Future[Stored]:
        sent: asyncio.Future[Stored] | None = None
        for number, row in enumerate(rows):
            if sent is not None:
                await sent
            assert self.bench.on_between is not None
            self.bench.on_between(partition, number)
            sent = await self.inner.send(topic, partition, [row])
        assert sent is not None
        return sent


def _unanswered() -> asyncio.Future[Stored]:
    future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
    future.set_exception(Indeterminate("as told"))
    return future


class Scripted(Senders):
    """Senders whose producers do as told."""

    bench: KafkaBench
    kind: str

    async def ready(self) -> Sender:
        found = await super().ready()
        return cast("Sender", Unreliable(found, self.bench, self.kind))


class KafkaBench:
    """Clients of one namespace."""

    def __init__(self, broker: Broker) -> None:
        self.address = broker.address
        self.namespace = broker.namespace()
        self.topics: dict[str, int] = {}
        self.logs: list[KafkaLog] = []
        self.scripts: dict[str, deque[str]] = {}
        self.late: list[tuple[str, int, Sequence[Row]]] = []
        self.chance = random.Random(3)
        self.on_between: Callable[[int, int], None] | None = None
        lanes(self.address, self.namespace)

    async def open(self) -> Log:
        log = KafkaLog(Cluster(f"kafka://{self.address}"), self.namespace, 8)
        for name, kind in (("lanes", "commit"), ("out", "publish")):
            plain: Senders = getattr(log, name)
            scripted = Scripted(log.calls, plain.settings)
            scripted.bench, scripted.kind = self, kind
            setattr(log, name, scripted)
        self.logs.append(log)
        return log

    async def close(self) -> None:
        await asyncio.gather(*[log.close() for log in self.logs])
        for topic in self.topics:
            await self.drop(topic)

    async def depose(self, partition: int) -> None:
        pass

    async def create(self, topics: Mapping[str, int]) -> None:
        create(self.address, topics)
        self.topics |= topics

    async def drop(self, topic: str) -> None:
        admin: Any = AdminClient({"bootstrap.servers": self.address})
        for done in admin.delete_topics([topic]).values():
            done.result(60)

    def advance(self, ms: int) -> None:
        raise NotImplementedError

    def fault(self, call: str, *kinds: str) -> None:
        if call.startswith("trim"):
            _, lane, partition = call.split()
            admin: Any = AdminClient({"bootstrap.servers": self.address})
            part = TopicPartition(f"{self.namespace}.{lane}", int(partition), int(kinds[0]))
            for done in admin.delete_records([part]).values():
                done.result(60)
        else:
            self.scripts.setdefault(call, deque()).extend(kinds)

    def land(self) -> None:
        late, self.late = self.late, []
        for topic, partition, rows in late:
            append(self.address, topic, partition, [Draft("", 0, k, v, h) for k, v, h in rows])

    def stranger(self, partition: int, drafts: Sequence[Draft]) -> None:
        append(self.address, f"{self.namespace}.log", partition, drafts)

    def between(self, call: Callable[[int, int], None] | None) -> None:
        self.on_between = call

    def clean(self, partition: int, below: int, choose: Callable[[Record], bool]) -> None:
        """A broker's cleaner takes no orders; a test of its own lets it work."""


def kafka(broker: Callable[[], Broker]) -> MakeBench:
    """A bench over the broker that is known only when a test runs."""

    @asynccontextmanager
    async def make() -> AsyncGenerator[Bench]:
        bench = KafkaBench(broker())
        try:
            yield bench
        finally:
            await bench.close()

    return make
