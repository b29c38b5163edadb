"""R-15: the cleaner at work on tiny segments while instances live, workers die, and messages cannot leave for a while."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Final

from contrapas.runtime.engine import Engine
from deploy.kafka.server import Server
from tests.kafka_lines import Ambush
from tests.scenarios.kafka_lanes import outcomes, set_topic
from tests.scenarios.kafka_rig import PARTITIONS, Rig, Verdict
from tests.scenarios.proof import lane_of
from tests.scenarios.referee import Referee, states

__all__ = ["compaction"]

EAGER: Final = {
    "segment_ms": "1000",
    "segment_bytes": "1048576",
    "min_compaction_lag_ms": "2000",
    "max_compaction_lag_ms": "3000",
    "min_cleanable_dirty_ratio": "0.01",
    "delete_retention_ms": "60000",
}
OUTCOMES: Final = "bank.events"
CLEANED_S: Final = 90.0


async def compaction(folder: Path, server: Server, seconds: float, seed: int) -> Verdict:
    """Records go while the outcomes of the first half stay unsent: their topic does not answer.
    In the end one who saw every record folds to the same states, and every outcome has left under one id.

    `struck`: records `seen` and `left`, and how many messages had left while they could not (`early`)."""
    began = time.monotonic()
    with Rig(folder, server, seed=seed, env={"SCENARIO_BREAK": "lag"}) as rig:
        await rig.prepare()
        lane = f"{rig.namespace}.log"
        await rig.begin(2)
        async with rig.workers.outside() as engine:
            set_topic(server, lane, **EAGER)
            silent = rig.lines.ambush(Ambush(OUTCOMES.encode(), "lost request", left=1 << 30))
            with Referee(server.address, lane, PARTITIONS) as referee:
                await _load(rig, engine, "s", 2, began + seconds / 2)
                await _cleaned(engine, referee)
                early = sum([(await engine.log.bounds(OUTCOMES, n))[1] for n in range(PARTITIONS)])
                silent.left = 0
                await _load(rig, engine, "t", 2, began + seconds)
                verdict = await rig.judge(engine, whole=False, more=partial(outcomes, rig, engine))
                verdict.struck["early"] = early
                verdict.faults += await _compared(engine, referee, verdict)
    verdict.seconds = time.monotonic() - began
    return verdict


async def _load(rig: Rig, engine: Engine, prefix: str, rounds: int, until: float) -> None:
    """Transfers, and a worker that dies in every second round."""
    number = 0
    while number < rounds or time.monotonic() < until:
        await rig.ask(engine, 24, f"{prefix}{number}-")
        await asyncio.sleep(rig.chance.uniform(1.0, 2.0))
        if number % 2:
            rig.kill_one(rig.chance)
            rig.staff(2)
        number += 1


async def _cleaned(engine: Engine, referee: Referee) -> None:
    """Wait until the cleaner has taken something. TimeoutError."""
    until = time.monotonic() + CLEANED_S
    while time.monotonic() < until:
        left = sum([len(await lane_of(engine.log, "log", n)) for n in range(PARTITIONS)])
        if left < sum(map(len, referee.seen)):
            return
        await asyncio.sleep(0.5)
    raise TimeoutError("the cleaner takes nothing")


async def _compared(engine: Engine, referee: Referee, verdict: Verdict) -> list[str]:
    """What is left, held against what was ever there."""
    ends = [(await engine.log.bounds("log", n))[1] for n in range(PARTITIONS)]
    if not await asyncio.to_thread(referee.level, ends):
        return [f"the referee did not see all: {ends}"]
    faults: list[str] = []
    for n in range(PARTITIONS):
        left = await lane_of(engine.log, "log", n)
        verdict.struck["seen"] += len(referee.seen[n])
        verdict.struck["left"] += len(left)
        if states(left) != states(referee.seen[n]):
            faults.append(f"partition {n}: what is left folds to something else")
    return faults
