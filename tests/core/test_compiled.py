"""The compiler's machines on the core's stage: the order saga of the front page, scopes, called sagas, loops of undos."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contrapas.author.retry import FOREVER
from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.codec.registry import build_registry
from contrapas.compiler import compile_saga
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import Machine
from tests.core import shop
from tests.core.shop import (
    CardCharged,
    CardDeclined,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    OutOfStock,
    RefundCard,
    ReleaseStock,
    ReserveStock,
    ShipOrder,
    Shipped,
    StockReleased,
    StockReserved,
    price,
    take_seat,
)
from tests.core.stage import Stage

K = "o-9"
CHARGED = CardCharged(order_id=K, charge_id="ch-1")


@saga
async def place_order(s: Saga, order: OrderPlaced) -> OrderConfirmed | OrderRejected:
    try:
        await s.step(
            ChargeCard(order_id=order.order_id, cents=order.cents),
            undo=lambda ok: RefundCard(order_id=order.order_id, charge_id=ok.charge_id),
            within="30s",
        )
        await s.step(
            ReserveStock(order_id=order.order_id), undo=ReleaseStock(order_id=order.order_id), within="1m"
        )
        s.point_of_no_return()
        await s.step(ShipOrder(order_id=order.order_id), retry=FOREVER)
    except StepFailed as why:
        await s.compensate()
        return OrderRejected(order_id=order.order_id, reason=why.reason)
    return OrderConfirmed(order_id=order.order_id)


@saga
async def scoped(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    await s.step(ChargeCard(order_id=order.order_id), undo=RefundCard(order_id=order.order_id))
    note = "reserved"
    try:
        async with s.scope():
            await s.step(ReserveStock(order_id=order.order_id), undo=ReleaseStock(order_id=order.order_id))
            await s.step(ShipOrder(order_id=order.order_id), undo=None)
    except StepFailed:
        note = "scope taken back"
    await price(order.order_id)
    return OrderConfirmed(order_id=order.order_id, note=note)


@saga
async def seat(s: Saga, order: OrderPlaced) -> str:
    return await take_seat(order.order_id)


@saga
async def seats(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    got: list[str] = []
    try:
        for _ in range(order.cents):
            got.append(await seat(s, order))
        a, b = await s.all(price(order.order_id), seat(s, order))
        got.append(f"{a}{b}")
        await s.step(ShipOrder(order_id=order.order_id), undo=None)
    except Cancelled:
        await price("x")
        raise
    return OrderConfirmed(order_id=order.order_id, note=",".join(got))


@saga
async def alias(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    first: list[str] = [order.order_id]
    second = first
    await price(order.order_id)
    second.append("two")
    await price(order.order_id)
    return OrderConfirmed(order_id=order.order_id, note=f"{first} {first is second}")


REGISTRY = build_registry(
    sagas=(place_order, scoped, seat, seats, alias),
    steps=(price, take_seat, shop.free_seat),
    events=shop.EVENTS,
    exceptions=(ValueError,),
)


def compiled(*sagas: SagaDef[..., Any]) -> list[Machine]:
    machines: list[Machine] = []
    for definition in sagas:
        made = compile_saga(definition, registry=REGISTRY)
        assert isinstance(made, Machine), made
        machines.append(made)
    return machines


def stage(*sagas: SagaDef[..., Any]) -> Stage:
    return Stage(*compiled(*sagas), registry=REGISTRY)


def outcome(on: Stage) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(on.record.outcome_body)
    return body


def test_the_order_of_the_front_page_succeeds() -> None:
    on = stage(place_order)
    on.start()
    on.reply(CHARGED)
    on.reply(StockReserved(order_id=K))
    assert on.record.pivoted and on.record.state == "ShipOrder"
    on.reply(Shipped(order_id=K))
    assert on.status == "done" and on.record.outcome == "OrderConfirmed"


def test_the_order_of_the_front_page_is_taken_back_when_stock_is_out() -> None:
    on = stage(place_order)
    on.start()
    on.reply(CHARGED)
    on.reply(OutOfStock(order_id=K))
    assert on.status == "unwinding"
    assert json.loads(on.took("RefundCard")[0].value)["charge_id"] == "ch-1"
    on.reply(CardRefunded(order_id=K))
    assert on.status == "compensated" and outcome(on)["reason"] == "OutOfStock"


def test_the_order_of_the_front_page_owes_the_refund_of_a_charge_that_timed_out() -> None:
    on = stage(place_order)
    on.start()
    key = on.pending().key
    on.later(30_000)
    assert on.status == "settling" and outcome(on)["reason"] == "timeout after 30s"
    on.reply(CHARGED, key=key)
    on.reply(CardRefunded(order_id=K))
    assert on.status == "compensated"


def test_a_declined_card_ends_compensated_with_nothing_undone() -> None:
    on = stage(place_order)
    on.start()
    on.reply(CardDeclined(order_id=K, reason="limit"))
    assert on.status == "compensated" and outcome(on)["reason"] == "limit"


def test_a_scope_that_fails_takes_back_its_own_and_the_saga_goes_on() -> None:
    """L23, U7."""
    on = stage(scoped)
    on.start()
    on.reply(CHARGED)
    on.reply(StockReserved(order_id=K))
    on.reply(OutOfStock(order_id=K))
    assert on.status == "unwinding" and on.labels() == ["undo(ReserveStock)"]
    on.reply(StockReleased(order_id=K))
    on.result(3)
    assert on.status == "done" and outcome(on)["note"] == "scope taken back"


@pytest.mark.case(73, "loop registering one undo often; arguments mutated after issue")
def test_called_sagas_in_a_loop_and_in_a_join_register_their_undos_with_the_caller() -> None:
    """X4, U5, case 73."""
    on = stage(seats, seat)
    on.start(OrderPlaced(order_id=K, cents=2))
    on.result("a")
    on.result("b")
    assert sorted(on.labels()) == ["price", "take_seat"]
    on.result("c", "take_seat")
    on.result(7, "price")
    assert [e.label for e in on.record.root.undo] == ["take_seat"] * 3
    on.operate("cancel")
    assert on.record.state == "price"
    on.result(1)
    undone = 0
    while on.status == "unwinding":
        on.result(None)
        undone += 1
    assert (on.status, undone) == ("compensated", 3)
    assert [json.loads(c.body)["args"][0] for c in on.calls if c.step == "free_seat"] == ["c", "b", "a"]


def test_two_locals_that_hold_one_list_still_do_after_every_reload() -> None:
    """A7, case 51."""
    on = stage(alias)
    on.start()
    on.result(1)
    on.result(1)
    assert on.status == "done" and outcome(on)["note"] == f"['{K}', 'two'] True"


@saga
async def aside(s: Saga, order: OrderPlaced) -> None:
    await price(order.order_id)


@saga
async def handles(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    try:
        await s.step(ShipOrder(order_id=order.order_id), undo=None, within="1s")
    except StepFailed as why:
        await aside(s, order)
        return OrderConfirmed(order_id=order.order_id, note=why.reason)
    return OrderConfirmed(order_id=order.order_id)


def test_a_called_saga_may_await_while_the_caller_s_named_exception_is_handled() -> None:
    on = stage(handles, aside)
    on.start()
    on.later(1_100)
    on.result(5)
    assert on.status == "done", on.record.parked
    assert "timeout" in outcome(on)["note"]
