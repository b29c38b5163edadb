"""Local steps, waits on foreign keys, unwinding and doors, over crashes and takeovers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.lane import Draft
from contrapas.errors import Refused, Unreachable
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from tests.runtime.rig import Rig, kill_at, rig_of
from tests.runtime.sagas import (
    GATE,
    RAN,
    Approved,
    Asked,
    approval,
    definition_of,
    generous,
    patient,
    stubborn,
    threaded,
    trip,
)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    RAN.clear()
    GATE[:] = [asyncio.Event()]
    yield
    failpoints.disarm()


async def _pumped(rig: Rig, asking: Any) -> Any:
    task = asyncio.ensure_future(asking)
    while not task.done():
        await rig.turn(1)
    return await task


@pytest.mark.parametrize("first", ["event", "wait"])
async def test_an_event_of_a_foreign_key_finds_the_instance_that_waits_for_it(first: str) -> None:
    definition = definition_of(approval)
    async with rig_of(definition, build(definition), partitions=4) as rig:
        w = await rig.worker()
        client = rig.client()
        if first == "event":
            await client.send(Approved(ref="r-1", by="ann"))
            await rig.until(lambda: w.counts().early == 1)
        await client.start("approval", Asked(id="a", ref="r-1"))
        if first == "wait":
            await rig.until(lambda: any(r.key == b"$wait/Approved/r-1" for r in rig.records()))
            await client.send(Approved(ref="r-1", by="ann"))
        await rig.until(lambda: rig.status("approval/a") == "done")
        assert (await client.state("approval/a")).outcome_body == '{"id":"a","by":"ann"}'


@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("place", ["commit.before", "commit.unread", "commit.undispatched", "read.fed"])
async def test_row_12_a_crash_anywhere_between_bind_and_delivered_is_made_up_for(
    place: str, nth: int
) -> None:
    definition = definition_of(approval)
    async with rig_of(definition, build(definition), partitions=2, fence="order") as rig:
        await rig.worker()
        client = rig.client()
        kill_at(place, nth)
        await client.start("approval", Asked(id="a", ref="r-1"))
        await client.send(Approved(ref="r-1", by="ann"))
        for _ in range(3000):
            if rig.tasks[-1].done() or rig.status("approval/a") == "done":
                break
            await rig.turn(2)
        await rig.turn(1, 20)
        if rig.tasks[-1].done():
            await rig.killed()
            await rig.worker()
        await rig.until(lambda: rig.status("approval/a") == "done", ms=20)
        told = await _pumped(rig, rig.client().state("approval/a"))
        assert told.outcome_body == '{"id":"a","by":"ann"}'


async def test_a_wait_that_ends_without_its_event_is_unbound_and_the_event_stays_early() -> None:
    definition = definition_of(approval)
    async with rig_of(definition, build(definition), partitions=4) as rig:
        w = await rig.worker()
        client = rig.client()
        await client.start("approval", Asked(id="a", ref="r-1"))
        await rig.until(lambda: rig.status("approval/a") == "waiting")
        await rig.turn(1, 100)
        rig.clock.advance(3_601_000)
        await rig.until(lambda: rig.status("approval/a") == "done")
        await rig.turn(1, 100)
        await client.send(Approved(ref="r-1", by="ann"))
        await rig.until(lambda: w.counts().early == 1)
        rig.clock.advance(25 * 3_600_000)
        await rig.until(lambda: len(rig.records("t.dlq")) == 1)
        assert dict(rig.records("t.dlq")[0].headers)["cp-dlq-reason"] == b"CP414"


async def test_a_second_instance_that_waits_for_the_same_value_parks() -> None:
    definition = definition_of(approval)
    async with rig_of(definition, build(definition), partitions=4) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("approval", Asked(id="a", ref="r-1"))
        await rig.until(lambda: any(r.key == b"$wait/Approved/r-1" for r in rig.records()))
        await client.start("approval", Asked(id="b", ref="r-1"))
        await rig.until(lambda: rig.status("approval/b") == "parked")
        assert (await client.state("approval/b")).code == "CP848"


async def test_row_7_a_process_that_acquires_again_adopts_its_own_running_copy() -> None:
    definition = definition_of(patient)
    async with rig_of(definition, build(definition), partitions=1) as rig:
        w = await rig.worker()
        await rig.client().start("patient", Asked(id="a", ref="x"))
        await rig.until(lambda: RAN == ["slow x"])
        station = w.stations[0]
        rig.log.store.faults.script("commit", "lost-before")
        await rig.log.publish([Draft("in", 0, b"k", b"junk", ())])
        await rig.until(lambda: w.stations.get(0) not in (None, station))
        GATE[0].set()
        await rig.until(lambda: rig.status("patient/a") == "done")
        assert RAN == ["slow x"]


async def test_row_6_a_fenced_owner_s_step_runs_again_elsewhere_and_only_one_result_counts() -> None:
    definition = definition_of(patient)
    async with rig_of(definition, build(definition), partitions=1) as rig:
        await rig.worker()
        await rig.client().start("patient", Asked(id="a", ref="x"))
        await rig.until(lambda: RAN == ["slow x"])
        await rig.log.peer().acquire(0, "other")
        await rig.until(lambda: len(RAN) == 2)
        GATE[0].set()
        await rig.until(lambda: rig.status("patient/a") == "done")
        assert rig.versions("patient/a") == [1, 2]


async def test_a_plain_function_runs_in_a_thread() -> None:
    definition = definition_of(threaded)
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        await rig.client().start("threaded", Asked(id="a", ref="x"))
        for _ in range(2000):
            if rig.status("threaded/a") == "done":
                break
            await asyncio.sleep(0.001)
        assert rig.status("threaded/a") == "done" and RAN == ["blocking x"]


async def test_every_attempt_follows_a_commit_and_a_pause_that_is_state() -> None:
    definition = definition_of(stubborn)
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        await rig.client().start("stubborn", Asked(id="a", ref="x"))
        await rig.until(lambda: rig.status("stubborn/a") == "retrying")
        await rig.kill()
        await rig.worker()
        await rig.turn(1, 50)
        assert len(RAN) == 1
        await rig.until(lambda: rig.status("stubborn/a") == "failed", ms=20)
        assert len(RAN) == 3


async def test_a_step_over_its_time_is_an_attempt_that_failed() -> None:
    definition = definition_of(patient)
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        await rig.client().start("patient", Asked(id="a", ref="x"))
        await rig.until(lambda: RAN == ["slow x"])
        rig.clock.advance(31_000)
        await rig.until(lambda: rig.status("patient/a") == "retrying")
        GATE[0].set()
        await rig.until(lambda: rig.status("patient/a") == "done", ms=20)
        assert RAN == ["slow x", "slow x"]


async def test_a_result_that_cannot_be_stored_parks_its_instance() -> None:
    definition = definition_of(generous)
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        await rig.client().start("generous", Asked(id="a", ref="x"))
        await rig.until(lambda: rig.status("generous/a") == "parked")
        assert (await rig.client().state("generous/a")).code == "CP843"
        assert RAN == ["unstorable"]


@pytest.mark.parametrize("nth", range(1, 10))
@pytest.mark.parametrize("place", ["commit.before", "commit.undispatched", "step.done"])
@pytest.mark.case(72, "undo failing, retried, parked; crash mid-unwind")
async def test_row_16_an_unwinding_goes_on_at_the_recorded_entry(place: str, nth: int) -> None:
    definition = definition_of(trip)
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        kill_at(place, nth)
        await rig.client().start("trip", Asked(id="a", ref="x"))
        for _ in range(3000):
            if rig.tasks[-1].done() or rig.status("trip/a") == "compensated":
                break
            await rig.turn(1)
        await rig.turn(1, 20)
        if rig.tasks[-1].done():
            await rig.killed()
            await rig.worker()
        await rig.until(lambda: rig.status("trip/a") == "compensated")
        undone = [name for name in RAN if name.startswith("undo")]
        assert list(dict.fromkeys(undone)) == ["undo car", "undo hotel", "undo train"]
        repeated = sum(c - 1 for c in Counter(RAN).values())
        assert repeated <= (0 if place == "commit.undispatched" else 1)


async def test_a_door_in_another_process_is_answered_over_the_lane() -> None:
    definition = definition_of(patient)
    async with rig_of(definition, build(definition), partitions=4) as rig:
        w = await rig.worker()
        far = Client(rig.log.peer(), w.setting)
        rig.clients.append(far)
        told = await _pumped(rig, far.start("patient", Asked(id="a", ref="x"), timeout_ms=5_000))
        assert (told.verdict, told.status) == ("applied", "running")
        assert (await _pumped(rig, far.state("patient/a"))).state == "slow"
        with pytest.raises(Refused, match="no instance"):
            await _pumped(rig, far.state("patient/zz"))
        with pytest.raises(Refused, match="not parked"):
            await _pumped(rig, far.operate("patient/a", "retry"))
        GATE[0].set()
        assert (await _pumped(rig, far.wait("patient/a"))).status == "done"


async def test_an_answer_that_does_not_come_is_an_unknown_outcome() -> None:
    definition = definition_of(patient)
    async with rig_of(definition, build(definition), partitions=1) as rig:
        w = await rig.worker()
        await rig.kill()
        far = Client(rig.log.peer(), w.setting)
        rig.clients.append(far)
        with pytest.raises(Unreachable, match="unknown"):
            await far.start("patient", Asked(id="a", ref="x"), timeout_ms=30)


async def test_a_stop_lets_running_steps_end_and_writes_their_results() -> None:
    definition = definition_of(patient)
    async with rig_of(definition, build(definition), partitions=1) as rig:
        w = await rig.worker()
        await rig.client().start("patient", Asked(id="a", ref="x"))
        await rig.until(lambda: RAN == ["slow x"])
        stopping = asyncio.ensure_future(w.stop())
        await rig.turn(1, 20)
        GATE[0].set()
        for _ in range(500):
            if stopping.done():
                break
            await rig.turn(5)
        await stopping
        assert rig.status("patient/a") == "done"
        control = rig.log.store.parts[0].control
        assert (control.owner, control.takeovers, control.cursor[("in", 0)]) == ("", 0, 1)
