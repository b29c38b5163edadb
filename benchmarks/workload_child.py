"""One worker process of a workload: runs the sagas, and the load that its parent asks for over a pipe.

Commands are JSON lines on stdin, answers JSON lines on the descriptor in `RESULT_FD`. The loader stands in the worker's
process, as an application that embeds the engine does; where two processes share the work, each starts instances on the
partitions that it owns.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import pstats
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import workload_sagas as w
from contrapas.cli.calm import calm
from contrapas.core.partition import partition
from contrapas.errors import ContrapasError
from contrapas.runtime.engine import Engine

FAILURES = (ContrapasError, RuntimeError, OSError, ValueError, KeyError, AssertionError)

STARTS: dict[str, Callable[[str, int], Any]] = {
    "seq": lambda i, n: w.SeqStarted(id=i, n=n),
    "fan": lambda i, n: w.FanStarted(id=i, n=n),
    "map": lambda i, n: w.MapStarted(id=i, n=n),
    "long": lambda i, n: w.LongStarted(id=i, n=n),
    "wait": lambda i, n: w.WaitStarted(id=i),
    "saga": lambda i, n: w.SagaStarted(id=i),
    "crash": lambda i, n: w.CrashStarted(id=i, n=n),
}


def percentile(values: list[float], share: float) -> float:
    """Of a list that need not be sorted; not a number when it is empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Loader:
    """Executes commands against the engine of this process."""

    def __init__(self, engine: Engine) -> None:
        self.client = engine.client
        self.worker = engine.worker
        self.partitions = engine.log.partitions

    def _ids(self, prefix: str, own: bool) -> Iterator[str]:
        number = 0
        while True:
            ident = f"{prefix}{number}"
            number += 1
            if (
                not own
                or not self.worker.stations
                or self.worker.owns(partition(ident.encode(), self.partitions))
            ):
                yield ident

    async def execute(self, command: dict[str, Any]) -> dict[str, Any]:
        """One command."""
        saga, n = str(command.get("wf", "")), int(command.get("n", 1))
        arg, expect = int(command.get("arg") or 0), command.get("expect")
        ids = self._ids(str(command.get("prefix", "")), bool(command.get("own")))

        async def run(ident: str) -> None:
            await self.client.start(saga, STARTS[saga](ident, arg))
            await result(ident)

        async def start(ident: str) -> None:
            await self.client.start(saga, STARTS[saga](ident, arg))

        async def result(ident: str) -> None:
            told = await self.client.wait(f"{saga}/{ident}", timeout_ms=900_000)
            if expect is not None and json.loads(told.outcome_body or "{}").get("result") != expect:
                raise AssertionError(f"{told.status} {told.outcome_body} {told.reason}"[:200])

        async def signal(ident: str) -> None:
            await self.client.signal("wait", ident, w.Go(id=ident))

        if command["op"] == "bulk":
            began = time.perf_counter()
            count = await self.client.start_many(saga, (STARTS[saga](next(ids), arg) for _ in range(n)))
            wall = time.perf_counter() - began
            return {"n": count, "wall_s": wall, "per_s": count / wall, "errors": {}}
        if command["op"] == "applied":
            counts = self.worker.counts()
            return {"applied": counts.applied, "transitions": counts.transitions, "commits": counts.commits}
        one = {"run": run, "start": start, "result": result, "signal": signal}[command["op"]]
        return await closed_loop(ids, n, int(command.get("conc", 1)), one, command.get("seconds"))


async def closed_loop(
    ids: Iterator[str], n: int, concurrency: int, one: Callable[[str], Awaitable[None]], seconds: float | None
) -> dict[str, Any]:
    """`one` for `n` ids, so many at a time; stops taking new ones after `seconds`."""
    latencies: list[float] = []
    errors: dict[str, int] = {}
    left = n
    began = time.perf_counter()

    async def loop() -> None:
        nonlocal left
        while left > 0 and (seconds is None or time.perf_counter() - began < seconds):
            left -= 1
            t = time.perf_counter()
            try:
                await one(next(ids))
                latencies.append(time.perf_counter() - t)
            except FAILURES as why:
                key = f"{type(why).__name__}: {why}"[:300]
                errors[key] = errors.get(key, 0) + 1

    await asyncio.gather(*(loop() for _ in range(min(concurrency, n))))
    wall = time.perf_counter() - began
    return {
        "n": len(latencies),
        "wall_s": wall,
        "per_s": len(latencies) / wall,
        "p50_ms": percentile(latencies, 0.5) * 1e3,
        "p99_ms": percentile(latencies, 0.99) * 1e3,
        "errors": errors,
    }


async def main() -> None:
    """Serve commands until stdin ends."""
    out = os.fdopen(int(os.environ["RESULT_FD"]), "w", buffering=1)
    loop = asyncio.get_running_loop()
    async with Engine.opened(w.app.definition(), os.environ["BENCH_LOG"]) as engine, engine.working(5_000):
        await engine.worker.ready.wait()
        while (
            not engine.worker.stations
        ):  # a group that has just begun gives its first member nothing at first
            await asyncio.sleep(0.05)
        calm(20_000, 20, 20)  # as `contrapas worker` does
        loader = Loader(engine)
        reader = asyncio.StreamReader(limit=1 << 20)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print(json.dumps({"ready": time.monotonic_ns()}), file=out)
        while line := await reader.readline():
            try:
                answer = await loader.execute(json.loads(line))
            except FAILURES as why:
                answer = {"failed": f"{type(why).__name__}: {why}"[:500]}
            print(json.dumps(answer), file=out)


def profiled(path: str) -> None:
    """Run under the profiler; what took longest goes to `path`."""
    profile = cProfile.Profile()
    try:
        profile.runcall(asyncio.run, main())
    finally:
        with open(path, "a") as out:
            pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    if report := os.environ.get("BENCH_PROFILE"):
        profiled(report)
    else:
        asyncio.run(main())
