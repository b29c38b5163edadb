"""`dev --read-only`, in memory: an app on lanes of its own over topics of somebody else's, where nothing can be written."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contrapas import App, Command, Entity, Event, Saga, Service, StepFailed, handler, saga, step
from contrapas.core.envelope_avro import decode
from contrapas.core.lane import Draft
from contrapas.errors import Refused
from contrapas.log.memory import MemoryLog
from contrapas.log.overlay import OverlayLog
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition
from contrapas.runtime.observing import observers
from contrapas.runtime.worker import Worker

did: list[str] = []


class Ordered(Event, topic="ro.orders", key="id"):
    id: str
    how: str = ""


class Paid(Event, topic="ro.events", key="id"):
    id: str


class Declined(Event, topic="ro.events", key="id"):
    id: str
    reason: str


class Refunded(Event, topic="ro.events", key="id"):
    id: str


class Pay(Command[Paid, Declined], topic="ro.commands", key="id"):
    id: str


class Refund(Command[Refunded], topic="ro.commands", key="id"):
    id: str


class Over(Event, topic="ro.ends", key="id"):
    id: str
    how: str


@step(undo=None)
async def act(text: str) -> str:
    did.append(text)
    return text


@step(undo=None, observe=True)
async def look(text: str) -> str:
    did.append(text)
    return text


class Tally(Entity, key="id"):
    n: int = 0

    @handler
    async def count(self) -> int:
        did.append("counted")
        return self.n


@saga
async def order(s: Saga, began: Ordered) -> Over:
    if began.how == "act":
        await act(f"act {s.key}")
    if began.how == "look":
        await look(f"look {s.key}")
    if began.how == "count":
        await Tally.at(s.key).count()
    try:
        await s.step(Pay(id=s.key), undo=Refund(id=s.key))
    except StepFailed:
        await s.compensate()
        return Over(id=s.key, how="declined")
    s.emit(Over(id=s.key, how="paid"))
    return Over(id=s.key, how="paid")


payments = Service("payments")


@payments.on(Pay)
async def pay(command: Pay) -> Paid:
    did.append("served")
    return Paid(id=command.id)


def definition() -> Definition:
    app = App("ro")
    app.orchestrate(order)
    app.serve(Tally, payments)
    return app.definition()


TOPICS = {"ro.orders": 2, "ro.events": 2, "ro.commands": 2, "ro.ends": 1}


class Theirs(MemoryLog):
    """Topics of somebody's, and every write that was tried there."""

    place = "memory of theirs"

    def __init__(self) -> None:
        super().__init__("prod", 2)
        self.writes: list[str] = []

    async def put(self, *events: Event) -> None:
        """As their own services do."""
        await super().publish([drafted(one) for one in events])

    async def publish(self, drafts: Sequence[Draft]) -> None:
        self.writes.append("publish")

    async def create_topics(self, topics: Any) -> None:
        self.writes.append("create")

    async def save_positions(self, group: str, at: Any) -> None:
        self.writes.append("positions")

    def membership(self, group: str, lanes: Any) -> Any:
        self.writes.append("group")
        raise AssertionError(group)

    async def acquire(self, *a: Any, **k: Any) -> Any:
        self.writes.append("acquire")
        raise AssertionError


def drafted(event: Event) -> Draft:
    """As a plain CloudEvent."""
    name = type(event).__name__
    key = getattr(event, "id")  # noqa: B009
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{name}-{key}-{time.monotonic_ns()}".encode()),
        ("ce_source", b"/theirs"),
        ("ce_type", name.encode()),
        ("content-type", b"application/json"),
    )
    return Draft(type(event).__contrapas_topic__, -1, key.encode(), event.model_dump_json().encode(), headers)


class Following:
    def __init__(self, theirs: Theirs, log: OverlayLog, worker: Worker) -> None:
        self.theirs = theirs
        self.log = log
        self.worker = worker

    def record(self, key: str) -> Any:
        """The instance's newest record."""
        lanes: Any = self.log.lanes
        for p in range(self.log.partitions):
            for record in lanes.store.latest(p, 0, None):
                if record.key == f"order/{key}".encode() and record.value is not None:
                    return decode(record.value)
        return None

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def following(*before: Event, first: int | None = None) -> AsyncGenerator[Following]:
    did.clear()
    theirs = Theirs()
    await MemoryLog.create_topics(theirs, TOPICS)
    await theirs.put(*before)
    still = definition()
    still, world = observers(still, build(still))
    floors: dict[tuple[str, int], int] = {}
    for name, count in TOPICS.items():
        for p in range(count):
            end = (await theirs.bounds(name, p))[1]
            floors[name, p] = end if first is None else first
    log = OverlayLog(MemoryLog("ro", 2), theirs, "ro", floors)
    worker = Worker(log, still, world)
    task = asyncio.create_task(worker.run())
    await worker.ready.wait()
    try:
        yield Following(theirs, log, worker)
        assert not worker.troubles and not task.done()
        assert theirs.writes == [], "something was written where nothing may be"
    finally:
        await worker.stop(100)
        await asyncio.gather(task, return_exceptions=True)
        await log.close()


async def test_an_orchestrating_saga_follows_what_happens_and_sends_nothing() -> None:
    async with following(Ordered(id="old")) as f:
        await f.theirs.put(Ordered(id="a"), Ordered(id="b"), Paid(id="a"))
        await f.until(lambda: getattr(f.record("a"), "status", "") == "done")
        await f.theirs.put(Declined(id="b", reason="no"))
        await f.until(lambda: getattr(f.record("b"), "outcome", "") == "Over")
        assert json.loads(f.record("b").outcome_body)["how"] == "declined"
        assert f.record("old") is None, "what lay there before is not read"
        assert f.log.came == {"ro.orders": 2, "ro.events": 2}
        assert did == []


async def test_from_the_start_what_lay_there_is_read_too() -> None:
    async with following(Ordered(id="old"), Paid(id="old"), first=0) as f:
        await f.until(lambda: getattr(f.record("old"), "status", "") == "done")


async def test_a_step_that_acts_does_not_run_and_one_that_only_looks_does() -> None:
    async with following() as f:
        await f.theirs.put(Ordered(id="a", how="act"), Ordered(id="l", how="look"), Paid(id="l"))
        await f.until(lambda: getattr(f.record("a"), "status", "") == "parked")
        assert f.record("a").parked.code == "CP721"
        await f.until(lambda: getattr(f.record("l"), "status", "") == "done")
        assert did == ["look l"]


async def test_an_entity_is_not_called_and_no_service_reacts() -> None:
    async with following() as f:
        await f.theirs.put(Ordered(id="c", how="count"), Pay(id="p"))
        await f.until(lambda: f.record("c") is not None)
        await f.theirs.put(Ordered(id="z"), Paid(id="z"))
        await f.until(lambda: getattr(f.record("z"), "status", "") == "done")
        assert f.record("c").status == "waiting" and did == []


async def test_a_step_with_a_session_of_a_store_never_runs_and_its_store_is_not_opened() -> None:
    from dataclasses import replace

    whole = definition()
    world = build(whole)
    stored = {name: replace(one, store=object()) for name, one in world.types.steps.items()}

    class With:
        steps = stored

        def __getattr__(self, name: str) -> Any:
            return getattr(world.types, name)

    types: Any = With()
    _, still = observers(whole, replace(world, types=types))
    for one in still.types.steps.values():
        assert one.store is None and not one.observe
        with pytest.raises(Refused, match="CP526"):
            one.fn("x")


async def test_what_would_be_written_to_their_topics_is_refused_before_anything_is_stored() -> None:
    theirs, ours = Theirs(), MemoryLog("ro", 2)
    log = OverlayLog(ours, theirs, "ro")
    await log.create_topics({"ro.dlq": 1, "ro.orders": 2})
    assert await ours.topic("ro.orders") is None and await ours.topic("ro.dlq") is not None
    mine, foreign = Draft("in", 0, b"k", b"{}"), Draft("ro.orders", -1, b"k", b"{}")
    with pytest.raises(Refused, match="CP526") as why:
        await log.publish([mine, foreign])
    assert "ro.orders" in why.value.text and "memory of theirs" in why.value.text
    lease = await log.acquire(0, "me")
    with pytest.raises(Refused, match="CP526"):
        await lease.commit([Draft("", 0, b"order/k", b"{}")], [foreign], lease.control)
    assert await ours.bounds("in", 0) == (0, 0) and (await log.bounds("log", 0))[1] == 0
    with pytest.raises(Refused, match="CP526"):
        log.membership("ro.workers", ("ro.orders",))
    with pytest.raises(Refused, match="CP526"):
        await log.save_positions("ro.service.x", {("ro.orders@1", 0): 3})
    await log.publish([mine, Draft("ro.dlq", -1, b"k", b"{}")])
    assert await log.bounds("in", 0) == (0, 1) and await log.bounds("ro.dlq", 0) == (0, 1)
    assert theirs.writes == []
    await log.close()
