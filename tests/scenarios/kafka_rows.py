"""The rows of the table of real-process tests on Kafka: workers, brokers and networks fail while transfers keep coming.

python tests/scenarios/kafka_rows.py R-1                # the row's long form
python tests/scenarios/kafka_rows.py R-1 --seconds 20   # as long as this
python tests/scenarios/kafka_rows.py all
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deploy.kafka.server import Server
from tests.kafka import SETTINGS
from tests.kafka_lines import Ambush, How
from tests.scenarios.kafka_cleaner import compaction
from tests.scenarios.kafka_elections import election
from tests.scenarios.kafka_former import formers
from tests.scenarios.kafka_lanes import (
    duplicates,
    protocol_of,
    set_group,
    sieges,
    stranger,
)
from tests.scenarios.kafka_rig import Rig, Strike, Verdict, under_fire
from tests.scenarios.supervisor import Worker
from tests.scenarios.telling import tell

SHORT_S = 6.0
"""The short forms are not longer."""
AWAY_S = 3.0
"""Longer than the session of 2 s."""


# ---- strikes


async def kill_worker(rig: Rig, chance: random.Random, _: int) -> str:
    """R-1: one that works, not one that only starts."""
    seen = rig.saw("committed")
    await rig.until(lambda: rig.saw("committed") > seen, 60, "nobody commits")
    await asyncio.sleep(chance.uniform(0, 0.5))
    rig.kill_one(chance)
    return "worker killed"


async def kill_broker(rig: Rig, chance: random.Random, _: int) -> str:
    """R-4: whatever is in flight then is in flight for good."""
    node = chance.choice(rig.server.nodes).id
    tell(rig.tells, "broker killed", -1, 0)
    await asyncio.to_thread(rig.server.kill, node)
    await asyncio.sleep(chance.uniform(0, 1.0))
    await asyncio.to_thread(rig.server.start)
    tell(rig.tells, "broker back", -1, 0)
    return "broker killed"


async def storm(rig: Rig, chance: random.Random, _: int) -> str:
    """R-5: one comes, or one goes, in order or not."""
    alive = rig.workers.alive()
    what = chance.choice(("joins", "leaves", "dies") if 1 < len(alive) < 4 else ("joins",))
    if len(alive) >= 4:
        what = "leaves"
    if what == "joins":
        rig.workers.start(wait=False)
    elif what == "leaves":
        chance.choice(alive).process.terminate()
    else:
        chance.choice(alive).kill()
    return what


async def unknown_answer(rig: Rig, chance: random.Random, number: int) -> str:
    """R-6: a commit, a claim or a publish, of which the answer is lost or late, or that itself is lost."""
    lane, what = (
        (f"{rig.namespace}.log", "commit"),
        ("$claim/", "claim"),
        ("bank.events", "publish"),
    )[number % 3]
    hows: tuple[How, ...] = ("lost answer", "late answer", "lost request")
    how = hows[(number // 3 + number) % 3]
    seconds = chance.uniform(0.2, 2.0)
    one = rig.lines.ambush(Ambush(lane.encode(), how, seconds=seconds))
    if what == "claim":  # somebody must make one
        rig.kill_one(chance)
        rig.staff(2)
    end = time.monotonic() + (12 if what == "claim" else 4)  # a session ends, a worker starts
    while not one.struck and time.monotonic() < end:
        await asyncio.sleep(0.05)
    one.left = 0
    return f"{what}: {how}" if one.struck else f"{what}: nothing came by"


async def one_way(rig: Rig, chance: random.Random, number: int) -> str:
    """R-7: nothing goes one way, or either, between the cluster and one worker, or all; then it comes late or never."""
    alive = rig.workers.alive()
    who = rig.workers.name(chance.choice(alive)) if alive and number % 4 else ""
    ways = (("up",), ("down",), ("up", "down"))[number % 3]
    for way in ways:
        rig.lines.hold("up" if way == "up" else "down", who)
    await asyncio.sleep(chance.choice((0.5, 1.0, AWAY_S)))
    rig.lines.heal(reset=chance.random() < 0.5)
    return f"{'all' if not who else 'one'}: {'+'.join(ways)}"


async def slow(rig: Rig, chance: random.Random, number: int) -> str:
    """R-8."""
    kind = number % 3
    if kind == 0:
        rig.lines.slow((0.05, 0.5))
    elif kind == 1:
        rig.lines.slow(rate=64_000)
    else:
        rig.lines.slow((0.0, 0.02), slices=400)
    await asyncio.sleep(chance.uniform(1.0, 2.0))
    return ("50-500 ms", "64 kB/s", "slices")[kind]


async def fast(rig: Rig, _: random.Random, __: int) -> str:
    """The end of R-8."""
    rig.lines.slow()
    return "fast"


async def roll(rig: Rig, chance: random.Random, number: int) -> str:
    """R-20: each worker in turn is asked to leave, and another comes before it has gone."""
    alive = rig.workers.alive()
    oldest = alive[0]
    fresh = rig.workers.start(wait=False)
    await asyncio.to_thread(fresh.ready)
    oldest.process.terminate()
    code = await asyncio.to_thread(oldest.wait)
    rig.workers.workers.remove(oldest)
    return "left in order" if code == 0 else f"ended with {code}"


async def former_owner(rig: Rig, chance: random.Random, number: int) -> str:
    """R-3: a worker is stopped past its session with requests on the way, which arrive after its successor's claims."""
    alive = rig.workers.alive()
    victim = chance.choice(alive)
    name = rig.workers.name(victim)
    claims = _claims(rig, victim)
    if number % 2 == 0:
        rig.lines.hold("up", name)  # what it sends now stays on the way
        await asyncio.sleep(0.1)
    victim.pause()
    try:
        await rig.until(lambda: _claims(rig, victim) > claims, 60, "nobody took over")
    finally:
        rig.lines.heal(name)
    await asyncio.sleep(0.2)
    victim.go_on()
    await asyncio.sleep(1.0)
    return "held back" if number % 2 == 0 else "stopped"


def _claims(rig: Rig, but: Worker) -> int:
    return sum(line.what == "claimed" and line.pid != but.process.pid for line in rig.told())


# ---- rows

Row = Callable[[Path, Server, float, int], Coroutine[Any, Any, Verdict]]


async def _fire(
    folder: Path,
    server: Server,
    seconds: float,
    seed: int,
    *,
    strike: Strike,
    after: Strike | None = None,
    overlap: bool = False,
    rounds: int = 4,
    workers: int = 2,
    load: int = 16,
    pause: tuple[float, float] = (0.2, 0.8),
    options: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
) -> Verdict:
    with Rig(folder, server, seed=seed, options=options, env=env) as rig:
        return await under_fire(
            rig,
            strike,
            seconds=seconds,
            after=after,
            overlap=overlap,
            rounds=rounds,
            workers=workers,
            load=load,
            pause=pause,
        )


async def _storm(folder: Path, server: Server, seconds: float, seed: int, *, protocol: str) -> Verdict:
    """R-5: in the long form a step takes up to 5 s (there is less to do then), so that partitions go while their steps run."""

    async def same(rig: Rig, _: random.Random, __: int) -> str:
        """Whether they were in the group as they were told to."""
        found = await asyncio.to_thread(protocol_of, server, f"{rig.namespace}.workers")
        if found != protocol:
            raise AssertionError(f"the group's protocol is {found}, not {protocol}")
        return found

    long = seconds > SHORT_S
    env = {"SCENARIO_SLOW": "5" if long else "0.2"}
    with Rig(folder, server, seed=seed, options={"group.protocol": protocol}, env=env) as rig:
        if protocol == "consumer":  # the broker's to say; 45 s otherwise
            set_group(server, f"{rig.namespace}.workers", consumer_session_timeout_ms="2000")
        return await under_fire(
            rig,
            storm,
            seconds=seconds,
            workers=1,
            load=2 if long else 16,
            pause=(0.5, 1.5),
            after=same,
        )


ROWS: dict[str, Row] = {
    "R-1": partial(_fire, strike=kill_worker),
    "R-2": sieges,
    "R-3": partial(
        _fire,
        strike=former_owner,
        overlap=True,
        rounds=2,
        options={"socket.timeout.ms": "60000"},
        env={"SCENARIO_COMMIT_S": "60"},
    ),
    "R-3 both": formers,
    "R-4": partial(_fire, strike=kill_broker, rounds=2),
    "R-4 election": partial(_fire, strike=election, rounds=1, load=4, pause=(0.0, 0.1)),
    "R-5 classic": partial(_storm, protocol="classic"),
    "R-5 consumer": partial(_storm, protocol="consumer"),
    "R-6": partial(_fire, strike=unknown_answer, rounds=6, pause=(0.0, 0.1)),
    "R-7": partial(_fire, strike=one_way, overlap=True),
    "R-8": partial(_fire, strike=slow, after=fast, rounds=3),
    "R-14": duplicates,
    "R-15": compaction,
    "R-16": stranger,
    "R-20": partial(_fire, strike=roll, rounds=3),
}
LONG_S = {
    "R-1": 180.0,
    "R-2": 0.0,
    "R-3": 240.0,
    "R-4": 300.0,
    "R-6": 240.0,
    "R-7": 300.0,
    "R-8": 240.0,
    "R-20": 180.0,
}


def main() -> int:
    """The long forms."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("row", choices=[*ROWS, "all"])
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    args = parser.parse_args()
    bad = False
    for name in ROWS if args.row == "all" else [args.row]:
        nodes = 3 if name == "R-4 election" else args.nodes
        with tempfile.TemporaryDirectory() as folder, Server(nodes, settings=SETTINGS) as server:
            seconds = LONG_S.get(name, 240.0) if args.seconds is None else args.seconds
            verdict = asyncio.run(ROWS[name](Path(folder), server.start(), seconds, args.seed))
        print(f"{'exact' if verdict.exact else 'WRONG'} {name}, seed {args.seed}: {verdict}", flush=True)
        bad = bad or not verdict.exact
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
