"""The shop from the first event to the outcome: on the log in memory with a clock that jumps, and on a SQLite file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.log.sqlite import SqliteLog
from sagas.order.saga import CardCharged, OrderPlaced, Shipped, StockReserved
from tests.runtime.restarted import goes_on
from tests.runtime.rig import Rig, kill_at, rig_of
from tests.runtime.shop import SEEN, alone, build, observed, orchestrated


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    SEEN.clear()
    yield
    failpoints.disarm()


def _order(key: str, sku: str = "mug", cents: int = 4200) -> OrderPlaced:
    return OrderPlaced(order_id=key, sku=sku, cents=cents)


def _topic(rig: Rig, name: str) -> list[str]:
    return [dict(r.headers)["ce_type"].decode() for r in rig.records(name)]


async def test_an_order_is_charged_reserved_and_shipped() -> None:
    definition = orchestrated()
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        await rig.client().start("place_order", _order("o-1"))
        await rig.until(lambda: rig.status("place_order/o-1") == "done")
        assert [name for name, _ in SEEN] == ["charge", "reserve", "ship"]
        await rig.until(lambda: "OrderConfirmed" in _topic(rig, "orders.events"))


@pytest.mark.parametrize(
    ("sku", "cents", "calls"), [("none", 1, ["charge", "reserve", "refund"]), ("x", 60000, ["charge"])]
)
async def test_a_failure_takes_back_what_was_done(sku: str, cents: int, calls: list[str]) -> None:
    definition = orchestrated()
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        await rig.client().start("place_order", _order("o-2", sku, cents))
        await rig.until(lambda: rig.status("place_order/o-2") == "compensated")
        assert [name for name, _ in SEEN] == calls
        await rig.until(lambda: _topic(rig, "orders.events") == ["OrderRejected"])


async def test_an_answer_that_never_comes_is_a_timeout_on_the_log_s_clock() -> None:
    definition = alone()
    async with rig_of(definition, build(definition)) as rig:
        await rig.worker()
        await rig.client().start("place_order", _order("o-3"))
        await rig.until(lambda: rig.status("place_order/o-3") == "waiting")
        await rig.turn(29_000)
        await rig.turn(1, 50)
        assert rig.versions("place_order/o-3") == [1]
        await rig.turn(1_100)
        await rig.until(lambda: rig.status("place_order/o-3") == "settling")
        await rig.client().send(CardCharged(order_id="o-3", charge_id="late"))
        await rig.until(lambda: "RefundCard" in _topic(rig, "payments.commands"))


async def test_one_event_goes_from_the_in_lane_to_the_next_participant() -> None:
    definition = alone()
    async with rig_of(definition, build(definition), partitions=8) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("place_order", _order("o-9"))
        await client.send(CardCharged(order_id="o-9", charge_id="ch_9"))
        await client.send(StockReserved(order_id="o-9"))
        await rig.until(lambda: "ShipOrder" in _topic(rig, "shipping.commands"))
        newest = [r for r in rig.records() if r.key == b"place_order/o-9"][-1]
        headers = dict(newest.headers)
        assert newest.partition == 6
        assert (headers["cp-version"], headers["cp-state"]) == (b"3", b"ShipOrder")
        assert headers["cp-cause"].startswith(b"stock.events@")


async def test_a_repeated_event_is_remembered_and_sends_nothing_twice() -> None:
    definition = alone()
    async with rig_of(definition, build(definition)) as rig:
        w = await rig.worker()
        client = rig.client()
        await client.start("place_order", _order("o-9"))
        charged = CardCharged(order_id="o-9", charge_id="ch_9")
        for _ in range(3):
            await client.send(charged, event_id="the-same")
        await rig.until(lambda: w.counts().duplicates == 2)
        assert _topic(rig, "stock.commands") == ["ReserveStock"]
        assert rig.versions("place_order/o-9") == [1, 2]


async def test_a_crash_between_commit_and_dispatch_sends_the_same_ids_again() -> None:
    definition = alone()
    async with rig_of(definition, build(definition), fence="order") as rig:
        await rig.worker()
        kill_at("commit.undispatched")
        await rig.client().start("place_order", _order("o-9"))
        await rig.killed()
        assert _topic(rig, "payments.commands") == []
        await rig.worker()
        await rig.until(lambda: _topic(rig, "payments.commands") == ["ChargeCard"])
        (sent,) = rig.records("payments.commands")
        (record,) = [r for r in rig.records() if r.key == b"place_order/o-9"]
        assert dict(sent.headers)["ce_id"].decode() == decode(record.value).out[0].id


async def test_events_that_came_before_their_instance_are_collected_by_its_start() -> None:
    definition = observed()
    definition = type(definition)(namespace="shop", sagas=definition.sagas)
    async with rig_of(definition, build(definition)) as rig:
        w = await rig.worker()
        client = rig.client()
        await client.send(CardCharged(order_id="o-5", charge_id="c"))
        await client.send(StockReserved(order_id="o-5"))
        await rig.until(lambda: w.counts().early == 2)
        await client.send(_order("o-5"))
        await client.send(Shipped(order_id="o-5", tracking="t"))
        await rig.until(lambda: rig.status("place_order/o-5") == "done")


def _path(records: list[InstanceRecord]) -> list[tuple[str, dict[str, str]]]:
    """States with their locals, in order, a state each time it was entered."""
    found: list[tuple[str, dict[str, str]]] = []
    for record in records:
        slots = dict(record.root.frames[-1].slots) if record.root.frames else {}
        here = (record.state or record.status, slots)
        if not found or found[-1] != here:
            found.append(here)
    return found


def _history(rig: Rig, instance: str) -> list[InstanceRecord]:
    return [decode(r.value) for r in rig.records() if r.key == instance.encode()]


@pytest.mark.parametrize(
    ("key", "sku", "cents", "end"),
    [
        ("o-1", "mug", 4200, "done"),
        ("none-2", "none", 4200, "compensated"),
        ("o-3", "mug", 60000, "compensated"),
    ],
)
@pytest.mark.case(88, "both modes on one log")
async def test_orchestrated_and_observed_pass_the_same_states_with_the_same_locals(
    key: str, sku: str, cents: int, end: str
) -> None:
    paths: list[Any] = []
    for definition in (orchestrated(), observed()):
        async with rig_of(definition, build(definition)) as rig:
            await rig.worker()
            client = rig.client()
            if definition.sagas[0].mode == "orchestrate":
                await client.start("place_order", _order(key, sku, cents))
            else:
                await client.send(_order(key, sku, cents))
            await rig.until(lambda r=rig: r.status(f"place_order/{key}") == end)  # type: ignore[misc]
            paths.append(_path(_history(rig, f"place_order/{key}")))
    assert paths[0] == paths[1]


async def test_the_shop_runs_on_a_sqlite_file_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[SqliteLog]:
        log = SqliteLog(tmp_path / "shop.db", "shop", 4)
        yield log
        await log.close()

    await goes_on(opened, orchestrated())
