"""The client's own failures: a question whose owner died is asked again, and a reader that ended does not hold doors up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contrapas.core.lane import Draft
from contrapas.errors import LogError, Unreachable
from contrapas.runtime import client as module
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from tests.runtime.rig import Rig, rig_of
from tests.runtime.test_nothing_twice import BUYING, Ordered


def _outside(rig: Rig) -> Client:
    """A client in a process without a worker."""
    c = Client(rig.log.peer(), rig.workers[-1].setting)
    rig.clients.append(c)
    return c


async def test_a_question_without_an_answer_is_asked_again_while_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ASK_AGAIN_MS", 50)
    definition = BUYING.definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        await rig.worker()
        client = _outside(rig)
        asked: list[int] = []
        real = client.state

        async def state(instance: str, *, timeout_ms: int = 0) -> Any:
            asked.append(timeout_ms)
            if len(asked) == 1:
                raise Unreachable("CP507", "the owner died with the question")
            return await real(instance, timeout_ms=5_000)

        monkeypatch.setattr(client, "state", state)
        await client.start("buys", Ordered(id="a"))
        waiting = asyncio.ensure_future(client.wait("buys/a", timeout_ms=20_000))
        while not waiting.done():
            if len(asked) == 2 and not rig.records("twice.events")[1:]:
                await rig.log.publish([_paid()])
            await rig.turn(1)
        assert (await waiting).status == "done" and len(asked) >= 2


async def test_a_door_is_told_why_answers_cannot_be_read() -> None:
    definition = BUYING.definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        await rig.worker()
        client = _outside(rig)
        log: Any = client.log

        async def broken(lane: str, partition: int) -> Any:
            raise LogError("CP505", "the lane is away")

        real, log.bounds = log.bounds, broken
        for _ in range(2):
            with pytest.raises(LogError, match="away"):
                await asyncio.wait_for(client.state("buys/a", timeout_ms=1_000), 2)
        log.bounds = real


async def test_junk_that_calls_itself_an_answer_is_none() -> None:
    definition = BUYING.definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        await rig.worker()
        client = _outside(rig)
        asking = asyncio.ensure_future(client.start("buys", Ordered(id="a"), event_id="e1", timeout_ms=9_000))
        headers = (("cp-kind", b"answer"), ("cp-in-reply-to", b"e1"))
        for _ in range(20):
            await asyncio.sleep(0)
            await rig.log.publish([Draft("in", 0, b"x", b'["junk"]', headers)])
        while not asking.done():
            await rig.turn(1)
        assert (await asking).verdict == "applied"


def _paid() -> Draft:
    headers = (("ce_id", b"p1"), ("ce_source", b"/x"), ("ce_specversion", b"1.0"), ("ce_type", b"Paid"))
    return Draft("twice.events", -1, b"a", b'{"id":"a"}', headers)
