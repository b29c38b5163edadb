"""Blocks, called sagas, joins and branches limited in time (X16, case 96), and the grace period of a cancel (X9)."""

from __future__ import annotations

import pytest

from contrapas.core.timers import GRACE_MS
from contrapas.errors import StepFailed
from tests.core import flights
from tests.core.flights import K, note, run_on, stage
from tests.core.shop import (
    Approved,
    CardCharged,
    CardRefunded,
    OutOfStock,
    Shipped,
    StockReleased,
    StockReserved,
)

CHARGED = CardCharged(order_id=K, charge_id="ch-1")
MINUTE = 60_000


@pytest.mark.case(96, "limit in a called frame, handler, `finally`, `unwind`; swallowed; nested; cancelled")
@pytest.mark.parametrize("cents", [0, 1])
def test_an_expired_scope_is_taken_back_and_fails_even_if_its_body_swallows_the_cancel(cents: int) -> None:
    st = stage(flights.limited, cents)
    st.reply(CHARGED)
    st.later(2 * MINUTE)
    st.reply(StockReserved(order_id=K))
    st.later(8 * MINUTE - 1)
    assert st.record.state == "wait(Approved)"
    st.later(1)
    assert st.types_sent()[-1] == "ReleaseStock" and st.record.state == "undo(ReserveStock)"
    st.reply(StockReleased(order_id=K))
    assert st.record.state == "ShipOrder" and [e.label for e in st.record.root.undo] == ["ChargeCard"]
    st.reply(Shipped(order_id=K))
    assert note(st) == "timeout after 10m/False"


def test_a_scope_that_ends_in_time_leaves_no_timer() -> None:
    st = stage(flights.limited)
    st.reply(CHARGED)
    st.reply(StockReserved(order_id=K))
    st.event(Approved(order_id=K))
    assert st.record.state == "ShipOrder"
    assert st.later(60 * MINUTE) == []
    st.reply(Shipped(order_id=K))
    assert note(st) == "in time"


def test_what_is_pending_at_the_expiry_becomes_unknown_and_an_owed_undo_says_so() -> None:
    st = stage(flights.owing)
    st.later(10 * MINUTE)
    assert st.record.state == "ShipOrder" and [e.status for e in st.record.owed] == ["owed"]
    st.reply(Shipped(order_id=K), "ShipOrder")
    assert note(st) == "timeout after 10m/True" and st.status == "settling"
    st.reply(CHARGED, key=f"owing/{K}/{st.record.run}/ChargeCard/1")
    st.reply(CardRefunded(order_id=K))
    assert st.status == "done"


def test_a_failing_step_of_a_limited_scope_fails_it_as_ever() -> None:
    st = stage(flights.limited)
    st.reply(CHARGED)
    st.reply(OutOfStock(order_id=K), "ReserveStock")
    st.later(60 * MINUTE)
    st.reply(Shipped(order_id=K), "ShipOrder")
    assert note(st) == "OutOfStock/False"


@pytest.mark.case(96, "limit in a called frame, handler, `finally`, `unwind`; swallowed; nested; cancelled")
def test_a_cancel_of_the_saga_comes_before_its_limits() -> None:
    st = stage(flights.limited, 1)
    st.reply(CHARGED)
    st.reply(StockReserved(order_id=K))
    st.operate("cancel")
    assert st.record.state == "ShipOrder", "the body swallowed it, and no limit counts any more"
    st.later(60 * MINUTE)
    st.reply(Shipped(order_id=K))
    assert note(st) == "in time"


@pytest.mark.case(96, "limit in a called frame, handler, `finally`, `unwind`; swallowed; nested; cancelled")
def test_of_nested_limits_the_outermost_expired_one_counts() -> None:
    st = stage(flights.nested)
    st.later(5 * MINUTE)
    assert st.record.state.startswith("price"), "the inner one expired, and its body cleans up"
    st.later(5 * MINUTE)
    assert st.record.state == "ShipOrder"
    st.reply(Shipped(order_id=K), "ShipOrder")
    assert note(st) == "outer timeout after 10m"


def test_an_inner_limit_that_expires_alone_is_the_inner_scopes() -> None:
    st = stage(flights.nested)
    st.later(5 * MINUTE)
    run_on(st)
    assert note(st) == "inner timeout after 5m"


def test_an_unwinding_inside_is_finished_first() -> None:
    st = stage(flights.nested, 1)
    st.reply(StockReserved(order_id=K))
    st.later(5 * MINUTE)
    st.answer(st.pending("price"), 1)
    assert st.labels() == ["undo(ReserveStock)"]
    st.later(6 * MINUTE)
    assert st.labels() == ["undo(ReserveStock)"], "the outer limit waits for it"
    st.reply(StockReleased(order_id=K))
    st.reply(Shipped(order_id=K), "ShipOrder")
    assert note(st) == "outer timeout after 10m"


def test_after_the_pivot_a_limit_only_alerts() -> None:
    st = stage(flights.pivoting)
    st.later(11 * MINUTE)
    assert (
        st.record.state == "ShipOrder" and "late: a scope expired, timeout after 10m" in st.record.cause.note
    )
    st.reply(Shipped(order_id=K))
    assert st.status == "done"


@pytest.mark.parametrize("late", ["alert", "compensate"])
def test_an_observer_that_alerts_reports_the_expiry_and_goes_on(late: str) -> None:
    st = stage(flights.owing, mode="observe", on_late=late)
    st.later(11 * MINUTE)
    assert st.record.state == ("ChargeCard" if late == "alert" else "ShipOrder")


@pytest.mark.case(96, "limit in a called frame, handler, `finally`, `unwind`; swallowed; nested; cancelled")
def test_a_limit_around_a_called_saga_is_a_scope_around_it() -> None:
    st = stage(flights.framed)
    st.result("seat", "take_seat")
    st.later(10 * MINUTE)
    assert st.record.state == "price#2", "the called saga cleans up"
    st.answer(st.pending("price#2"), 1)
    assert st.labels() == ["undo(take_seat)"]
    st.result(None, "undo(take_seat)")
    assert st.labels()[:1] == ["result"]
    st.result("seat", "take_seat")
    st.later(20 * MINUTE)
    st.answer(st.pending("price#2"), 1)
    st.result(None, "undo(take_seat)")
    assert sorted(st.labels()) == ["take_seat", "take_seat"], st.labels()
    st.later(MINUTE)
    assert [p.label for p in st.record.operations()] == ["take_seat", "price#2"], "it cleans up"
    run_on(st)
    assert st.record.ended_at is not None, st.labels()
    assert note(st) == "timeout after 10m/False timeout after 20m/False timeout after 1m/True"


def test_a_second_cancel_is_recorded_until_the_grace_period_ends_and_thrown_then() -> None:
    st = stage(flights.stubborn)
    st.operate("cancel")
    assert st.record.state == "wait(Approved)"
    assert st.operate("cancel").verdict == "applied" and st.record.again
    assert st.record.state == "wait(Approved)"
    st.later(GRACE_MS)
    assert st.record.state == "wait(Rejected)", "thrown again"
    st.later(GRACE_MS)
    assert st.operate("cancel").verdict == "applied" and st.status == "failed", "nothing to undo"


def test_without_a_second_cancel_the_end_of_the_grace_period_is_nothing() -> None:
    st = stage(flights.stubborn)
    st.operate("cancel")
    assert st.later(10 * GRACE_MS) == []


def test_a_failure_in_an_expired_branch_is_the_timeout() -> None:
    st = stage(flights.framed)
    st.fails(StepFailed("no"), "take_seat")
    st.later(20 * MINUTE)
    run_on(st)
    assert st.record.ended_at is not None
