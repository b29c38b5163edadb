"""Local steps in a store's transaction: their effect happens once, whatever dies when, over every store there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.world import StepCall
from contrapas.errors import StepFailed
from contrapas.participant import Receipt
from contrapas.runtime.build import build
from contrapas.runtime.steps import StepRunner
from contrapas.runtime.stored_steps import CONSUMER
from tests.runtime import ledger
from tests.runtime.ledger import EFFECTS, FAILS, GATE, KEYS, STORE, Moved
from tests.runtime.rig import Rig, kill_at, rig_of
from tests.runtime.stores import STORES, Effects, dead, quiet, started, until

PLACES = ("step.started", "step.begun", "step.handled", "step.finished", "step.committed", "step.done")


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    yield
    failpoints.disarm()
    for one in (EFFECTS, FAILS, GATE, KEYS):
        one.clear()
    STORE.inner = None


@pytest.fixture(params=sorted(STORES))
async def bench(request: pytest.FixtureRequest) -> AsyncGenerator[Any]:
    async with STORES[request.param]() as made:
        STORE.inner = await made.open()
        EFFECTS.append(Effects(made))
        yield made


@asynccontextmanager
async def running(*, partitions: int = 1) -> AsyncGenerator[Rig]:
    definition = ledger.app().definition()
    async with rig_of(definition, build(definition), partitions=partitions) as rig:
        await started(rig)
        yield rig


async def done(rig: Rig, saga: str = "two_entries") -> None:
    await until(rig, lambda: rig.status(f"{saga}/a") in ("done", "compensated", "failed", "parked"))


async def outcome(rig: Rig, saga: str = "two_entries") -> str:
    return (await rig.client().state(f"{saga}/a")).outcome_body


async def test_a_step_its_business_row_and_its_result_are_one_commit(bench: Any) -> None:
    async with running() as rig:
        await rig.client().start("two_entries", Moved(id="a", cents=5))
        await done(rig)
        assert await outcome(rig) == '{"id":"a","entries":["from:5:1","to:5:2"],"why":""}'
        assert (await EFFECTS[0].count("from"), await EFFECTS[0].count("to")) == (1, 1)
        assert (await STORE.status()).inbox == 2


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("place", PLACES)
async def test_i_17_i_18_a_step_killed_at_any_point_has_exactly_one_effect(
    bench: Any, place: str, nth: int
) -> None:
    async with running() as rig:
        kill_at(place, nth)
        await rig.client().start("two_entries", Moved(id="a"))
        await dead(rig)
        await started(rig)
        await done(rig)
        assert rig.status("two_entries/a") == "done"
        assert (await EFFECTS[0].count("from"), await EFFECTS[0].count("to")) == (1, 1)
        assert len({key for key, _, name in KEYS if name == "from"}) == 1, (
            "I-19: another key at another attempt"
        )


@pytest.mark.parametrize("place", ["commit.before", "commit.unread", "commit.undispatched"])
@pytest.mark.parametrize("nth", [2, 3])
async def test_i_17_a_result_that_was_stored_is_taken_after_a_crash_not_computed_again(
    bench: Any, place: str, nth: int
) -> None:
    async with running() as rig:
        kill_at(place, nth)
        await rig.client().start("two_entries", Moved(id="a"))
        await dead(rig)
        ran = len(KEYS)
        committed = (await STORE.status()).inbox
        await started(rig)
        await done(rig)
        assert len(KEYS) == ran + (2 - committed), "a step whose result was stored ran again"
        assert [await EFFECTS[0].count(n) for n in ("from", "to")] == [1, 1]


async def test_i_19_every_attempt_of_a_step_carries_the_same_key_and_a_failed_one_leaves_nothing(
    bench: Any,
) -> None:
    FAILS[:] = [ValueError("no"), ValueError("no")]
    async with running() as rig:
        await rig.client().start("two_entries", Moved(id="a"))
        await done(rig)
        first = [(key, attempt) for key, attempt, name in KEYS if name == "from"]
        assert [attempt for _, attempt in first] == [1, 2, 3] and len({key for key, _ in first}) == 1
        assert await EFFECTS[0].count("from") == 1


async def test_i_15_a_stopped_worker_s_copy_and_the_next_owner_s_have_one_effect(bench: Any) -> None:
    """The copy of a former owner is still in its transaction when the next owner runs the step."""
    GATE.append(asyncio.Event())
    async with running() as rig:
        await rig.client().start("two_entries", Moved(id="a"))
        await until(rig, lambda: len(KEYS) == 1)
        world = rig.world
        step = world.types.steps["book"]
        record = rig.workers[0].stations[0].partition.load("two_entries/a")
        assert record is not None
        (pending,) = record.operations()
        call = StepCall("two_entries/a", pending.key, "book", 1, pending.body, 30_000, pending.label, 9)
        told: list[Any] = []
        other = StepRunner(world.types, lambda p, e, r: told.append(r), rig.clock, namespace="t")
        other.start(0, 9, call)
        await quiet(rig, ms=20)
        assert not told and len(KEYS) == 1, "the second copy did not wait"
        GATE[0].set()
        GATE.clear()
        await until(rig, lambda: bool(told))
        assert (told[0].outcome, told[0].body) == ("ok", '"from:1:1"') and step.store is STORE
        await done(rig)
        assert await EFFECTS[0].count("from") == 1


async def resumed(rig: Rig, call: StepCall) -> Any:
    """What a former owner's copy of a call comes to, that was stopped before it took the key."""
    told: list[Any] = []
    other = StepRunner(rig.world.types, lambda p, e, r: told.append(r), rig.clock, namespace="t")
    other.start(0, 9, call)
    await until(rig, lambda: bool(told))
    return told[0]


async def test_i_18_a_copy_that_was_stopped_does_not_succeed_after_the_failure_was_recorded(
    bench: Any,
) -> None:
    """A definite failure is skipped when the saga unwinds: nobody would take back what the copy did."""
    FAILS[:] = [StepFailed("no room")]
    async with running() as rig:
        kill_at("step.begun")
        await rig.client().start("two_entries", Moved(id="a"))
        partition = rig.workers[0].stations[0].partition
        await dead(rig)
        record = partition.load("two_entries/a")
        assert record is not None
        (pending,) = record.operations()
        await started(rig)
        await done(rig)
        assert rig.status("two_entries/a") == "failed" and len(KEYS) == 1
        call = StepCall("two_entries/a", pending.key, "book", 1, pending.body, 30_000, pending.label, 9)
        late = await resumed(rig, call)
        assert (late.outcome, late.reason) == ("declined", "no room") and len(KEYS) == 1
        assert await EFFECTS[0].count("from") == 0
        again = await resumed(rig, call._replace(attempt=2))
        assert again.outcome == "ok", "the next attempt, which somebody asked for, takes the key again"
        assert (await resumed(rig, call)).body == again.body == '"from:1:2"'
        assert await EFFECTS[0].count("from") == 1


async def test_a_failure_yields_to_the_copy_that_succeeded_before_it_was_written(bench: Any) -> None:
    """Between the rollback and the failure's row the key is free."""
    FAILS[:] = [StepFailed("no room")]
    async with running() as rig:
        first: list[Any] = []
        types = rig.world.types
        mine = StepRunner(types, lambda p, e, r: first.append(r), rig.clock, namespace="t")
        call = StepCall("two_entries/a", "k-1", "book", 1, '{"args":["from",1]}', 30_000, "book", 1)
        theirs: list[Any] = []

        def between() -> None:
            runner = StepRunner(types, lambda p, e, r: theirs.append(r), rig.clock, namespace="t")
            runner.start(0, 2, call)

        failpoints.arm("step.refused", between)
        mine.start(0, 1, call)
        await until(rig, lambda: bool(first and theirs))
        assert (first[0].outcome, first[0].body) == (theirs[0].outcome, theirs[0].body)
        assert await EFFECTS[0].count("from") == (1 if first[0].outcome == "ok" else 0)


async def test_a_retry_after_a_definite_failure_runs_and_succeeds(bench: Any) -> None:
    """`retry=FOREVER`: every attempt may fail for good and the next one runs all the same."""
    FAILS[:] = [StepFailed("not yet"), StepFailed("not yet")]
    async with running() as rig:
        await rig.client().start("stubborn", Moved(id="a"))
        await done(rig, "stubborn")
        assert rig.status("stubborn/a") == "done" and len(KEYS) == 3
        assert await EFFECTS[0].count("from") == 1


@pytest.mark.parametrize("place", ["step.refused", "step.finished", "step.committed"])
async def test_i_18_killed_around_its_failure_a_step_fails_once_and_leaves_nothing(
    bench: Any, place: str
) -> None:
    FAILS[:] = [StepFailed("no"), StepFailed("no")]
    async with running() as rig:
        kill_at(place)
        await rig.client().start("two_entries", Moved(id="a"))
        await dead(rig)
        await started(rig)
        await done(rig)
        assert rig.status("two_entries/a") == "failed"
        assert [await EFFECTS[0].count(n) for n in ("from", "to")] == [0, 0]
        assert len(KEYS) == (1 if place == "step.committed" else 2), "a failure that was written is taken"


async def test_a_plain_function_runs_in_the_transaction_too(bench: Any) -> None:
    async with running() as rig:
        await rig.client().start("plain_entry", Moved(id="a"))
        await done(rig, "plain_entry")
        assert await outcome(rig, "plain_entry") == '{"id":"a","entries":["plain"],"why":""}'
        assert await bench.get("plain#1") == "1"


async def test_i_28_an_undo_in_a_transaction_marks_the_step_that_it_takes_back(bench: Any) -> None:
    async with running() as rig:
        await rig.client().start("taken_back", Moved(id="a"))
        await done(rig, "taken_back")
        assert rig.status("taken_back/a") == "compensated"
        assert [await EFFECTS[0].count(n) for n in ("debit", "undebit", "refused")] == [1, 1, 0]


@pytest.mark.parametrize("nth", range(1, 4))
@pytest.mark.parametrize("place", PLACES)
async def test_i_18_an_undo_killed_at_any_point_takes_back_once(bench: Any, place: str, nth: int) -> None:
    async with running() as rig:
        kill_at(place, nth)
        await rig.client().start("taken_back", Moved(id="a"))
        for _ in range(4000):
            if rig.tasks[-1].done() or rig.status("taken_back/a") == "compensated":
                break
            await rig.turn(1)
            await asyncio.sleep(0.0005)
        if rig.tasks[-1].done():
            await rig.killed()
            await started(rig)
        await done(rig, "taken_back")
        assert rig.status("taken_back/a") == "compensated"
        assert [await EFFECTS[0].count(n) for n in ("debit", "undebit", "refused")] == [1, 1, 0]


async def test_i_28_a_step_that_comes_after_its_undo_does_nothing(bench: Any) -> None:
    world = build(ledger.app().definition())
    told: list[Any] = []
    async with running() as rig:
        runner = StepRunner(world.types, lambda p, e, r: told.append(r), rig.clock, namespace="t")
        body = '{"args":["debit",1]}'
        undo = StepCall(
            "taken_back/a", "k-undo", "unbook", 1, '{"args":["debit"]}', 30_000, "undo", 1, undoes="k-step"
        )
        runner.start(0, 1, undo)
        await until(rig, lambda: len(told) == 1)
        runner.start(0, 1, StepCall("taken_back/a", "k-step", "book", 1, body, 30_000, "book", 1))
        await until(rig, lambda: len(told) == 2)
        assert [t.outcome for t in told] == ["ok", "declined"] and "undone" in told[1].reason
        assert (await EFFECTS[0].count("debit"), await EFFECTS[0].count("undebit")) == (0, 1)


async def test_i_24_a_key_that_was_used_for_another_call_parks_its_instance(bench: Any) -> None:
    async with running() as rig:
        partition = rig.workers[0].stations[0].partition
        kill_at("step.begun")
        await rig.client().start("two_entries", Moved(id="a"))
        await dead(rig)
        record = partition.load("two_entries/a")
        assert record is not None
        (pending,) = record.operations()
        receipt = Receipt("t", CONSUMER, "/contrapas/t/two_entries", pending.key, b"other")
        async with STORE.begin() as tx:
            assert await tx.take(receipt) is None
            await tx.finish(receipt, reply=b'"x"', reply_type="book", rows=())
        await started(rig)
        await until(rig, lambda: rig.status("two_entries/a") == "parked")
        assert KEYS == []


async def test_a_database_that_is_down_makes_a_step_wait_within_its_time() -> None:
    async with STORES["memory"]() as made:
        STORE.inner = await made.open()
        EFFECTS.append(Effects(made))
        async with running() as rig:
            database: Any = made
            database.database.down = True
            await rig.client().start("two_entries", Moved(id="a"))
            await quiet(rig, ms=5_000)
            assert rig.status("two_entries/a") == "running" and KEYS == []
            database.database.down = False
            await done(rig)
            assert [await EFFECTS[0].count(n) for n in ("from", "to")] == [1, 1]


@pytest.mark.parametrize("kind", ["lost-before", "lost-after"])
async def test_a_commit_without_an_answer_is_asked_for_and_takes_effect_once(kind: str) -> None:
    async with STORES["memory"]() as made:
        STORE.inner = await made.open()
        EFFECTS.append(Effects(made))
        async with running() as rig:
            made.fault("commit", kind)
            await rig.client().start("two_entries", Moved(id="a"))
            await done(rig)
            assert [await EFFECTS[0].count(n) for n in ("from", "to")] == [1, 1]
            assert len(KEYS) == (3 if kind == "lost-before" else 2)
