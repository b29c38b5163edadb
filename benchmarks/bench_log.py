"""Our log beside the floor: commits alone and in batches, on the loop and in the thread, reading back, restoring, idling.

JSON lines; `of_floor` is the ratio to plain SQLite writing batches of the same size in the same run. `--quick` for CI.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.floor import floor, spread
from benchmarks.waiting import idle
from contrapas.core.fold import Fold
from contrapas.core.lane import Draft
from contrapas.log import sqlite
from contrapas.log.sqlite import SqliteLease, SqliteLog

VALUE = os.urandom(300)
SUM = b"%08x" % zlib.crc32(VALUE)


def drafts(first: int, count: int, epoch: int) -> list[Draft]:
    """Records as the engine writes them: 300 bytes, eight headers, a key of their own."""
    fixed = (
        ("cp-kind", b"instance"),
        ("cp-version", b"1"),
        ("cp-epoch", b"%d" % epoch),
        ("cp-status", b"waiting"),
        ("cp-state", b"ReserveStock"),
        ("cp-cause", b"local"),
        ("cp-deadline", b"1700000000000"),
        ("cp-sum", SUM),
    )
    return [Draft("", 0, b"place_order/o-%d" % n, VALUE, fixed) for n in range(first, first + count)]


async def commits(
    log: SqliteLog, lease: SqliteLease, batch: int, rounds: int, first: int
) -> dict[str, object]:
    """Commits in sequence on one partition."""
    times: list[float] = []
    used = time.process_time()
    for n in range(rounds):
        some = drafts(first + n * batch, batch, lease.epoch)
        began = time.perf_counter()
        await lease.commit(some, [], lease.control)
        times.append(time.perf_counter() - began)
    used = time.process_time() - used
    count = batch * rounds
    return {
        "bench": "log.commit",
        "batch": batch,
        **spread(times),
        "records_per_s": round(count / sum(times)),
        "cpu_us_per_record": round(used / count * 1e6, 2),
    }


async def several(leases: list[SqliteLease], batch: int, rounds: int) -> dict[str, object]:
    """Partitions of one process that commit at the same moment share a transaction."""

    async def one(lease: SqliteLease) -> None:
        for n in range(rounds):
            await lease.commit(drafts(n * batch, batch, lease.epoch), [], lease.control)

    began = time.perf_counter()
    await asyncio.gather(*map(one, leases))
    took = time.perf_counter() - began
    count = len(leases) * rounds
    return {
        "bench": "log.group",
        "partitions": len(leases),
        "batch": batch,
        "commits_per_s": round(count / took),
        "records_per_s": round(count * batch / took),
    }


async def reads(log: SqliteLog) -> list[dict[str, object]]:
    """Scan the lane, and fold what `latest` yields."""
    _, end = await log.bounds("log", 0)
    began, at = time.perf_counter(), 0
    while at < end:
        _, at = await log.read("log", 0, at)
    scan = round(end / (time.perf_counter() - began))
    began, judge, count = time.perf_counter(), Fold(floor=end), 0
    async for batch in log.latest(0):
        for record in batch:
            judge.judge(record)
            count += 1
    return [
        {"bench": "log.scan", "records_per_s": scan},
        {
            "bench": "log.latest+fold",
            "records": count,
            "records_per_s": round(count / (time.perf_counter() - began)),
        },
    ]


async def run(folder: Path, scale: float) -> None:
    """Everything, one line each."""
    ground = floor(folder, scale)
    for measure in ground:
        print(json.dumps(measure))
    rates = {m["batch"]: m["records_per_s"] for m in ground if m["bench"] == "floor.write"}
    log = SqliteLog(folder / "log.db", "bench", 8)
    leases = [await log.acquire(p, "bench") for p in range(8)]
    await commits(log, leases[0], 1, int(200 * scale) or 1, 0)
    first = 1000
    for batch, rounds in ((1, 1000), (16, 300), (32, 300), (64, 200), (256, 60), (500, 30)):
        found = await commits(log, leases[0], batch, int(rounds * scale) or 1, first)
        first += batch * rounds
        base, rate = rates.get(batch), found["records_per_s"]
        if isinstance(base, int) and isinstance(rate, int):
            found["of_floor"] = round(rate / base, 2)
        print(json.dumps(found))
    quick, sqlite.QUICK_S = sqlite.QUICK_S, 0.0
    print(
        json.dumps(
            {**await commits(log, leases[1], 1, int(500 * scale) or 1, 0), "bench": "log.commit.thread"}
        )
    )
    print(
        json.dumps(
            {**await commits(log, leases[1], 32, int(100 * scale) or 1, 0), "bench": "log.commit.thread"}
        )
    )
    sqlite.QUICK_S = quick
    for batch in (1, 32):
        print(json.dumps(await several(leases, batch, int(150 * scale) or 1)))
    for measure in await reads(log):
        print(json.dumps(measure))
    print(json.dumps(await idle(log, "log", 5 * scale, settled=1)))
    await log.close()


def main() -> None:
    """Run in a temporary folder beside where the process stands, so that it is a real disk."""
    scale = 0.05 if "--quick" in sys.argv else 1.0
    with tempfile.TemporaryDirectory(dir=".") as folder:
        asyncio.run(run(Path(folder), scale))


if __name__ == "__main__":
    main()
