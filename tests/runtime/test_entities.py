"""Entities: one call after the other per key, state that survives, calls that are answered once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.app import App
from contrapas.author.entity import call_of
from contrapas.core.envelope_avro import decode
from contrapas.errors import CompileError, Refused
from contrapas.runtime.build import build
from contrapas.runtime.client import Client, Told
from tests.runtime import entities, linked
from tests.runtime.entities import BROKEN, GATES, RAN, Bought, Brief, Cart, Poked
from tests.runtime.rig import Rig, kill_at, rig_of

DEFINITION = entities.app.definition()
WORLD = build(DEFINITION)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    RAN.clear()
    GATES.clear()
    BROKEN.clear()
    yield
    failpoints.disarm()


@asynccontextmanager
async def stage(*, partitions: int = 3, fence: str = "refuse") -> AsyncGenerator[tuple[Rig, Client]]:
    async with rig_of(DEFINITION, WORLD, partitions=partitions, fence=fence) as rig:
        await rig.worker()
        yield rig, rig.client()


def newest(rig: Rig, instance: str) -> Any:
    return decode([r for r in rig.records() if r.key == instance.encode()][-1].value)


def fields(rig: Rig, instance: str) -> Any:
    return json.loads(newest(rig, instance).root.frames[0].slots["self"])


async def asked(
    rig: Rig, client: Client, cls: Any, name: str, *args: Any, key: str = "a", **more: Any
) -> Told:
    op = call_of(cls, name, key, args, {})
    task = asyncio.ensure_future(client.ask(op.value, timeout_ms=5_000_000, **more))
    await rig.until(task.done)
    return task.result()


def value(told: Told) -> Any:
    assert told.outcome.endswith(".Returned"), told
    return json.loads(told.outcome_body)["value"]


async def test_fields_live_from_call_to_call_and_a_query_looks_at_them() -> None:
    async with stage() as (rig, client):
        assert value(await asked(rig, client, Cart, "add", "mug", 5)) == 1
        assert value(await asked(rig, client, Cart, "add", "cup")) == 2
        assert value(await asked(rig, client, Cart, "total")) == 6
        assert value(await asked(rig, client, Cart, "whole"))[0] == {"what": "mug", "cents": 5}
        assert value(await asked(rig, client, Cart, "close")) is None
        assert fields(rig, "Cart/a")["log"] == {"a": 2} and fields(rig, "Cart/a")["open"] is False
        assert value(await asked(rig, client, Cart, "total", key="b")) == 0
        assert newest(rig, "Cart/a").state == "idle" and rig.status("Cart/a") == "waiting"


async def test_calls_of_one_key_run_one_after_the_other_in_order() -> None:
    GATES["first"] = asyncio.Event()
    async with stage() as (rig, client):
        tasks = [
            asyncio.ensure_future(
                client.ask(call_of(Cart, "add", "a", (what,), {}).value, timeout_ms=5_000_000)
            )
            for what in ("first", "second", "third")
        ]
        await rig.until(lambda: rig.status("Cart/a") == "running" and len(newest(rig, "Cart/a").kept) == 2)
        assert RAN == ["first"]
        GATES["first"].set()
        await rig.until(lambda: all(t.done() for t in tasks))
        assert [value(t.result()) for t in tasks] == [1, 2, 3] and RAN == ["first", "second", "third"]


async def test_the_queue_has_an_end() -> None:
    GATES["first"] = asyncio.Event()
    async with stage(partitions=1) as (rig, client):
        for number in range(1003):
            command = call_of(
                Brief if number < 0 else Cart, "add", "a", ("first" if not number else "x",), {}
            ).value
            await client.ask(command, wait=False)
        last = asyncio.ensure_future(
            client.ask(call_of(Cart, "close", "a", (), {}).value, timeout_ms=5_000_000)
        )
        await rig.until(last.done)
        assert (last.result().verdict, last.result().reason) == ("declined", "busy")


async def test_a_repeated_call_gets_the_first_answer_and_runs_once() -> None:
    async with stage() as (rig, client):
        for _ in range(3):
            assert value(await asked(rig, client, Cart, "add", "mug", event_id="same")) == 1
        assert RAN == ["mug"] and len(fields(rig, "Cart/a")["lines"]) == 1


async def test_a_handler_that_fails_takes_back_its_steps_and_leaves_the_fields_as_they_were() -> None:
    async with stage() as (rig, client):
        told = await asked(rig, client, Cart, "checked", "mug")
        assert told.outcome == "Cart.Failed" and json.loads(told.outcome_body)["reason"] == "no such thing"
        assert RAN == ["mug of a", "bad mug", "back mug of a"]
        assert fields(rig, "Cart/a")["lines"] == []
        RAN.clear()
        assert value(await asked(rig, client, Cart, "checked", "mild")) == "no such thing"
        assert RAN == ["mild of a", "bad mild"] and len(fields(rig, "Cart/a")["lines"]) == 1
        assert newest(rig, "Cart/a").root.undo == []


async def test_a_bug_parks_the_entity_with_the_call_and_a_retry_goes_on() -> None:
    BROKEN.append(ValueError("a bug"))
    async with stage() as (rig, client):
        command = call_of(Cart, "checked", "a", ("mild",), {}).value
        task = asyncio.ensure_future(client.ask(command, timeout_ms=5_000_000))
        await rig.until(lambda: rig.status("Cart/a") == "parked")
        later = asyncio.ensure_future(
            client.ask(call_of(Cart, "total", "a", (), {}).value, timeout_ms=5_000_000)
        )
        await rig.turn(1, 20)
        BROKEN.clear()
        retry = asyncio.ensure_future(client.operate("Cart/a", "retry"))
        await rig.until(lambda: task.done() and retry.done() and later.done())
        assert value(task.result()) == "no such thing" and value(later.result()) == 0


async def test_a_handler_waits_for_an_event_and_the_next_call_waits_for_it() -> None:
    async with stage() as (rig, client):
        one = asyncio.ensure_future(
            client.ask(call_of(Cart, "wait", "a", ("me",), {}).value, timeout_ms=5_000_000)
        )
        await rig.until(lambda: newest_state(rig, "Cart/a") == "wait(Poked)")
        two = asyncio.ensure_future(
            client.ask(call_of(Cart, "add", "a", ("x",), {}).value, timeout_ms=5_000_000)
        )
        await rig.turn(1, 20)
        assert RAN == []
        await client.signal("Cart", "a", Poked(id="a"))
        await rig.until(lambda: one.done() and two.done())
        assert value(one.result()) == "me" and value(two.result()) == 1


def newest_state(rig: Rig, instance: str) -> str:
    found = [r for r in rig.records() if r.key == instance.encode()]
    return decode(found[-1].value).root.frames[-1].label if found else ""


async def test_a_saga_calls_entities_with_undo_in_parallel_and_looks_at_them() -> None:
    async with stage() as (rig, client):
        await client.start("buy", Bought(id="k", what="mug"))
        await rig.until(lambda: rig.status("buy/k") == "done")
        assert json.loads(newest(rig, "buy/k").outcome_body)["n"] == 200 + 1 + 3 + 2
        await client.start("buy", Bought(id="m", what="too much"))
        await rig.until(lambda: rig.status("buy/m") == "compensated")
        assert RAN[-1] == "back box 1"


PLACES = [
    "commit.before",
    "commit.unread",
    "commit.undispatched",
    "step.started",
    "step.done",
    "relay.read",
    "relay.published",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("nth", [1, 2, 4, 7])
async def test_a_crash_anywhere_loses_and_doubles_nothing(place: str, nth: int) -> None:
    async with stage(fence="order") as (rig, client):
        kill_at(place, nth)
        await client.start("buy", Bought(id="k", what="mug"))
        for _ in range(400):
            if rig.tasks[0].done() or rig.status("buy/k") == "done":
                break
            await rig.turn(1)
        if rig.tasks[0].done():
            await rig.killed()
            await rig.worker()
        failpoints.disarm()
        await rig.until(lambda: rig.status("buy/k") == "done")
        assert json.loads(newest(rig, "buy/k").outcome_body)["n"] == 206
        assert [line["what"] for line in fields(rig, "Cart/k")["lines"]] == ["box", "mug"]
        assert fields(rig, "Brief/k") == {"count": 2}


async def test_an_idle_entity_expires_and_begins_anew() -> None:
    async with stage() as (rig, client):
        assert value(await asked(rig, client, Brief, "up", 5)) == 5
        await rig.turn(1_000_000, 3)
        assert value(await asked(rig, client, Brief, "up", 1)) == 6
        await rig.turn(1_900_000, 3)
        await rig.until(lambda: rig.status("Brief/a") == "")
        assert value(await asked(rig, client, Brief, "up", 1)) == 1


async def test_an_entity_is_cleared_while_it_is_idle_and_never_cancelled() -> None:
    GATES["slow"] = asyncio.Event()
    async with stage() as (rig, client):
        await asked(rig, client, Brief, "up", 5)
        await asked(rig, client, Cart, "add", "x")
        task = asyncio.ensure_future(
            client.ask(call_of(Cart, "add", "a", ("slow",), {}).value, timeout_ms=5_000_000)
        )
        await rig.until(lambda: rig.status("Cart/a") == "running")
        for verb, instance in (("clear", "Cart/a"), ("cancel", "Cart/a"), ("kill", "Brief/a")):
            refused = asyncio.ensure_future(client.operate(instance, verb))
            await rig.until(refused.done)
            with pytest.raises(Refused):
                refused.result()
        GATES["slow"].set()
        await rig.until(task.done)
        done = asyncio.ensure_future(client.operate("Brief/a", "clear"))
        await rig.until(done.done)
        assert done.result().verdict == "applied" and rig.status("Brief/a") == ""
        assert value(await asked(rig, client, Brief, "up", 1)) == 1


async def test_an_entity_calls_itself_later_by_a_timer_of_its_record() -> None:
    definition = linked.app.definition()
    async with rig_of(definition, build(definition), partitions=2) as rig:
        await rig.worker()
        client = rig.client()
        for number in range(2):
            assert value(await asked(rig, client, linked.Batch, "put", f"x{number}")) == number + 1
        await rig.kill()
        await rig.worker()
        assert fields(rig, "Batch/a")["flushed"] == 0
        await rig.turn(10_000, 2)
        await rig.until(lambda: fields(rig, "Batch/a") == {"waiting": [], "flushed": 2, "timer": None})


async def test_what_an_entity_tells_after_it_was_cleared_is_no_repetition_of_what_it_told_before() -> None:
    definition = linked.app.definition()
    async with rig_of(definition, build(definition), partitions=2) as rig:
        await rig.worker()
        client = rig.client()
        for _ in range(2):
            assert value(await asked(rig, client, linked.Batch, "put", "x")) == 1
            await rig.turn(10_000, 2)
            await rig.until(lambda: fields(rig, "Batch/a")["flushed"] == 1)
            done = asyncio.ensure_future(client.operate("Batch/a", "clear"))
            await rig.until(done.done)
        heads = [dict(r.headers) for r in rig.records("in")]
        told = [h["ce_id"] for h in heads if h.get("ce_type") == b"Batch.flush"]
        assert len(told) == len(set(told)) == 4


async def test_an_entity_puts_its_timer_off_and_nothing_of_the_first_one_is_left() -> None:
    definition = linked.app.definition()
    async with rig_of(definition, build(definition), partitions=2) as rig:
        await rig.worker()
        client = rig.client()
        for number in range(3):
            assert value(await asked(rig, client, linked.Batch, "put_last", f"x{number}")) == number + 1
            await rig.kill()
            await rig.worker()
            await rig.turn(8_000, 1)
            assert fields(rig, "Batch/a")["flushed"] == 0
        await rig.until(lambda: fields(rig, "Batch/a")["flushed"] == 3)


def test_an_entity_that_is_called_and_not_served_is_refused() -> None:
    lonely = App("lonely")
    lonely.orchestrate(entities.buy)
    with pytest.raises(CompileError) as caught:
        build(lonely.definition())
    assert {r.code for r in caught.value.refusals} == {"CP126"}
