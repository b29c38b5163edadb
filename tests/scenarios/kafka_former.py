"""R-3 whole: both owners are stopped with commits on the way, a third takes everything over, then both go on as if they still owned it."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

from contrapas.core.fold import Fold
from contrapas.core.fold import Verdict as Judged
from contrapas.core.lane import Record
from contrapas.runtime.engine import Engine
from deploy.kafka.server import Server
from tests.scenarios.kafka_lanes import outcomes
from tests.scenarios.kafka_rig import PARTITIONS, Rig, Verdict
from tests.scenarios.proof import counting, lane_of
from tests.scenarios.supervisor import Worker

__all__ = ["formers"]

TRIES = 10
PATIENT = {"session.timeout.ms": "4000", "socket.timeout.ms": "60000"}
"""Who is stopped for long still takes the answer that waits for it."""
HELD_S = 3.0
"""How long a commit is waited for: less than the session."""
ROUNDS = 4
"""At most, until one of them was fenced."""


async def formers(folder: Path, server: Server, seconds: float, seed: int, *, broken: str = "") -> Verdict:
    """broken: the rule that the former owners have forgotten (`broken.py`); the verdict then must not be exact.

    `struck` counts the records of former owners behind a claim (`void of w1`) and what the product's own fold takes of
    them (`void in the fold`).
    """
    began = time.monotonic()
    with Rig(folder, server, seed=seed, options=PATIENT, env={"SCENARIO_COMMIT_S": "60"}) as rig:
        await rig.prepare()
        env = {"SCENARIO_BREAK": broken} if broken else {}
        async with rig.workers.outside() as engine:
            number = 0
            while (
                not number
                or time.monotonic() < began + seconds
                or not (broken or rig.saw("fenced") or number == ROUNDS)
            ):
                await _round(rig, engine, number, env)
                number += 1
            verdict = await rig.judge(engine, overlap=True, more=partial(outcomes, rig, engine))
            await _counted(rig, engine, verdict)
    verdict.struck["two former owners"] = number
    verdict.seconds = time.monotonic() - began
    return verdict


async def _round(rig: Rig, engine: Engine, number: int, env: dict[str, str]) -> None:
    """Two owners who have commits on the way when they are stopped, their successor, and their return."""
    await asyncio.to_thread(rig.leave)
    victims = [rig.workers.start(wait=False, env=env) for _ in range(2)]
    for victim in victims:
        await asyncio.to_thread(victim.ready)
    await rig.until(lambda: all(_owns(rig, v) for v in victims), 60, "one of two owns nothing")
    for attempt in range(TRIES):
        await rig.ask(engine, 24, f"t{number}-{attempt}-")
        if await _held_back(rig, victims):
            break
    else:
        raise TimeoutError(f"nobody commits: {rig.said()}")
    for victim in victims:
        victim.pause()
    try:
        third = rig.workers.start(wait=False)
        await asyncio.to_thread(third.ready)
        await rig.until(lambda: len(_owns(rig, third)) == PARTITIONS, 60, "nobody took everything over")
        await rig.ask(engine, 24, f"u{number}-")
    finally:
        rig.lines.heal()  # their commits reach the broker now, behind the claims
        await asyncio.sleep(0.2)
        for victim in victims:
            victim.go_on()
    seen = {v.process.pid: len(_lines(rig, v)) for v in victims}
    await rig.until(
        lambda: all(len(_lines(rig, v)) > seen[v.process.pid] for v in victims),
        60,
        "a former owner learns nothing",
    )
    await asyncio.sleep(1.0)


async def _held_back(rig: Rig, victims: list[Worker]) -> bool:
    """Hold up what they send until each has a commit among it."""
    names = [rig.workers.name(v) for v in victims]
    for name in names:
        rig.lines.hold("up", name)
    lane = f"{rig.namespace}.log".encode()
    until = time.monotonic() + HELD_S
    while time.monotonic() < until:
        if all(rig.lines.kept(lane, name) for name in names):
            return True
        await asyncio.sleep(0.01)
    rig.lines.heal()
    await asyncio.sleep(0.5)
    return False


def _owns(rig: Rig, worker: Worker) -> set[int]:
    """Partitions that a worker has claimed."""
    pid = worker.process.pid
    return {line.partition for line in rig.told() if line.what == "claimed" and line.pid == pid}


def _lines(rig: Rig, worker: Worker) -> list[str]:
    """What a worker has learnt about its commits."""
    pid = worker.process.pid
    return [
        line.what
        for line in rig.told()
        if line.pid == pid and line.what in ("committed", "fenced", "unclear", "nothing")
    ]


async def _counted(rig: Rig, engine: Engine, verdict: Verdict) -> None:
    """Whose records stand behind a claim, and whether the product's fold took one of them."""
    for number in range(engine.log.partitions):
        void: list[Record] = []
        there = await lane_of(engine.log, "log", number)
        counting(there, void=void)
        lost = {r.offset for r in void}
        writers = {
            line.epoch: line.pid for line in rig.told() if line.what == "claimed" and line.partition == number
        }
        for record in void:
            epoch = int(dict(record.headers)["cp-epoch"])
            verdict.struck[f"void of {writers.get(epoch, 0)}"] += 1
        fold = Fold()
        for record in there:
            if (
                fold.judge(record) in (Judged.APPLIED, Judged.REMOVED, Judged.CONTROL)
                and record.offset in lost
            ):
                verdict.struck["void in the fold"] += 1
