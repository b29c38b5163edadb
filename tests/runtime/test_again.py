"""Starting a key again: the table of `again=`, one run at a time, and what a new run takes over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contrapas import Command, Event, Saga, StepFailed, saga
from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.errors import Refused
from contrapas.runtime.build import build
from contrapas.runtime.client import Told
from contrapas.runtime.definition import Definition, SagaUse
from contrapas.testing import Sagas
from tests.runtime.rig import Rig, rig_of


class Ordered(Event, topic="a.events", key="id"):
    id: str
    n: int = 0


class Paid(Event, topic="a.events", key="id"):
    id: str
    n: int = 0


class Enough(Event, topic="a.events", key="id"):
    id: str


class Reserved(Event, topic="a.replies", key="id"):
    id: str


class Released(Event, topic="a.replies", key="id"):
    id: str


class Reserve(Command[Reserved], topic="a.commands", key="id"):
    id: str


class Release(Command[Released], topic="a.commands", key="id"):
    id: str


class Over(Event, topic="a.outcomes", key="id"):
    id: str
    text: str


class Said(Event, topic="a.outcomes", key="id"):
    id: str
    n: int


class Say(Command[Said], key="id"):
    id: str
    n: int


async def _either(s: Saga, first: Ordered | Paid) -> Over:
    got: list[str] = [f"{type(first).__name__}{first.n}"]
    while True:
        event = await s.wait(Ordered, Paid, Enough, within="30d")
        if not isinstance(event, Ordered | Paid):
            return Over(id=s.key, text=" ".join(got))
        got.append(f"{type(event).__name__}{event.n}")


async def _booking(s: Saga, first: Ordered | Say) -> Over:
    if isinstance(first, Say):
        s.reply(first, Said(id=s.key, n=first.n))
    await s.step(Reserve(id=s.key), undo=Release(id=s.key), within="1d")
    await s.wait(Enough, within="30d")
    return Over(id=s.key, text=str(first.n))


async def _pivoting(s: Saga, first: Ordered) -> Over:
    s.point_of_no_return()
    await s.wait(Enough, within="30d")
    return Over(id=s.key, text=str(first.n))


async def _owing(s: Saga, first: Ordered) -> Over:
    try:
        await s.step(Reserve(id=s.key), undo=lambda ok: Release(id=ok.id), within="30s")
    except StepFailed:
        await s.compensate()
    return Over(id=s.key, text=str(first.n))


async def _faulty(s: Saga, first: Ordered) -> Over:
    await s.wait(Enough, within="30d")
    if first.n == 1:
        raise ValueError("a bug in the first order")
    return Over(id=s.key, text=str(first.n))


either_refuse = saga(name="either_refuse")(_either)
either_deliver = saga(name="either_deliver", again="deliver")(_either)
booking_restart = saga(name="booking_restart", again="restart")(_booking)
booking_skip = saga(name="booking_skip", again="skip")(_booking)
booking_refuse = saga(name="booking_refuse")(_booking)
booking_deliver = saga(name="booking_deliver", again="deliver")(_booking)
owing_restart = saga(name="owing_restart", again="restart")(_owing)
faulty_restart = saga(name="faulty_restart", again="restart")(_faulty)
pivoting_restart = saga(name="pivoting_restart", again="restart")(_pivoting)


def app(*sagas: Any) -> Definition:
    return Definition(namespace="a", sagas=tuple(SagaUse(saga=s, mode="orchestrate") for s in sagas))


def record(rig: Rig, instance: str) -> InstanceRecord:
    return decode([r for r in rig.records() if r.key == instance.encode()][-1].value)


def runs(rig: Rig, instance: str) -> list[tuple[str, str, str]]:
    """(run number, status, outcome) of every record, a run by its order."""
    found = [decode(r.value) for r in rig.records() if r.key == instance.encode()]
    order = list(dict.fromkeys(r.run for r in found))
    return [(str(order.index(r.run)), r.status, r.outcome_body) for r in found]


async def ask(rig: Rig, command: object, **more: Any) -> Told:
    task = asyncio.ensure_future(rig.client().ask(command, **more))
    await rig.until(task.done)
    return task.result()


async def sent(rig: Rig, *events: Event) -> None:
    for event in events:
        await rig.client().send(event)
        await rig.turn(1, 30)


async def reserved(rig: Rig, key: str) -> None:
    await rig.until(lambda: bool(rig.records("a.commands")))
    await rig.turn(1, 20)
    await sent(rig, Reserved(id=key))


async def test_a_start_of_the_other_type_is_an_ordinary_event_of_the_run() -> None:
    what = app(either_refuse)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Paid(id="k", n=1), Ordered(id="k", n=2), Enough(id="k"))
        await rig.until(lambda: rig.status("either_refuse/k") == "done")
        assert record(rig, "either_refuse/k").outcome_body == '{"id":"k","text":"Paid1 Ordered2"}'


async def test_refuse_takes_the_same_body_for_a_success_and_another_for_a_conflict() -> None:
    what = app(either_refuse)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await sent(rig, Ordered(id="k", n=1))
        for end in ("running", "ended"):
            same = asyncio.ensure_future(client.start("either_refuse", Ordered(id="k", n=1), timeout_ms=900))
            await rig.until(same.done)
            assert same.result().verdict == "duplicate", end
            other = asyncio.ensure_future(client.start("either_refuse", Ordered(id="k", n=7), timeout_ms=900))
            await rig.until(other.done)
            with pytest.raises(Refused) as why:
                other.result()
            assert why.value.code == "CP412"
            await sent(rig, Enough(id="k"))
        assert rig.versions("either_refuse/k") == [1, 2, 3]  # the second Enough is a no-op of an ended one


async def test_deliver_hands_a_start_to_the_running_instance_and_begins_a_new_run_after_the_end() -> None:
    what = app(either_deliver)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Ordered(id="k", n=1), Ordered(id="k", n=2), Enough(id="k"), Ordered(id="k", n=3))
        await sent(rig, Enough(id="k"))
        assert runs(rig, "either_deliver/k") == [
            ("0", "waiting", ""),
            ("0", "waiting", ""),
            ("0", "done", '{"id":"k","text":"Ordered1 Ordered2"}'),
            ("1", "waiting", ""),
            ("1", "done", '{"id":"k","text":"Ordered3"}'),
        ]
        assert rig.versions("either_deliver/k") == [1, 2, 3, 4, 5]


async def test_an_old_duplicate_stays_one_in_the_next_run() -> None:
    what = app(either_deliver)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await client.send(Ordered(id="k", n=1), event_id="one")
        await sent(rig, Enough(id="k"))
        await client.send(Ordered(id="k", n=2), event_id="two")
        await rig.turn(1, 30)
        await client.send(Ordered(id="k", n=1), event_id="one")
        await rig.turn(1, 30)
        assert rig.versions("either_deliver/k") == [1, 2, 3]


async def test_skip_lets_a_start_go_while_it_runs_and_declines_a_command() -> None:
    what = app(booking_skip)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Ordered(id="k", n=1), Ordered(id="k", n=2))
        assert record(rig, "booking_skip/k").cause.note == "no-op: the key is taken"
        told = await ask(rig, Say(id="k", n=3))
        assert (told.verdict, told.reason, told.code) == ("declined", "exists", "CP412")
        await reserved(rig, "k")
        await sent(rig, Enough(id="k"))
        assert rig.status("booking_skip/k") == "done"
        assert (await ask(rig, Say(id="k", n=4))).outcome_body == '{"id":"k","n":4}'


async def test_a_start_command_on_a_taken_key_is_declined_and_the_same_body_gets_the_first_answer() -> None:
    what = app(booking_refuse)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        first = await ask(rig, Say(id="k", n=1), event_id="one")
        assert (await ask(rig, Say(id="k", n=1), event_id="two")).outcome_body == first.outcome_body
        told = await ask(rig, Say(id="k", n=2))
        assert (told.verdict, told.reason) == ("declined", "exists")


@pytest.mark.case(98, "restart: unwinding, settling, parked, past the pivot")
async def test_case_98_restart_cancels_with_undo_and_then_begins_a_new_run() -> None:
    what = app(booking_restart)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Ordered(id="k", n=1))
        await reserved(rig, "k")
        await sent(rig, Ordered(id="k", n=2))
        assert rig.status("booking_restart/k") == "unwinding"
        assert [c.type for c in record(rig, "booking_restart/k").talk.next_start] == ["Ordered"]  # type: ignore[union-attr]
        await sent(rig, Ordered(id="k", n=3))  # it unwinds: the newest start is kept
        assert rig.status("booking_restart/k") == "unwinding"
        await sent(rig, Released(id="k"))
        assert [(n, s) for n, s, _ in runs(rig, "booking_restart/k")] == [
            ("0", "waiting"),
            ("0", "waiting"),
            ("0", "unwinding"),
            ("0", "unwinding"),
            ("0", "compensated"),
            ("1", "waiting"),
        ]
        now = record(rig, "booking_restart/k")
        assert '"n":3' in now.root.frames[0].slots["first"] and now.version == 6


@pytest.mark.case(98, "restart: unwinding, settling, parked, past the pivot")
async def test_case_98_restart_keeps_a_start_while_the_old_run_is_past_its_pivot() -> None:
    what = app(pivoting_restart)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Ordered(id="k", n=1), Ordered(id="k", n=2), Ordered(id="k", n=3))
        assert rig.status("pivoting_restart/k") == "waiting"
        await sent(rig, Enough(id="k"))
        assert [(n, s) for n, s, _ in runs(rig, "pivoting_restart/k")][-2:] == [
            ("0", "done"),
            ("1", "waiting"),
        ]
        assert '"n":3' in record(rig, "pivoting_restart/k").root.frames[0].slots["first"]


@pytest.mark.case(98, "restart: unwinding, settling, parked, past the pivot")
async def test_case_98_restart_keeps_a_start_while_the_old_run_settles() -> None:
    sagas = Sagas(mode="compiled")
    run = await sagas.start(owing_restart, Ordered(id="k", n=1))
    reserve = await run.expect(Reserve)
    await sagas.skip("30s")
    assert run.status == "settling"
    first = run.record.run
    await sagas.send(Ordered(id="k", n=2))
    assert (run.status, run.record.run) == ("settling", first)
    await reserve.reply(Reserved(id="k"))
    await (await run.expect(Release)).reply(Released(id="k"))
    assert run.record.run != first, "the new run begins in the transition after the old one's last"
    assert run.status == "waiting" and '"n":2' in run.locals["first"]
    sagas.close()


@pytest.mark.case(98, "restart: unwinding, settling, parked, past the pivot")
async def test_case_98_restart_keeps_a_start_while_the_old_run_is_parked() -> None:
    sagas = Sagas(mode="compiled")
    run = await sagas.start(faulty_restart, Ordered(id="k", n=1))
    await sagas.send(Enough(id="k"))
    assert run.status == "parked"
    first = run.record.run
    await sagas.send(Ordered(id="k", n=2))
    assert (run.status, run.record.run) == ("parked", first)
    await run.kill()
    assert run.record.run != first
    assert run.status == "waiting" and '"n":2' in run.locals["first"]
    sagas.close()


async def test_case_98_a_start_command_that_a_newer_one_takes_the_place_of_is_declined() -> None:
    what = app(booking_restart)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Ordered(id="k", n=1))
        await reserved(rig, "k")
        one = asyncio.ensure_future(rig.client().ask(Say(id="k", n=2), timeout_ms=600_000))
        await rig.turn(1, 40)
        two = asyncio.ensure_future(rig.client().ask(Say(id="k", n=3), timeout_ms=600_000))
        await rig.until(one.done)
        assert (one.result().verdict, one.result().reason) == ("declined", "exists")
        await sent(rig, Released(id="k"))
        await rig.until(two.done)
        assert two.result().outcome_body == '{"id":"k","n":3}'


async def test_deliver_keeps_all_starts_while_the_old_run_unwinds() -> None:
    what = app(booking_deliver)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Ordered(id="k", n=1))
        await reserved(rig, "k")
        asked = asyncio.ensure_future(rig.client().operate("booking_deliver/k", "cancel"))
        await rig.until(asked.done)
        await sent(rig, Ordered(id="k", n=2), Ordered(id="k", n=3))
        assert rig.status("booking_deliver/k") == "unwinding"
        await sent(rig, Released(id="k"))
        now = record(rig, "booking_deliver/k")
        assert now.status == "waiting" and '"n":2' in now.root.frames[0].slots["first"]
        assert "Ordered" in now.cause.note  # nothing of this saga waits for a further one
