"""Corners where a partition could send too little or do too much: two records in one batch, empty letters, old copies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.app import App
from contrapas.author.event import Command, Event
from contrapas.author.retry import Retry
from contrapas.author.saga import Saga, saga
from contrapas.author.service import Delivery, Service
from contrapas.author.step import step
from contrapas.core.envelope import Cause
from contrapas.core.envelope_avro import decode
from contrapas.core.lane import Draft, Record
from contrapas.core.world import Input, StepCall
from contrapas.log.memory import MemoryLog
from contrapas.log.sqlite_owners import Holder
from contrapas.runtime.build import build
from contrapas.runtime.careful import SUSPECTS, TAKEOVERS, Care
from contrapas.runtime.clock import JumpClock
from contrapas.runtime.restore import take_over
from contrapas.runtime.steps import StepRunner
from contrapas.runtime.worker import setting_of
from tests.runtime.machines import Began, Go
from tests.runtime.rig import rig_of
from tests.runtime.test_partition import NOW, Stage

LOG: list[str] = []


class Ordered(Event, topic="twice.events", key="id"):
    id: str


class Paid(Event, topic="twice.events", key="id"):
    id: str


class Charge(Command[Paid], topic="twice.commands", key="id"):
    id: str


@saga
async def buys(s: Saga, order: Ordered) -> None:
    await s.step(Charge(id=order.id), undo=None, retry=Retry(3, backoff="1s"))


@step(undo=None, timeout="1s")
def holds(name: str) -> str:
    LOG.append(name)
    GATE.wait(10)
    return name


@saga
async def held(s: Saga, order: Ordered) -> None:
    await holds(order.id)


GATE = threading.Event()
BUYING = App("t")
BUYING.orchestrate(buys)
HOLDING = App("t")
HOLDING.orchestrate(held)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    LOG.clear()
    GATE.clear()
    yield
    GATE.set()
    failpoints.disarm()


def test_a_message_of_the_same_batch_rides_in_the_newest_record() -> None:
    """After a crash only the newest record of an instance is read: it must hold everything that has not left."""
    stage = Stage(fence="order")
    stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.feed("operate", "pay/a", verb="pause")
    batch = stage.decide()
    assert len(batch.log) == 2
    newest = decode(batch.log[-1].value or b"")
    assert [m.to for m in newest.unsent] == ["pay.commands"]


def test_where_the_log_stores_messages_with_the_commit_none_rides_along() -> None:
    stage = Stage()
    stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.feed("operate", "pay/a", verb="pause")
    newest = decode(stage.decide().log[-1].value or b"")
    assert newest.unsent == []


def test_a_dead_letter_without_a_value_leaves_in_its_turn() -> None:
    stage = Stage(fence="order")
    stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.go()
    stage.p.feed([Record(0, stage.offset, b"x", b"", (), 0)], stage.offset + 1)
    (letter,) = stage.go().out
    assert letter.value == b""
    stage.p.left()
    assert stage.p.settled[("in", 0)] == 1
    stage.p.left()
    assert stage.p.settled[("in", 0)] == 2


def test_a_batch_that_was_taken_back_counts_nothing() -> None:
    stage = Stage()
    stage.feed("start", "wait/a", Began(id="a", n=1))
    stage.p.abort(stage.decide())
    assert (stage.p.counts.inputs, stage.p.counts.transitions) == (0, 0)
    stage.go()
    assert (stage.p.counts.inputs, stage.p.counts.transitions) == (1, 1)


def test_an_early_event_that_comes_again_after_its_start_is_a_duplicate() -> None:
    """The same id from another place: positions do not know it, ids must."""
    stage = Stage()
    stage.feed("signal", "wait/a", Go(id="a"), ident="g1")
    stage.feed("start", "wait/a", Began(id="a", n=1))
    stage.go()
    assert stage.p.counts.early == 1
    stage.feed("signal", "wait/a", Go(id="a"), ident="g1")
    stage.go()
    assert stage.p.counts.duplicates == 1


def test_careful_mode_waits_for_the_rest_of_the_lane_instead_of_deciding_nothing() -> None:
    stage = Stage()
    stage.p.care = Care('{"what":"step x/1","instance":"seq/a","deaths":0}', 5)
    assert not stage.p.ready(NOW)


def test_careful_mode_keeps_the_name_of_a_step_in_hand_in_every_commit() -> None:
    stage = Stage()
    stage.feed("start", "seq/a", Began(id="a", n=1))
    (call,) = stage.go().steps
    stage.p.care = Care("", 1)
    stage.p.care.steps = [call]
    stage.go()
    assert stage.p.care.in_hand == call.key
    assert call.key in stage.p.next_control(stage.p.open(NOW)).trying


def test_the_batch_with_which_careful_mode_ends_issues_its_steps() -> None:
    stage = Stage()
    stage.feed("start", "seq/a", Began(id="a", n=1))
    (call,) = stage.go().steps
    failed = Cause(kind="result", type=call.step, source="local", id=call.key)
    stage.p.results.append(
        Input(cause=failed, instance=call.instance, at=0, outcome="error", in_reply_to=call.key, attempt=1)
    )
    assert stage.go().steps == []
    stage.p.care = Care("", 0)
    later = NOW + 3_600_000
    stage.p.complete_until = later
    (again,) = stage.go(later).steps
    assert (again.key, again.attempt) == (call.key, 2)
    assert stage.p.care is None


def test_careful_mode_ends_with_what_had_waited_though_more_has_come_meanwhile() -> None:
    """A partition that is never idle would otherwise decide one input at a time for ever."""
    stage = Stage()
    for n in range(6):
        stage.feed("start", f"pay/{n}", Began(id=str(n), n=1))
    stage.p.care = Care("", 1)
    stage.go()  # the first input is named, nothing is decided
    stage.go()
    assert stage.p.position == 1 and stage.p.care is not None
    stage.go()
    assert stage.p.position == 6 and stage.p.care is None


@pytest.mark.parametrize("waiting", [10, 5_000])
async def test_careful_mode_tries_one_by_one_only_what_the_last_owners_can_have_had_in_hand(
    waiting: int,
) -> None:
    """A backlog of hours would otherwise be worked through with a commit for each message."""
    log = MemoryLog("twice", 1)
    definition = BUYING.definition()
    await log.publish([Draft("in", 0, b"k", b"{}") for _ in range(waiting)])
    for _ in range(TAKEOVERS):
        await log.acquire(0, "dies")
    lease = await log.acquire(0, "careful")
    taken = await take_over(log, lease, setting_of(log, definition, build(definition), writer="careful"))
    assert taken.partition.care is not None
    assert taken.partition.care.end == min(waiting, SUSPECTS)


def test_careful_mode_parks_nothing_that_has_ended_or_has_applied_what_is_blamed() -> None:
    """What is in hand when owners die one after the other may be a message that came a second time."""
    stage = Stage()
    stage.feed("start", "wait/a", Began(id="a", n=1))
    stage.go()
    stage.feed("event", "wait/a", Go(id="a"), ident="go")
    stage.go()
    ended = stage.p.load("wait/a")
    assert ended is not None and ended.status == "done"
    stage.feed("event", "wait/a", Go(id="a"), ident="go")
    stage.p.care = Care('{"what":"in 0@2","instance":"","deaths":3}', 3)
    stage.go()
    after = stage.p.load("wait/a")
    assert after is not None and (after.status, after.parked, after.version) == ("done", None, ended.version)
    assert stage.p.counts.dead == 1 and stage.p.position == 3, "it is kept, byte for byte"


async def test_a_command_is_really_tried_again_after_its_handler_gave_up() -> None:
    """`retry=` repeats unknown outcomes: the answer of the first attempt is not the answer to all."""
    bank = Service("bank")

    @bank.on(Charge)
    async def charge(c: Charge, d: Delivery) -> Paid:
        LOG.append(d.idempotency_key)
        if len(LOG) <= 5:
            raise RuntimeError("the database is away")
        return Paid(id=c.id)

    app = App("t")
    app.orchestrate(buys)
    app.serve(bank)
    definition = app.definition()
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        await rig.client().start("buys", Ordered(id="a"))
        await rig.until(lambda: rig.status("buys/a") == "done", ms=20)
        assert len(LOG) == 6 and len(set(LOG)) == 1


def _runner(threads: int) -> tuple[StepRunner, list[Input], JumpClock]:
    world = build(HOLDING.definition())
    told: list[Input] = []
    clock = JumpClock()
    return (
        StepRunner(world.types, lambda p, e, event: told.append(event), clock, threads=threads),
        told,
        clock,
    )


def _call(n: int) -> StepCall:
    return StepCall("held/a", f"k{n}", "holds", 1, f'{{"args":["{n}"]}}', 1_000, "holds", 1)


async def test_a_step_that_waits_for_a_thread_does_not_start_after_its_partition_is_lost() -> None:
    """I-14: no local step starts after the loss."""
    runner, _, _ = _runner(1)
    for n in (1, 2):
        runner.start(0, 1, _call(n))
    while not LOG:
        await asyncio.sleep(0.001)
    runner.drop(0)
    GATE.set()
    await asyncio.sleep(0.05)
    runner.close()
    assert LOG == ["1"] and runner.busy() <= 1


async def test_the_time_of_a_step_begins_when_it_runs_and_one_given_up_never_starts_later() -> None:
    """What was given up may have been taken back already."""
    runner, told, clock = _runner(1)
    for n in (1, 2):
        runner.start(0, 1, _call(n))
    while not LOG:
        await asyncio.sleep(0.001)
    clock.advance(1_001)
    assert [t.in_reply_to for t in told] == ["k1"]
    GATE.set()
    while told[-1].in_reply_to != "k2":
        await asyncio.sleep(0.001)
    runner.close()
    assert [(t.in_reply_to, t.outcome) for t in told] == [("k1", "error"), ("k1", "ok"), ("k2", "ok")]


async def test_a_partition_taken_away_while_it_is_restored_is_given_back() -> None:
    definition = BUYING.definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        gate = asyncio.Event()
        log: Any = rig.log.peer()
        original = log.topic

        async def slow(lane: str) -> Any:
            await gate.wait()
            return await original(lane)

        w: Any = await rig.worker(log)
        w._assigned = frozenset()
        w._settle()
        await rig.until(lambda: not w.stations)
        log.topic = slow
        w._assigned = frozenset({0})
        w._settle()
        await rig.turn(1, 50)
        w._assigned = frozenset()
        w._settle()
        gate.set()
        await rig.turn(1, 200)
        assert not w.stations and all(t.done() for t in w._tenures.values())


async def test_a_result_that_came_before_the_stop_is_written_before_the_release() -> None:
    """I-43: an orderly stop repeats nothing."""
    definition = HOLDING.definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        w = await rig.worker()
        await rig.client().start("held", Ordered(id="a"))
        await rig.until(lambda: bool(LOG))
        (station,) = w.stations.values()
        GATE.set()
        while not station.partition.results:
            await asyncio.sleep(0)
        station.stop()
        await rig.until(lambda: not w.stations)
        assert rig.status("held/a") == "done"


async def test_a_paused_instance_s_step_goes_on_after_a_takeover() -> None:
    definition = HOLDING.definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("held", Ordered(id="a"))
        await rig.until(lambda: len(LOG) == 1)
        await client.operate("held/a", "pause")
        await rig.until(lambda: rig.status("held/a") == "paused")
        await rig.kill()
        await rig.worker()
        await rig.until(lambda: len(LOG) == 2)
        GATE.set()


async def test_an_instance_that_waited_for_a_release_goes_on_when_an_owner_has_it() -> None:
    definition = HOLDING.definition()
    world = build(definition)
    types: Any = copy(world.types)
    types.steps = {}
    bare = replace(world, types=types)
    async with rig_of(definition, world, partitions=1) as rig:
        await rig.worker()
        rig.workers[0].setting = replace(rig.workers[0].setting, world=bare)
        (station,) = rig.workers[0].stations.values()
        station.partition.setting = replace(station.partition.setting, world=bare)
        await rig.client().start("held", Ordered(id="a"))
        await rig.until(lambda: rig.status("held/a") == "parked")
        await rig.kill()
        await rig.worker()
        GATE.set()
        await rig.until(lambda: rig.status("held/a") == "done")


async def test_an_unknown_destination_parks_its_instance_and_retry_sends_the_message() -> None:
    definition = BUYING.definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        w = await rig.worker()
        client = rig.client()
        gone = rig.log.store.lanes.pop("twice.commands")
        await client.start("buys", Ordered(id="a"))
        await client.start("buys", Ordered(id="b"))
        await rig.until(lambda: rig.status("buys/b") == "parked")
        assert rig.status("buys/a") == "parked" and w.health().colour == "green"
        record = decode(next(r for r in rig.records() if r.key == b"buys/a").value)
        assert record.parked is not None and record.parked.code == "CP505"
        assert [m.to for m in record.unsent] == ["twice.commands"] and record.out == []
        rig.log.store.lanes["twice.commands"] = gone
        await client.operate("buys/a", "retry")
        await rig.until(lambda: len(rig.records("twice.commands")) == 1)
        assert rig.status("buys/a") == "waiting"


async def test_health_names_who_holds_a_partition_and_says_nothing() -> None:
    """I-44."""
    definition = BUYING.definition()
    async with rig_of(definition, build(definition), partitions=1) as rig:
        w: Any = await rig.worker()
        w.log.stalled = lambda: [Holder(3, "w9", "host-9", 4711, 31_000)]
        found = w.health()
        assert found.colour == "red" and "host-9, pid 4711" in found.reasons[0]


async def test_remembered_answers_are_bounded_in_bytes() -> None:
    """I-42: what is forgotten runs again under the same key."""
    bank = Service("bank")

    @bank.on(Charge)
    async def charge(c: Charge) -> Paid:
        return Paid(id=c.id)

    app = App("t")
    app.serve(bank)
    definition = app.definition()
    async with rig_of(definition, build(definition)) as rig:
        (service,) = (await rig.worker()).services
        attempts = service.attempts
        for n in range(50):
            attempts.remember(("/x", str(n)), b"", [Draft("t", -1, b"k", b"x" * 900_000)])
        assert attempts.answers_bytes <= 32 << 20 and len(attempts.answers) == 37


async def test_a_second_attempt_of_a_thread_that_runs_on_is_that_thread() -> None:
    """I-15: one process never runs two copies of one attempt's key."""
    runner, told, clock = _runner(4)
    runner.start(0, 1, _call(1))
    while not LOG:
        await asyncio.sleep(0.001)
    clock.advance(1_001)
    assert [t.outcome for t in told] == ["error"]
    runner.start(0, 1, _call(1)._replace(attempt=2))
    await asyncio.sleep(0.05)
    assert LOG == ["1"]
    GATE.set()
    while len(told) < 2:
        await asyncio.sleep(0.001)
    runner.close()
    assert (told[1].outcome, told[1].attempt) == ("ok", 2)


async def test_a_thread_that_ends_between_two_attempts_settles_its_step() -> None:
    runner, told, clock = _runner(4)
    runner.start(0, 1, _call(1))
    while not LOG:
        await asyncio.sleep(0.001)
    clock.advance(1_001)
    GATE.set()
    while len(told) < 2:
        await asyncio.sleep(0.001)
    runner.close()
    assert (told[1].outcome, told[1].in_reply_to) == ("ok", "k1")
