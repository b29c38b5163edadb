"""Services in our workers: order per key, first replies, positions behind the oldest, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.author.service import Delivery, Service
from contrapas.core.lane import Draft
from contrapas.runtime.definition import Definition
from tests.runtime.machines import Began, Done, Go, Pay, Refused, definition_of, world_of
from tests.runtime.rig import Rig, kill_at, rig_of

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    CALLS.clear()
    yield
    failpoints.disarm()


def _with(service: Service) -> Definition:
    return definition_of(services=(service,))


def _command(ident: str, key: str = "a", value: bytes = b'{"id":"a"}', topic: str = "pay.commands") -> Draft:
    headers = (
        ("ce_id", ident.encode()),
        ("ce_source", b"/x"),
        ("ce_specversion", b"1.0"),
        ("ce_type", b"Pay"),
        ("cp-kind", b"command"),
        ("cp-run", b"r1"),
        ("ce_correlationid", b"pay/a"),
    )
    return Draft(topic, -1, key.encode(), value, headers, ident)


def _heads(rig: Rig, topic: str) -> list[dict[str, bytes]]:
    return [dict(r.headers) for r in rig.records(topic)]


async def test_a_reply_names_its_command_and_run_and_keeps_its_key() -> None:
    service = Service("bank")

    @service.on(Pay)
    async def pay(c: Pay) -> Done | Refused:
        return Refused(id=c.id)

    async with rig_of(_with(service), world_of("wait")) as rig:
        await rig.worker()
        await rig.log.publish([_command("c1")])
        await rig.until(lambda: len(_heads(rig, "pay.events")) == 1)
        (head,) = _heads(rig, "pay.events")
        assert (head["cp-in-reply-to"], head["cp-run"], head["cp-outcome"]) == (b"c1", b"r1", b"declined")
        assert rig.records("pay.events")[0].key == b"a"


async def test_a_command_that_comes_again_is_answered_with_the_first_reply() -> None:
    service = Service("bank")

    @service.on(Pay)
    async def pay(c: Pay, d: Delivery) -> Done | Refused:
        CALLS.append(d.idempotency_key)
        return Done(id=c.id) if len(CALLS) == 1 else Refused(id=c.id)

    async with rig_of(_with(service), world_of("wait")) as rig:
        await rig.worker()
        await rig.log.publish([_command("c1"), _command("c1")])
        await rig.until(lambda: len(_heads(rig, "pay.events")) == 2)
        one, two = _heads(rig, "pay.events")
        assert (CALLS, one["ce_type"], one["ce_id"]) == (["c1"], two["ce_type"], two["ce_id"])
        await rig.log.publish([_command("c1", value=b'{"id":"a","more":1}')])
        await rig.until(lambda: b"CP412" in [h["cp-dlq-reason"] for h in _heads(rig, "t.dlq")])
        assert len(CALLS) == 1


async def test_deliveries_of_one_key_run_in_order_and_keys_beside_each_other() -> None:
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}
    service = Service("bank")

    @service.on(Pay)
    async def pay(c: Pay, d: Delivery) -> Done | Refused:
        CALLS.append(f"+{d.idempotency_key}")
        await gates[c.id].wait()
        CALLS.append(f"-{d.idempotency_key}")
        return Done(id=c.id)

    async with rig_of(_with(service), world_of("wait"), partitions=1) as rig:
        await rig.worker()
        await rig.log.publish([_command("a1"), _command("a2"), _command("b1", "b", b'{"id":"b"}')])
        await rig.until(lambda: CALLS == ["+a1", "+b1"])
        gates["b"].set()
        await rig.until(lambda: len(_heads(rig, "pay.events")) == 1)
        await rig.turn(300, 5)
        saved: Any = rig.log.store.saved["t.service.bank"]
        assert list(saved.values()) == [0]
        gates["a"].set()
        await rig.until(lambda: CALLS[-2:] == ["+a2", "-a2"])
        await rig.until(lambda: list(rig.log.store.saved["t.service.bank"].values()) == [3], ms=50)


async def test_a_reaction_that_keeps_raising_ends_as_a_dead_letter_and_an_unknown_outcome() -> None:
    service = Service("bank")

    @service.on(Pay)
    async def pay(c: Pay) -> Done | Refused:
        CALLS.append("x")
        raise RuntimeError("the database is down")

    async with rig_of(_with(service), world_of("wait")) as rig:
        await rig.worker()
        await rig.log.publish([_command("c1")])
        await rig.until(lambda: len(_heads(rig, "pay.events")) == 1, ms=20)
        assert (len(CALLS), _heads(rig, "pay.events")[0]["cp-outcome"]) == (5, b"error")
        assert b"database" in _heads(rig, "t.dlq")[0]["cp-dlq-error"]


async def test_a_reaction_that_returns_what_it_does_not_name_fails() -> None:
    service = Service("bank")

    @service.on(Go)
    async def react(e: Go) -> None:
        return Began(id=e.id, n=1)  # type: ignore[return-value]

    async with rig_of(_with(service), world_of("pay")) as rig:
        await rig.worker()
        await rig.client().send(Go(id="a"))
        await rig.until(lambda: len(_heads(rig, "t.dlq")) == 1)
        assert _heads(rig, "t.dlq")[0]["cp-dlq-reason"] == b"CP604"


@pytest.mark.parametrize("place", ["service.handled", "service.published"])
async def test_a_delivery_that_was_not_finished_comes_again_with_the_same_ids(place: str) -> None:
    service = Service("bank")

    @service.on(Pay)
    async def pay(c: Pay, d: Delivery) -> Done | Refused:
        CALLS.append(d.idempotency_key)
        return Done(id=c.id)

    async with rig_of(_with(service), world_of("wait")) as rig:
        await rig.worker()
        kill_at(place)
        await rig.log.publish([_command("c1")])
        await rig.killed()
        await rig.worker()
        await rig.until(lambda: CALLS == ["c1", "c1"])
        await rig.until(lambda: len(_heads(rig, "pay.events")) >= 1)
        (ident,) = {h["ce_id"] for h in _heads(rig, "pay.events")}
        assert ident.startswith(b"bank/") and ident.endswith(b"/c1#0")


async def test_junk_on_a_service_s_topic_is_a_dead_letter() -> None:
    service = Service("bank")

    @service.on(Pay)
    async def pay(c: Pay) -> Done | Refused:
        return Done(id=c.id)

    async with rig_of(_with(service), world_of("wait")) as rig:
        await rig.worker()
        await rig.log.publish([_command("c1", value=b'{"id":NaN}')])
        await rig.until(lambda: len(_heads(rig, "t.dlq")) == 1)
        (head,) = _heads(rig, "t.dlq")
        assert (head["cp-dlq-reason"], head["cp-dlq-topic"]) == (b"CP405", b"pay.commands")


async def test_a_stop_lets_a_reaction_end_and_saves_how_far_it_was() -> None:
    gate = asyncio.Event()
    service = Service("bank")

    @service.on(Pay)
    async def pay(c: Pay, d: Delivery) -> Done | Refused:
        CALLS.append(d.idempotency_key)
        await gate.wait()
        return Done(id=c.id)

    async with rig_of(_with(service), world_of("wait"), partitions=1) as rig:
        w = await rig.worker()
        await rig.log.publish([_command("c1")])
        await rig.until(lambda: CALLS == ["c1"])
        stopping = asyncio.ensure_future(w.stop())
        await rig.turn(1, 20)
        await rig.log.publish([_command("c2", "b", b'{"id":"b"}')])
        gate.set()
        for _ in range(500):
            if stopping.done():
                break
            await rig.turn(5)
        await stopping
        assert (CALLS, len(rig.records("pay.events"))) == (["c1"], 1)
        assert list(rig.log.store.saved["t.service.bank"].values()) == [1]


async def test_a_worker_of_services_alone_leaves_the_instances_to_those_that_know_their_sagas() -> None:
    service = Service("bank")

    @service.on(Pay)
    async def pay(c: Pay) -> Done | Refused:
        return Done(id=c.id)

    alone = replace(world_of(), modes={})
    async with rig_of(_with(service), alone) as rig:
        w = await rig.worker()
        assert w.ready.is_set() and not w.health().owned
        await rig.log.publish([_command("c1")])
        await rig.until(lambda: len(_heads(rig, "pay.events")) == 1)
        assert all(p.control.epoch == 0 for p in rig.log.store.parts)
