"""The worked order, tested as a user would: with the fixture of the plugin."""

from __future__ import annotations

import pytest

from contrapas.testing import Sagas
from sagas.order.saga import (
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
    place_order,
)

ORDER = OrderPlaced(order_id="o-1", sku="mug", cents=4200)


async def test_an_order_goes_through(sagas: Sagas) -> None:
    run = await sagas.start(place_order, ORDER)
    await (await run.expect(ChargeCard)).reply(CardCharged(order_id="o-1", charge_id="ch_1"))
    await (await run.expect(ReserveStock)).reply(StockReserved(order_id="o-1"))
    assert run.status == "waiting"
    await (await run.expect(ShipOrder)).reply(Shipped(order_id="o-1", tracking="T-1"))
    assert run.status == "done"
    assert run.outcome == OrderConfirmed(order_id="o-1", tracking="T-1")
    assert sagas.published(OrderConfirmed) == [run.outcome]


@pytest.mark.crash_everywhere
async def test_out_of_stock_refunds_the_card(sagas: Sagas) -> None:
    run = await sagas.start(place_order, ORDER)
    await (await run.expect(ChargeCard)).reply(CardCharged(order_id="o-1", charge_id="ch_1"))
    await (await run.expect(ReserveStock)).reply(OutOfStock(order_id="o-1", sku="mug"))
    refund = await run.expect(RefundCard)
    assert refund.command.charge_id == "ch_1"
    await refund.reply(CardRefunded(order_id="o-1"))
    assert run.status == "compensated"
    assert isinstance(run.outcome, OrderRejected)
    assert run.outcome.reason == "OutOfStock"


@pytest.mark.crash_everywhere
async def test_no_answer_in_time_is_taken_back_and_a_late_charge_is_refunded(sagas: Sagas) -> None:
    run = await sagas.start(place_order, ORDER)
    charge = await run.expect(ChargeCard)
    await sagas.skip("30s")
    assert run.status == "settling"
    assert isinstance(run.outcome, OrderRejected)
    await charge.reply(CardCharged(order_id="o-1", charge_id="ch_late"))
    refund = await run.expect(RefundCard)
    assert refund.command.charge_id == "ch_late"
    await refund.reply(CardRefunded(order_id="o-1"))
    assert run.status == "compensated"


async def test_a_declined_card_leaves_nothing_to_take_back(sagas: Sagas) -> None:
    run = await sagas.start(place_order, ORDER)
    await (await run.expect(ChargeCard)).reply(CardDeclined(order_id="o-1", reason="limit"))
    with pytest.raises(AssertionError, match="has not sent RefundCard: it is"):
        await run.expect(RefundCard)
    assert isinstance(run.outcome, OrderRejected)


async def test_a_cancel_takes_back_in_reverse(sagas: Sagas) -> None:
    run = await sagas.start(place_order, ORDER)
    await (await run.expect(ChargeCard)).reply(CardCharged(order_id="o-1", charge_id="ch_1"))
    await run.expect(ReserveStock)
    await run.cancel()
    await (await run.expect(ReleaseStock)).reply(StockReleased(order_id="o-1"))
    await (await run.expect(RefundCard)).reply(CardRefunded(order_id="o-1"))
    assert run.status == "compensated"
