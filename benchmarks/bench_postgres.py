"""PostgreSQL as the log beside the raw inserts it stands on: commits alone and in batches, with messages, reading back.

    python benchmarks/bench_postgres.py [--quick] [--log postgresql://…]

JSON lines; `of_floor` is the ratio to inserting the same bytes with the same client, in transactions of the same size, into
a table with nothing but its key, measured right before and right after. Without `--log` a private server is started, on this
machine's disk, durable as by default.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import asyncpg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_log import VALUE, drafts
from benchmarks.floor import spread
from benchmarks.waiting import idle
from contrapas.core.fold import Fold
from contrapas.core.lane import Draft
from contrapas.log.sqlite_rows import pack_headers
from contrapas_postgres import connector
from contrapas_postgres.lease import PostgresLease
from contrapas_postgres.log import PostgresLog
from deploy.postgres.server import Server

BATCHES = (1, 16, 64, 256, 500)
NAMESPACE = "bench"
RAW = (
    "insert into raw(p, o, key, value, headers, ts) select 0, $1::bigint + i, k, v, h, 0 "
    "from unnest($2::bytea[], $3::bytea[], $4::bytea[]) with ordinality u(k, v, h, i)"
)


async def timed(count: int, batch: int, one: Callable[[int], Awaitable[object]]) -> dict[str, object]:
    """`one` called so often; how long each took."""
    times: list[float] = []
    used = time.process_time()
    for n in range(count):
        began = time.perf_counter()
        await one(n)
        times.append(time.perf_counter() - began)
    used = time.process_time() - used
    return {
        "batch": batch,
        **spread(times),
        "records_per_s": round(count * batch / sum(times)),
        "cpu_us_per_record": round(used / (count * batch) * 1e6, 2),
    }


class Raw:
    """The floor: the same keys, values and headers, in one statement for each batch."""

    def __init__(self, conn: asyncpg.Connection[asyncpg.Record]) -> None:
        self.conn = conn
        self.at = 0

    async def start(self) -> None:
        """An empty table."""
        await self.conn.execute("drop table if exists raw")
        await self.conn.execute(
            "create table raw(p int, o bigint, key bytea, value bytea, headers bytea, ts bigint, primary key(p, o))"
        )

    async def rate(self, batch: int, count: int) -> dict[str, object]:
        """Batches one after the other."""
        some = drafts(0, batch, 1)
        headers = [pack_headers(d.headers) for d in some]
        keys, values = [d.key for d in some], [d.value for d in some]

        async def one(_: int) -> None:
            await self.conn.execute(RAW, self.at, keys, values, headers)
            self.at += batch

        return {"bench": "postgres.floor", **await timed(count, batch, one)}


async def commits(
    lease: PostgresLease, batch: int, count: int, first: int, *, out: bool = False
) -> dict[str, object]:
    """Commits in sequence on one partition; out: with a message to `in` for every fourth record."""
    messages = [Draft("in", n % 8, b"o-%d" % n, VALUE) for n in range(max(1, batch // 4))] if out else []
    made = [drafts(first + n * batch, batch, lease.epoch) for n in range(count)]

    async def one(n: int) -> None:
        await lease.commit(made[n], messages, lease.control)

    return {"bench": "postgres.commit.out" if out else "postgres.commit", **await timed(count, batch, one)}


async def several(leases: list[PostgresLease], batch: int, count: int) -> dict[str, object]:
    """Partitions of one process that commit at the same time."""

    async def one(lease: PostgresLease) -> None:
        for n in range(count):
            await lease.commit(drafts(n * batch, batch, lease.epoch), [], lease.control)

    began = time.perf_counter()
    await asyncio.gather(*map(one, leases))
    took = time.perf_counter() - began
    return {
        "bench": "postgres.partitions",
        "partitions": len(leases),
        "batch": batch,
        "commits_per_s": round(len(leases) * count / took),
        "records_per_s": round(len(leases) * count * batch / took),
    }


async def reads(log: PostgresLog) -> list[dict[str, object]]:
    """Scan the lane, and fold what `latest` yields."""
    _, end = await log.bounds("log", 0)
    began, at = time.perf_counter(), 0
    while at < end:
        _, at = await log.read("log", 0, at)
    scan = round(end / (time.perf_counter() - began))
    began, judge, count = time.perf_counter(), Fold(floor=end), 0
    async for some in log.latest(0):
        for record in some:
            judge.judge(record)
            count += 1
    rate = round(count / (time.perf_counter() - began))
    return [
        {"bench": "postgres.scan", "records_per_s": scan},
        {"bench": "postgres.latest+fold", "records": count, "records_per_s": rate},
    ]


async def run(url: str, scale: float) -> None:
    """Everything, one line each."""
    conn = await asyncpg.connect(url)
    raw = Raw(conn)
    await raw.start()
    log = await connector.open(url, NAMESPACE, partitions=8, make=True)
    leases = [await log.acquire(p, "bench") for p in range(8)]
    await raw.rate(64, int(50 * scale) or 1)
    await commits(leases[0], 64, int(50 * scale) or 1, 0)
    first = 10_000
    for batch, count in zip(BATCHES, (1000, 400, 300, 100, 60), strict=True):
        for out in (False, True):
            rounds = int(count * scale) or 1
            before = await raw.rate(batch, rounds)
            found = await commits(leases[0], batch, rounds, first, out=out)
            after = await raw.rate(batch, rounds)
            first += batch * rounds
            ground = (float(str(before["records_per_s"])) + float(str(after["records_per_s"]))) / 2
            rate = float(str(found["records_per_s"]))
            print(json.dumps({**before, "records_per_s": round(ground)}))
            print(json.dumps({**found, "of_floor": round(rate / ground, 2)}), flush=True)
    for batch in (1, 64):
        print(json.dumps(await several(leases, batch, int(200 * scale) or 1)))
    await conn.execute("analyze")
    for line in await reads(log):
        print(json.dumps(line))
    print(json.dumps(await idle(log, "postgres", 5 * scale)))
    await log.close()
    await conn.close()


def main() -> None:
    """Parse, start a server where none is named, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--log", metavar="URL", help="a database to measure in, instead of a private server")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.log or stack.enter_context(Server(settings={"shared_buffers": "256MB"})).start().url()
        asyncio.run(run(url, 0.1 if options.quick else 1.0))


if __name__ == "__main__":
    main()
