"""Load on the embedded log: a million timers, an idle worker, a backlog of a million inputs, and hours of the same.

    python benchmarks/bench_load.py                   # all but the soak, full size: about twenty minutes
    python benchmarks/bench_load.py --quick           # small, to see that it works
    python benchmarks/bench_load.py timers --timers 1000000
    python benchmarks/bench_load.py soak --minutes 60

One JSON line each, with every target and whether it was met. The workers are `contrapas worker` processes, measured from
outside. Linux only: CPU and memory come from /proc. `noise` is what everything else on the machine used meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.load_rig import CHUNK, Feeder, Line, Look, Rig, Worker, middle, share, target
from benchmarks.load_sagas import CountAsked, NapAsked, Tick, WaitAsked, WalkAsked
from contrapas.core.envelope import ENDED

DUE_PER_S = 1_000
COUNTERS = 2_000
FLAT = 1.05


async def timers(rig: Rig, args: argparse.Namespace) -> Line:
    """So many pending, and a thousand each second that fall due: how late, how early, how much memory, how soon at work.

    The waiting instances stand on the log when the worker starts: copies, each under its own key, of a record that the
    engine wrote. How fast it writes such records itself is W5 of `bench_workloads.py`.
    """
    pending, seconds, lead_s = (20_000, 10, 40) if args.quick else (args.timers, args.seconds, args.lead)
    worker = rig.start()
    empty = worker.look()
    async with rig.outside() as feed:
        await feed.start("nap", [NapAsked(id="model", until=datetime.now(UTC) + timedelta(days=30))])
        await feed.drained(60)
        worker.end()
        due: dict[str, int] = {}

        def some() -> Iterator[tuple[str, int]]:
            """The far ones first: a slow machine takes minutes to write them, and the others are due soon."""
            month = int(time.time() * 1000) + 30 * 86_400_000
            yield from ((f"nap/far-{n}", month + n) for n in range(pending))
            began = int(time.time() * 1000) + 1000 * lead_s
            due.update({f"nap/due-{n}": began + n * 1000 // DUE_PER_S for n in range(DUE_PER_S * seconds)})
            yield from due.items()

        written_s = await feed.copies("nap/model", some())
        first = min(due.values())
        start = [part.log_end for part in feed.reader.parts()]
        worker = rig.start()
        full = worker.look()
        armed_s = first / 1000 - time.time()
        before = await _idle(worker, max(1, min(20, int(armed_s) - 1)))
        fired = await _due(feed, worker, due, start, first / 1000 + seconds + 3)
        after = worker.look()
    each = (full.rss_mib - empty.rss_mib) * 1024 / (pending + len(due))
    return {
        "pending": pending,
        "written_s": round(written_s, 1),
        "ready_s": round(full.at - worker.began, 2),
        "ready_cpu_s": full.cpu_s,
        "restored_per_cpu_s": round((pending + len(due)) / (full.cpu_s - empty.cpu_s)),
        "kib_each": round(each, 3),
        "rss_mib": round(full.rss_mib),
        "rss_after_mib": round(after.rss_mib),
        "armed_before_s": round(armed_s, 2),
        "idle": before,
        **fired,
        "targets": [
            target("p99 late, ms", fired["late_p99_ms"], 1_000),
            target("early", fired["early"], 0),
            target("not fired", fired["missing"], 0),
            target("KiB of memory each", each, 2.0),
        ],
    }


async def _due(feed: Feeder, worker: Worker, due: dict[str, int], start: list[int], until: float) -> Line:
    """What the log says of when they fired. due: instance -> ms; start: where to look from; until: wall seconds."""
    waiting, count = dict(due), len(due)
    before = worker.look()
    await asyncio.sleep(max(0.0, until - time.time()))
    spent = _percent(before, worker.look())
    late: list[int] = []
    for number, at in enumerate(start):
        end = feed.reader.parts()[number].log_end
        for record in feed.reader.scan("log", number, at, end):
            if record.value is not None and (when := waiting.pop(record.key.decode(), None)) is not None:
                late.append(record.timestamp_ms - when)
    return {
        "due_per_s": DUE_PER_S,
        "due": count,
        "late_p50_ms": share(late, 0.5),
        "late_p99_ms": share(late, 0.99),
        "late_max_ms": max(late, default=0),
        "early": sum(ms < 0 for ms in late),
        "missing": len(waiting),
        "firing_cpu_percent": round(spent, 1),
    }


async def idle(rig: Rig, args: argparse.Namespace) -> Line:
    """A worker with nothing to do; two of them; and one with instances that wait."""
    seconds = 5 if args.quick else 60
    worker = rig.start()
    await asyncio.sleep(3)
    alone = await _idle(worker, seconds)
    other = rig.start()
    await asyncio.sleep(3)
    both = await _idle(worker, seconds)
    other.end()
    waiting = 5_000 if args.quick else 50_000
    async with rig.outside() as feed:
        await feed.start("wait", (WaitAsked(id=str(n)) for n in range(waiting)))
        await feed.drained(1_800)
    await asyncio.sleep(5)
    filled = await _idle(worker, seconds)
    return {
        "seconds": seconds,
        "alone": alone,
        "beside_another": both,
        f"with_{waiting}_waiting": filled,
        "targets": [
            target("% CPU", alone["cpu_percent"], 1.0),
            target("% CPU beside another worker", both["cpu_percent"], 1.0),
            target("% CPU with instances waiting", filled["cpu_percent"], 1.0),
            target("MiB", alone["rss_mib"], 120),
        ],
    }


async def _idle(worker: Worker, seconds: int) -> Line:
    before = worker.look()
    await asyncio.sleep(seconds)
    after = worker.look()
    wall = after.at - before.at
    return {
        "cpu_percent": round(_percent(before, after), 2),
        "wakeups_per_s": round((after.switches - before.switches) / wall, 1),
        "rss_mib": round(after.rss_mib, 1),
        "threads": after.threads,
        "fds": after.fds,
    }


async def backlog(rig: Rig, args: argparse.Namespace) -> Line:
    """Inputs that came while nobody worked, drained at the rate at which they are taken as they come, in the same memory."""
    inputs, steady_s = (20_000, 4) if args.quick else (args.inputs, 30)
    counters = 200 if args.quick else COUNTERS
    worker = rig.start()
    async with rig.outside() as feed:
        await feed.start("count", (CountAsked(id=str(n)) for n in range(counters)))
        await feed.drained(120)
        steady = await _steady(feed, worker, counters, steady_s)
        worker.end()
        for at in range(0, inputs, CHUNK):
            await _ticks(feed, counters, range(at, min(at + CHUNK, inputs)), "late")
        asked, taken = feed.asked(), feed.decided()
        began = time.monotonic()
        worker = rig.start()
        seen: list[tuple[int, Look]] = []
        await feed.drained(3_600, lambda: seen.append((feed.decided() - taken, worker.look())), 0.25)
        end = worker.look()
        parts = _drain(seen, inputs)
        totals = feed.asked() - asked
    each = parts["cpu_us"]
    # tick messages go in, nothing comes out: what was decided in between came from nowhere else
    return {
        "inputs": inputs,
        "instances": counters,
        "steady_per_s": round(steady["per_s"]),
        "steady_cpu_us_each": round(steady["cpu_us"], 1),
        "drained_per_s": round(inputs / (end.at - began)),
        "drained_cpu_us_each": round(each, 1),
        "ratio_wall": round(parts["per_s"] / steady["per_s"], 3),
        "ratio_cpu": round(steady["cpu_us"] / each, 3),
        "first_tenth_per_s": round(parts["first_per_s"]),
        "last_tenth_per_s": round(parts["last_per_s"]),
        "rss_tenth_mib": round(parts["rss_tenth"], 1),
        "rss_max_mib": round(parts["rss_max"], 1),
        "rss_end_mib": round(end.rss_mib, 1),
        "others": totals,
        "targets": [
            target("rate against steady, of CPU time", steady["cpu_us"] / each, 0.9, least=True),
            target("rate against steady, of the clock", parts["per_s"] / steady["per_s"], 0.9, least=True),
            target("most memory against a tenth of the way", parts["rss_max"] / parts["rss_tenth"], FLAT),
        ],
    }


async def _steady(feed: Feeder, worker: Worker, counters: int, seconds: float) -> dict[str, float]:
    """Inputs that come as they are taken, never more than a few thousand ahead."""
    number, taken = 0, feed.decided()
    before = worker.look()
    while time.monotonic() - before.at < seconds:
        if feed.asked() - feed.decided() > 3 * CHUNK:
            await asyncio.sleep(0.005)
            continue
        await _ticks(feed, counters, range(number, number + CHUNK), "now")
        number += CHUNK
    await feed.drained(120, pause=0.005)
    after = worker.look()
    done = feed.decided() - taken
    return {"per_s": done / (after.at - before.at), "cpu_us": (after.cpu_s - before.cpu_s) / done * 1e6}


async def _ticks(feed: Feeder, counters: int, numbers: range, what: str) -> None:
    ticks = [Tick(id=str(n % counters), number=n) for n in numbers]
    await feed.tell("count", ticks, lambda tick: f"{what}-{tick.number}")


def _drain(seen: list[tuple[int, Look]], inputs: int) -> dict[str, float]:
    """Rates between a twentieth and the end, and memory from a tenth on."""
    moving = [(done, at) for done, at in seen if done >= inputs / 20] or seen[-2:]
    (low, first), (high, last) = moving[0], moving[-1]
    tenth = [(done, at) for done, at in seen if done >= inputs / 10] or seen[-1:]

    def rate(some: list[tuple[int, Look]]) -> float:
        spent = some[-1][1].at - some[0][1].at
        return (some[-1][0] - some[0][0]) / spent if spent else float("nan")

    return {
        "per_s": rate(moving),
        "cpu_us": (last.cpu_s - first.cpu_s) / max(1, high - low) * 1e6,
        "first_per_s": rate([(d, at) for d, at in moving if d <= inputs * 0.15] or moving),
        "last_per_s": rate([(d, at) for d, at in moving if d >= inputs * 0.9] or moving),
        "rss_tenth": tenth[0][1].rss_mib,
        "rss_max": max(at.rss_mib for _, at in tenth),
    }


async def soak(rig: Rig, args: argparse.Namespace) -> Line:
    """Steady sagas of five steps, kept for a moment only; a worker is killed now and then. What grows, fails."""
    seconds = 20 if args.quick else args.minutes * 60
    kill_every = 8 if args.quick else 60
    rig.start(2)
    number = 0
    samples: list[tuple[Look, ...]] = []
    began = killed = time.monotonic()
    kills = 0
    async with rig.outside() as feed:
        while time.monotonic() - began < seconds:
            if feed.asked() - feed.decided() < CHUNK:
                await feed.start("walk", (WalkAsked(id=str(n)) for n in range(number, number + 200)))
                number += 200
            await asyncio.sleep(0.5)
            samples.append((rig.workers[0].look(),))
            if time.monotonic() - killed > kill_every and seconds - (time.monotonic() - began) > kill_every:
                rig.workers.pop().end(signal.SIGKILL)
                rig.start()
                killed = time.monotonic()
                kills += 1
        await feed.drained(120)
        until = time.monotonic() + 120
        while feed.written() < 6 * number and time.monotonic() < until:
            await asyncio.sleep(0.2)
        ended, standing = _census(feed)
    third = max(1, len(samples) // 3)
    early, late = [s[0] for s in samples[third : 2 * third]], [s[0] for s in samples[-third:]]
    growth = {
        what: middle([getattr(x, what) for x in late]) / middle([getattr(x, what) for x in early])
        for what in ("rss_mib", "fds", "threads")
    }
    return {
        "minutes": round(seconds / 60, 1),
        "started": number,
        "kills": kills,
        "ended_or_gone": ended,
        "rss_mib": round(samples[-1][0].rss_mib, 1),
        "targets": [
            *[target(f"{what}, last third against the second", more, FLAT) for what, more in growth.items()],
            target("instances that have not ended", standing, 0),
        ],
    }


def _census(feed: Feeder) -> tuple[int, int]:
    """Instances that have ended, or are forgotten by now, and those that have not ended."""
    ended = standing = 0
    for part in range(feed.reader.partitions):
        for batch in feed.reader.latest(part):
            for record in batch:
                headers = dict(record.headers)
                if headers.get("cp-kind") != b"instance":
                    continue
                if headers.get("cp-status", b"").decode() in ENDED:
                    ended += 1
                else:
                    standing += 1
    return ended, standing


def _percent(before: Look, after: Look) -> float:
    return 100 * (after.cpu_s - before.cpu_s) / (after.at - before.at)


RUNS: dict[str, Callable[[Rig, argparse.Namespace], Coroutine[None, None, Line]]] = {
    "timers": timers, "idle": idle, "backlog": backlog, "soak": soak,
}  # fmt: skip


def measure(name: str, args: argparse.Namespace) -> Line:
    """One of them, in a folder of its own; a failure is a line too."""
    line: Line = {"load": name, "log": "sqlite", "quick": args.quick}
    rig = Rig()
    with rig:
        try:
            line |= asyncio.run(RUNS[name](rig, args))
        except (RuntimeError, OSError, TimeoutError, ZeroDivisionError) as why:
            line["failed"] = f"{type(why).__name__}: {why}"[:1000]
    line["noise"] = rig.noise()
    line["python"] = platform.python_version()
    line["at"] = time.strftime("%FT%TZ", time.gmtime())
    return line


def main() -> int:
    """Parse the command line, measure, print; exit 1 when one could not be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("loads", nargs="*", metavar="timers|idle|backlog|soak")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--timers", type=int, default=1_000_000, metavar="N", help="pending timers")
    parser.add_argument(
        "--lead", type=int, default=180, help="seconds for a worker to start on a million of them"
    )
    parser.add_argument("--seconds", type=int, default=60, help="how long a thousand timers a second are due")
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N", help="inputs of the backlog")
    parser.add_argument("--minutes", type=float, default=10, help="length of the soak")
    args = parser.parse_args()
    names = args.loads or ["idle", "timers", "backlog"]
    if unknown := [name for name in names if name not in RUNS]:
        parser.error(f"no load {', '.join(unknown)}: {', '.join(RUNS)}")
    failed = False
    for name in names:
        line = measure(name, args)
        failed = failed or "failed" in line
        print(json.dumps(line), flush=True)
    return int(failed)


if __name__ == "__main__":
    os.environ.pop("CONTRAPAS_FAILPOINTS", None)
    sys.exit(main())
