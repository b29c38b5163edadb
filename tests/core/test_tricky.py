"""Cases of section 15 that the core decides: which step of several fails or expires, the pivot, kills, what is not committed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contrapas.author.retry import FOREVER
from contrapas.author.saga import Saga, saga
from contrapas.codec.registry import build_registry
from contrapas.compiler import compile_saga
from contrapas.errors import StepFailed
from contrapas.machine import Machine
from tests.core import shop
from tests.core.shop import (
    CardCharged,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    RefundCard,
    ReleaseStock,
    ReserveStock,
    ShipOrder,
    price,
    take_seat,
)
from tests.core.stage import Stage

K = "o-9"


@saga
async def four(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    for n in range(4):
        await s.step(take_seat(f"seat {n}"), undo=lambda seat: shop.free_seat(seat), within="30s")
    return OrderConfirmed(order_id=order.order_id)


@saga
async def four_known(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    for n in range(4):
        await s.step(take_seat(f"seat {n}"), undo=shop.free_seat(f"seat {n}"), within="30s")
    return OrderConfirmed(order_id=order.order_id)


@saga
async def pivots(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    s.point_of_no_return()
    await price(order.order_id)
    return OrderConfirmed(order_id=order.order_id)


@saga
async def pivot_in_a_scope(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    await s.step(ChargeCard(order_id=order.order_id), undo=RefundCard(order_id=order.order_id))
    async with s.scope():
        await s.step(ReserveStock(order_id=order.order_id), undo=ReleaseStock(order_id=order.order_id))
        s.point_of_no_return()
    await s.step(ShipOrder(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id)


@saga
async def pivot_in_a_called_saga(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    await s.step(ChargeCard(order_id=order.order_id), undo=RefundCard(order_id=order.order_id))
    await pivots(s, order)
    await s.step(ShipOrder(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id)


@saga
async def forever_behind_the_pivot(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    await s.step(ChargeCard(order_id=order.order_id), undo=RefundCard(order_id=order.order_id))
    s.point_of_no_return()
    await s.step(price(order.order_id), retry=FOREVER)
    return OrderConfirmed(order_id=order.order_id)


@saga
async def cleans_up(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    await s.step(ChargeCard(order_id=order.order_id), undo=RefundCard(order_id=order.order_id))
    try:
        await s.step(ShipOrder(order_id=order.order_id), undo=None)
    except StepFailed:
        await price(order.order_id)
        raise
    return OrderConfirmed(order_id=order.order_id)


@saga
async def emits_and_breaks(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    await price(order.order_id)
    s.emit(shop.Shipped(order_id=order.order_id))
    raise ValueError("a bug")


@saga
async def begins(s: Saga, order: OrderPlaced) -> int:
    job = s.begin(price(order.order_id))
    return await price("x") + await job


@saga
async def calls_what_begins(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    await price(order.order_id)
    total = await begins(s, order)
    return OrderConfirmed(order_id=order.order_id, note=str(total))


SAGAS = (
    begins,
    calls_what_begins,
    four,
    four_known,
    pivots,
    pivot_in_a_scope,
    pivot_in_a_called_saga,
    forever_behind_the_pivot,
    cleans_up,
)
REGISTRY = build_registry(
    sagas=(*SAGAS, emits_and_breaks), steps=(price, take_seat, shop.free_seat), events=shop.EVENTS
)


def stage(*sagas: Any) -> Stage:
    machines: list[Machine] = []
    for one in sagas:
        made = compile_saga(one, registry=REGISTRY)
        assert isinstance(made, Machine), made
        machines.append(made)
    on = Stage(*machines, registry=REGISTRY)
    on.start(OrderPlaced(order_id=K, cents=1))
    return on


def freed(on: Stage) -> list[str]:
    """Seats given back until the unwinding ends, in order."""
    while on.status == "unwinding":
        on.result(None)
    return [json.loads(c.body)["args"][0] for c in on.calls if c.step == "free_seat"]


@pytest.mark.case(68, "failure at each k of n")
@pytest.mark.parametrize("k", range(4))
def test_what_was_done_before_the_step_that_fails_is_taken_back_in_reverse(k: int) -> None:
    on = stage(four)
    for n in range(k):
        on.result(f"seat {n}")
    on.fails(StepFailed("no"))
    assert freed(on) == [f"seat {n}" for n in reversed(range(k))]
    assert on.status == ("compensated" if k else "failed")


@pytest.mark.case(69, "expiry of k: k undone too, though it never happened")
@pytest.mark.parametrize("k", range(4))
def test_a_step_that_expired_is_taken_back_too(k: int) -> None:
    on = stage(four_known)
    for n in range(k):
        on.result(f"seat {n}")
    on.later(30_000)
    assert freed(on) == [f"seat {n}" for n in reversed(range(k + 1))]
    assert on.status == "compensated"


@pytest.mark.case(84, "pivot in a scope, in a called saga")
@pytest.mark.parametrize("where", [pivot_in_a_scope, pivot_in_a_called_saga])
def test_a_pivot_inside_a_scope_or_a_called_saga_holds_for_the_whole(where: Any) -> None:
    on = stage(where, pivots)
    on.reply(CardCharged(order_id=K, charge_id="c"))
    if where is pivot_in_a_scope:
        on.reply(shop.StockReserved(order_id=K))
    else:
        on.result(1)
    assert on.record.pivoted and not on.record.root.undo
    on.reply(shop.OutOfStock(order_id=K))
    assert on.status == "parked" and not on.took("RefundCard")


@pytest.mark.case(82, "`FOREVER` around the pivot; not constant")
def test_a_step_behind_the_pivot_is_tried_until_it_succeeds() -> None:
    on = stage(forever_behind_the_pivot)
    on.reply(CardCharged(order_id=K, charge_id="c"))
    for attempt in range(1, 4):
        on.fails(ValueError("again"), attempt=attempt)
        on.later(60_000)
    on.result(3)
    assert on.status == "done" and not on.took("RefundCard")


@pytest.mark.case(89, "kill while a handler awaits")
def test_a_kill_while_a_handler_awaits_runs_no_more_of_it_and_unwinds() -> None:
    on = stage(cleans_up)
    on.reply(CardCharged(order_id=K, charge_id="c"))
    on.reply(shop.OutOfStock(order_id=K))
    assert on.record.state == "price"
    on.operate("kill")
    assert on.status == "unwinding" and on.took("RefundCard")
    on.reply(CardRefunded(order_id=K))
    assert on.status in ("compensated", "killed", "cancelled")


@pytest.mark.case(83, "`emit`, then no commit")
def test_what_was_emitted_before_a_bug_is_never_sent() -> None:
    on = stage(emits_and_breaks)
    on.result(1)
    assert on.status == "parked"
    assert not on.took("Shipped") and not on.took("orders shipped")


def test_a_result_that_leads_to_a_called_saga_which_begins_something_issues_both() -> None:
    on = stage(calls_what_begins, begins)
    on.result(1)
    assert on.status != "parked" and len(on.last.steps) == 2
    for call in on.last.steps:
        on.result(4, key=call.key)
    assert on.status == "done" and json.loads(on.record.outcome_body)["note"] == "8"
