"""The app that meets bad input: a claim waits for an approval, pays, notes, and closes. Its neighbour goes on whatever comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import httpx

from contrapas.app import App
from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.timeout import Timeout
from contrapas.core.cloudevents import binary, is_structured, present
from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.lane import Draft, Headers, Record
from contrapas.core.partition import partition
from contrapas.core.world import World
from contrapas.errors import DataError
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from contrapas.runtime.definition import Definition, TopicMapping
from contrapas.runtime.worker import Worker
from contrapas.web.server import create
from tests.runtime.rig import Rig, rig_of

TOPIC = "desk.events"
NEIGHBOUR = "claim/n-1"
TOKEN = "0123456789abcdef"


class Opened(Event, topic=TOPIC, key="id"):
    id: str
    cents: int
    rate: Decimal | None = None


class Approved(Event, topic=TOPIC, key="id"):
    id: str
    by: str


class Closed(Event, topic="desk.closed", key="id"):
    id: str
    by: str


@saga
async def claim(s: Saga, e: Opened) -> Closed:
    answer = await s.wait(Approved, within="2d")
    return Closed(id=e.id, by="nobody" if isinstance(answer, Timeout) else answer.by)


def definition_of(
    *sagas: Any, topics: tuple[TopicMapping, ...] = (), services: tuple[Any, ...] = ()
) -> Definition:
    """The desk's app, with more sagas and services beside it."""
    app = App("desk")
    app.orchestrate(claim, *sagas)
    app.serve(*services)
    found = app.definition()
    return Definition(
        namespace=found.namespace, sagas=found.sagas, services=found.services, topics=topics, file=found.file
    )


@cache
def built(definition_key: tuple[Any, ...] = ()) -> World:
    """The world of the desk with these sagas; compiling is the slow part, so it is done once for each set."""
    return build(definition_of(*definition_key))


class Dead(NamedTuple):
    """A dead letter: the original, and why."""

    key: bytes
    value: bytes | None
    headers: Headers
    code: str
    error: str
    reference: bool
    context: dict[str, str]


class Desk:
    """A worker on a log in memory, its doors, and a claim beside everything that is put in."""

    def __init__(self, rig: Rig, worker: Worker, client: Client) -> None:
        self.rig = rig
        self.worker = worker
        self.client = client
        self.allowed = {"authorization": f"Bearer {TOKEN}"}
        self.counted = True
        """One worker has seen everything, so its counts must add up at the end."""

    # ---- putting things in

    async def put(
        self,
        value: bytes | None,
        *,
        key: bytes = b"k-1",
        type: str = "Opened",
        id: str = "e-1",
        headers: Headers = (),
        to: str = TOPIC,
        at: int = -1,
    ) -> None:
        """A message as another program would publish it: a CloudEvent with these bytes. type="": no CloudEvent."""
        ce: Headers = (
            (
                ("ce_id", id.encode()),
                ("ce_source", b"/elsewhere"),
                ("ce_specversion", b"1.0"),
                ("ce_type", type.encode()),
            )
            if type
            else ()
        )
        if to == "in" and at < 0:
            at = partition(key, self.rig.log.partitions)
        await self.rig.log.publish([Draft(to, at, key, value, (*ce, *headers), id)])

    async def settle(self) -> None:
        """Until everything that was put in is decided, and what follows from it too."""
        quiet = 0
        before = (-1, -1, -1)
        for _ in range(5000):
            await self.rig.turn(1)
            now = (self._end("in"), self._end("log"), self._end("desk.dlq"))
            busy = any(s.partition.inputs or s.outgoing for s in self.worker.stations.values())
            quiet = quiet + 1 if now == before and not busy else 0
            before = now
            if quiet > 30:
                return
        raise AssertionError("it does not come to rest")

    def _end(self, lane: str) -> int:
        return sum(shelf.end for shelf in self.rig.log.store.lanes.get(lane, []))

    # ---- looking

    def dead(self) -> list[Dead]:
        """All dead letters."""
        return [_dead(r) for r in self.rig.records("desk.dlq")]

    async def one_dead(self) -> Dead:
        """The only dead letter, once all is quiet."""
        await self.settle()
        found = self.dead()
        assert len(found) == 1, [(d.code, d.error) for d in found]
        return found[0]

    def record(self, instance: str) -> InstanceRecord | None:
        """The newest record of an instance."""
        found = [r for r in self.rig.records() if r.key == instance.encode()]
        return decode(found[-1].value) if found and found[-1].value is not None else None

    @asynccontextmanager
    async def http(self) -> AsyncGenerator[httpx.AsyncClient]:
        """The doors over HTTP, without a socket. `allowed` are the headers of one who may look."""
        app = create(self.client, token=TOKEN, health=self.worker.health)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
        ) as client:
            yield client

    # ---- what must hold at the end

    async def close(self) -> None:
        """The neighbour, which was there before, ends as it should; every input is accounted for."""
        await self.settle()
        before = self.record(NEIGHBOUR)
        assert before is not None
        assert before.status == "waiting", before
        await self.client.signal("claim", "n-1", Approved(id="n-1", by="ann"))
        await self.rig.until(lambda: self.rig.status(NEIGHBOUR) == "done")
        await self.settle()
        if self.counted:
            census(self.rig, self.worker)


def census(rig: Rig, worker: Worker) -> None:
    """inputs = applied + parked + dead-lettered + no-op, and the bytes of each stand where the counts say.

    Parked: kept by an instance, early at a rendezvous, or the instance itself stopped. No-ops: recorded ones, repeats,
    and what is not for sagas (answers to doors, commands).
    """
    c = worker.counts()
    there = sum(len(shelf.records) for shelf in rig.log.store.lanes["in"])
    assert c.inputs == there + turned_away(rig), c
    parked = c.kept + c.early + c.parked
    nothing = c.noop + c.duplicates + c.ignored
    assert c.inputs + c.more == c.applied + parked + c.dead + nothing, c
    letters = [r for r in rig.records("desk.dlq") if b".commands" not in dict(r.headers)["cp-dlq-topic"]]
    assert c.dead + c.expired == len(letters), (
        c
    )  # besides those of services, which read their topics themselves
    stored = b"\0".join(r.value for r in rig.records() if r.value is not None)
    buried = {(r.key, r.value) for r in letters}
    lost = [r for r in rig.records("in") if not _is_kept(r, stored, buried)]
    assert len(lost) <= c.duplicates + c.ignored + sum(_is_ours(r) for r in lost), lost


def turned_away(rig: Rig) -> int:
    """Messages of the topic that are dead letters without ever having been on the inbound lane."""
    passed = {dict(r.headers).get("cp-source", b"").partition(b"/")[2] for r in rig.records("in")}
    letters = [dict(r.headers) for r in rig.records("desk.dlq")]
    places = {
        b"%s@%s" % (h["cp-dlq-partition"], h["cp-dlq-offset"])
        for h in letters
        if h["cp-dlq-topic"] == TOPIC.encode()
    }
    return len(places - passed)


def _is_kept(record: Record, stored: bytes, letters: set[tuple[bytes, bytes | None]]) -> bool:
    key = dict(record.headers).get("cp-source-key", record.key)
    if (key, record.value) in letters:
        return True
    value = record.value or b""
    if (key, value) not in letters and is_structured(present(record.headers)):
        with suppress(DataError):
            _, value = binary(present(record.headers), value)
    return (key, value) in letters or (key, b"") in letters or (value != b"" and value in stored)


def _is_ours(record: Record) -> bool:
    """Messages that the engine sends itself on this lane hold nothing of anybody else."""
    return dict(record.headers).get("cp-kind", b"") in (
        b"bind",
        b"bound",
        b"unbind",
        b"delivered",
        b"operate",
    )


def _dead(record: Record) -> Dead:
    context = {n: v.decode() for n, v in record.headers if n.startswith("cp-dlq-")}
    return Dead(
        key=record.key,
        value=record.value,
        headers=tuple(h for h in record.headers if not h[0].startswith("cp-dlq-")),
        code=context["cp-dlq-reason"],
        error=context["cp-dlq-error"],
        reference="cp-dlq-ref" in context,
        context=context,
    )


@asynccontextmanager
async def desk(
    *sagas: Any,
    topics: tuple[TopicMapping, ...] = (),
    services: tuple[Any, ...] = (),
    partitions: int = 2,
    fence: Any = "refuse",
    calm: bool = True,
    registry: Any = None,
) -> AsyncGenerator[Desk]:
    """A desk with its neighbour waiting; at the end the neighbour must go on and the census must hold, if calm."""
    definition = definition_of(*sagas, topics=topics, services=services)
    definition = replace(definition, registry=registry)
    world = build(definition) if services else built(sagas)
    async with rig_of(definition, world, partitions=partitions, fence=fence) as rig:
        worker = await rig.worker()
        found = Desk(rig, worker, rig.client())
        await found.client.start("claim", Opened(id="n-1", cents=1))
        await rig.until(lambda: rig.status(NEIGHBOUR) == "waiting")
        yield found
        if calm:
            await found.close()


async def within(rig: Rig, work: Any, true: Callable[[], bool] = lambda: False) -> Any:
    """Let the loop turn, and time pass, until an awaitable has its answer."""
    task = asyncio.ensure_future(work)
    for _ in range(4000):
        if task.done() or true():
            break
        await rig.turn(1)
        await asyncio.sleep(0)
    return await asyncio.wait_for(task, 5)
