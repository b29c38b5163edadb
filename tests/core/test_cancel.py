"""Cancel, kill, the saga's deadline, and late replies: rules X9, X10, and what an ended instance gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import Machine
from tests.core import shop
from tests.core.lines import Await, Env, machine
from tests.core.shop import (
    REGISTRY,
    Approved,
    CardCharged,
    CardDeclined,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    RefundCard,
    ReleaseStock,
    ReserveStock,
    StockReleased,
)
from tests.core.stage import Stage

K = "o-9"
CHARGED = CardCharged(order_id=K, charge_id="ch-1")


def order(*awaits: Await, **more: Any) -> Machine:
    result: Callable[[Env, Any], Any] = more.pop("result", None) or (lambda e, s: OrderConfirmed(order_id=K))
    return machine(
        "place_order",
        list(awaits),
        REGISTRY,
        slots={"order": OrderPlaced, "why": Any, "got": Any},
        result=result,
        **more,
    )


CHARGE = Await(
    label="ChargeCard", op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K))
)
RESERVE = Await(
    label="ReserveStock", op=lambda e, s: s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K))
)
WAIT = Await(label="wait(Approved)", kind="wait", op=lambda e, s: s.wait(Approved), into="got")


def test_a_cancel_unwinds_what_was_done_and_what_is_in_flight() -> None:
    """X9, U2: the pending step is unknown."""
    stage = Stage(order(CHARGE, RESERVE))
    stage.start()
    stage.reply(CHARGED)
    stage.operate("cancel")
    assert stage.labels() == ["undo(ReserveStock)"]
    stage.reply(StockReleased(order_id=K))
    stage.reply(CardRefunded(order_id=K))
    assert (stage.status, stage.record.error) == ("compensated", "Cancelled: cancelled")


@pytest.mark.case(66, "cancel in body, handler, `finally`, undo, branch")
def test_a_handler_may_await_clean_up_and_a_second_cancel_is_only_recorded() -> None:
    """X9."""
    saga = order(
        Await(
            label="ChargeCard",
            op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
            catch=(Cancelled,),
            handler=1,
        ),
        Await(label="price", kind="local", op=lambda e, s: shop.price(K)),
    )
    stage = Stage(saga)
    stage.start()
    stage.operate("cancel")
    assert stage.record.state == "price"
    stage.operate("cancel")
    assert stage.record.state == "price" and "cancelled already" in stage.record.cause.note
    stage.result(1)
    assert stage.status == "done"


@pytest.mark.case(66, "cancel in body, handler, `finally`, undo, branch")
def test_a_cancel_during_compensate_is_thrown_when_it_has_ended() -> None:
    """X9."""
    saga = order(CHARGE, Await(label="compensate", kind="compensate", op=lambda e, s: s.compensate()), WAIT)
    stage = Stage(saga)
    stage.start()
    stage.reply(CHARGED)
    assert stage.status == "unwinding"
    stage.operate("cancel")
    assert stage.status == "unwinding"
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated" and "Cancelled" in stage.record.error


def test_a_kill_runs_no_user_code_and_unwinds_at_once() -> None:
    """X9, case 89."""
    saga = order(
        Await(
            label="ChargeCard",
            op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
            catch=(BaseException,),
            handler=1,
        ),
        Await(label="price", kind="local", op=lambda e, s: shop.price(K)),
    )
    stage = Stage(saga)
    stage.start()
    stage.operate("kill")
    assert stage.labels() == ["undo(ChargeCard)"] and not stage.calls
    stage.reply(CardRefunded(order_id=K))
    assert (stage.status, stage.record.error) == ("compensated", "killed")


def test_behind_the_point_of_no_return_a_kill_is_refused_until_it_is_parked() -> None:
    """What stands must go forward; only what has stopped for good may be given up."""
    saga = order(
        Await(label="price", kind="local", op=lambda e, s: (s.point_of_no_return(), shop.price(K))[1]),
    )
    stage = Stage(saga)
    stage.start()
    assert stage.operate("kill").reason.endswith("is past its point of no return")
    stage.fails(StepFailed("no price"))
    assert stage.status == "parked"
    stage.operate("kill")
    assert stage.status == "failed"


def test_a_kill_in_a_join_unwinds_its_branches() -> None:
    """X9, U5."""
    saga = order(
        Await(
            label="all",
            kind="all",
            op=lambda e, s: s.all(
                s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
                s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K)),
            ),
        )
    )
    stage = Stage(saga)
    stage.start()
    stage.operate("kill")
    assert sorted(stage.labels()) == ["undo(ChargeCard)", "undo(ReserveStock)"]


def test_after_the_pivot_a_cancel_is_refused_and_the_deadline_only_alerts() -> None:
    """X9."""

    def wait(env: Any, s: Any) -> Any:
        s.point_of_no_return()
        return s.wait(Approved)

    stage = Stage(order(CHARGE, Await(label="wait(Approved)", kind="wait", op=wait), deadline_ms=60_000))
    stage.start()
    stage.reply(CHARGED)
    version = stage.record.version
    refused = stage.operate("cancel")
    assert (refused.verdict, refused.record, refused.code) == ("refused", None, "CP815")
    stage.later(60_000)
    assert stage.status == "waiting" and stage.record.version == version + 1
    assert "point of no return" in stage.record.cause.note


def test_the_sagas_deadline_does_what_a_cancel_does() -> None:
    """X9, U10."""
    stage = Stage(order(CHARGE, WAIT, deadline_ms=60_000))
    stage.start()
    stage.reply(CHARGED)
    stage.later(60_000)
    assert stage.labels() == ["undo(ChargeCard)"]
    stage.reply(CardRefunded(order_id=K))
    assert (stage.status, stage.record.error) == ("compensated", "Cancelled: deadline")


@pytest.mark.case(65, "duplicate, unknown, older reply")
def test_a_late_or_repeated_reply_moves_nothing_and_is_recorded() -> None:
    """X10, case 65."""
    stage = Stage(order(CHARGE, RESERVE))
    stage.start()
    first = stage.pending().key
    stage.reply(CHARGED)
    before = stage.record
    again = stage.reply(CHARGED, key=first)
    assert again.verdict == "no-op"
    assert (stage.record.state, stage.record.version) == (before.state, before.version + 1)
    assert stage.record.cause.note == "no-op: late reply" and stage.record.out == []
    stranger = stage.reply(CHARGED, key="place_order/o-9/00000000/ChargeCard/1")
    assert stranger.verdict == "no-op"


def test_a_late_result_of_a_given_up_step_settles_its_entry() -> None:
    """X10, U4."""
    saga = order(
        Await(
            label="take_seat",
            kind="local",
            op=lambda e, s: _limited(shop.take_seat(K)),
            catch=(Exception,),
            handler=1,
        ),
        CHARGE,
    )
    stage = Stage(saga)
    stage.start()
    key = stage.pending().key
    stage.later(5_000)
    assert stage.undo("take_seat").status == "unknown"
    stage.result("seat-1", key=key)
    assert stage.undo("take_seat").status == "done"
    stage.reply(CardDeclined(order_id=K, reason="limit"))
    assert "seat-1" in stage.calls[-1].body


def _limited(op: Any) -> Any:
    op.within_ms = 5_000
    return op


def test_an_ended_instance_records_events_and_refuses_operators() -> None:
    """B-32; crash row 15."""
    stage = Stage(order(CHARGE))
    stage.start()
    stage.reply(CHARGED)
    assert stage.status == "done"
    late = stage.event(Approved(order_id=K))
    assert late.verdict == "no-op" and stage.record.cause.note == "no-op: finished"
    assert stage.record.out == [] and json.loads(stage.record.outcome_body)["order_id"] == K
    assert stage.operate("cancel").verdict == "refused"
    assert stage.operate("kill").reason.endswith("already ended: done")


def test_an_ended_instance_is_let_go_after_its_retention() -> None:
    stage = Stage(order(CHARGE, retention_ms=1_000))
    stage.start()
    stage.reply(CHARGED)
    stage.later(999)
    assert stage.value is not None
    stage.later(1)
    assert stage.last.tombstone and stage.value is None
