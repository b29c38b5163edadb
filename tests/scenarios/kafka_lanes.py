"""What strangers, repeats and the cleaner do to lanes, and the siege: rows of `kafka_rows.py` that are no strike in a loop."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka import admin as _untyped
from confluent_kafka.admin import AdminClient

from contrapas.core.partition import partition
from contrapas.failpoints import NAMES
from contrapas.runtime.engine import Engine
from deploy.kafka.server import Server
from tests.kafka import clear
from tests.scenarios import bank, busy
from tests.scenarios.kafka_rig import PARTITIONS, Rig, Verdict
from tests.scenarios.proof import lane_of
from tests.scenarios.supervisor import unfinished

CHAINS: Final[dict[str, tuple[str, ...]]] = {
    "commits": ("kafka.commit.before", "kafka.commit.handed", "kafka.commit.accepted"),
    "claims": ("kafka.claim.before", "kafka.claim.handed", "kafka.claim.unread"),
    "messages": ("kafka.publish.before", "kafka.publish.between", "kafka.publish.handed"),
    "ends": ("kafka.gap.before", "kafka.release.before", "kafka.release.handed"),
}
"""Where a worker on Kafka is killed; a chain's places one after another on the same lanes."""
LEAVING: Final = frozenset(CHAINS["ends"][1:])
GAP: Final = "kafka.gap.before"
library: Any = _untyped


def places() -> list[str]:
    """All places that the connector names."""
    import_module("contrapas_kafka.log")
    return sorted(name for name in NAMES if name.startswith("kafka."))


# ----


async def siege(
    folder: Path, server: Server, chosen: tuple[str, ...], *, instances: int, more: int
) -> busy.Verdict:
    """Kill a worker at each of these places with all it can do in flight."""
    with Rig(folder, server, target=busy.TARGET, options={"session.timeout.ms": "1000"}) as rig:
        await rig.prepare()
        with Scribbler(server, f"{rig.namespace}.log") if GAP in chosen else nullcontext():
            return await busy.siege(
                folder,
                chosen,
                instances=instances,
                more=more,
                under=rig.workers,
                leaving=busy.LEAVING | LEAVING,
            )


class Scribbler:
    """Somebody who writes junk between the commits of owners. Use as a context manager."""

    def __init__(self, server: Server, topic: str) -> None:
        self.topic = topic
        self._producer = Producer({"bootstrap.servers": server.address, "linger.ms": 0})
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(10)
        self._producer.flush(10)

    def _write(self) -> None:
        while not self._ending.wait(0.05):
            for number in range(PARTITIONS):
                self._producer.produce(self.topic, b"junk", b"nobody", number)
            self._producer.poll(0)


async def sieges(folder: Path, server: Server, seconds: float, seed: int) -> Verdict:
    """A siege at each of the connector's places and of the runtime's, by itself; as many as fit, all of them at 0."""
    runtime = [
        p for some in busy.CHAINS.values() for p in some if not p.startswith(("sqlite.", "sweep.", "park."))
    ]
    all_ = [*(p for some in CHAINS.values() for p in some), *runtime]
    random.Random(seed).shuffle(all_)
    whole, began = Verdict(), time.monotonic()
    for number, place in enumerate(all_):
        if seconds and time.monotonic() > began + seconds:
            break
        own = folder / f"s{number}"
        own.mkdir()
        found = await siege(own, server, (place,), instances=200, more=0)
        await asyncio.to_thread(_forget, server)
        whole.faults += [f"{place}: {fault}" for fault in found.faults]
        whole.faults += [f"nobody came by {name}" for name in found.survived]
        whole.struck.update(found.killed)
        whole.started += found.jobs
        whole.done += found.jobs
        print(f"{'exact' if found.exact else 'WRONG'} {place}: {found.seconds:.0f} s", flush=True)
    whole.seconds = time.monotonic() - began
    return whole


def _forget(server: Server) -> None:
    """Delete the topics whose names are fixed: the next siege would read them again."""
    admin: Any = AdminClient({"bootstrap.servers": server.address})
    until = time.monotonic() + 30
    while time.monotonic() < until:
        clear(server.address, "jobs.")
        clear(server.address, "notes.")
        if not any(name.startswith(("jobs.", "notes.")) for name in admin.list_topics(timeout=10).topics):
            return
        time.sleep(0.1)
    raise TimeoutError("the topics of a siege do not go")


# ----


RANGE: Final = 500
"""Old messages of one partition that come again at a time: what was repeated is repeated again, and would double for ever."""


def copy(server: Server, topic: str, chance: random.Random, share: float = 0.5) -> int:
    """Publish a part of an old range of a topic again, as it stands: key, value, headers and partition. How many."""
    consumer = Consumer(
        {"bootstrap.servers": server.address, "group.id": "copy", "enable.auto.commit": False}
    )
    producer = Producer({"bootstrap.servers": server.address, "linger.ms": 5, "acks": "all"})
    count = 0
    try:
        for number in range(PARTITIONS):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
            first = chance.randrange(max(1, end - RANGE))
            end = min(end, first + RANGE)
            consumer.assign([TopicPartition(topic, number, first)])
            at, until = first, time.monotonic() + 10
            while at < end and time.monotonic() < until:
                message = consumer.poll(0.5)
                if message is None or message.error() is not None:
                    continue
                at = (message.offset() or 0) + 1
                if chance.random() < share:
                    producer.produce(
                        topic, message.value(), message.key(), number, headers=message.headers() or []
                    )
                    count += 1
        producer.flush(20)
    finally:
        consumer.close()
    return count


async def duplicates(folder: Path, server: Server, seconds: float, seed: int) -> Verdict:
    """Old ranges of `in` and of the requests' topic come again, while workers die."""
    began = time.monotonic()
    with Rig(folder, server, seed=seed) as rig:
        await rig.prepare()
        await rig.begin(2)
        again = 0
        async with rig.workers.outside() as engine:
            number = 0
            while number < 3 or time.monotonic() < began + seconds:
                await rig.ask(engine, 12, f"t{number}-")
                await send(rig, engine, 12, f"u{number}-")
                await asyncio.sleep(rig.chance.uniform(0.3, 0.8))
                for topic in (f"{rig.namespace}.in", "bank.requests"):
                    again += await asyncio.to_thread(copy, server, topic, rig.chance)
                if number % 2:
                    rig.kill_one(rig.chance)
                    rig.staff(2)
                number += 1
            verdict = await rig.judge(engine, more=partial(outcomes, rig, engine))
        verdict.struck["again"] = again
    verdict.seconds = time.monotonic() - began
    return verdict


async def send(rig: Rig, engine: Engine, count: int, prefix: str) -> None:
    """Transfers by the topic that services use."""
    fresh = bank.transfers(rig.chance, count, prefix)
    for transfer in fresh:
        await engine.client.send(transfer)
    rig.asked += fresh


async def outcomes(rig: Rig, engine: Engine) -> list[str]:
    """Each transfer has told its outcome under one id."""
    ids: dict[bytes, set[bytes]] = {}
    for number in range(PARTITIONS):
        for r in await lane_of(engine.log, "bank.events", number):
            ids.setdefault(r.key, set()).add(dict(r.headers)["ce_id"])
    return [
        f"{t.transfer_id} has {len(found)} outcome events"
        for t in rig.asked
        if len(found := ids.get(t.transfer_id.encode(), set())) != 1
    ][:5]


# ---- settings


def set_topic(server: Server, topic: str, **settings: str) -> None:
    """Change a topic's settings; `_` stands for `.`."""
    _set(server, library.ResourceType.TOPIC, topic, settings)


def set_group(server: Server, group: str, **settings: str) -> None:
    """Change a group's settings; `_` stands for `.`."""
    _set(server, library.ResourceType.GROUP, group, settings)


def protocol_of(server: Server, group: str) -> str:
    """`classic` or `consumer`: how a group's members join."""
    admin: Any = AdminClient({"bootstrap.servers": server.address})
    found = admin.describe_consumer_groups([group])[group].result(10)
    return str(found.type.name).lower()


def _set(server: Server, kind: Any, name: str, settings: dict[str, str]) -> None:
    admin: Any = AdminClient({"bootstrap.servers": server.address})
    entries = [
        library.ConfigEntry(n.replace("_", "."), v, incremental_operation=library.AlterConfigOpType.SET)
        for n, v in settings.items()
    ]
    resource = library.ConfigResource(kind, name, incremental_configs=entries)
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(10)


# ----


class Stranger:
    """Somebody with transactions, who knows nothing of us."""

    def __init__(self, server: Server, name: str) -> None:
        self.producer = Producer(
            {"bootstrap.servers": server.address, "transactional.id": name, "transaction.timeout.ms": 600_000}
        )
        self.producer.init_transactions(20)

    def begin(self, topic: str, partition: int, *records: tuple[bytes, bytes]) -> None:
        """Records in a transaction that stays open."""
        self.producer.begin_transaction()
        for key, value in records:
            self.producer.produce(topic, value, key, partition)
        self.producer.flush(10)

    def abort(self) -> None:
        """End it."""
        self.producer.abort_transaction(20)

    def commit(self) -> None:
        """End it."""
        self.producer.commit_transaction(20)


async def stranger(folder: Path, server: Server, seconds: float, seed: int) -> Verdict:
    """A stranger's transaction stands open on `in`: one partition waits, the others go on. On `log` its records are
    junk and its markers are holes, whether it commits or aborts."""
    began = time.monotonic()
    with Rig(folder, server, seed=seed) as rig:
        await rig.prepare()
        await rig.begin(2)
        inbound, lane = f"{rig.namespace}.in", f"{rig.namespace}.log"
        faults: list[str] = []
        async with rig.workers.outside() as engine:
            await rig.ask(engine, 24, "a-")
            on_in, on_log = Stranger(server, f"{rig.namespace}-x"), Stranger(server, f"{rig.namespace}-y")
            on_in.begin(inbound, 0, (b"nobody", b"an aborted start"))
            before = len(rig.asked)
            await rig.ask(engine, 32, "b-")
            waiting = await _behind(rig, engine, rig.asked[before:], 60)
            if not waiting:
                faults.append("nothing waits behind an open transaction")
            if set(waiting) != {0}:
                faults.append(f"partitions {sorted(waiting)} wait, the transaction stands open on 0")
            number = 0
            while number < 4 or time.monotonic() < began + seconds:
                known = f"transfer/{rig.chance.choice(rig.asked).transfer_id}".encode()
                on_log.begin(lane, number % PARTITIONS, (known, b"junk"), (b"transfer/nobody", b"junk"))
                await rig.ask(engine, 8, f"c{number}-")
                await asyncio.sleep(0.3)
                on_log.commit() if number % 2 else on_log.abort()
                number += 1
            on_in.abort()
            # its marker is the last on the lane, and the cursors pass it
            verdict = await rig.judge(engine, more=partial(rig.cursors, engine.log))
        verdict.faults += faults
        verdict.struck["transactions"] = number + 1
    verdict.seconds = time.monotonic() - began
    return verdict


async def _behind(rig: Rig, engine: Engine, asked: list[Any], seconds: float) -> dict[int, int]:
    """Of some transfers, how many have not ended when no more do, by partition of `in`."""
    left = {f"transfer/{t.transfer_id}" for t in asked}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        left = await unfinished(engine.log, left)
        if all(partition(i.partition("/")[2].encode(), PARTITIONS) == 0 for i in left):
            break
        await asyncio.sleep(0.2)
    found: dict[int, int] = {}
    for i in left:
        number = partition(i.partition("/")[2].encode(), PARTITIONS)
        found[number] = found.get(number, 0) + 1
    return found
