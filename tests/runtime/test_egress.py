"""Messages that leave after the commit, on a log that does not store them with it: who is refused stands still, alone."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.app import App
from contrapas.author.event import Command, Event
from contrapas.author.saga import Saga, saga
from contrapas.author.service import Service
from contrapas.core.envelope_avro import decode
from contrapas.core.lane import Draft
from contrapas.errors import ContrapasError, DataError, LogError, Refused, Retriable
from contrapas.runtime import batch
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition
from tests.runtime.rig import Rig, kill_at, rig_of


class Ordered(Event, key="id"):
    id: str
    where: str = "a"


class Done(Event, topic="e.done", key="id"):
    id: str


class AskA(Command[Done], topic="e.a", key="id"):
    id: str


class AskB(Command[Done], topic="e.b", key="id"):
    id: str


class Told(Event, topic="e.told", key="id"):
    id: str


@saga
async def asks(s: Saga, o: Ordered) -> Told:
    if o.where == "a":
        await s.step(AskA(id=o.id), undo=None)
    else:
        await s.step(AskB(id=o.id), undo=None)
    return Told(id=o.id)


def definition() -> Definition:
    app = App("e")
    app.orchestrate(asks)
    return app.definition()


DEFINITION = definition()
WORLD = build(DEFINITION)


def record(rig: Rig, instance: str) -> Any:
    return decode([r for r in rig.records() if r.key == instance.encode()][-1].value)


async def answer(rig: Rig, key: str) -> None:
    await rig.client().send(Done(id=key))


async def test_an_unknown_destination_parks_who_sends_there_and_nobody_else_waits() -> None:
    async with rig_of(DEFINITION, WORLD, partitions=1, fence="order") as rig:
        w = await rig.worker()
        gone = rig.log.store.lanes.pop("e.a")
        client = rig.client()
        for n in range(6):
            await client.start("asks", Ordered(id=f"k{n}", where="ab"[n % 2]))
        await rig.until(lambda: rig.status("asks/k4") == "parked" and len(rig.records("e.b")) == 3)
        assert [rig.status(f"asks/k{n}") for n in range(6)] == ["parked", "waiting"] * 3
        found = record(rig, "asks/k0")
        assert found.parked.code == "CP505" and "e.a" in found.parked.error
        assert [m.to for m in found.unsent] == ["e.a"] and found.out == []
        assert w.health().colour == "green"
        rig.log.store.lanes["e.a"] = gone
        for n in (0, 2, 4):
            await client.operate(f"asks/k{n}", "retry")
        await rig.until(lambda: len(rig.records("e.a")) == 3)
        for n in range(6):
            await answer(rig, f"k{n}")
        await rig.until(lambda: len(rig.records("e.told")) == 6)
        ids = [dict(r.headers)["ce_id"] for r in rig.records("e.a")]
        assert len(set(ids)) == 3


@pytest.mark.parametrize(
    "place", ["relay.read", "relay.published", "relay.marked", "commit.before", "commit.unread"]
)
async def test_a_refused_message_is_kept_though_the_worker_dies_anywhere(place: str) -> None:
    async with rig_of(DEFINITION, WORLD, partitions=1, fence="order") as rig:
        why: dict[bytes, ContrapasError] = {
            b"e.a": LogError("CP505", "topic e.a does not exist", place="e.a")
        }

        def log() -> Any:
            return Fussy(rig.log.peer(), why)

        await rig.worker(log())
        await rig.client().start("asks", Ordered(id="k"))
        kill_at(place, 1)
        await rig.killed()
        await rig.worker(log())
        await rig.until(lambda: rig.status("asks/k") == "parked")
        assert rig.records("e.a") == []
        await rig.kill()
        await rig.worker(log())
        why.clear()
        await rig.client().operate("asks/k", "retry")
        await rig.until(lambda: len(rig.records("e.a")) == 1)
        assert rig.status("asks/k") == "waiting"


async def test_an_outcome_that_is_refused_parks_the_ended_instance_and_retry_tells_it() -> None:
    async with rig_of(DEFINITION, WORLD, partitions=1, fence="order") as rig:
        await rig.worker()
        gone = rig.log.store.lanes.pop("e.told")
        client = rig.client()
        await client.start("asks", Ordered(id="k"))
        await rig.until(lambda: len(rig.records("e.a")) == 1)
        await answer(rig, "k")
        await rig.until(lambda: rig.status("asks/k") == "parked")
        rig.log.store.lanes["e.told"] = gone
        await client.operate("asks/k", "retry")
        await rig.until(lambda: len(rig.records("e.told")) == 1)
        assert rig.status("asks/k") == "done"


class Fussy:
    """A log whose destinations refuse for reasons of their own."""

    def __init__(self, log: Any, why: dict[bytes, ContrapasError]) -> None:
        self._log = log
        self.why = why
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def publish(self, drafts: list[Draft]) -> None:
        self.calls += 1
        for draft in drafts:
            if draft.to.startswith("e.") and (
                why := self.why.get(draft.key) or self.why.get(draft.to.encode())
            ):
                raise why
        await self._log.publish(drafts)


async def test_one_message_that_is_too_large_for_its_topic_parks_its_instance_alone() -> None:
    async with rig_of(DEFINITION, WORLD, partitions=1, fence="order") as rig:
        fussy: Any = Fussy(rig.log.peer(), {b"k1": DataError("CP409", "too large for e.a", place="e.a")})
        await rig.worker(fussy)
        client = rig.client()
        for n in range(4):
            await client.start("asks", Ordered(id=f"k{n}"))
        await rig.until(lambda: rig.status("asks/k1") == "parked")
        await rig.until(lambda: {r.key for r in rig.records("e.a")} == {b"k0", b"k2", b"k3"})
        assert record(rig, "asks/k1").parked.code == "CP409"


async def test_a_destination_that_is_forbidden_names_the_right_that_is_missing() -> None:
    async with rig_of(DEFINITION, WORLD, partitions=1, fence="order") as rig:
        fussy: Any = Fussy(rig.log.peer(), {b"e.a": Refused("CP822", "User:x may not Write topic e.a")})
        await rig.worker(fussy)
        await rig.client().start("asks", Ordered(id="k"))
        await rig.client().start("asks", Ordered(id="l", where="b"))
        await rig.until(lambda: rig.status("asks/k") == "parked" and len(rig.records("e.b")) == 1)
        assert "may not Write topic e.a" in record(rig, "asks/k").parked.error


async def test_a_destination_that_does_not_answer_stops_the_intake_and_health_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from contrapas.runtime import partition

    monkeypatch.setattr(partition, "UNSENT_MAX", 50)
    assert batch.UNSENT_MAX == 10_000 and batch.UNSENT_BYTES_MAX == 64 << 20
    async with rig_of(DEFINITION, WORLD, partitions=1, fence="order") as rig:
        fussy: Any = Fussy(rig.log.peer(), {b"e.a": Retriable("e.a does not answer")})
        w = await rig.worker(fussy)
        client = rig.client()
        (station,) = w.stations.values()
        for n in range(400):
            await client.start("asks", Ordered(id=f"k{n}"))
            await rig.turn(1)
        await rig.turn(1000, times=60)
        p = station.partition
        assert sum(p.unsent.values()) > 50 and not p.wants_input()
        started = len({r.key for r in rig.records()})
        assert started < 390
        assert w.health().colour == "red" and "e.a does not answer" in w.health().reasons[0]
        fussy.why.clear()
        await rig.until(lambda: len(rig.records("e.a")) == 400, ms=50)
        assert w.health().colour == "green"


async def test_dead_letters_wait_for_their_topic_and_health_says_so() -> None:
    async with rig_of(DEFINITION, WORLD, partitions=1, fence="order") as rig:
        w = await rig.worker()
        gone = rig.log.store.lanes.pop("e.dlq")
        await rig.log.publish([Draft("in", 0, b"k", b"junk", ())])
        await rig.until(lambda: w.health().colour == "red", ms=1000)
        assert "dead letters wait" in w.health().reasons[0]
        rig.log.store.lanes["e.dlq"] = gone
        await rig.until(lambda: len(rig.records("e.dlq")) == 1, ms=1000)
        assert w.health().colour == "green"


async def test_a_service_whose_reply_is_refused_goes_on_and_the_reply_is_a_dead_letter() -> None:
    app = App("e")
    app.orchestrate(asks)
    bank = Service("bank")

    @bank.on(AskA)
    async def a(c: AskA) -> Done:
        return Done(id=c.id)

    app.serve(bank)
    made = app.definition()
    async with rig_of(made, build(made), partitions=1, fence="order") as rig:
        await rig.worker()
        gone = rig.log.store.lanes.pop("e.done")
        await rig.client().start("asks", Ordered(id="k"))
        await rig.until(lambda: len(rig.records("e.dlq")) == 1)
        letter = dict(rig.records("e.dlq")[0].headers)
        assert (letter["cp-dlq-topic"], letter["cp-dlq-reason"]) == (b"e.done", b"CP505")
        rig.log.store.lanes["e.done"] = gone
        await rig.client().start("asks", Ordered(id="l"))
        await rig.until(lambda: rig.status("asks/l") == "done")


async def test_any_other_error_of_the_log_is_not_taken_for_a_refusal() -> None:
    async with rig_of(DEFINITION, WORLD, partitions=1, fence="order") as rig:
        fussy: Any = Fussy(rig.log.peer(), {b"e.a": LogError("CP520", "damaged")})
        w = await rig.worker(fussy)
        await rig.client().start("asks", Ordered(id="k"))
        await rig.until(lambda: w.troubles != {} or rig.tasks[-1].done())
        assert rig.status("asks/k") == "waiting"
