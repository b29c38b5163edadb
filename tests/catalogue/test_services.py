"""Rows of the catalogue about instances and times, where a service with a store stands between: its inbox, its outbox."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from contrapas import Command, Event, Saga, Service, saga
from contrapas.log import Draft
from tests.catalogue.desk import Approved, Desk, desk
from tests.runtime.stores import STORES, until

DAY_MS = 86_400_000
OPENED = b'{"id":"k-1","cents":1}'


class Filed(Event, topic="desk.filed", key="id"):
    id: str


class Wished(Event, topic="desk.wishes", key="id"):
    id: str


class Stamped(Event, topic="desk.stamped", key="id"):
    id: str


class Stamp(Command[Stamped], topic="desk.commands", key="id"):
    id: str


@saga
async def stamping(s: Saga, e: Wished) -> Stamped:
    return await s.step(Stamp(id=e.id), undo=None)


class Office:
    """A desk beside a service that approves what is filed, and stamps when asked."""

    def __init__(self, desk: Desk, handled: list[str]) -> None:
        self.desk = desk
        self.handled = handled

    async def put(self, key: str, ident: str, *, command: bool = False, time: str = "") -> None:
        headers = {
            "ce_id": ident,
            "ce_source": "/elsewhere",
            "ce_specversion": "1.0",
            "ce_type": "Stamp" if command else "Filed",
            "ce_time": time,
        }
        if command:
            headers |= {"cp-kind": "command", "cp-run": "r1", "ce_correlationid": f"stamping/{key}"}
        said = tuple((n, v.encode()) for n, v in headers.items() if v)
        topic = "desk.commands" if command else "desk.filed"
        value = json.dumps({"id": key}).encode()
        await self.desk.rig.log.publish([Draft(topic, -1, key.encode(), value, said, ident)])

    async def sent(self, topic: str, count: int = 1) -> None:
        """Until the relay has sent so much."""
        await until(self.desk.rig, lambda: len(self.desk.rig.records(topic)) >= count)
        await self.desk.settle()


@asynccontextmanager
async def office() -> AsyncGenerator[Office]:
    async with STORES["memory"]() as bench:
        service = Service("office", store=await bench.open())
        handled: list[str] = []

        @service.on(Filed)
        async def approve(e: Filed) -> Approved:
            handled.append(e.id)
            return Approved(id=e.id, by="office")

        @service.on(Stamp)
        async def stamp(c: Stamp) -> Stamped:
            handled.append(c.id)
            return Stamped(id=c.id)

        async with desk(stamping, services=(service,)) as d:
            d.counted = False  # what services do with their own topics is not the sagas'
            yield Office(d, handled)


async def test_b31_a_service_s_event_for_nobody_waits_for_the_instance_that_comes() -> None:
    async with office() as o:
        await o.put("k-1", "f-1")
        await o.sent("desk.events")
        await until(o.desk.rig, lambda: o.desk.worker.counts().early == 1)
        await o.desk.put(OPENED)
        await until(o.desk.rig, lambda: o.desk.rig.status("claim/k-1") == "done")
        record = o.desk.record("claim/k-1")
        assert record is not None and json.loads(record.outcome_body)["by"] == "office"
        assert o.desk.dead() == [] and o.handled == ["k-1"]


async def test_b31_a_service_s_event_for_nobody_is_a_dead_letter_after_a_day() -> None:
    async with office() as o:
        await o.put("k-9", "f-1")
        await o.sent("desk.events")
        await until(o.desk.rig, lambda: o.desk.worker.counts().early == 1)
        await o.desk.rig.turn(DAY_MS + 60_000)
        letter = await o.desk.one_dead()
        (sent,) = o.desk.rig.records("desk.events")
        assert (letter.code, letter.key, letter.value) == ("CP414", b"k-9", sent.value)


async def test_b31_a_command_of_nobody_is_done_and_its_reply_a_dead_letter() -> None:
    async with office() as o:
        await o.put("k-9", "c-1", command=True)
        await o.sent("desk.stamped")
        letter = await o.desk.one_dead()
        (sent,) = o.desk.rig.records("desk.stamped")
        assert (letter.code, letter.value, o.handled) == ("CP414", sent.value, ["k-9"])


async def test_b32_a_service_s_event_for_a_finished_instance_is_a_recorded_no_op() -> None:
    async with office() as o:
        await o.desk.put(OPENED)
        await o.put("k-1", "f-1")
        await until(o.desk.rig, lambda: o.desk.rig.status("claim/k-1") == "done")
        await o.put("k-1", "f-2")
        await o.sent("desk.events", 3)
        await until(o.desk.rig, lambda: o.desk.worker.counts().noop == 1)
        record = o.desk.record("claim/k-1")
        assert record is not None and (record.cause.note, record.status) == ("no-op: finished", "done")
        assert o.desk.dead() == [] and o.handled == ["k-1", "k-1"]


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2023-11-16T22:13:21+00:00", "yesterday"]
)
async def test_b33_a_time_by_which_a_repeat_cannot_be_told_is_refused_by_a_service_with_an_inbox(
    time: str,
) -> None:
    """How old a delivery is decides whether the inbox may have forgotten it: a time that is none may not hide that."""
    async with office() as o:
        await o.put("k-1", "f-1", time=time)
        letter = await o.desk.one_dead()
        assert (letter.code, letter.key, o.handled) == ("CP415", b"k-1", [])
        await o.put("k-1", "f-2", time="2023-11-14T22:00:00Z")
        await until(o.desk.rig, lambda: o.handled == ["k-1"])
