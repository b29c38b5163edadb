"""Under `observe`: commands are events like any other, nothing leaves, and runs may be joined in mid-stream."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas import App, Command, Event, Saga, saga
from contrapas.check.report import check_app
from contrapas.core.envelope_avro import decode
from contrapas.errors import DataError, Refused
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition, SagaUse
from tests.runtime.rig import Rig, rig_of


class Began(Event, topic="o.events", key="id"):
    id: str


class Shipped(Event, topic="o.events", key="id"):
    id: str
    n: int = 0


class Done(Event, topic="o.replies", key="id"):
    id: str


class Work(Command[Done], topic="o.commands", key="id"):
    id: str


class Other(Command[Done], topic="o.commands", key="id"):
    id: str


class Over(Event, topic="o.outcomes", key="id"):
    id: str
    n: int


@saga(again="deliver")
async def watched(s: Saga, began: Began) -> Over:
    asked = await s.wait(Work, within="30d")
    if isinstance(asked, Work):
        s.reply(asked, Done(id=s.key))
    s.tell(Other(id=s.key))
    s.untell(s.tell(Other(id=s.key), after="1m"))
    s.emit(Shipped(id=s.key))
    return Over(id=s.key, n=1)


def adopt(event: Shipped) -> Began:
    if event.n == 13:
        raise ValueError("no start can be told")
    return Began(id=event.id)


@saga(adopt=adopt)
async def following(s: Saga, began: Began) -> Over:
    shipped = await s.wait(Shipped, within="30d")
    return Over(id=s.key, n=shipped.n if isinstance(shipped, Shipped) else -1)


def app(one: Any, unmatched: str = "park") -> Definition:
    use = SagaUse(saga=one, mode="observe", unmatched=unmatched)
    return Definition(namespace="o", sagas=(use,))


async def sent(rig: Rig, *events: Event) -> None:
    for event in events:
        await rig.client().send(event)
        await rig.turn(1, 30)


async def test_a_command_is_an_event_like_any_other_and_nothing_is_answered_or_sent() -> None:
    what = app(watched)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await sent(rig, Began(id="k"), Work(id="k"))
        assert rig.status("watched/k") == "done"
        last = decode([r for r in rig.records() if r.key == b"watched/k"][-1].value)
        assert last.cause.note == "reply Done; tell Other; tell Other; untell" and not last.out
        assert [r for lane in ("o.replies", "o.outcomes") for r in rig.records(lane)] == []
        assert len(rig.records("o.commands")) == 1  # the one that was watched
        with pytest.raises(Refused) as why:
            await rig.client().ask(Work(id="k"))
        assert why.value.code == "CP815"
        await sent(rig, Work(id="nobody"))
        assert rig.records("o.replies") == []


async def test_an_event_without_its_start_waits_as_an_early_one_by_default() -> None:
    what = app(following)
    async with rig_of(what, build(what)) as rig:
        worker = await rig.worker()
        await sent(rig, Shipped(id="k", n=3), Began(id="k"))
        assert worker.counts().early == 1 and rig.status("following/k") == "done"


async def test_an_event_without_its_start_may_only_be_counted() -> None:
    what = app(following, "count")
    async with rig_of(what, build(what)) as rig:
        worker = await rig.worker()
        await sent(rig, Shipped(id="k", n=3), Began(id="k"))
        assert worker.counts().unmatched == 1 and rig.status("following/k") == "waiting"
        await sent(rig, Shipped(id="k", n=4))
        assert rig.status("following/k") == "done"


async def test_a_run_is_adopted_from_the_first_event_that_is_seen() -> None:
    what = app(following, "adopt")
    async with rig_of(what, build(what)) as rig:
        worker = await rig.worker()
        await rig.client().send(Shipped(id="k", n=3), event_id="one")
        await rig.turn(1, 30)
        assert rig.status("following/k") == "done"
        first = decode(next(r for r in rig.records() if r.key == b"following/k").value)
        assert (first.cause.type, first.cause.note) == ("Began", "adopted from Shipped")
        assert first.outcome_body == '{"id":"k","n":3}'
        await rig.client().send(Shipped(id="k", n=3), event_id="one")
        await sent(rig, Shipped(id="x", n=13))
        assert rig.versions("following/k") == [1] and rig.status("following/x") == ""
        assert worker.counts().dead == 1


def test_adopting_needs_a_function() -> None:
    made = App("o")
    with pytest.raises(DataError) as why:
        made.observe(watched, unmatched="adopt")
    assert why.value.code == "CP850"


@saga
async def asking(s: Saga, began: Began) -> Over:
    await s.step(Work(id=s.key), undo=None, within="1h")
    await s.wait(Shipped, within="1d")
    return Over(id=s.key, n=0)


def findings(made: App) -> list[tuple[str, str]]:
    definition = made.definition()
    report = check_app(build(definition).machines, definition)
    return [(f.code, f.text) for f in report.findings if f.code.startswith("CP6")]


def test_an_outside_participant_is_silent_until_it_is_named_and_then_checked() -> None:
    silent = App("o")
    silent.orchestrate(asking)
    assert findings(silent) == []
    named = App("o")
    named.orchestrate(asking)
    named.external("works", takes=[Work], emits=[Done, Shipped])
    assert findings(named) == []
    wrong = App("o")
    wrong.orchestrate(asking)
    wrong.external("works", takes=[Other], emits=[Done])
    assert ("CP601", "nobody answers Work") in findings(wrong)
    with pytest.raises(DataError):
        wrong.external("works", takes=[Work])
