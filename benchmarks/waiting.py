"""What a process costs that owns every partition of a log and waits: the same measure on each backend."""

from __future__ import annotations

import asyncio
import time

from contrapas.log import Log

SETTLED_S = 4
"""Joining and the first reads are over by then."""


async def idle(log: Log, bench: str, seconds: float, *, settled: float = SETTLED_S) -> dict[str, object]:
    """CPU of one process that waits on every partition and follows its group, as a share of one core."""
    member = log.membership("bench.workers", ("in",))

    async def follow() -> None:
        async for _ in member.assignments():
            pass

    async def wait(p: int) -> None:
        while True:
            await log.read("in", p, (await log.bounds("in", p))[1], wait_ms=5000)

    tasks = [asyncio.create_task(follow()), *[asyncio.create_task(wait(p)) for p in range(log.partitions)]]
    await asyncio.sleep(settled)
    began, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - used) / (time.perf_counter() - began)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"bench": f"{bench}.idle", "cores": round(share, 4)}
