"""The smaller forms: only new events, transient ones, one-way commands, cancelling others, undoing failures, views."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel

from contrapas import Command, Event, Saga, StepFailed, Telling, Timeout, saga
from contrapas.author.saga import Activation
from contrapas.core.envelope_avro import decode
from contrapas.errors import CompileError, DataError
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition, SagaUse
from tests.runtime.rig import Rig, rig_of


class Began(Event, topic="f.events", key="id"):
    id: str
    other: str = ""


class Answer(Event, topic="f.events", key="id"):
    id: str
    n: int


class Go(Event, topic="f.events", key="id"):
    id: str


class Tick(Event, topic="f.events", key="id", transient=True):
    id: str
    n: int


class Over(Event, topic="f.outcomes", key="id"):
    id: str
    text: str


class Done(Event, topic="f.replies", key="id"):
    id: str


class Broke(Event, topic="f.replies", key="id"):
    id: str


class Work(Command[Done, Broke], topic="f.commands", key="id"):
    id: str


class Clean(Command[Done], topic="f.commands", key="id"):
    id: str


class Shown(BaseModel):
    n: int


@saga
async def rounds(s: Saga, began: Began) -> Over:
    await s.wait(Go, within="1d")
    got = await s.wait(Answer, fresh=True, within="1d")
    return Over(id=s.key, text="none" if isinstance(got, Timeout) else str(got.n))


@saga
async def distant(s: Saga, began: Began) -> Over:
    got = await s.wait(Answer, correlate=began.other + "!", fresh=True, within="1d")
    return Over(id=s.key, text="none" if isinstance(got, Timeout) else str(got.n))


@saga
async def ticking(s: Saga, began: Began) -> Over:
    await s.wait(Go, within="1d")
    got = await s.wait(Tick, within="1d")
    return Over(id=s.key, text="none" if isinstance(got, Timeout) else str(got.n))


@saga(show=Shown)
async def telling(s: Saga, began: Began) -> Over:
    s.show(Shown(n=1))
    s.note("waiting\n  for customs")
    s.tell(Work(id=s.key))
    s.tell(Clean(id=s.key), after="10m")
    s.tell(Clean(id="late"), after="10h")
    await s.wait(Go, within="1h")
    return Over(id=s.key, text="told")


@saga
async def recalling(s: Saga, began: Began) -> Over:
    first = s.tell(Clean(id="first"), after="10m")
    again = [s.tell(Clean(id=f"more{n}"), after="10m") for n in range(3)]
    s.untell(again.pop(0))
    again.append(s.tell(Clean(id="last"), after="10m"))
    await s.wait(Go, within="1h")
    s.untell(first)
    s.untell(again[0])
    await s.wait(Answer, within="1h")
    s.untell(again[1])  # it has left
    await s.sleep("1h")
    return Over(id=s.key, text="told")


@saga
async def canceller(s: Saga, began: Began) -> Over:
    status = await s.cancel(undoing, began.other, reason="no more")
    return Over(id=s.key, text=str(status))


@saga
async def undoing(s: Saga, began: Began) -> Over:
    try:
        await s.step(Work(id=s.key), undo=Clean(id=s.key), undo_failed=True, within="1d")
    except StepFailed:
        await s.compensate()
        return Over(id=s.key, text="undone")
    if began.other == "pivot":
        s.point_of_no_return()
    await s.wait(Go, within="1d")
    return Over(id=s.key, text="done")


def app(*sagas: Any, mode: str = "orchestrate") -> Definition:
    return Definition(namespace="f", sagas=tuple(SagaUse(saga=s, mode=mode) for s in sagas))


async def sent(rig: Rig, *events: Event) -> None:
    for event in events:
        await rig.client().send(event)
        await rig.turn(1, 30)


def outcome(rig: Rig, instance: str) -> str:
    return decode([r for r in rig.records() if r.key == instance.encode()][-1].value).outcome_body


def types(rig: Rig, topic: str) -> list[str]:
    return [dict(r.headers)["ce_type"].decode() for r in rig.records(topic)]


async def test_a_fresh_wait_takes_only_what_comes_after_it_began() -> None:
    what = app(rounds)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Began(id="k"), Answer(id="k", n=1), Go(id="k"))
        assert rig.status("rounds/k") == "waiting"
        await sent(rig, Answer(id="k", n=2))
        assert outcome(rig, "rounds/k") == '{"id":"k","text":"2"}'


async def test_a_fresh_wait_at_a_rendezvous_passes_over_what_lies_there_and_leaves_it_to_others() -> None:
    what = app(distant)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Answer(id="x!", n=1), Began(id="k", other="x"))
        await rig.turn(1, 50)
        assert rig.status("distant/k") == "waiting"
        await sent(rig, Answer(id="x!", n=2))
        await rig.until(lambda: rig.status("distant/k") == "done")
        assert outcome(rig, "distant/k") == '{"id":"k","text":"2"}'


async def test_a_transient_event_counts_where_somebody_waits_and_is_never_kept() -> None:
    what = app(ticking)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Tick(id="k", n=0), Began(id="k"), Tick(id="k", n=1), Go(id="k"))
        assert rig.status("ticking/k") == "waiting"
        found = [decode(r.value) for r in rig.records() if r.key == b"ticking/k"]
        assert found[1].cause.note == "no-op: nobody waits" and not found[-1].kept
        await sent(rig, Tick(id="k", n=2))
        assert outcome(rig, "ticking/k") == '{"id":"k","text":"2"}'
        assert not rig.records("f.dlq") and not rig.records("dlq")


def test_a_command_cannot_be_transient() -> None:
    class Odd(Command[Done], key="id", transient=True):
        id: str

    @saga
    async def waits(s: Saga, began: Began) -> None:
        await s.wait(Odd, within="1h")

    with pytest.raises((CompileError, DataError)) as why:
        build(app(waits))
    assert "CP144" in str(why.value)


async def test_a_one_way_command_leaves_now_or_later_and_never_after_the_end() -> None:
    what = app(telling)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Began(id="k"))
        assert types(rig, "f.commands") == ["Work"]
        await rig.until(lambda: len(types(rig, "f.commands")) == 2, ms=10_000)
        assert types(rig, "f.commands") == ["Work", "Clean"]
        assert dict(rig.records("f.commands")[-1].headers)["cp-reply-to"] == b""
        told = await rig.client().state("telling/k")
        assert (told.view, told.note) == ('{"n":1}', "waiting for customs")
        await sent(rig, Go(id="k"))
        assert rig.status("telling/k") == "done"
        await rig.turn(60_000, 700)
        assert len(types(rig, "f.commands")) == 2


@pytest.mark.parametrize("crash", [False, True])
async def test_a_message_that_was_to_leave_later_is_taken_back_while_it_is_not_sent(crash: bool) -> None:
    what = app(recalling)
    async with rig_of(what, build(what)) as rig:

        async def dies() -> None:
            if crash:
                await rig.kill()
                await rig.worker()

        await rig.worker()
        await sent(rig, Began(id="k"))
        await dies()
        record = decode([r for r in rig.records() if r.key == b"recalling/k"][-1].value)
        assert record.talk is not None
        assert [json.loads(t.body)["id"] for t in record.talk.tells] == ["first", "more1", "more2", "last"]
        assert len({t.id for t in record.talk.tells}) == 4
        await sent(rig, Go(id="k"))
        await dies()
        await rig.turn(10_000, 70)
        left = {
            dict(r.headers)["ce_id"]: json.loads(r.value or b"{}")["id"] for r in rig.records("f.commands")
        }
        assert sorted(left.values()) == ["last", "more2"]
        await dies()
        await sent(rig, Answer(id="k", n=1))
        await dies()
        await rig.turn(10_000, 20)
        assert {dict(r.headers)["ce_id"] for r in rig.records("f.commands")} == set(left)
        assert rig.status("recalling/k") == "waiting"


def test_a_handle_of_another_instance_takes_nothing_back() -> None:
    s = Saga(Activation("k", "recalling/k"))
    with pytest.raises(RuntimeError, match="another instance"):
        s.untell(Telling("recalling/other@3#t0"))
    with pytest.raises(TypeError, match="untell"):
        s.untell("recalling/k@3#t0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("other", "expected"),
    [("gone", "None"), ("running", "compensated"), ("ended", "done"), ("pivot", "waiting")],
)
async def test_cancelling_another_instance_gives_its_status_once_it_has_ended_or_refused(
    other: str, expected: str
) -> None:
    what = app(canceller, undoing)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        if other != "gone":
            await rig.client().start("undoing", Began(id=other, other=other))
            await rig.turn(1, 30)
            await sent(rig, Done(id=other))
        if other == "ended":
            await sent(rig, Go(id=other))
        await rig.client().start("canceller", Began(id="c", other=other))
        await rig.turn(1, 60)
        if other == "running":
            assert rig.status("canceller/c") == "waiting" and rig.status("undoing/running") == "unwinding"
            await sent(rig, Done(id=other))
        await rig.until(lambda: rig.status("canceller/c") == "done")
        assert outcome(rig, "canceller/c") == f'{{"id":"c","text":"{expected}"}}'


async def test_a_definite_failure_is_undone_where_the_step_says_so() -> None:
    what = app(undoing)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Began(id="k"), Broke(id="k"))
        assert types(rig, "f.commands") == ["Work", "Clean"]
        await sent(rig, Done(id="k"))
        assert rig.status("undoing/k") == "compensated"


async def test_a_view_of_another_class_is_a_bug_of_the_saga() -> None:
    @saga(show=Shown)
    async def odd(s: Saga, began: Began) -> None:
        s.show(Began(id="x"))

    what = app(odd)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Began(id="k"))
        assert rig.status("odd/k") == "parked"
        told = asyncio.ensure_future(rig.client().state("odd/k"))
        await rig.until(told.done)
        assert "shows Shown, not Began" in told.result().reason
