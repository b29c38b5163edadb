"""Workloads W1 to W8 on the embedded log, each beside the floor measured in the same run: ratios count, not figures.

    python benchmarks/bench_workloads.py                 # all, full size
    python benchmarks/bench_workloads.py w1 w2 --quick   # small, to see that it works

    python benchmarks/bench_workloads.py w2 --profile /tmp/w2.txt   # and what the workers' time went into
    python benchmarks/bench_workloads.py --log postgres             # on PostgreSQL: a private server, or its address
    python benchmarks/bench_workloads.py --log kafka                # on Kafka, likewise

One JSON line per workload. Linux only: CPU and memory come from /proc. Every commit is synced to the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.workload_rig import Rig, busy_s, median

Line = dict[str, Any]
FAILURES = (RuntimeError, OSError, ValueError, KeyError, IndexError, ZeroDivisionError)


SERVERS = {"BENCH_KAFKA": "kafka", "BENCH_POSTGRES": "postgresql"}


def floor() -> Line:
    """What the log stands on, in rows of 200 bytes."""
    if brokers := os.environ.get("BENCH_KAFKA", ""):
        return kafka_floor(brokers)
    server = os.environ.get("BENCH_POSTGRES", "")
    return asyncio.run(postgres_floor(server)) if server else sqlite_floor()


def kafka_floor(url: str) -> Line:
    """One acknowledged record on Kafka from one idempotent producer: alone, and 64 handed over together."""
    from confluent_kafka import Producer

    from benchmarks.workload_rig import namespace
    from contrapas_kafka.options import Cluster

    namespace(url)
    topic = f"{os.environ['BENCH_NAMESPACE']}.log"
    producer = Producer(Cluster(url).producer())
    producer.list_topics(timeout=10)

    def commits(rows: int, seconds: float) -> tuple[float, float]:
        times: list[float] = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.perf_counter()
            for n in range(rows):
                producer.produce(topic, b"x" * 200, b"wf-%d" % n, 0)
            producer.flush(30)
            times.append(time.perf_counter() - began)
        return median(times) * 1e3, rows * len(times) / sum(times)

    commits(1, 0.3)
    single_ms, single = commits(1, 0.7)
    _, grouped = commits(64, 0.7)
    return {
        "commit_ms": round(single_ms, 3),
        "single_rows_s": round(single),
        "grouped_rows_s": round(grouped),
    }


async def postgres_floor(server: str) -> Line:
    """One durable row in PostgreSQL over one connection: alone, and 64 in one statement."""
    import asyncpg

    conn = await asyncpg.connect(server)
    await conn.execute(
        "drop table if exists step; create table step(wf text, n int, out bytea, primary key(wf, n))"
    )
    put = "insert into step select * from unnest($1::text[], $2::int[], $3::bytea[])"
    number = 0

    async def commits(rows: int, seconds: float) -> tuple[float, float]:
        nonlocal number
        times: list[float] = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            some = range(number, number := number + rows)
            names, numbers = [f"wf-{n // 10}" for n in some], [n % 10 for n in some]
            began = time.perf_counter()
            await conn.execute(put, names, numbers, [b"x" * 200] * rows)
            times.append(time.perf_counter() - began)
        return median(times) * 1e3, rows * len(times) / sum(times)

    single_ms, single = await commits(1, 0.7)
    _, grouped = await commits(64, 0.7)
    await conn.close()
    return {
        "commit_ms": round(single_ms, 3),
        "single_rows_s": round(single),
        "grouped_rows_s": round(grouped),
    }


def sqlite_floor() -> Line:
    """One durable row of 200 bytes in SQLite (WAL, FULL): alone, and 64 in one transaction."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        db = sqlite3.connect(f"{folder}/floor.db", isolation_level=None)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
        db.execute("create table step(wf text, n int, out blob, primary key(wf, n)) without rowid")
        value = b"x" * 200
        number = 0

        def commits(rows: int, seconds: float) -> tuple[float, float]:
            nonlocal number
            times: list[float] = []
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                began = time.perf_counter()
                db.execute("begin immediate")
                for _ in range(rows):
                    number += 1
                    db.execute("insert into step values(?,?,?)", (f"wf-{number // 10}", number % 10, value))
                db.execute("commit")
                times.append(time.perf_counter() - began)
            return median(times) * 1e3, rows * len(times) / sum(times)

        single_ms, single = commits(1, 0.7)
        _, grouped = commits(64, 0.7)
        db.close()
    return {
        "commit_ms": round(single_ms, 3),
        "single_rows_s": round(single),
        "grouped_rows_s": round(grouped),
    }


def warm(rig: Rig, quick: bool, saga: str = "seq", arg: int = 10, n: int = 100) -> None:
    """Let caches fill."""
    rig.together(op="run", wf=saga, prefix="warm-", n=20 if quick else n, conc=8, arg=arg)


def w1(rig: Rig, quick: bool, base: Line) -> Line:
    """Ten steps in sequence, one instance at a time: latency."""
    warm(rig, quick)
    before = rig.cpu()
    done = rig.together(op="run", wf="seq", prefix="w1-", n=50 if quick else 200, conc=1, arg=10, expect=10)
    return {
        **done,
        "cpu_us_per_record": _cpu_us(rig, before, done["n"] * 11),
        "commits_at_floor_ms": 11 * base["commit_ms"],
        "ratio": done["p50_ms"] / (11 * base["commit_ms"]),
    }


def w2(rig: Rig, quick: bool, base: Line) -> Line:
    """The same, 64 in flight: throughput."""
    warm(rig, quick, n=400)
    before = rig.cpu()
    done = rig.together(
        op="run", wf="seq", prefix="w2-", n=300 if quick else 4000, conc=64, arg=10, expect=10, seconds=60
    )
    steps = done["per_s"] * 10
    cpu_us = (rig.cpu() - before) / max(1, done["n"] * 10) * 1e6
    return {
        **done,
        "steps_per_s": steps,
        "cpu_us_per_step": cpu_us,
        "ratio_to_grouped": steps / base["grouped_rows_s"],
    }


def w3(rig: Rig, quick: bool, base: Line) -> Line:
    """One instance that joins many steps running at once (`s.all`)."""
    warm(rig, quick)
    n = 100 if quick else 1000
    before = rig.cpu()
    done = rig.first.call(op="run", wf="fan", prefix="w3-", n=1, arg=n, expect=n)
    return {
        **done,
        "steps": n,
        "steps_per_s": n / done["wall_s"],
        "cpu_us_per_record": _cpu_us(rig, before, n + 1),
        "ratio_to_grouped": n / done["wall_s"] / base["grouped_rows_s"],
    }


def w3map(rig: Rig, quick: bool, base: Line) -> Line:
    """The same steps as one `s.map`: a record per item, a few commits. The best of a few: one takes no longer than a blink."""
    warm(rig, quick)
    n = 100 if quick else 1000
    rig.first.call(op="run", wf="map", prefix="w3m-warm-", n=1 if quick else 3, arg=n, expect=n)
    walls: list[float] = []
    cpus: list[float] = []
    errors: dict[str, int] = {}
    for index in range(2 if quick else 9):
        before = rig.cpu()
        done = rig.first.call(op="run", wf="map", prefix=f"w3m-{index}-", n=1, arg=n, expect=n)
        time.sleep(0.2)
        cpus.append(rig.cpu() - before)
        walls.append(done["wall_s"])
        errors |= done["errors"]
    return {
        "n": len(walls),
        "steps": n,
        "wall_s": min(walls),
        "median_s": median(walls),
        "cpu_s": median(cpus),
        "steps_per_s": n / min(walls),
        "ratio_to_grouped": n / min(walls) / base["grouped_rows_s"],
        "errors": errors,
    }


def w4(rig: Rig, quick: bool, base: Line) -> Line:
    """A long instance: its last steps against its first; again, killed near the end: time to the next step."""
    warm(rig, quick)
    n = 500 if quick else 5000
    done = rig.first.call(op="run", wf="long", prefix="w4a-", n=1, arg=n, expect=n)
    t = [row[0] for row in rig.ledger.rows()]
    first, last = (t[100] - t[0]) / 1e6, (t[n - 1] - t[n - 101]) / 1e6
    told = {**done, "first_100_ms": first, "last_100_ms": last, "last_over_first": last / first}
    told |= {"step_ms": done["wall_s"] * 1e3 / n, "ratio": done["wall_s"] * 1e3 / n / base["commit_ms"]}
    rig.ledger.clear()
    rig.first.call(op="start", wf="long", prefix="w4b-", n=1, arg=n)
    rig.ledger.wait(n - 100, 600)
    killed = time.monotonic_ns()
    rig.first.kill()
    before = rig.ledger.count()
    rig.restart()
    rig.ledger.wait(before + 1, 60)
    after = rig.ledger.rows()[before]
    rig.first.call(op="result", wf="long", prefix="w4b-", n=1, expect=n)
    seen = [number for _, _, number in rig.ledger.rows()]
    return {
        **told,
        "steps": n,
        "kill_to_next_step_ms": (after[0] - killed) / 1e6,
        "lost": n - len(set(seen)),
        "repeated": len(seen) - len(set(seen)),
    }


def w5(rig: Rig, quick: bool, base: Line) -> Line:
    """Many instances that wait for a signal: start rate, memory, idle CPU, wake-up rate."""
    warm(rig, quick)
    n = 1000 if quick else 20000
    time.sleep(1.5)
    memory = rig.memory_kib()
    expected = _applied(rig) + n
    began = time.perf_counter()
    done = rig.together(op="bulk", wf="wait", prefix="w5-", n=n)
    while _applied(rig) < expected and time.perf_counter() - began < 120:
        time.sleep(0.02)
    waiting = time.perf_counter() - began
    time.sleep(3)
    each = (rig.memory_kib() - memory) / n
    before = rig.cpu()
    idle_s = 3 if quick else 15
    time.sleep(idle_s)
    idle = (rig.cpu() - before) / idle_s
    woken = time.perf_counter()
    sent = rig.together(op="signal", prefix="w5-", n=n, conc=64)
    rig.ledger.wait(n, 300, poll=0.01)
    return {
        **done,
        "start_per_s": done["per_s"],
        "waiting_per_s": n / waiting,
        "kib_each": each,
        "idle_cores": idle,
        "signal_per_s": sent["per_s"],
        "woken_per_s": n / (time.perf_counter() - woken),
        "errors": {**done["errors"], **sent["errors"]},
        "ratio_to_grouped": done["per_s"] / base["grouped_rows_s"],
    }


def _cpu_us(rig: Rig, before: float, records: int) -> float:
    """CPU of the workers since then, for each record they wrote."""
    return (rig.cpu() - before) / max(1, records) * 1e6


def _applied(rig: Rig, what: str = "applied") -> int:
    """Inputs applied so far, transitions or commits."""
    return sum(int(child.call(op="applied")[what]) for child in rig.children)


def w6(rig: Rig, quick: bool, base: Line) -> Line:
    """Four steps, the fourth fails, three are taken back in reverse; 32 in flight."""
    warm(rig, quick, saga="saga", arg=0)
    before = rig.cpu()
    done = rig.together(
        op="run", wf="saga", prefix="w6-", n=200 if quick else 3000, conc=32, arg=0, expect=321, seconds=60
    )
    return {
        **done,
        "sagas_per_s": done["per_s"],
        "cpu_us_per_record": _cpu_us(rig, before, done["n"] * 9),
        "ratio_to_grouped": done["per_s"] * 9 / base["grouped_rows_s"],
    }


def w7(rig: Rig, quick: bool, base: Line) -> Line:
    """A thousand in flight, the worker killed when half of all steps have run: time to the last, lost, repeated."""
    warm(rig, quick)
    n, steps = (100 if quick else 1000), 10
    rig.first.call(op="start", wf="crash", prefix="w7-", n=n, conc=64, arg=steps)
    rig.ledger.wait(n, 120)
    Path(os.environ["GATE"]).touch()
    rig.ledger.wait(n * steps // 2, 300, poll=0.001)
    killed = time.monotonic_ns()
    rig.first.kill()
    before = rig.ledger.count()
    rig.restart()
    done = rig.first.call(op="result", wf="crash", prefix="w7-", n=n, conc=64, expect=steps)
    rows = rig.ledger.rows()
    distinct = {(who, number) for _, who, number in rows}
    after = rows[before][0], max(t for t, _, _ in rows)
    return {
        "n": n,
        "steps_per_s": (len(rows) - before) / max(1e-9, (after[1] - after[0]) / 1e9),
        "ratio_to_grouped": (len(rows) - before)
        / max(1e-9, (after[1] - after[0]) / 1e9)
        / base["grouped_rows_s"],
        "effects_at_kill": before,
        "kill_to_first_effect_s": (rows[before][0] - killed) / 1e9,
        "kill_to_last_effect_s": (max(t for t, _, _ in rows) - killed) / 1e9,
        "lost": n * steps - len(distinct),
        "repeated": len(rows) - len(distinct),
        "results": done["n"],
        "errors": done["errors"],
    }


def w8(rig: Rig, quick: bool, base: Line) -> Line:
    """Thousands of instances of ten steps that were asked for at once: transitions a second when every batch is full."""
    warm(rig, quick, n=400)
    n = 400 if quick else 4000
    commits, written = _applied(rig, "commits"), _applied(rig, "transitions")
    before, began = rig.cpu(), time.perf_counter()
    done = rig.together(op="bulk", wf="seq", prefix="w8-", n=n, arg=10)
    while _applied(rig, "transitions") < written + n * 11 and time.perf_counter() - began < 120:
        time.sleep(0.1)
    wall, count = time.perf_counter() - began, _applied(rig, "transitions") - written
    return {
        **done,
        "wall_s": wall,
        "transitions": count,
        "transitions_per_s": count / wall,
        "per_commit": count / max(1, _applied(rig, "commits") - commits),
        "cpu_us_per_transition": _cpu_us(rig, before, count),
        "ratio_to_grouped": count / wall / base["grouped_rows_s"],
    }


WORKLOADS: dict[str, tuple[Callable[[Rig, bool, Line], Line], int]] = {
    "w1": (w1, 1), "w2": (w2, 2), "w3": (w3, 1), "w3map": (w3map, 1), "w4": (w4, 1), "w5": (w5, 2), "w6": (w6, 2), "w7": (w7, 1),
    "w8": (w8, 1),
}  # fmt: skip
"""Name -> workload, worker processes."""
TARGETS: dict[str, tuple[tuple[str, float, bool], ...]] = {
    "w1": (("p50_ms", 2.8, False),),
    "w2": (("steps_per_s", 30_000, True),),
    "w3map": (("wall_s", 0.08, False),),
    "w4": (("last_over_first", 1.05, False), ("kill_to_next_step_ms", 500, False)),
    "w5": (("start_per_s", 20_000, True), ("kib_each", 2.0, False), ("idle_cores", 0.01, False)),
    "w6": (("sagas_per_s", 3_500, True),),
    "w7": (("kill_to_last_effect_s", 1.0, False), ("lost", 0, False)),
    "w8": (("transitions_per_s", 20_000, True),),
}
"""Workload -> what is held against which figure; True: at least."""


def measure(name: str, quick: bool, workers: int | None) -> Line:
    """One workload in a fresh folder; a failure is a line too."""
    run, default = WORKLOADS[name]
    line: Line = {
        "workload": name,
        "log": next((log for name, log in SERVERS.items() if os.environ.get(name)), "sqlite"),
        "quick": quick,
        "workers": workers or default,
        "floor": floor(),
    }
    busy, began = busy_s(), time.monotonic()
    rig = Rig()
    own = 0.0
    try:
        rig.start(workers or default)
        line |= run(rig, quick, line["floor"])
        own = rig.cpu()
    except FAILURES as why:
        line["failed"] = f"{type(why).__name__}: {why}"[:500]
        line["log"] = (rig.folder / "worker.log").read_text(errors="replace")[-1500:]
    finally:
        rig.close()
    wall = time.monotonic() - began
    line["other_cpu_share"] = round(max(0.0, busy_s() - busy - own) / (wall * (os.cpu_count() or 1)), 3)
    if not quick:
        line["targets"] = [
            {"what": what, "at": at, "reached": bool(line[what] >= at if least else line[what] <= at)}
            for what, at, least in TARGETS.get(name, ())
            if what in line and line["log"] == "sqlite"
        ]
    line["load"] = round(os.getloadavg()[0], 2)
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()} | {
        "python": platform.python_version(),
        "at": time.strftime("%FT%TZ", time.gmtime()),
    }


def main() -> int:
    """Parse the command line, measure, print; exit 1 when a workload failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", metavar="w1..w8")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument(
        "--log",
        metavar="URL",
        help="`postgres`, `kafka`, a PostgreSQL database to make others beside, or kafka://…",
    )
    parser.add_argument("--workers", type=int, help="worker processes instead of the workload's own number")
    parser.add_argument(
        "--profile", metavar="PATH", help="append each worker's profile; figures are slower then"
    )
    args = parser.parse_args()
    if args.log and args.log not in ("postgres", "kafka"):
        os.environ["BENCH_KAFKA" if args.log.startswith("kafka:") else "BENCH_POSTGRES"] = args.log
    if args.log == "kafka":
        from deploy.kafka.server import Server as Broker

        broker = Broker()
        atexit.register(broker.close)
        os.environ["BENCH_KAFKA"] = f"kafka://{broker.start().address}"
    if args.log == "postgres":
        from deploy.postgres.server import Server

        server = Server(settings={"shared_buffers": "256MB"})
        atexit.register(server.close)
        os.environ["BENCH_POSTGRES"] = server.start().url()
    if args.profile:
        os.environ["BENCH_PROFILE"] = os.path.abspath(args.profile)
    names = args.workloads or list(WORKLOADS)
    if unknown := [name for name in names if name not in WORKLOADS]:
        parser.error(f"no workload {', '.join(unknown)}: {', '.join(WORKLOADS)}")
    failed = False
    for name in names:
        for _ in range(args.repeat):
            line = measure(name, args.quick, args.workers)
            failed = failed or "failed" in line or bool(line.get("errors"))
            print(json.dumps(line), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
