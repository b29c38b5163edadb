"""Workers on a real Kafka behind a network that can be struck; in the end books, lane and what the leases saw must agree.

The bank of `bank.py` under any fault: `Rig` has the broker, the lines before it, and workers that each have a name of
their own there. `Verdict` says what was wrong.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from contrapas.core.envelope import ENDED
from contrapas.core.fold import Fold
from contrapas.core.lane import Record
from contrapas.errors import Indeterminate, Retriable, Unreachable
from contrapas.log import Log
from contrapas.runtime.build import build
from contrapas.runtime.engine import Engine
from contrapas.runtime.find import find
from contrapas.runtime.open import connector_of
from deploy.kafka.server import Server
from sagas.bank.ledger import Books
from sagas.bank.saga import TransferAsked
from tests.kafka_lines import Lines
from tests.scenarios import bank
from tests.scenarios.proof import counting, doubled, history, lane_of, proof_of
from tests.scenarios.supervisor import ROOT, Supervisor, Worker, newest
from tests.scenarios.telling import Line, census, runs, told, uncounted

OPTIONS: Final = {
    "contrapas.dev": "true",
    "session.timeout.ms": "2000",
    "heartbeat.interval.ms": "300",
    "compression.type": "none",  # so that the lines can see what passes
}
"""Of the workers' address, beside their names."""
PARTITIONS: Final = 4
LEAVE_S: Final = 60.0
BEHIND: Final = 600
"""Steps, two for each transfer at least, that may be waited for while more is asked."""
SENT_S: Final = 60.0
"""How long messages may take to leave once everything has ended."""


class Workers(Supervisor):
    """Worker processes whose connections the lines can tell apart."""

    def __init__(self, target: str, folder: Path, env: Mapping[str, str], where: str) -> None:
        super().__init__(target, folder, env)
        self.where = where
        self.options = dict(OPTIONS)
        self.started = 0

    def address(self) -> str:
        """The next worker's: `client.id=w1` and so on."""
        self.started += 1
        return f"kafka://{self.where}?{urlencode({**self.options, 'client.id': f'w{self.started}'})}"

    def name(self, worker: Worker) -> str:
        """What a worker is called on the lines."""
        return dict(parse_qsl(urlsplit(worker.url).query))["client.id"]

    def alive(self) -> list[Worker]:
        """Those that run; the others are buried."""
        for worker in [w for w in self.workers if w.process.poll() is not None]:
            self.workers.remove(worker)
            worker.wait()
        return list(self.workers)


@dataclass(slots=True)
class Verdict:
    """What books, lane and leases say in the end."""

    started: int = 0
    done: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list[str])
    saw: Counter[str] = field(default_factory=Counter[str])
    """What the leases saw: `claimed`, `fenced`, `unclear`, `losers`, …"""
    void: int = 0
    """Records on the lane that a higher epoch stands before."""
    struck: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    still: float = 0.0
    """The longest time without a commit under fire, in seconds; a figure, for on a busy machine it says little."""

    @property
    def exact(self) -> bool:
        """Nothing lost, nothing twice, nothing half."""
        return not self.faults and self.done + self.refused == self.started


Strike = Callable[["Rig", random.Random, int], Awaitable[str]]
"""What happens in a round; says what it was."""


class Rig:
    """One namespace on a broker, workers behind the lines. Use as a context manager."""

    def __init__(
        self,
        folder: Path,
        server: Server,
        *,
        target: str = bank.TARGET,
        seed: int = 1,
        options: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.server = server
        self.folder = folder
        self.target = target
        self.namespace = f"r{secrets.token_hex(4)}"
        self.tells = folder / "tells.jsonl"
        self.lines = Lines(server, seed=seed)
        self.chance = random.Random(seed)
        self.books = Books(folder / "bank.db")
        self.workers = Workers(
            target,
            folder,
            {
                "SCENARIO_NAMESPACE": self.namespace,
                "SCENARIO_TELLS": str(self.tells),
                "BANK_DB": str(folder / "bank.db"),
                **(env or {}),
            },
            self.lines.address,
        )
        self.workers.options |= options or {}
        direct = {n: v for n, v in self.workers.options.items() if n != "group.protocol"}
        self.workers.url = f"kafka://{server.address}?{urlencode({**direct, 'client.id': 'outside'})}"
        self.asked: list[TransferAsked] = []
        self.outside: Engine | None = None
        """Of `under_fire`, for strikes that ask for transfers themselves."""

    async def prepare(self) -> None:
        """Lanes and the app's topics; accounts with money."""
        os.environ.setdefault("BANK_DB", str(self.folder / "bank.db"))
        definition = find(str(ROOT / self.target)).definition()
        names = {m.topic for m in build(definition).types.messages.values() if m.topic}
        connector = connector_of(self.workers.url)
        wanted = dict.fromkeys(sorted(names), PARTITIONS)
        made = await connector.plan(self.workers.url, self.namespace, PARTITIONS, wanted)
        await connector.apply(made)
        self.books.open(bank.ACCOUNTS, bank.CENTS)

    def __enter__(self) -> Self:
        self.lines.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for worker in self.workers.workers:  # one that was stopped would not end
                worker.go_on()
            self.workers.close()
        finally:
            self.lines.__exit__(kind, value, trace)

    # ---- what strikes do

    def kill_one(self, chance: random.Random) -> None:
        """SIGKILL to any worker that runs."""
        if alive := self.workers.alive():
            chance.choice(alive).kill()
            self.workers.alive()

    def staff(self, count: int) -> None:
        """So many workers run."""
        while len(self.workers.alive()) < count:
            self.workers.start(wait=False)

    async def begin(self, count: int) -> None:
        """The first workers, ready. RuntimeError when one ends instead, with what it said."""
        self.staff(count)
        for worker in list(self.workers.workers):
            if not await asyncio.to_thread(worker.ready):
                raise RuntimeError(f"a worker does not start: {self.said()}")

    def told(self) -> list[Line]:
        """What the leases saw."""
        return told(self.tells)

    def saw(self, what: str) -> int:
        """How often the leases saw this."""
        return sum(line.what == what for line in self.told())

    async def until(self, what: Callable[[], bool], seconds: float, why: str) -> None:
        """Wait for something. TimeoutError."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise TimeoutError(f"{why} within {seconds} s; workers said: {self.said()}")
            await asyncio.sleep(0.05)

    def said(self) -> str:
        """The end of what the workers wrote."""
        path = self.folder / "workers.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    async def ask(self, engine: Engine, count: int, prefix: str) -> None:
        """New transfers, asked for until they are acknowledged; none while too many wait: a slow machine is no fault."""
        if 2 * len(self.asked) - self.saw("step") > BEHIND:
            return
        fresh = bank.transfers(self.chance, count, prefix)
        while True:
            try:
                await engine.client.start_many("transfer", fresh)
                break
            except (Retriable, Indeterminate, Unreachable):
                await asyncio.sleep(0.1)
        self.asked += fresh

    # ---- the end

    async def judge(
        self,
        engine: Engine,
        *,
        whole: bool = True,
        overlap: bool = False,
        dead: int = 0,
        more: Callable[[], Awaitable[list[str]]] | None = None,
    ) -> Verdict:
        """Wait until every acknowledged start has ended, let the workers leave, then hold everything together.

        whole: nothing was compacted. overlap: a process that was stopped may have begun a step whose result its
        successor had recorded. dead: how many dead letters there must be. more: what else must be so before they leave.
        """
        blamed: set[str] = set()
        pardons = asyncio.create_task(self._pardon(engine, blamed))
        try:
            found = await bank.judge(engine, self.books, self.asked)
        finally:
            pardons.cancel()
        v = Verdict(found.started, found.done, found.refused, list(found.faults))
        if v.done + v.refused < v.started:
            v.faults += await self._standing(engine.log)
        if more is not None:
            until = time.monotonic() + SENT_S
            while (left := await more()) and time.monotonic() < until:
                await asyncio.sleep(0.2)
            v.faults += left
        await asyncio.to_thread(self.leave)
        lines = self.told()
        v.saw = census(lines) + Counter({"blamed": len(blamed)})
        v.faults += uncounted(lines)[:5]
        v.faults += await self._lane(engine.log, lines, v, whole=whole)
        v.faults += (await self._steps(engine.log, lines, whole=whole, overlap=overlap))[:5]
        v.faults += await self._inputs(engine.log, dead)
        return v

    async def _pardon(self, engine: Engine, blamed: set[str]) -> None:
        """As an operator would: four owners in a row that are killed from outside with one step in hand look as if it
        had killed them, and its instance stands still (CP844) until somebody lets it go on."""
        while True:
            for r in (await newest(engine.log)).values():
                if r.parked is not None and r.parked.code == "CP844" and r.instance not in blamed:
                    blamed.add(r.instance)
                    await engine.client.operate(r.instance, "retry", reason="killed from outside")
            await asyncio.sleep(1.0)

    async def _standing(self, log: Log) -> list[str]:
        """Where those that have not ended stand, for whoever looks for the reason."""
        for worker in self.workers.alive():
            worker.process.send_signal(signal.SIGUSR1)
        found = await newest(log)
        left = [found[i] for t in self.asked if (i := f"transfer/{t.transfer_id}") in found]
        return [
            f"{r.instance} version {r.version} in {r.state}, written by {r.writer} after {r.cause}: {[*r.operations()]}"
            for r in left
            if r.status not in ENDED
        ][:3]

    def leave(self) -> None:
        """Ask all workers to leave, and wait until they have."""
        for worker in self.workers.alive():
            worker.process.terminate()
        for worker in self.workers.workers:
            worker.wait(LEAVE_S)
        self.workers.workers.clear()

    async def _lane(self, log: Log, lines: list[Line], v: Verdict, *, whole: bool) -> list[str]:
        """Versions without a break, and whatever a lease said is committed counts and stands where it said."""
        bad = doubled(await history(log))[:5] if whole else []
        for number in range(log.partitions):
            void: list[Record] = []
            there = await lane_of(log, "log", number)
            counted = {r.offset for r in counting(there, void=void)}
            v.void += len(void)
            lost = {r.offset for r in void}
            for line in lines:
                if line.what == "committed" and line.partition == number:
                    first, last, _ = line.more
                    if {first, last} & lost:
                        bad.append(f"partition {number}: {first}..{last} was acknowledged and is void")
                    elif whole and last not in counted:
                        bad.append(f"partition {number}: {first}..{last} was acknowledged and is not there")
            judge = Fold(floor=0 if whole else 1 << 47)
            for record in there:
                judge.judge(record)
            if judge.owed:
                bad.append(f"partition {number}: losers of {sorted(judge.owed)[:5]} were never healed")
            if judge.error is not None:
                bad.append(f"partition {number}: {judge.error}")
        return bad[:10]

    async def _steps(self, log: Log, lines: list[Line], *, whole: bool, overlap: bool) -> list[str]:
        """Every step that ran was issued by a record that counts."""
        found = (await proof_of(log)).faults(runs(lines), whole=whole)
        return [f for f in found if not (overlap and "after its result was recorded" in f)]

    async def cursors(self, log: Log) -> list[str]:
        """Where the owners' cursors do not stand at the ends of `in`."""
        bad: list[str] = []
        for number in range(log.partitions):
            judge = Fold(floor=1 << 47)
            for record in await lane_of(log, "log", number):
                judge.judge(record)
            _, end = await log.bounds("in", number)
            at = judge.control.cursor.get(("in", number), 0) if judge.control is not None else 0
            if at != end:
                bad.append(f"partition {number}: in ends at {end}, the cursor stands at {at}")
        return bad

    async def _inputs(self, log: Log, dead: int) -> list[str]:
        """The cursors stand at the ends, and nothing was buried that should not be."""
        bad = await self.cursors(log)
        name = f"{self.namespace}.dlq"
        topic = await log.topic(name)
        count = 0
        for number in range(topic.partitions if topic is not None else 0):
            count += len(await lane_of(log, name, number))
        if count != dead:
            bad.append(f"{count} dead letters, not {dead}")
        return bad


async def under_fire(
    rig: Rig,
    strike: Strike,
    *,
    seconds: float,
    rounds: int = 4,
    workers: int = 2,
    load: int = 16,
    pause: tuple[float, float] = (0.2, 0.8),
    after: Strike | None = None,
    overlap: bool = False,
    whole: bool = True,
) -> Verdict:
    """Transfers for so long, and so many rounds at least, one strike after the other; then quiet, then the audit.

    after: what brings the world back in order before the quiet.
    """
    began = time.monotonic()
    struck: Counter[str] = Counter()
    await rig.prepare()
    await rig.begin(workers)
    fire = time.monotonic()
    async with rig.workers.outside() as engine:
        rig.outside = engine
        number = 0
        while number < rounds or time.monotonic() < fire + seconds:
            await rig.ask(engine, load, f"t{number}-")
            await asyncio.sleep(rig.chance.uniform(*pause))
            struck[await strike(rig, rig.chance, number)] += 1
            await asyncio.to_thread(rig.staff, workers)
            number += 1
        if after is not None:
            await after(rig, rig.chance, number)
        await asyncio.to_thread(rig.staff, max(1, workers))
        verdict = await rig.judge(engine, overlap=overlap, whole=whole)
    verdict.struck, verdict.seconds = struck, time.monotonic() - began
    at = [line.at for line in rig.told() if line.what == "committed"]
    verdict.still = round(max((b - a for a, b in pairwise(at)), default=0.0), 1)
    return verdict
