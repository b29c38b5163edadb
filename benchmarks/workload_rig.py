"""Processes of a workload: start and kill workers, talk to them, read their CPU and memory, and the ledger of effects."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")


class Child:
    """One worker process and its pipe."""

    def __init__(self, folder: Path) -> None:
        read, write = os.pipe()
        env = {**os.environ, "RESULT_FD": str(write), "PYTHONUNBUFFERED": "1"}
        with open(folder / "worker.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "workload_child.py")],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=env, pass_fds=(write,),
            )  # fmt: skip
        os.close(write)
        self.out = os.fdopen(read)
        self.receive(60)

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next answer."""
        if not select.select([self.out], [], [], timeout)[0]:
            raise TimeoutError("a worker did not answer")
        line = self.out.readline()
        if not line:
            raise RuntimeError(f"a worker died, exit {self.process.poll()}: see worker.log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def send(self, **command: Any) -> None:
        """Give a command."""
        assert self.process.stdin is not None
        self.process.stdin.write((json.dumps(command) + "\n").encode())
        self.process.stdin.flush()

    def call(self, timeout: float = 900, **command: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.send(**command)
        return self.receive(timeout)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.out.close()

    def stop(self) -> None:
        """Let it end by itself, within a few seconds."""
        assert self.process.stdin is not None
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.out.close()


def database(server: str) -> str:
    """The address of a log in a fresh database of a server."""
    import asyncio
    from urllib.parse import urlsplit, urlunsplit

    import asyncpg

    from contrapas_postgres import connector

    name = f"bench_{os.urandom(4).hex()}"
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))

    async def make() -> None:
        conn = await asyncpg.connect(server)
        await conn.execute(f"create database {name}")
        await conn.close()
        await (await connector.open(url, "bench", partitions=8, make=True)).close()

    asyncio.run(make())
    return url


def namespace(url: str) -> str:
    """A fresh namespace on a Kafka cluster, for the workers to come; the address of its log."""
    import asyncio

    from contrapas_kafka import connector

    name = os.environ["BENCH_NAMESPACE"] = f"bench-{os.urandom(4).hex()}"

    async def make() -> None:
        plan = await connector.plan(url, name, 8, {f"{name}.dlq": 1}, dev=True)
        await connector.apply(plan)

    asyncio.run(make())
    return f"{url}?contrapas.dev=true"


class Rig:
    """The folder, the log and the workers of one workload."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="contrapas-bench-", dir=os.environ.get("BENCH_DIR")))
        server = os.environ.get("BENCH_POSTGRES", "")
        brokers = os.environ.get("BENCH_KAFKA", "")
        if brokers:
            os.environ["BENCH_LOG"] = namespace(brokers)
        else:
            os.environ["BENCH_LOG"] = database(server) if server else f"sqlite:///{self.folder}/bench.db"
        os.environ["LEDGER"] = str(self.folder / "ledger")
        os.environ["GATE"] = str(self.folder / "gate")
        self.ledger = LedgerFile(self.folder / "ledger")
        self.children: list[Child] = []

    def start(self, workers: int) -> None:
        """Start workers, until each can take work."""
        for _ in range(workers):
            self.children.append(Child(self.folder))

    @property
    def first(self) -> Child:
        """The only worker, or one of them."""
        return self.children[0]

    def together(self, timeout: float = 900, **command: Any) -> dict[str, Any]:
        """Give a command to all workers, split by count and concurrency; sums and the longest time."""
        size = len(self.children)
        began = time.perf_counter()
        for index, child in enumerate(self.children):
            share = {
                **command,
                "n": command["n"] // size,
                "conc": max(1, command.get("conc", size) // size),
                "prefix": f"{command.get('prefix', '')}{index}-",
                "own": size > 1,
            }
            child.send(**share)
        answers = [child.receive(timeout) for child in self.children]
        wall = time.perf_counter() - began
        for answer in answers:
            if "failed" in answer:
                raise RuntimeError(answer["failed"])
        errors: dict[str, int] = {}
        for answer in answers:
            for key, count in answer["errors"].items():
                errors[key] = errors.get(key, 0) + count
        count = sum(answer["n"] for answer in answers)
        latency = {
            k: max(a[k] for a in answers) for k in ("p50_ms", "p99_ms") if all(k in a for a in answers)
        }
        return {"n": count, "wall_s": wall, "per_s": count / wall, **latency, "errors": errors}

    def restart(self) -> None:
        """Kill the only worker at once and start another one."""
        self.first.kill()
        self.children = [Child(self.folder)]

    def cpu(self) -> float:
        """CPU seconds of the workers so far."""
        return sum(_cpu(child.process.pid) for child in self.children)

    def memory_kib(self) -> float:
        """Proportional memory of the workers."""
        return sum(_pss_kib(child.process.pid) for child in self.children)

    def close(self) -> None:
        """End the workers and remove the folder."""
        for child in self.children:
            child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class LedgerFile:
    """Lines that steps have written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")
        self._at = 0
        self._lines = 0

    def count(self) -> int:
        """Lines so far."""
        with open(self.path, "rb") as file:
            file.seek(self._at)
            data = file.read()
        self._at += len(data)
        self._lines += data.count(b"\n")
        return self._lines

    def wait(self, lines: int, timeout: float, *, poll: float = 0.002) -> None:
        """Until so many lines are there."""
        until = time.monotonic() + timeout
        while self.count() < lines:
            if time.monotonic() > until:
                raise TimeoutError(f"{self._lines} of {lines} effects within {timeout:g} s")
            time.sleep(poll)

    def rows(self) -> list[tuple[int, str, int]]:
        """(monotonic ns, instance, step)."""
        lines = self.path.read_text().splitlines()
        return [(int(t), who, int(number)) for t, who, number in (line.split() for line in lines)]

    def clear(self) -> None:
        """Begin anew; writers keep their descriptors."""
        self.path.write_bytes(b"")
        self._at = self._lines = 0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / TICK


def _pss_kib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    return 0.0


def busy_s() -> float:
    """CPU seconds that the whole machine has been busy, to tell noise."""
    fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return (sum(fields) - fields[3] - fields[4]) / TICK


def median(values: Sequence[float]) -> float:
    """The middle one."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
