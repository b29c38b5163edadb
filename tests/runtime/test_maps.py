"""`s.map` on a log: a record per item, nothing of the instance in between, and a crash that repeats only what was in flight."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.envelope_avro import decode
from contrapas.core.envelope_item import decode_item
from contrapas.errors import StepFailed
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from tests.runtime import mapped
from tests.runtime.mapped import BROKEN, GATES, MOST, RAN, UNDONE, Chosen, Nudge, Wanted
from tests.runtime.rig import Rig, kill_at, rig_of

DEFINITION = mapped.app.definition()
WORLD = build(DEFINITION)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    mapped.reset()
    yield
    failpoints.disarm()


@asynccontextmanager
async def stage(*, partitions: int = 1) -> AsyncGenerator[tuple[Rig, Client]]:
    async with rig_of(DEFINITION, WORLD, partitions=partitions) as rig:
        await rig.worker()
        yield rig, rig.client()


def outcome(rig: Rig, instance: str) -> Any:
    return json.loads(newest(rig, instance).outcome_body)


def newest(rig: Rig, instance: str) -> Any:
    return decode([r for r in rig.records() if r.key == instance.encode()][-1].value)


def items(rig: Rig) -> list[Any]:
    """Item records still there, the newest of each."""
    found: dict[bytes, Any] = {}
    for r in rig.records():
        if r.key.startswith(b"$item/"):
            found[r.key] = None if r.value is None else decode_item(r.value)
    return [i for i in found.values() if i is not None]


async def ended(rig: Rig, instance: str, status: str = "done") -> None:
    await rig.until(lambda: rig.status(instance) == status)


@pytest.mark.case(85, "`map` of 0 and 1,000, failures, crash")
@pytest.mark.parametrize("count", [0, 1, 1000])
@pytest.mark.parametrize("name", ["each", "few", "collected", "threads"])
async def test_each_item_gives_its_result_by_position(name: str, count: int) -> None:
    if name == "threads" and count > 1:
        count = 40
    async with stage() as (rig, client):
        await client.start(name, Wanted(id="a", items=list(range(count))))
        await ended(rig, f"{name}/a")
        assert outcome(rig, f"{name}/a")["results"] == [10 * x for x in range(count)]
        assert rig.versions(f"{name}/a") == ([1, 2] if count else [1])
        assert len(RAN) == count == len({key for _, key in RAN})
        await rig.turn(1, 50)
        assert items(rig) == []


async def test_the_key_of_an_item_has_its_position_behind_the_label() -> None:
    async with stage() as (rig, client):
        await client.start("each", Wanted(id="a", items=[5, 6]))
        await ended(rig, "each/a")
        run = newest(rig, "each/a").run
        assert RAN == [(5, f"each/a/{run}/map(work)[0]/1"), (6, f"each/a/{run}/map(work)[1]/1")]


async def test_no_more_items_are_in_progress_than_concurrency_says() -> None:
    async with stage() as (rig, client):
        await client.start("few", Wanted(id="a", items=list(range(20))))
        await ended(rig, "few/a")
        assert MOST == [3]


async def test_no_more_items_begin_than_the_rate_says() -> None:
    async with stage() as (rig, client):
        began = rig.clock.ms()
        await client.start("slowly", Wanted(id="a", items=list(range(31))))
        await rig.until(lambda: len(RAN) >= 11)
        assert rig.clock.ms() - began >= 900
        await ended(rig, "slowly/a")
        assert 2900 <= rig.clock.ms() - began <= 4200
        assert rig.versions("slowly/a") == [1, 2]


async def test_failures_are_collected_at_their_positions() -> None:
    BROKEN[2] = [StepFailed("no two")]
    BROKEN[4] = [ValueError("four")] * 3
    async with stage() as (rig, client):
        await client.start("collected", Wanted(id="a", items=list(range(6))))
        await ended(rig, "collected/a")
        assert outcome(rig, "collected/a") == {
            "id": "a",
            "results": [0, 10, 30, 50],
            "failed": ["2: no two False", "4: ValueError: four True"],
        }
        assert Counter(x for x, _ in RAN)[4] == 3
        assert len({key for x, key in RAN if x == 4}) == 1


@pytest.mark.case(85, "`map` of 0 and 1,000, failures, crash")
async def test_the_first_failing_position_is_raised_after_what_is_in_flight_has_ended() -> None:
    BROKEN[1] = [StepFailed("one")]
    BROKEN[0] = [StepFailed("zero")]
    GATES[0] = asyncio.Event()
    GATES[2] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("few", Wanted(id="a", items=list(range(20))))
        await rig.until(lambda: len(items(rig)) == 1)
        await rig.turn(1, 50)
        assert rig.status("few/a") == "running"
        GATES[0].set()
        await rig.turn(1, 50)
        assert rig.status("few/a") == "running"
        GATES[2].set()
        await ended(rig, "few/a", "failed")
        assert [x for x, _ in RAN] == [0, 1, 2]
        assert "zero" in newest(rig, "few/a").error


async def test_two_maps_side_by_side_keep_their_items_apart() -> None:
    async with stage() as (rig, client):
        await client.start("both", Wanted(id="a", items=[1, 2, 3]))
        await ended(rig, "both/a")
        assert outcome(rig, "both/a")["results"] == [10, 20, 30, 10, 20, 30]
        assert len({key for _, key in RAN}) == 6


PLACES = [
    "commit.before",
    "commit.unread",
    "commit.undispatched",
    "step.started",
    "step.done",
    "dispatch.steps",
    "tombstone.before",
    "tombstone.after",
]


CRASHES = [("quick", place) for place in PLACES] + [
    ("few", place) for place in PLACES if place != "step.done"
]
"""In `few` a step ends in a task of its own: a kill there ends that task, not the worker."""


@pytest.mark.case(85, "`map` of 0 and 1,000, failures, crash")
@pytest.mark.parametrize(("name", "place"), CRASHES)
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_a_crash_repeats_only_what_was_in_flight_under_the_same_keys(
    name: str, place: str, nth: int
) -> None:
    async with stage() as (rig, client):
        kill_at(place, nth)
        await client.start(name, Wanted(id="a", items=list(range(8))))
        for _ in range(400):
            if rig.tasks[0].done() or rig.status(f"{name}/a") == "done":
                break
            await rig.turn(1)
        written = {i.position for i in items(rig)}
        if rig.tasks[0].done():
            await rig.killed()
            before = len(RAN)
            await rig.worker()
            await ended(rig, f"{name}/a")
            again = {x for x, _ in RAN[before:]} & {x for x, _ in RAN[:before]}
            assert not again & written and len(again) <= 3
        failpoints.disarm()
        assert outcome(rig, f"{name}/a")["results"] == [10 * x for x in range(8)]
        assert len({key for _, key in RAN}) == 8
        assert rig.versions(f"{name}/a") == [1, 2]
        await rig.turn(1, 50)
        assert items(rig) == []


async def test_a_crash_after_a_failure_begins_nothing_more() -> None:
    BROKEN[0] = [StepFailed("zero")]
    GATES[1] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("few", Wanted(id="a", items=list(range(20))))
        await rig.until(lambda: len(items(rig)) == 2)
        await rig.kill()
        GATES[1].set()
        await rig.worker()
        await ended(rig, "few/a", "failed")
        assert [x for x, _ in RAN] == [0, 1, 2, 1]


async def test_an_attempt_to_come_survives_a_crash() -> None:
    BROKEN[1] = [ValueError("once"), ValueError("twice")]
    async with stage() as (rig, client):
        await client.start("each", Wanted(id="a", items=[0, 1]))
        await rig.until(lambda: any(i.status == "retrying" for i in items(rig)))
        await rig.kill()
        await rig.worker()
        began = rig.clock.ms()
        await ended(rig, "each/a")
        assert rig.clock.ms() - began >= 1000
        assert [x for x, _ in RAN] == [0, 1, 1, 1]


async def test_an_event_in_the_middle_is_kept_and_writes_the_record_once() -> None:
    GATES[3] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("listened", Wanted(id="a", items=list(range(5))))
        await rig.until(lambda: len(items(rig)) == 4)
        await client.signal("listened", "a", Nudge(id="a"))
        await rig.until(lambda: len(rig.versions("listened/a")) == 2)
        GATES[3].set()
        await ended(rig, "listened/a")
        assert outcome(rig, "listened/a")["failed"] == ["Nudge"]
        assert rig.versions("listened/a") == [1, 2, 3]


async def test_a_cancel_takes_back_what_the_items_did() -> None:
    GATES[3] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("made", Wanted(id="a", items=[1, 2, 3]))
        await rig.until(lambda: len(items(rig)) == 2)
        asking = asyncio.ensure_future(client.operate("made/a", "cancel"))
        await rig.until(lambda: len(UNDONE) == 2)
        await asking
        assert sorted(UNDONE) == [10, 20]
        assert rig.status("made/a") == "settling"  # the third may still have happened
        GATES[3].set()
        await ended(rig, "made/a", "compensated")
        assert sorted(UNDONE) == [10, 20, 30]
        await rig.turn(1, 50)
        assert items(rig) == []


async def test_a_kill_takes_back_what_the_items_did() -> None:
    GATES[3] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("made", Wanted(id="a", items=[1, 2, 3]))
        await rig.until(lambda: len(items(rig)) == 2)
        asking = asyncio.ensure_future(client.operate("made/a", "kill"))
        await rig.until(lambda: len(UNDONE) == 2)
        await asking
        GATES[3].set()
        await ended(rig, "made/a", "compensated")
        assert sorted(UNDONE) == [10, 20, 30]


async def test_a_later_failure_takes_back_every_item() -> None:
    async with stage() as (rig, client):
        await client.start("made", Wanted(id="a", items=[1, 2, 3]))
        await rig.until(lambda: rig.status("made/a") == "waiting")
        await client.signal("made", "a", Nudge(id="a"))
        await ended(rig, "made/a", "compensated")
        assert sorted(UNDONE) == [10, 20, 30]


@pytest.mark.case(85, "`map` of 0 and 1,000, failures, crash")
async def test_a_thousand_items_are_taken_back_a_few_at_a_time() -> None:
    async with stage() as (rig, client):
        await client.start("made", Wanted(id="a", items=list(range(1000))))
        await rig.until(lambda: rig.status("made/a") == "waiting")
        await client.signal("made", "a", Nudge(id="a"))
        await ended(rig, "made/a", "compensated")
        assert sorted(UNDONE) == [10 * x for x in range(1000)]
        bodies = [decode(r.value) for r in rig.records() if r.key == b"made/a"]
        assert max(sum(1 for _ in b.operations()) for b in bodies) <= 64


async def test_a_failed_item_is_not_taken_back_and_its_neighbours_are() -> None:
    BROKEN[2] = [StepFailed("two")]
    async with stage() as (rig, client):
        await client.start("made", Wanted(id="a", items=[1, 2, 3]))
        await ended(rig, "made/a", "compensated")
        assert sorted(UNDONE) == [10, 30]


async def test_the_deadline_of_the_saga_ends_a_map() -> None:
    GATES[2] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("hurried", Wanted(id="a", items=[1, 2]))
        await rig.until(lambda: len(items(rig)) == 1)
        await rig.turn(1000, 22)
        await rig.until(lambda: UNDONE == [10])
        GATES[2].set()
        await ended(rig, "hurried/a", "compensated")
        assert sorted(UNDONE) == [10, 20]


async def test_within_limits_the_whole_map() -> None:
    GATES[2] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("limited", Wanted(id="a", items=[1, 2]))
        await rig.until(lambda: rig.status("limited/a") == "done", ms=50)
        assert outcome(rig, "limited/a")["failed"] == ["timeout after 10s", "True"]


@pytest.mark.parametrize("dies", [False, True])
async def test_a_pause_begins_nothing_and_a_resume_goes_on(dies: bool) -> None:
    GATES[0] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("few", Wanted(id="a", items=list(range(6))))
        await rig.until(lambda: len(RAN) == 3)
        for x in (3, 4, 5):
            GATES[x] = asyncio.Event()
        await rig.until(lambda: len(items(rig)) == 2)
        task = asyncio.ensure_future(client.operate("few/a", "pause"))
        await rig.until(task.done)
        ran = len(RAN)
        for gate in GATES.values():
            gate.set()
        await rig.turn(1, 50)
        assert rig.status("few/a") == "paused" and len(RAN) == ran
        if dies:
            await rig.kill()
            await rig.worker()
            await rig.turn(1, 50)
            client = rig.client()
        task = asyncio.ensure_future(client.operate("few/a", "resume"))
        await rig.until(task.done)
        await ended(rig, "few/a")
        assert outcome(rig, "few/a")["results"] == [10 * x for x in range(6)]
        assert len({key for _, key in RAN}) == 6


@pytest.mark.parametrize("dies", [False, True])
async def test_a_bug_after_the_map_parks_and_a_retry_goes_on_with_the_results(dies: bool) -> None:
    BROKEN[99] = []
    async with stage() as (rig, client):
        await client.start("buggy", Wanted(id="a", items=[1, 2]))
        await ended(rig, "buggy/a", "parked")
        assert len(items(rig)) == 2
        BROKEN.clear()
        if dies:
            await rig.kill()
            await rig.worker()
            client = rig.client()
        task = asyncio.ensure_future(client.operate("buggy/a", "retry"))
        await rig.until(task.done)
        await ended(rig, "buggy/a")
        assert outcome(rig, "buggy/a")["results"] == [10, 20]
        assert len(RAN) == 2


@pytest.mark.parametrize("dies", [False, True])
async def test_a_map_in_flight_goes_on_beside_its_saga(dies: bool) -> None:
    GATES[1] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("beside", Wanted(id="a", items=list(range(5))))
        await rig.until(lambda: len(items(rig)) == 4)
        if dies:
            await rig.kill()
            await rig.worker()
        GATES[1].set()
        await ended(rig, "beside/a")
        assert outcome(rig, "beside/a")["results"] == [10 * x for x in range(5)]
        assert len({key for _, key in RAN}) == 5 and len(RAN) == 5 + dies
        await rig.turn(1, 50)
        assert items(rig) == []


async def test_a_map_in_flight_is_given_up() -> None:
    GATES[1] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("beside", Wanted(id="a", items=list(range(5))))
        await rig.until(lambda: len(items(rig)) == 4)
        await client.signal("beside", "a", Nudge(id="a"))
        await ended(rig, "beside/a")
        assert outcome(rig, "beside/a")["failed"] == ["nudged"]
        GATES[1].set()
        await rig.turn(1, 50)
        assert items(rig) == []


async def test_a_step_is_taken_from_a_mapping_by_name_and_an_unknown_name_parks() -> None:
    async with stage() as (rig, client):
        await client.start("choosing", Chosen(id="a", kinds=["work", "instant", "work"]))
        await ended(rig, "choosing/a")
        assert outcome(rig, "choosing/a")["results"] == [0, 10, 20]
        bodies = [decode(r.value) for r in rig.records() if r.key == b"choosing/a"]
        assert [p.name for b in bodies[:-1] for p in b.operations()] == ["work", "instant", "work"]
        assert [b.state for b in bodies[:-1]] == ["KINDS[]"] * 3
        await client.start("choosing", Chosen(id="b", kinds=["work", "play"]))
        await ended(rig, "choosing/b", "parked")
        assert "KeyError" in newest(rig, "choosing/b").parked.error


@pytest.mark.parametrize("fault", ["lost-before", "lost-after", "late", "cut"])
@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_commit_that_goes_wrong_loses_no_item(fault: str, nth: int) -> None:
    async with stage() as (rig, client):
        await client.start("few", Wanted(id="a", items=list(range(9))))
        await rig.until(lambda: len(RAN) >= 3 * nth)
        rig.log.store.faults.script("commit", "", fault)
        await ended(rig, "few/a")
        rig.log.store.land()
        assert outcome(rig, "few/a")["results"] == [10 * x for x in range(9)]
        assert len({key for _, key in RAN}) == 9
        await rig.turn(1, 50)


async def test_a_commit_that_is_refused_for_now_is_repeated() -> None:
    async with stage() as (rig, client):
        await client.start("few", Wanted(id="a", items=list(range(9))))
        await rig.until(lambda: len(RAN) >= 3)
        rig.log.store.faults.script("commit", "", "retriable")
        await ended(rig, "few/a")
        assert outcome(rig, "few/a")["results"] == [10 * x for x in range(9)]


async def test_an_undo_of_the_map_takes_back_each_item_that_ended_well_from_its_result() -> None:
    BROKEN[2] = [StepFailed("no two")]
    async with stage() as (rig, client):
        await client.start("taken", Wanted(id="a", items=[1, 2, 3]))
        await rig.until(lambda: rig.status("taken/a") == "waiting")
        await client.signal("taken", "a", Nudge(id="a"))
        await ended(rig, "taken/a", "compensated")
        assert sorted(UNDONE) == [110, 130]
        assert "1000: 3" in newest(rig, "taken/a").error


async def test_an_item_that_is_unknown_is_taken_back_once_its_result_is_known() -> None:
    GATES[1] = asyncio.Event()
    async with stage() as (rig, client):
        await client.start("taken", Wanted(id="a", items=[1, 2]))
        await rig.until(lambda: len(RAN) == 2)
        await rig.turn(1, 50)
        await client.operate("taken/a", "kill")
        await rig.until(lambda: rig.status("taken/a") == "settling")
        assert UNDONE == [120]
        GATES[1].set()
        await ended(rig, "taken/a", "compensated")
        assert sorted(UNDONE) == [110, 120]


async def test_an_undo_of_the_map_may_be_a_command() -> None:
    async with stage() as (rig, client):
        await client.start("by_command", Wanted(id="a", items=[1, 2]))
        await rig.until(lambda: len(rig.records("erase.commands")) == 2)
        assert sorted(json.loads(r.value)["what"] for r in rig.records("erase.commands")) == [10, 20]


@pytest.mark.parametrize("point", ["commit.before", "commit.undispatched"])
@pytest.mark.parametrize("nth", range(1, 7))
async def test_a_crash_on_the_way_leaves_no_item_behind(point: str, nth: int) -> None:
    async with stage() as (rig, client):
        await client.start("taken", Wanted(id="a", items=[1, 2, 3]))
        kill_at(point, nth)
        for _ in range(60):
            await rig.turn(5)
        if rig.tasks[-1].done():
            await rig.killed()
            await rig.worker()
        await rig.until(lambda: rig.status("taken/a") == "waiting")
        await rig.client().signal("taken", "a", Nudge(id="a"))
        for _ in range(60):
            await rig.turn(5)
        if rig.tasks[-1].done():
            await rig.killed()
            await rig.worker()
        await ended(rig, "taken/a", "compensated")
        assert set(UNDONE) == {110, 120, 130}
