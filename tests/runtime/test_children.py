"""`s.child`: an instance of its own that answers the one that began it, whatever dies in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.app import App
from contrapas.core.envelope_avro import decode
from contrapas.errors import CompileError
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from contrapas.runtime.doors import plain_draft
from tests.runtime import kinship
from tests.runtime.kinship import UNDONE, Open, Stay, Trip
from tests.runtime.rig import Rig, kill_at, rig_of

DEFINITION = kinship.app.definition()
WORLD = build(DEFINITION)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    UNDONE.clear()
    yield
    failpoints.disarm()


@asynccontextmanager
async def stage(*, partitions: int = 4, fence: str = "refuse") -> AsyncGenerator[tuple[Rig, Client]]:
    async with rig_of(DEFINITION, WORLD, partitions=partitions, fence=fence) as rig:
        await rig.worker()
        yield rig, rig.client()


def newest(rig: Rig, instance: str) -> Any:
    return decode([r for r in rig.records() if r.key == instance.encode()][-1].value)


async def ended(rig: Rig, instance: str, status: str = "done") -> Any:
    await rig.until(lambda: rig.status(instance) == status)
    record = newest(rig, instance)
    return json.loads(record.outcome_body) if record.outcome else record.error


@pytest.mark.parametrize("partitions", [1, 5])
@pytest.mark.parametrize(
    ("how", "what", "child"),
    [
        ("", "Stayed", "done"),
        ("full", "Full", "done"),
        ("burns", "StepFailed: it burns False", "compensated"),
    ],
)
async def test_a_child_gives_its_outcome_or_fails(partitions: int, how: str, what: str, child: str) -> None:
    async with stage(partitions=partitions) as (rig, client):
        await client.start("trip", Trip(id="t", hotel="ritz", how=how))
        assert await ended(rig, "trip/t") == {"id": "t", "what": what}
        await ended(rig, "stay/ritz", child)
        assert newest(rig, "stay/ritz").parent == f"trip/t/{newest(rig, 'trip/t').run}"


async def test_a_child_without_a_result_gives_none_and_one_key_gives_one_answer_to_its_parent() -> None:
    async with stage() as (rig, client):
        await client.start("twice", Trip(id="t", hotel="ritz"))
        assert await ended(rig, "twice/t") == {"id": "t", "what": "Stayed"}
        assert (
            newest(rig, "stay/ritz").run
            == decode(next(r for r in rig.records() if r.key == b"stay/ritz").value).run
        )


async def test_a_start_for_somebody_else_s_instance_is_declined() -> None:
    async with stage() as (rig, client):
        await client.start("stay", Stay(hotel="ritz", how="waits"))
        await rig.until(lambda: rig.status("stay/ritz") == "waiting")
        await client.start("trip", Trip(id="t", hotel="ritz", how="waits"))
        assert await ended(rig, "trip/t") == {"id": "t", "what": "exists False"}
        await client.start("trip", Trip(id="u", hotel="ritz", how="full"))
        assert await ended(rig, "trip/u") == {"id": "u", "what": "exists False"}
        assert rig.status("stay/ritz") == "waiting"


async def test_a_later_failure_takes_back_what_a_child_did() -> None:
    async with stage() as (rig, client):
        await client.start("trip", Trip(id="back", hotel="ritz"))
        await ended(rig, "trip/back", "compensated")
        assert UNDONE == ["ritz"] and rig.status("stay/ritz") == "done"


@pytest.mark.parametrize("verb", ["cancel", "kill"])
async def test_a_cancel_is_forwarded_and_the_child_s_answer_settles_the_entry(verb: str) -> None:
    async with stage() as (rig, client):
        await client.start("trip", Trip(id="t", hotel="ritz", how="waits"))
        await rig.until(lambda: rig.status("stay/ritz") == "waiting")
        task = asyncio.ensure_future(client.operate("trip/t", verb))
        await rig.until(task.done)
        await ended(rig, "stay/ritz", "compensated")
        await ended(rig, "trip/t", "failed")  # the child took itself back: nothing was left to undo
        assert UNDONE == ["bag of ritz"]
        assert newest(rig, "stay/ritz").cancel == verb


async def test_a_cancel_leaves_somebody_else_s_instance_alone() -> None:
    async with stage() as (rig, client):
        await client.start("stay", Stay(hotel="ritz", how="waits"))
        await rig.until(lambda: rig.status("stay/ritz") == "waiting")
        body = {"verb": "kill", "reason": "kill of trip/t"}
        draft = plain_draft(client.setting, "operate", "stay/ritz", body, event_id="k")
        await rig.log.publish([draft._replace(headers=(*draft.headers, ("cp-parent", b"trip/t/0badcafe")))])
        await rig.turn(1, 100)
        assert rig.status("stay/ritz") == "waiting"
        await rig.log.publish([draft])
        await ended(rig, "stay/ritz", "compensated")


async def test_a_late_answer_settles_the_undo_of_a_child_that_was_not_waited_for() -> None:
    async with stage() as (rig, client):
        await client.start("short", Trip(id="t", hotel="ritz"))
        got = await ended_slowly(rig, "short/t")
        assert got == {"id": "t", "what": "timeout after 10s True"}
        await client.signal("stay", "ritz", Open(hotel="ritz"))
        await ended(rig, "stay/ritz")
        await rig.turn(1, 50)
        assert rig.status("short/t") == "done" and UNDONE == []


async def ended_slowly(rig: Rig, instance: str) -> Any:
    await rig.until(lambda: rig.status(instance) == "done", ms=50)
    return json.loads(newest(rig, instance).outcome_body)


PLACES = [
    "commit.before",
    "commit.unread",
    "commit.undispatched",
    "relay.read",
    "relay.published",
    "relay.marked",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
async def test_row_17_a_parent_that_dies_sends_the_start_again_and_gets_the_first_answer(
    place: str, nth: int
) -> None:
    async with stage(fence="order") as (rig, client):
        kill_at(place, nth)
        await client.start("trip", Trip(id="t", hotel="ritz"))
        for _ in range(400):
            if rig.tasks[0].done() or rig.status("trip/t") == "done":
                break
            await rig.turn(1)
        if rig.tasks[0].done():
            await rig.killed()
            await rig.worker()
        failpoints.disarm()
        assert await ended(rig, "trip/t") == {"id": "t", "what": "Stayed"}
        await rig.turn(1, 50)
        versions = rig.versions("stay/ritz")
        assert versions == sorted(set(versions))
        assert len({decode(r.value).run for r in rig.records() if r.key == b"stay/ritz"}) == 1
        outcomes = [r for r in rig.records("stay.events") if dict(r.headers)["ce_type"] == b"Stayed"]
        assert len({dict(r.headers)["ce_id"] for r in outcomes}) == 1


async def test_row_17_a_start_by_another_parent_is_declined_though_it_says_the_same() -> None:
    async with stage() as (rig, client):
        await client.start("trip", Trip(id="t", hotel="ritz"))
        assert await ended(rig, "trip/t") == {"id": "t", "what": "Stayed"}
        await client.start("trip", Trip(id="u", hotel="ritz"))
        assert await ended(rig, "trip/u") == {"id": "u", "what": "exists False"}


async def test_row_18_an_answer_to_a_parent_that_has_ended_is_a_recorded_no_op() -> None:
    async with stage() as (rig, client):
        await client.start("short", Trip(id="t", hotel="ritz"))
        await ended_slowly(rig, "short/t")
        before = len(rig.versions("short/t"))
        await client.signal("stay", "ritz", Open(hotel="ritz"))
        await rig.until(lambda: len(rig.versions("short/t")) == before + 1)
        assert "no-op" in newest(rig, "short/t").cause.note


async def test_row_18_an_answer_to_a_parent_that_is_gone_is_a_dead_letter() -> None:
    async with stage() as (rig, client):
        await client.start("short", Trip(id="t", hotel="ritz"))
        await ended_slowly(rig, "short/t")
        for _ in range(33):
            await rig.turn(24 * 3600 * 1000)
            await rig.turn(1, 5)
        await rig.until(lambda: rig.status("short/t") == "")
        await client.signal("stay", "ritz", Open(hotel="ritz"))
        await ended(rig, "stay/ritz")
        await rig.until(lambda: bool(rig.records("kin.dlq")))
        [dead] = [dict(r.headers) for r in rig.records("kin.dlq")]
        assert dead["ce_id"].endswith(b"!answer") and dead["cp-dlq-reason"] == b"CP414"


def test_a_child_that_the_app_does_not_run_is_refused() -> None:
    lonely = App("lonely")
    lonely.orchestrate(kinship.trip)
    with pytest.raises(CompileError) as caught:
        build(lonely.definition())
    assert [r.code for r in caught.value.refusals] == ["CP126"]
