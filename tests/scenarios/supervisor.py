"""Starts and kills worker processes on one log file, and talks to their instances from outside."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from pathlib import Path

from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.log import Log
from contrapas.runtime.engine import Engine
from contrapas.runtime.find import find
from tests.scenarios.proof import counting

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker_main.py")


class Worker:
    """One worker process."""

    def __init__(self, target: str, url: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.log = open(folder / "workers.log", "ab")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(ROOT / target), url],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **(env or {})},
            cwd=folder,
        )

    def ready(self, timeout: float = 90) -> bool:
        """Wait until it owns its share of the partitions; False: it died before."""
        out = self.process.stdout
        assert out is not None
        if not select.select([out], [], [], timeout)[0]:
            raise TimeoutError("a worker did not become ready")
        return out.readline() == b"ready\n"

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end; gives its exit code."""
        try:
            return self.process.wait(timeout)
        finally:
            self.log.close()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.wait()


class Supervisor:
    """A folder with a log file and workers on it."""

    def __init__(self, target: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.target = target
        self.folder = folder
        self.url = f"sqlite:///{folder}/scenario.db"
        self.env = dict(env or {})
        self.workers: list[Worker] = []

    def start(
        self, *, failpoint: str = "", wait: bool = True, env: Mapping[str, str] | None = None
    ) -> Worker:
        """One more worker; `failpoint` as in `CONTRAPAS_FAILPOINTS`."""
        whole = {**self.env, **({"CONTRAPAS_FAILPOINTS": failpoint} if failpoint else {}), **(env or {})}
        worker = Worker(self.target, self.address(), self.folder, whole)
        self.workers.append(worker)
        if wait:
            worker.ready()
        return worker

    def address(self) -> str:
        """The log's address for the next worker."""
        return self.url

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.stop() if worker.process.poll() is None else worker.wait()

    @contextlib.asynccontextmanager
    async def outside(self) -> AsyncGenerator[Engine]:
        """A client's view from this process, which owns nothing."""
        definition = find(str(ROOT / self.target)).definition()
        if name := self.env.get("SCENARIO_NAMESPACE"):
            definition = replace(definition, namespace=name)
        async with Engine.opened(definition, self.url) as engine:
            yield engine


async def newest(log: Log) -> dict[str, InstanceRecord]:
    """The newest record that counts of every instance, read from the log alone."""
    found: dict[str, InstanceRecord] = {}
    for number in range(log.partitions):
        there = [record async for records in log.latest(number) for record in records]
        for record in counting(there):
            if record.value is not None and dict(record.headers).get("cp-kind") == b"instance":
                instance = decode(record.value)
                found[instance.instance] = instance
    return found


async def unfinished(log: Log, expected: set[str]) -> set[str]:
    """Instances that have not ended."""
    records = await newest(log)
    return {i for i in expected if i not in records or records[i].status not in ENDED}
