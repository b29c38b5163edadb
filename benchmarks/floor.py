"""The floor: what the disk and plain SQLite do on this machine, for every other figure to stand beside.

One JSON line per measure: `write` one durable 200-byte row, alone and 64 in one transaction; `sync` 8 kB and fdatasync.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from pathlib import Path


def spread(times: list[float]) -> dict[str, float]:
    """p10, p50 and p99 in microseconds."""
    ordered = sorted(times)
    return {
        f"p{p}_us": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)] * 1e6, 1)
        for p in (10, 50, 99)
    }


def writes(path: Path, batch: int, rounds: int) -> dict[str, object]:
    """Durable commits of `batch` rows of 200 bytes: WAL, synchronous=FULL, no index."""
    conn = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode=wal", "synchronous=full", "wal_autocheckpoint=0"):
        conn.execute(f"pragma {setting}")
    conn.execute("create table if not exists t(i integer primary key, v blob)")
    value = os.urandom(200)
    times: list[float] = []
    used = time.process_time()
    for _ in range(rounds):
        rows = [(value,)] * batch
        began = time.perf_counter()
        conn.execute("begin immediate")
        conn.executemany("insert into t(v) values(?)", rows)
        conn.execute("commit")
        times.append(time.perf_counter() - began)
    used = time.process_time() - used
    conn.close()
    count = batch * rounds
    return {
        "bench": "floor.write",
        "batch": batch,
        **spread(times),
        "records_per_s": round(count / sum(times)),
        "cpu_us_per_record": round(used / count * 1e6, 2),
    }


def syncs(path: Path, rounds: int) -> dict[str, object]:
    """Append 8 kB and fdatasync."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    times: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        os.write(fd, bytes(8192))
        os.fdatasync(fd)
        times.append(time.perf_counter() - began)
    os.close(fd)
    return {"bench": "floor.sync", "bytes": 8192, **spread(times)}


def floor(folder: Path, scale: float = 1.0) -> list[dict[str, object]]:
    """Every measure of the floor, for another benchmark to print beside its own."""
    return [
        syncs(folder / "floor.bin", int(300 * scale) or 1),
        writes(folder / "floor1.db", 1, int(800 * scale) or 1),
        writes(folder / "floor64.db", 64, int(150 * scale) or 1),
    ]


def main() -> None:
    """Print the floor of the folder named on the command line, else of a temporary one."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        where = {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "cores": os.cpu_count(),
        }
        for measure in floor(Path(folder)):
            print(json.dumps({**measure, **where}))


if __name__ == "__main__":
    main()
