"""Takeover of waiting instances: records a second from the lane and from a checkpoint, bytes each, time to the first act.

    python benchmarks/bench_restore.py                        # a million instances on SQLite, four partitions
    python benchmarks/bench_restore.py --instances 50000      # small
    python benchmarks/bench_restore.py --log kafka://host:9092

One JSON line. Each figure is taken in a process of its own: CPU is that process's, memory is what its resident set grew by.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.load_sagas import Go, WaitAsked, app
from contrapas.core.envelope_avro import decode, encode
from contrapas.core.headers import headers_of
from contrapas.core.lane import Draft
from contrapas.core.partition import partition
from contrapas.runtime.build import build
from contrapas.runtime.checkpoint import Identity
from contrapas.runtime.client import Client
from contrapas.runtime.clock import RealClock
from contrapas.runtime.keeper import Keeper
from contrapas.runtime.open import open_log
from contrapas.runtime.restore import take_over
from contrapas.runtime.worker import Worker, setting_of

CHUNK = 900
DEFINITION = app.definition()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def fill(url: str, count: int, partitions: int) -> dict[str, Any]:
    """One instance written by the engine, and copies of its record under other keys."""
    world = build(DEFINITION)
    log = await open_log(url, DEFINITION.namespace, partitions=partitions, dev=True)
    worker = Worker(log, DEFINITION, world, owner="fill")
    task = asyncio.create_task(worker.run())
    await worker.ready.wait()
    client = Client(log, worker.setting, worker=worker)
    await client.start("wait", WaitAsked(id="model"))
    home = partition(b"model", log.partitions)
    while (entry := worker.stations[home].partition.entries.get("wait/model")) is None:
        await asyncio.sleep(0.01)
    record = decode(entry.value)
    await client.close()
    await worker.stop()
    await task
    leases = [await log.acquire(p, "fill") for p in range(log.partitions)]
    drafts: list[list[Draft]] = [[] for _ in leases]
    size = 0
    for number in range(count):
        key = f"o-{number:07}"
        p = partition(key.encode(), log.partitions)
        record.instance, record.key, record.epoch, record.head = f"wait/{key}", key, leases[p].epoch, b""
        value = encode(record)
        size += len(value)
        drafts[p].append(Draft("", p, record.instance.encode(), value, headers_of(record, value)))
        if len(drafts[p]) >= CHUNK:
            await leases[p].commit(drafts[p], [], leases[p].control)
            drafts[p] = []
    for p, lease in enumerate(leases):
        await lease.commit(drafts[p], [], lease.control)
        await lease.release()
    await log.close()
    return {"record_bytes": size // max(1, count)}


async def restore(url: str, folder: Path | None, write: bool) -> dict[str, Any]:
    """Take every partition over; or write every checkpoint."""
    world = build(DEFINITION)
    log = await open_log(url, DEFINITION.namespace, dev=True)
    setting = setting_of(log, DEFINITION, world, writer="bench")
    topic = await log.topic("log")
    assert topic is not None
    held: list[Any] = []
    before, records = resident(), 0
    wall, cpu = time.monotonic(), time.process_time()
    for p in range(log.partitions):
        state = keeper = None
        if folder is not None:
            identity = Identity(DEFINITION.namespace, topic.id, log.partitions, p)
            keeper = Keeper(log, folder, identity, clock=RealClock(), chance=lambda: 0.5)
            if write:
                await keeper.catch_up()
                continue
            state = await keeper.load()
        lease = await log.acquire(p, "bench", known=None if state is None else state.known)
        saved = None if state is None or keeper is None else (state, keeper.file)
        assert folder is None or saved is not None
        held.append(await take_over(log, lease, setting, saved))
        records += len(held[-1].partition.entries)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    size = sum(f.stat().st_size for f in folder.iterdir()) if folder is not None else 0
    found = {"records": records, "seconds": round(wall, 2), "cpu_s": round(cpu, 2), "file_mb": size >> 20}
    if records:
        found |= {
            "records_per_s": int(records / wall),
            "records_per_cpu_s": int(records / cpu),
            "bytes_each": (resident() - before) // records,
        }
    await log.close()
    return found


async def act(url: str, folder: Path | None) -> dict[str, Any]:
    """A fresh worker acts on one of them: seconds from its start."""
    world = build(DEFINITION)
    began, cpu = time.monotonic(), time.process_time()
    log = await open_log(url, DEFINITION.namespace, dev=True)
    worker = Worker(log, DEFINITION, world, owner="fresh", checkpoints=folder)
    task = asyncio.create_task(worker.run())
    client = Client(log, worker.setting, worker=worker)
    key = f"o-{os.getpid() % 1000:07}"
    await client.signal("wait", key, Go(id=key))
    home = partition(key.encode(), log.partitions)
    while True:
        await asyncio.sleep(0.002)
        s = worker.stations.get(home)
        entry = None if s is None else s.partition.entries.get(f"wait/{key}")
        if entry is not None and entry.version > 1:
            break
    found = {"seconds": round(time.monotonic() - began, 2), "cpu_s": round(time.process_time() - cpu, 2)}
    await worker.ready.wait()
    found["all_s"] = round(time.monotonic() - began, 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()
    await log.close()
    return found


def main() -> None:
    """Fill, then measure each thing in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--log", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = Path(asked.folder) if asked.folder else None
    if asked.only:
        work: dict[str, Any] = {
            "fill": lambda: fill(asked.log, asked.instances, asked.partitions),
            "lane": lambda: restore(asked.log, None, False),
            "write": lambda: restore(asked.log, folder, True),
            "checkpoint": lambda: restore(asked.log, folder, False),
            "act": lambda: act(asked.log, folder),
        }
        print(json.dumps(asyncio.run(work[asked.only]())))
        return
    with tempfile.TemporaryDirectory() as place:
        url = asked.log or f"sqlite:///{place}/load.db"
        count = 20_000 if asked.quick else asked.instances
        line: dict[str, Any] = {"bench": "restore", "log": url.partition(":")[0], "instances": count}

        def measure(only: str, kept: bool) -> Any:
            args = [sys.executable, __file__, "--only", only, "--log", url, "--instances", str(count)]
            args += ["--partitions", str(asked.partitions), *(["--folder", f"{place}/kept"] if kept else [])]
            done = subprocess.run(args, check=False, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            return json.loads(done.stdout.splitlines()[-1])

        line |= measure("fill", False)
        line["from_lane"] = measure("lane", False)
        line["first_act_from_lane"] = measure("act", False)
        line["checkpoint_written"] = measure("write", True)
        line["from_checkpoint"] = measure("checkpoint", True)
        line["first_act_from_checkpoint"] = measure("act", True)
        print(json.dumps(line))


if __name__ == "__main__":
    main()
