"""Owners race on a real broker while the cleaner works: whoever saw every record and knows its writer judges what is left.

python -m tests.scenarios.kafka_races --seconds 3600   # the hour; one core is enough
python -m tests.scenarios.kafka_races --seconds 60 --break offsets   # must be WRONG: offsets are not compared

Workers are stopped past their session with requests on the way, killed, replaced; several at once are greedy for every
partition; claims and commits lose their answers. Segments last a second, records are cleaned once they are older than the
lag, and what has ended is buried soon. In the end what is left on the lane folds to what counted (by our fold and by a plain
consumer's one line), and everything that left (acknowledged commits, steps, messages) stands in a record that counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from contrapas.core.lane import Record
from contrapas.runtime.engine import Engine
from deploy.kafka.server import Server
from tests.kafka import SETTINGS
from tests.kafka_lines import Ambush, How
from tests.proxy import Way
from tests.scenarios import bank
from tests.scenarios.kafka_lanes import send, set_topic
from tests.scenarios.kafka_rig import PARTITIONS, Rig
from tests.scenarios.proof import lane_of
from tests.scenarios.races_witness import SHOWN, Effects, Witnesses, equal, missing
from tests.scenarios.telling import Line

TARGET: Final = "tests/scenarios/races_saga.py:app"
LAG_MS: Final = 15_000
"""Longer than any loser waits for its heal: a session, a restore, and that again."""
TAKEN_S: Final = 20.0
UNCLEAR_S: Final = 11.0
"""Longer than a commit waits for its answer."""
ENDED_S: Final = 120.0
CLEANED_S: Final = 10.0


@dataclass(slots=True)
class Verdict:
    """What an hour came to."""

    seconds: float = 0.0
    seen: int = 0
    left: int = 0
    asked: int = 0
    saw: Counter[str] = field(default_factory=Counter[str])
    """By the witness: `claims`, `equal`, `late` (records of former owners after the next claim), `heals`, …"""
    told: Counter[str] = field(default_factory=Counter[str])
    """By the leases: `fenced`, `unclear`, `committed`, …"""
    struck: Counter[str] = field(default_factory=Counter[str])
    unequal: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])
    faults: list[str] = field(default_factory=list[str])
    """Of the books, and of the test itself."""

    @property
    def exact(self) -> bool:
        """Nothing is wrong."""
        return not (self.unequal or self.missing or self.faults)

    def __str__(self) -> str:
        """One line, and one for each of the first things that are wrong."""
        head = (
            f"{'exact' if self.exact else 'WRONG'}: {self.seconds:.0f} s, {self.seen} records seen, {self.left} left, "
            f"{self.saw['claims']} claims ({self.saw['equal']} of equal epoch), {self.told['fenced']} Fenced, "
            f"{self.told['unclear']} unclear, {self.saw['late']} late records after claims, {self.saw['heals']} heals, "
            f"{self.asked} transfers, {self.told['committed']} commits, fold {'equal' if not self.unequal else 'UNEQUAL'}, "
            f"{len(self.missing)} missing; struck: {', '.join(f'{n} {what}' for what, n in self.struck.most_common())}"
        )
        wrong = [*self.unequal[:SHOWN], *self.missing[:SHOWN], *self.faults[:SHOWN]]
        return "\n".join([head, *(f"  {one}" for one in wrong)])


class Tells:
    """The workers' lines, each read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.effects = Effects()
        self.saw: Counter[str] = Counter()
        self._at = 0

    def read(self) -> None:
        """What was added since."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as lines:
            lines.seek(self._at)
            for raw in lines:
                if not raw.endswith(b"\n"):
                    break
                self._at += len(raw)
                self._take(Line.read(raw.decode()))

    def _take(self, line: Line) -> None:
        self.saw[line.what] += 1
        if line.what == "committed":
            self.effects.committed.append(line)
        elif line.what == "step":
            self.effects.steps.add(line.more[2])


# ---- what strikes


Strike = Callable[[], Awaitable[str]]


class Race:
    """A rig, a witness, and who strikes."""

    def __init__(self, rig: Rig, witnesses: Witnesses, *, workers: int) -> None:
        self.rig = rig
        self.witnesses = witnesses
        self.chance = rig.chance
        self.workers = workers
        self.tells = Tells(rig.tells)

    async def claimed(self, before: int) -> bool:
        """Somebody claims after that many."""
        with contextlib.suppress(TimeoutError):
            await self.rig.until(lambda: self.witnesses.count("claims") > before, TAKEN_S, "nobody claimed")
            return True
        return False

    async def stop(self) -> str:
        """One is stopped past its session, with requests on the way or not; they arrive after the next claim."""
        victim = self.chance.choice(self.rig.workers.alive())
        name = self.rig.workers.name(victim)
        held = self.chance.random() < 0.6
        before = self.witnesses.count("claims")
        if held:
            self.rig.lines.hold("up", name)
            await asyncio.sleep(self.chance.uniform(0.05, 0.3))
        victim.pause()
        try:
            taken = await self.claimed(before)
        finally:
            self.rig.lines.heal(name)
            await asyncio.sleep(self.chance.uniform(0.0, 0.5))
            victim.go_on()
        return ("held back" if held else "stopped") if taken else "stopped, nobody claimed"

    async def kill(self) -> str:
        """SIGKILL."""
        await asyncio.sleep(self.chance.uniform(0, 0.5))
        self.rig.kill_one(self.chance)
        return "killed"

    async def move(self) -> str:
        """One more comes, or one leaves in order."""
        alive = self.rig.workers.alive()
        if len(alive) > self.workers:
            self.chance.choice(alive).process.terminate()
            return "left"
        self.rig.workers.start(wait=False)
        return "came"

    async def greed(self) -> str:
        """Several take everything for their own."""
        alive = self.rig.workers.alive()
        for worker in self.chance.sample(alive, min(len(alive), self.chance.choice((2, 2, 3)))):
            worker.process.send_signal(signal.SIGUSR2)
        await asyncio.sleep(self.chance.uniform(0.5, 2.5))
        return "greedy"

    async def unclear(self) -> str:
        """A commit or a claim is lost on the way, or its answer is lost or late."""
        hows: tuple[How, ...] = ("lost answer", "late answer", "lost request")
        how = self.chance.choice(hows)
        marker = self.chance.choice((f"{self.rig.namespace}.log", "$claim/")).encode()
        one = self.rig.lines.ambush(Ambush(marker, how, seconds=self.chance.uniform(0.2, 2.0)))
        for worker in self.rig.workers.alive()[:2] if marker == b"$claim/" else ():
            worker.process.send_signal(signal.SIGUSR2)
        until = time.monotonic() + 3
        while not one.struck and time.monotonic() < until:
            await asyncio.sleep(0.05)
        one.left = 0
        return how if one.struck else "nothing came by"

    async def cut(self) -> str:
        """Nothing goes one way, or either, between the cluster and one worker: for longer than a commit waits, now and then."""
        name = self.rig.workers.name(self.chance.choice(self.rig.workers.alive()))
        ways: tuple[Way, ...] = self.chance.choice((("up",), ("down",), ("up", "down")))
        for way in ways:
            self.rig.lines.hold(way, name)
        await asyncio.sleep(self.chance.choice((1.0, 3.0, UNCLEAR_S)))
        self.rig.lines.heal(name, reset=self.chance.random() < 0.5)
        return f"cut off {'+'.join(ways)}"

    def strikes(self) -> list[Strike]:
        """Each as often as it stands here; at first in this order."""
        return [self.stop, self.greed, self.kill, self.greed, self.unclear, self.move, self.stop, self.cut]


# ---- a race


async def race(
    folder: Path,
    server: Server,
    seconds: float,
    seed: int,
    *,
    workers: int = 3,
    rounds: int = 8,
    load: int = 10,
    pause: tuple[float, float] = (0.3, 1.5),
    breaks: str = "",
    lag_ms: int = LAG_MS,
    after: Callable[[Witnesses, list[list[Record]], Effects], None] | None = None,
) -> Verdict:
    """Race for so long, and so many rounds at least, let everything end, and judge. after: is shown what was judged."""
    began = time.monotonic()
    verdict = Verdict()
    env = {"SCENARIO_BREAK": ",".join(filter(None, ("lag", breaks))), "SCENARIO_RACES": "1"}
    with Rig(folder, server, target=TARGET, seed=seed, env=env) as rig:
        await rig.prepare()
        lane = f"{rig.namespace}.log"
        with Witnesses(server.address, lane, PARTITIONS) as witnesses:
            async with rig.workers.outside() as engine:
                hurry(
                    server, lane, lag_ms
                )  # from now on an address of ours is refused but for workers whose rule is out
                await rig.begin(workers)
                its = Race(rig, witnesses, workers=workers)
                number, until = 0, began + seconds
                while number < rounds or time.monotonic() < until:
                    await fire(its, engine, verdict, number, load, pause)
                    number += 1
                left = await end(its, engine, verdict)
            its.tells.read()
            verdict.told = its.tells.saw
            verdict.unequal = equal(witnesses.of, left)
            verdict.missing = missing(witnesses.of, its.tells.effects)
            verdict.faults += witnesses.trouble
            if after is not None:
                after(witnesses, left, its.tells.effects)
            for w in witnesses.of:
                verdict.saw += w.saw
    verdict.seen, verdict.left = verdict.saw["records"], sum(map(len, left))
    verdict.seconds = time.monotonic() - began
    return verdict


def hurry(server: Server, lane: str, lag_ms: int) -> None:
    """The cleaner takes what is older than the lag; a segment lasts a second."""
    set_topic(
        server,
        lane,
        segment_ms="1000",
        min_compaction_lag_ms=str(lag_ms),
        max_compaction_lag_ms=str(lag_ms + 1_000),
        min_cleanable_dirty_ratio="0.01",
        delete_retention_ms="30000",
    )


async def fire(
    its: Race, engine: Engine, verdict: Verdict, number: int, load: int, pause: tuple[float, float]
) -> None:
    """Transfers, a while, and a strike."""
    await its.rig.ask(engine, load, f"t{number}-")
    await send(its.rig, engine, max(1, load // 4), f"u{number}-")
    await asyncio.sleep(its.chance.uniform(*pause))
    strikes = its.strikes()
    strike = strikes[number] if number < len(strikes) else its.chance.choice(strikes)
    verdict.struck[await strike()] += 1
    await asyncio.to_thread(its.rig.staff, its.workers)
    its.tells.read()


async def end(its: Race, engine: Engine, verdict: Verdict) -> list[list[Record]]:
    """Wait until every transfer has ended, let the workers leave, and read what is left of the lane."""
    rig, witnesses = its.rig, its.witnesses
    asked = {f"transfer/{t.transfer_id}": t.transfer_id for t in rig.asked}
    verdict.asked = len(asked)
    until = time.monotonic() + ENDED_S
    while (waiting := asked.keys() - (ended := witnesses.ended()).keys()) and time.monotonic() < until:
        await asyncio.sleep(0.2)
    verdict.faults += [f"{one} has not ended" for one in sorted(waiting)[:SHOWN]]
    await asyncio.sleep(2.5)  # an idle look and its heals, a second of quiet and the cursors
    await asyncio.to_thread(rig.leave)
    verdict.faults += rig.books.faults()[:SHOWN]
    if (total := rig.books.total()) != bank.ACCOUNTS * bank.CENTS:
        verdict.faults.append(f"the bank holds {total}, it began with {bank.ACCOUNTS * bank.CENTS}")
    said = {asked[one] for one in ended if one in asked and ended[one] == "TransferDone"}
    if said != (done := rig.books.done()):
        verdict.faults.append(f"records and books differ about {sorted(said ^ done)[:SHOWN]}")
    ends = [(await engine.log.bounds("log", n))[1] for n in range(PARTITIONS)]
    if not await asyncio.to_thread(witnesses.level, ends):
        verdict.faults.append(f"the witness did not come to {ends}")
    told: Counter[bytes] = Counter()
    for n in range(PARTITIONS):
        ids = {(r.key, dict(r.headers)["ce_id"]) for r in await lane_of(engine.log, "bank.events", n)}
        its.tells.effects.messages |= {one.decode() for _, one in ids}
        told.update(key for key, _ in ids)
    verdict.faults += [
        f"{t} has told {told[t.encode()]} outcomes" for t in asked.values() if told[t.encode()] != 1
    ][:SHOWN]
    return await cleaned(its, engine)


async def cleaned(its: Race, engine: Engine) -> list[list[Record]]:
    """What is left when everybody has gone and the cleaner may take what it likes."""
    before = await lanes(engine)
    hurry(its.rig.server, its.witnesses.topic, 0)
    until = time.monotonic() + CLEANED_S
    while (left := await lanes(engine)) == before and time.monotonic() < until:
        await asyncio.sleep(0.3)
    return left


async def lanes(engine: Engine) -> list[list[Record]]:
    """All that stands on the log lane."""
    return [await lane_of(engine.log, "log", n) for n in range(PARTITIONS)]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between strikes, at most")
    parser.add_argument(
        "--lag", type=float, default=LAG_MS / 1000, help="seconds before the cleaner may come"
    )
    parser.add_argument(
        "--break", dest="breaks", default="", help="a rule of broken.py, taken out of every worker"
    )
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as folder, Server(settings=SETTINGS) as server:
        verdict = asyncio.run(
            race(
                Path(folder), server.start(), args.seconds, args.seed,
                workers=args.workers, pause=(args.pause / 3, args.pause), breaks=args.breaks, lag_ms=int(args.lag * 1000),
            )
        )  # fmt: skip
    print(f"seed {args.seed}, {verdict}")
    return int(not verdict.exact)


if __name__ == "__main__":
    sys.exit(main())
