"""The end of a worker: a stop is never forgotten, and nothing it has begun is left over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contrapas import App, Event, Saga, saga, step
from contrapas.core.envelope import Cause
from contrapas.core.world import Input, StepCall
from contrapas.log.memory import MemoryLog
from contrapas.runtime.batch import Batch
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from contrapas.runtime.clock import JumpClock
from contrapas.runtime.processor import spare
from contrapas.runtime.steps import StepRunner
from contrapas.runtime.worker import Worker
from tests.runtime.test_nothing_twice import BUYING, Ordered

ENDED: list[str] = []
RESTING = App("resting")


class Tired(Event, topic="resting.events", key="id"):
    id: str


@step(undo=None)
async def rests() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        ENDED.append("cancelled")
        raise


@saga
async def rested(s: Saga, e: Tired) -> None:
    await rests()


RESTING.orchestrate(rested)


def _worker(log: Any) -> Worker:
    definition = BUYING.definition()
    return Worker(log, definition, build(definition), owner="w", clock=JumpClock(), chance=lambda: 0.5)


async def test_a_stop_before_the_first_step_of_a_worker_is_not_forgotten() -> None:
    worker = _worker(MemoryLog("twice", 1))
    work = asyncio.ensure_future(worker.run())
    await worker.stop()
    await asyncio.wait_for(work, 5)


async def test_a_worker_stopped_while_it_looks_at_its_topics_joins_no_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryLog("twice", 1)
    asked, go_on = asyncio.Event(), asyncio.Event()
    topic = log.topic

    async def slow(lane: str) -> Any:
        asked.set()
        await go_on.wait()
        return await topic(lane)

    monkeypatch.setattr(log, "topic", slow)
    worker = _worker(log)
    work = asyncio.ensure_future(worker.run())
    await asked.wait()
    await worker.stop()
    go_on.set()
    await asyncio.wait_for(work, 5)
    assert not any(log.store.groups.values())


async def test_a_question_given_up_before_its_answers_are_read_leaves_no_task_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryLog("twice", 1)
    never = asyncio.Event()

    async def slow(lane: str, partition: int) -> Any:
        await never.wait()

    monkeypatch.setattr(log, "bounds", slow)
    client = Client(log, _worker(log).setting)
    asking = asyncio.ensure_future(client.start("buys", Ordered(id="a"), timeout_ms=1_000))
    before = {*asyncio.all_tasks()}
    for _ in range(5):
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await client.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_a_step_that_still_runs_when_its_worker_is_over_is_cancelled() -> None:
    world = build(RESTING.definition())
    told: list[Input] = []
    runner = StepRunner(world.types, lambda p, e, event: told.append(event), JumpClock())
    runner.start(0, 1, StepCall("rested/a", "k", "rests", 1, '{"args":[]}', 60_000, "rests", 1))
    assert runner.busy() == 1
    runner.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ENDED == ["cancelled"] and not told and not runner.busy()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_further_attempt_is_spared_when_its_step_was_answered_in_the_same_batch() -> None:
    """A thread whose time was over came to its end while the retry was being decided."""
    again = StepCall("rested/a", "k", "rests", 2, '{"args":[]}', 60_000, "rests", 1)
    other = StepCall("rested/a", "l", "rests", 2, '{"args":[]}', 60_000, "rests", 1)
    undo = StepCall("rested/a", "u", "rests", 2, '{"args":[]}', 60_000, "rests", 1, undoes="k")
    batch = Batch(0, position=0)
    batch.steps = [again, other, undo]
    for key in ("k", "u"):
        cause = Cause(kind="result", type="rests", source="local", id=key)
        batch.taken.append(Input(cause=cause, instance="rested/a", at=0, in_reply_to=key, outcome="ok"))
    spare(batch)
    assert batch.steps == [other, undo]
