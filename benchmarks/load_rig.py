"""What `bench_load.py` stands on: a worker as people start it, its CPU and memory as the kernel counts them, and a feeder."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import load_sagas as sagas
from benchmarks.workload_rig import TICK, busy_s
from contrapas.author.event import Event
from contrapas.core.envelope_avro import decode, encode
from contrapas.core.headers import headers_of
from contrapas.core.lane import Draft
from contrapas.core.partition import partition
from contrapas.errors import Retriable
from contrapas.log.sqlite_read import SqliteReader
from contrapas.runtime.doors import event_draft, key_of, value_of
from contrapas.runtime.engine import Engine

TARGET = Path(__file__).with_name("load_sagas.py")
CHUNK = 2_000
Line = dict[str, Any]


class Look(NamedTuple):
    """A process at one moment."""

    at: float
    """Monotonic seconds."""
    cpu_s: float
    rss_mib: float
    fds: int
    threads: int
    switches: int
    """Times it gave the processor up by itself: wake-ups."""


def look(pid: int) -> Look:
    """As the kernel counts it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    tasks = [Path(f"/proc/{pid}/task/{t}/status").read_text() for t in os.listdir(f"/proc/{pid}/task")]
    switches = sum(int(t.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for t in tasks)
    return Look(
        time.monotonic(),
        sum(map(int, fields[11:13])) / TICK,
        int(status["VmRSS"].split()[0]) / 1024,
        len(os.listdir(f"/proc/{pid}/fd")),
        int(status["Threads"]),
        switches,
    )


class Worker:
    """One `contrapas worker`."""

    def __init__(self, folder: Path, url: str) -> None:
        self.said = open(folder / f"worker-{time.monotonic_ns()}.txt", "w+b")  # noqa: SIM115
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "contrapas", "worker", f"{TARGET}:app", "--log", url],
            stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said, cwd=folder,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def ready(self, timeout: float = 600) -> float:
        """Seconds until it said that it owns its partitions."""
        while "\nready" not in self.words():
            if self.process.poll() is not None or time.monotonic() - self.began > timeout:
                raise RuntimeError(f"a worker did not become ready: {self.words()[-1000:]}")
            time.sleep(0.05)
        return time.monotonic() - self.began

    def words(self) -> str:
        """What it printed."""
        return "\n" + Path(self.said.name).read_text(errors="replace")

    def look(self) -> Look:
        """Now."""
        return look(self.pid)

    def end(self, how: int = signal.SIGTERM) -> None:
        """Ask it to end, or kill it."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.said.close()


class Rig:
    """A folder, a log in it, workers on it. What everything else on the machine used meanwhile is told by `noise`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="contrapas-load-", dir=os.environ.get("BENCH_DIR")))
        self.path = str(self.folder / "load.db")
        self.url = f"sqlite:///{self.path}"
        self.workers: list[Worker] = []
        self._busy, self._own, self._began = busy_s(), os.times(), time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, why: BaseException | None, tb: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, count: int = 1) -> Worker:
        """Workers; gives the last one, ready."""
        fresh = [Worker(self.folder, self.url) for _ in range(count)]
        self.workers += fresh
        for worker in fresh:
            worker.ready()
        return fresh[-1]

    def noise(self) -> float:
        """Share of all processors that others used since the rig was made; call it when the workers have ended."""
        now, wall = os.times(), time.monotonic() - self._began
        own = sum(now[:4]) - sum(self._own[:4])
        return round(max(0.0, busy_s() - self._busy - own) / (wall * (os.cpu_count() or 1)), 3)

    @asynccontextmanager
    async def outside(self) -> AsyncGenerator[Feeder]:
        """Doors in this process, which owns nothing."""
        async with Engine.opened(sagas.app.definition(), self.url) as engine:
            reader = SqliteReader(self.path)
            try:
                yield Feeder(engine, reader)
            finally:
                reader.close()


class Feeder:
    """Puts many messages onto the inbound lane, and looks how far they are."""

    def __init__(self, engine: Engine, reader: SqliteReader) -> None:
        self.engine = engine
        self.reader = reader

    async def start(self, saga: str, events: Iterable[Event]) -> int:
        """Start an instance for each event, in large batches."""
        return await self.engine.client.start_many(saga, events)

    async def tell(self, saga: str, events: Sequence[Event], ids: Callable[[Any], str]) -> int:
        """Hand each event to the instance of its key."""
        setting = self.engine.client.setting
        drafts: list[Draft] = []
        for event in events:
            message = setting.world.types.message_of(event.__class__)
            key = key_of(message, event)
            drafts.append(
                event_draft(
                    setting, message, value_of(message, event),
                    kind="signal", key=key, to=f"{saga}/{key}", event_id=ids(event), at=0,
                )
            )  # fmt: skip
        while True:
            try:
                await self.engine.log.publish(drafts)
                return len(drafts)
            except Retriable:
                await asyncio.sleep(0.02)

    async def copies(self, model: str, of: Iterable[tuple[str, int]]) -> float:
        """Records like that of an instance that sleeps, under other keys and until other times: (instance, ms). The model
        goes. Gives seconds."""
        began = time.monotonic()
        log, count = self.engine.log, self.engine.log.partitions
        home = partition(model.partition("/")[2].encode(), count)
        like = self.reader.newest(home, model.encode())
        assert like is not None and like.value is not None
        record = decode(like.value)
        held = {p: await log.acquire(p, "bench") for p in range(count)}
        gone = (("cp-kind", b"instance"), ("cp-version", b"%d" % (record.version + 1)))
        await held[home].commit(
            [Draft("", home, like.key, None, (*gone, ("cp-epoch", b"%d" % held[home].epoch)))],
            [],
            held[home].control,
        )
        drafts: dict[int, list[Draft]] = {p: [] for p in range(count)}
        for instance, at in of:
            key = instance.partition("/")[2]
            p = partition(key.encode(), count)
            record.instance, record.key, record.epoch, record.head = instance, key, held[p].epoch, b""
            pending = record.root.pending
            assert pending is not None
            pending.deadline, pending.key = at, f"{instance}/{record.run}/sleep/1"
            value = encode(record)
            drafts[p].append(Draft("", p, instance.encode(), value, headers_of(record, value)))
            if len(drafts[p]) >= CHUNK:
                await held[p].commit(drafts[p], [], held[p].control)
                drafts[p] = []
        for p, lease in held.items():
            await lease.commit(drafts[p], [], lease.control)
            await lease.release()
        return time.monotonic() - began

    def asked(self) -> int:
        """Inputs on the lanes."""
        return sum(part.in_end for part in self.reader.parts())

    def decided(self) -> int:
        """Inputs behind the cursors, as the log says."""
        return sum(part.control.cursor.get(("in", part.partition), 0) for part in self.reader.parts())

    def written(self) -> int:
        """Records on the log lanes."""
        return sum(part.log_end for part in self.reader.parts())

    async def drained(
        self, timeout: float, every: Callable[[], None] = lambda: None, pause: float = 0.1
    ) -> None:
        """Wait until every input is behind a cursor."""
        until = time.monotonic() + timeout
        while self.decided() < self.asked():
            if time.monotonic() > until:
                raise TimeoutError(f"{self.decided()} of {self.asked()} inputs were decided in {timeout:g} s")
            every()
            await asyncio.sleep(pause)


def share(values: Sequence[float], at: float) -> float:
    """A quantile; not a number where there is nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(at * len(ordered)))] if ordered else float("nan")


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def target(what: str, got: float, at: float, *, least: bool = False) -> Line:
    """A target and whether it was met."""
    met = got >= at if least else got <= at
    return {"what": what, "target": at, "at_least": least, "got": round(got, 4), "met": bool(met)}
