"""Kafka as the log beside the raw appends it stands on: commits alone and in batches, takeovers, reading back.

    python benchmarks/bench_kafka.py [--quick] [--log kafka://…]

JSON lines; `of_floor` is the ratio to producing the same records with the same client, an idempotent producer with the same
settings, in batches of the same size, each waited for with `flush`; measured in turns with ours. Without `--log` a
private broker is started on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import Producer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_log import VALUE, drafts
from benchmarks.floor import spread
from benchmarks.waiting import idle
from contrapas.core.fold import Fold
from contrapas.core.lane import Draft
from contrapas_kafka import connector
from contrapas_kafka.lease import KafkaLease
from contrapas_kafka.log import KafkaLog
from contrapas_kafka.options import Cluster
from deploy.kafka.server import Server

BATCHES = (1, 64, 100, 500)
ROUNDS = (1000, 300, 200, 80)
PARTITIONS = 8
FLOOR = "bench-floor"
TURNS = 5


class Times:
    """How long calls took, and what of it was our process's own time."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.used = 0.0

    async def of(self, count: int, one: Callable[[int], Awaitable[object]]) -> None:
        """Call it so often."""
        used = time.process_time()
        for n in range(count):
            began = time.perf_counter()
            await one(n)
            self.times.append(time.perf_counter() - began)
        self.used += time.process_time() - used

    def line(self, bench: str, batch: int) -> dict[str, object]:
        """Figures for people."""
        count = batch * len(self.times)
        return {
            "bench": bench,
            "batch": batch,
            **spread(self.times),
            "records_per_s": round(count / sum(self.times)),
            "cpu_us_per_record": round(self.used / count * 1e6, 2),
        }


class Raw:
    """The floor: the same keys, values and headers, handed to the client and waited for."""

    def __init__(self, cluster: Cluster) -> None:
        self.producer = Producer(cluster.producer())
        self.producer.list_topics(timeout=10)
        self.topic = f"{FLOOR}.log"

    async def once(self, some: list[Draft]) -> None:
        """One batch."""
        produce = self.producer.produce
        for d in some:
            produce(self.topic, d.value, d.key, 0, headers=[*d.headers])
        assert self.producer.flush(30) == 0


async def commits(raw: Raw, lease: KafkaLease, batch: int, rounds: int) -> None:
    """Ours and the floor in turns, on one partition each."""
    floor, ours = Times(), Times()
    first = 0
    for turn in range(TURNS + 1):
        count = max(1, rounds // TURNS)
        made = [drafts(first + n * batch, batch, lease.epoch) for n in range(count)]
        first += count * batch
        a, b = (Times(), Times()) if not turn else (floor, ours)  # the first turn warms up

        async def under(n: int, made: list[list[Draft]] = made) -> None:
            await raw.once(made[n])

        async def mine(n: int, made: list[list[Draft]] = made) -> None:
            await lease.commit(made[n], [], lease.control)

        await a.of(count, under)
        await b.of(count, mine)
    ground = floor.line("kafka.floor", batch)
    found = ours.line("kafka.commit", batch)
    rate, base = float(str(found["records_per_s"])), float(str(ground["records_per_s"]))
    print(json.dumps(ground))
    print(json.dumps({**found, "of_floor": round(rate / base, 2)}), flush=True)


async def several(leases: list[KafkaLease], batch: int, count: int) -> dict[str, object]:
    """Partitions of one process that commit at the same time."""

    async def one(lease: KafkaLease) -> None:
        for n in range(count):
            await lease.commit(drafts(n * batch, batch, lease.epoch), [], lease.control)

    began = time.perf_counter()
    await asyncio.gather(*map(one, leases))
    took = time.perf_counter() - began
    return {
        "bench": "kafka.partitions",
        "partitions": len(leases),
        "batch": batch,
        "commits_per_s": round(len(leases) * count / took),
        "records_per_s": round(len(leases) * count * batch / took),
    }


async def publishes(log: KafkaLog, batch: int, count: int) -> dict[str, object]:
    """Messages to `in`, over all partitions."""
    found = Times()
    some = [Draft("in", n % PARTITIONS, b"o-%d" % n, VALUE) for n in range(batch)]
    await found.of(count, lambda _: log.publish(some))
    return found.line("kafka.publish", batch)


async def reads(log: KafkaLog) -> list[dict[str, object]]:
    """Scan the lane, and fold what `latest` yields."""
    _, end = await log.bounds("log", 0)
    began, used, at = time.perf_counter(), time.process_time(), 0
    while at < end:
        _, at = await log.read("log", 0, at, max_records=5000)
    scan, cpu = round(end / (time.perf_counter() - began)), (time.process_time() - used) / end
    began, judge, count = time.perf_counter(), Fold(floor=end), 0
    async for some in log.latest(0):
        for record in some:
            judge.judge(record)
            count += 1
    rate = round(end / (time.perf_counter() - began))
    return [
        {"bench": "kafka.scan", "records_per_s": scan, "cpu_us_per_record": round(cpu * 1e6, 2)},
        {"bench": "kafka.latest+fold", "records": end, "keys": count, "records_per_s": rate},
    ]


async def takeovers(log: KafkaLog, count: int) -> dict[str, object]:
    """Acquire a partition of few records."""
    found = Times()
    await found.of(count, lambda n: log.acquire(PARTITIONS - 1, f"bench-{n}"))
    return found.line("kafka.acquire", 1)


async def run(url: str, scale: float) -> None:
    """Everything, one line each."""
    await (
        await connector.open(url, FLOOR, partitions=1, make=True, dev=True)
    ).close()  # a lane like ours, that nobody owns
    log = await connector.open(
        url, f"bench-{os.urandom(3).hex()}", partitions=PARTITIONS, make=True, dev=True
    )
    raw = Raw(log.cluster)
    leases = [await log.acquire(p, "bench") for p in range(PARTITIONS)]
    for batch, rounds in zip(BATCHES, ROUNDS, strict=True):
        await commits(raw, leases[0], batch, max(TURNS, int(rounds * scale)))
    for batch in (1, 64):
        print(json.dumps(await several(leases, batch, int(200 * scale) or 1)), flush=True)
    for batch in (1, 100):
        print(json.dumps(await publishes(log, batch, int(200 * scale) or 1)), flush=True)
    for line in await reads(log):
        print(json.dumps(line), flush=True)
    print(json.dumps(await takeovers(log, int(50 * scale) or 1)), flush=True)
    print(json.dumps(await idle(log, "kafka", 5 * scale)), flush=True)
    await log.close()


def main() -> None:
    """Parse, start a broker where none is named, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--log", metavar="URL", help="a cluster to measure on, instead of a private broker")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.log or f"kafka://{stack.enter_context(Server()).start().address}"
        asyncio.run(run(url, 0.1 if options.quick else 1.0))
    print(json.dumps({"load": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
