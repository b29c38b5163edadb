"""Compensation: rules U1 to U12."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contrapas.author.op import MISSING, Op, UndoRef
from contrapas.author.retry import FOREVER, Retry
from contrapas.errors import StepFailed
from contrapas.machine import Machine, Slot
from tests.core import shop
from tests.core.lines import Await, Env, machine, undo_of
from tests.core.shop import (
    REGISTRY,
    CardCharged,
    CardDeclined,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    OutOfStock,
    RefundCard,
    RefundRefused,
    ReleaseStock,
    ReserveStock,
    ShipOrder,
    Shipped,
    StockReleased,
    StockReserved,
)
from tests.core.stage import Stage

K = "o-9"
Result = Callable[[Env, Any], Any]
SLOTS: dict[str, Any] = {"order": OrderPlaced, "why": StepFailed, "ok": CardCharged}
ORDER_SLOT = Slot(name="order", codec=REGISTRY.codec(OrderPlaced), frozen=True)


def charge(**options: Any) -> Await:
    options.setdefault("undo", RefundCard(order_id=K))
    return Await(label="ChargeCard", op=lambda env, s: s.step(ChargeCard(order_id=K), **options), into="ok")


def charge_by_reply(**options: Any) -> Await:
    def op(env: Env, s: Any) -> Op[Any]:
        made: Op[Any] = s.step(ChargeCard(order_id=K), **options)
        made.undo = UndoRef("undo(ChargeCard)", {"order": env["order"]})
        return made

    return Await(label="ChargeCard", op=op, into="ok")


REFUND = undo_of(
    "ChargeCard",
    lambda env, ok, s: RefundCard(order_id=env["order"].order_id, charge_id=ok.charge_id),
    captures=(ORDER_SLOT,),
)
UNDOS = {"undo(ChargeCard)": REFUND}


def reserve(**options: Any) -> Await:
    options.setdefault("undo", ReleaseStock(order_id=K))
    return Await(
        label="ReserveStock", op=lambda env, s: s.step(ReserveStock(order_id=K), **options), into="_"
    )


def ship(**options: Any) -> Await:
    return Await(
        label="ShipOrder", op=lambda env, s: s.step(ShipOrder(order_id=K), undo=None, **options), into="_"
    )


def order(*awaits: Await, undos: Any = None, result: Result | None = None, **more: Any) -> Machine:
    return machine(
        "place_order",
        list(awaits),
        REGISTRY,
        slots=SLOTS,
        undos=undos or {},
        result=result or (lambda env, s: OrderConfirmed(order_id=K)),
        **more,
    )


CHARGED = CardCharged(order_id=K, charge_id="ch-1")


def test_the_record_that_issues_a_step_holds_its_undo() -> None:
    """U1."""
    stage = Stage(order(charge()))
    stage.start()
    entry = stage.undo("ChargeCard")
    assert (entry.status, entry.kind, entry.name, entry.visit) == ("issued", "command", "RefundCard", 1)
    assert json.loads(entry.body)["order_id"] == K


@pytest.mark.case(81, "undo lambda: capture rebound, reply unused, reply late")
def test_a_lambda_keeps_what_it_captured_at_issue() -> None:
    """U1."""
    stage = Stage(order(charge_by_reply(), undos=UNDOS))
    stage.start()
    entry = stage.undo("ChargeCard")
    assert (entry.kind, entry.name, entry.needs_reply) == ("lambda", "undo(ChargeCard)", True)
    assert json.loads(entry.captures["order"])["order_id"] == K


@pytest.mark.case(81, "undo lambda: capture rebound, reply unused, reply late")
def test_a_lambda_that_ignores_the_reply_is_evaluated_at_issue() -> None:
    """Section 2: it needs no reply."""
    plain = undo_of("ChargeCard", lambda env, ok, s: RefundCard(order_id=env["order"].order_id), reads=False)
    stage = Stage(order(charge_by_reply(), undos={"undo(ChargeCard)": plain}))
    stage.start()
    assert (stage.undo("ChargeCard").kind, stage.undo("ChargeCard").needs_reply) == ("command", False)


def test_an_entry_learns_how_its_step_ended() -> None:
    """U2: done, failed, unknown."""
    done = Stage(order(charge(), ship()))
    done.start()
    done.reply(CHARGED)
    assert done.undo("ChargeCard").status == "done"

    failed = Stage(
        order(charge(), reserve(), Await(label="ShipOrder", op=lambda e, s: s.step(ShipOrder(order_id=K))))
    )
    caught = order(
        Await(
            label="ChargeCard",
            op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K), within="30s"),
            catch=(StepFailed,),
            handler=1,
        ),
        ship(),
    )
    failed = Stage(caught)
    failed.start()
    failed.reply(CardDeclined(order_id=K, reason="limit"))
    assert failed.undo("ChargeCard").status == "failed"

    unknown = Stage(caught)
    unknown.start()
    unknown.later(30_000)
    assert unknown.undo("ChargeCard").status == "unknown"
    assert unknown.record.state == "ShipOrder"


def test_unwinding_goes_back_in_reverse_over_done_and_unknown_and_skips_failed() -> None:
    """U3, U10: an uncaught StepFailed unwinds by itself."""
    stage = Stage(order(charge(), reserve(within="1m"), ship()))
    stage.start()
    stage.reply(CHARGED)
    stage.later(60_000)
    assert stage.status == "unwinding"
    assert stage.took("ReleaseStock") and not stage.took("RefundCard")
    assert dict(stage.took("ReleaseStock")[0].headers)["cp-undoes"].endswith(b"/ReserveStock/2")
    stage.reply(StockReleased(order_id=K))
    assert stage.took("RefundCard")
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated"
    assert "timeout after 1m" in stage.record.error


def test_a_definite_failure_of_the_first_step_leaves_nothing_to_undo() -> None:
    """U3, status `failed`: no outcome, and no undo had to run."""
    stage = Stage(order(charge()))
    stage.start()
    stage.reply(CardDeclined(order_id=K, reason="limit"))
    assert (stage.status, stage.types_sent()) == ("failed", ["ChargeCard"])


@pytest.mark.case(81, "undo lambda: capture rebound, reply unused, reply late")
def test_an_unknown_step_whose_undo_needs_the_reply_is_owed_and_a_late_success_runs_it() -> None:
    """U4."""
    handler = Await(label="compensate", kind="compensate", op=lambda e, s: s.compensate())
    saga = order(
        Await(
            label="ChargeCard",
            op=lambda e, s: _lambda_step(e, s, within="30s"),
            into="ok",
            catch=(StepFailed,),
            handler=1,
        ),
        handler,
        undos=UNDOS,
        result=lambda e, s: OrderRejected(order_id=K),
    )
    stage = Stage(saga)
    stage.start()
    key = stage.pending().key
    stage.later(30_000)
    assert stage.status == "settling"
    assert [m.to for m in stage.took("OrderRejected")] == ["orders.events"]
    assert not stage.took("RefundCard")
    assert not stage.record.retain_until

    stage.reply(CHARGED, key=key)
    assert json.loads(stage.took("RefundCard")[0].value) == {"order_id": K, "charge_id": "ch-1"}
    assert stage.status == "settling"
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated"
    assert stage.record.retain_until


def _lambda_step(env: Env, s: Any, **options: Any) -> Op[Any]:
    made: Op[Any] = s.step(ChargeCard(order_id=K), **options)
    made.undo = UndoRef("undo(ChargeCard)", {"order": env["order"]})
    return made


def test_a_late_failure_drops_an_owed_undo() -> None:
    """U4."""
    stage = Stage(order(charge_by_reply(within="30s"), undos=UNDOS))
    stage.start()
    key = stage.pending().key
    stage.later(30_000)
    assert stage.status == "settling"
    stage.reply(CardDeclined(order_id=K, reason="limit"), key=key)
    assert stage.status == "failed"
    assert not stage.took("RefundCard")


def test_when_the_late_reply_window_ends_the_instance_parks() -> None:
    """U4: counted from the expiry."""
    stage = Stage(order(charge_by_reply(within="30s"), undos=UNDOS))
    stage.start()
    stage.later(30_000 + 24 * 3600 * 1000 - 1)
    assert stage.status == "settling"
    stage.later(1)
    assert stage.status == "parked"
    parked = stage.record.parked
    assert parked is not None and parked.code == "CP709"
    stage.operate("skip", "refunded by hand")
    assert stage.status == "compensated"


def test_a_local_step_that_raised_parks_at_once_when_its_undo_needs_the_result() -> None:
    """U4: it sends no late reply."""
    stage = Stage(order(Await(label="take_seat", kind="local", op=lambda e, s: shop.take_seat(K))))
    stage.start()
    assert stage.undo("take_seat").kind == "default"
    stage.fails(ValueError("no connection"))
    stage.later(1_000)
    stage.fails(ValueError("no connection"))
    assert stage.status == "parked"
    parked = stage.record.parked
    assert parked is not None and parked.code == "CP709"
    stage.operate("skip", "no seat was taken")
    assert stage.status == "compensated"


def test_a_default_undo_of_a_step_runs_over_its_result() -> None:
    """Section 2: `@step(undo=...)` gives a default."""
    stage = Stage(order(Await(label="take_seat", kind="local", op=lambda e, s: shop.take_seat(K)), ship()))
    stage.start()
    stage.result("seat-7")
    stage.reply(OutOfStock(order_id=K))
    assert (stage.calls[-1].step, stage.calls[-1].label) == ("free_seat", "undo(take_seat)")
    assert "seat-7" in stage.calls[-1].body
    stage.result(None)
    assert stage.status == "compensated"


def _both(env: Env, s: Any) -> Op[Any]:
    made: Op[Any] = s.all(
        s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
        s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K)),
    )
    return made


def test_parallel_stacks_unwind_side_by_side() -> None:
    """U5."""
    stage = Stage(order(Await(label="all(ChargeCard,ReserveStock)", kind="all", op=_both), ship()))
    stage.start()
    stage.reply(CHARGED, "ChargeCard")
    stage.reply(StockReserved(order_id=K), "ReserveStock")
    stage.reply(OutOfStock(order_id=K), "ShipOrder")
    assert sorted(stage.labels()) == ["undo(ChargeCard)", "undo(ReserveStock)"]
    stage.reply(StockReleased(order_id=K), "undo(ReserveStock)")
    assert stage.status == "unwinding"
    stage.reply(CardRefunded(order_id=K), "undo(ChargeCard)")
    assert stage.status == "compensated"


@pytest.mark.case(72, "undo failing, retried, parked; crash mid-unwind")
def test_an_undo_is_tried_again_and_exhausted_it_parks_and_can_be_retried_or_skipped() -> None:
    """U6."""
    undo = Op("command", "RefundCard", RefundCard(order_id=K), retry=Retry(2, backoff="1s"))
    saga = order(charge(undo=undo), ship())
    stage = Stage(saga)
    stage.start()
    stage.reply(CHARGED)
    stage.reply(OutOfStock(order_id=K))
    stage.reply(RefundRefused(order_id=K))
    assert stage.status == "unwinding" and stage.pending().retry_at == stage.now + 1000
    stage.later(1000)
    first, second = stage.took("RefundCard")
    assert first.id == second.id
    assert (dict(first.headers)["cp-attempt"], dict(second.headers)["cp-attempt"]) == (b"1", b"2")
    stage.gave_up()
    parked = stage.record.parked
    assert stage.status == "parked" and parked is not None and parked.code == "CP845"

    stage.operate("retry")
    assert stage.status == "unwinding" and len(stage.took("RefundCard")) == 3
    stage.gave_up()
    stage.later(1000)
    stage.gave_up()
    assert stage.status == "parked"
    stage.operate("skip", "refunded by hand")
    assert stage.status == "compensated"
    assert not stage.record.owed


@pytest.mark.case(70, "inner scope fails, is caught, outer fails; inner *succeeds*, outer fails")
def test_a_scope_that_succeeds_hands_its_undos_up_and_one_that_fails_takes_back_its_own_only() -> None:
    """U7."""

    def enter_and_reserve(env: Env, s: Any) -> Op[Any]:
        s._enter("scope")
        made: Op[Any] = s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K))
        return made

    def leave_and_ship(env: Env, s: Any) -> Op[Any]:
        s._leave("scope")
        made: Op[Any] = s.step(ShipOrder(order_id=K), undo=None)
        return made

    happy = order(
        charge(),
        Await(label="ReserveStock", op=enter_and_reserve),
        Await(label="ShipOrder", op=leave_and_ship),
    )
    stage = Stage(happy)
    stage.start()
    stage.reply(CHARGED)
    assert stage.record.root.frames[0].scopes == [1]
    stage.reply(StockReserved(order_id=K))
    assert stage.record.root.frames[0].scopes == []
    stage.reply(OutOfStock(order_id=K))
    assert stage.labels() == ["undo(ReserveStock)"], "what the scope handed over is taken back first"
    stage.reply(StockReleased(order_id=K))
    assert stage.labels() == ["undo(ChargeCard)"]
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated"

    failing = order(
        charge(),
        Await(label="ReserveStock", op=enter_and_reserve),
        Await(
            label="ShipOrder",
            op=lambda e, s: s.step(ShipOrder(order_id=K), undo=None),
            catch=(StepFailed,),
            handler=3,
        ),
        Await(label="unwind", kind="unwind", op=lambda e, s: Op("unwind", "unwind")),
        Await(label="price", kind="local", op=lambda e, s: (s._leave("scope"), shop.price(K))[1]),
    )
    inner = Stage(failing)
    inner.start()
    inner.reply(CHARGED)
    inner.reply(StockReserved(order_id=K))
    inner.reply(OutOfStock(order_id=K))
    assert inner.status == "unwinding" and inner.labels() == ["undo(ReserveStock)"]
    inner.reply(StockReleased(order_id=K))
    assert inner.record.state == "price" and not inner.took("RefundCard")
    assert [e.label for e in inner.record.root.undo] == ["ChargeCard"]
    inner.result(1)
    assert inner.status == "done"
    assert not inner.record.unwound


def test_after_the_point_of_no_return_nothing_is_registered_or_undone() -> None:
    """U8: a failure that leaves the root parks the instance."""

    def pivot_and_reserve(env: Env, s: Any) -> Op[Any]:
        s.point_of_no_return()
        made: Op[Any] = s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K))
        return made

    stage = Stage(order(charge(), Await(label="ReserveStock", op=pivot_and_reserve)))
    stage.start()
    stage.reply(CHARGED)
    assert stage.record.pivoted and not stage.record.root.undo
    stage.reply(OutOfStock(order_id=K))
    parked = stage.record.parked
    assert parked is not None and parked.code == "CP704"
    assert not stage.took("RefundCard") and not stage.took("ReleaseStock")
    stage.operate("retry")
    assert stage.status == "waiting" and len(stage.took("ReserveStock")) == 2
    assert stage.operate("cancel").verdict == "refused"
    stage.reply(StockReserved(order_id=K))
    assert stage.status == "done"


def test_a_handled_failure_keeps_the_undos_until_the_saga_returns() -> None:
    """U9."""
    saga = order(
        charge(),
        Await(
            label="ReserveStock",
            op=lambda e, s: s.step(ReserveStock(order_id=K)),
            catch=(StepFailed,),
            handler=2,
        ),
        ship(),
    )
    stage = Stage(saga)
    stage.start()
    stage.reply(CHARGED)
    stage.reply(OutOfStock(order_id=K))
    assert [e.label for e in stage.record.root.undo] == ["ChargeCard"]
    stage.reply(Shipped(order_id=K))
    assert stage.status == "done" and not stage.took("RefundCard")


def test_compensate_unwinds_and_goes_on_to_the_outcome() -> None:
    """U10, U12."""
    saga = order(
        charge(),
        Await(
            label="ReserveStock",
            op=lambda e, s: s.step(ReserveStock(order_id=K)),
            catch=(StepFailed,),
            handler=2,
        ),
        Await(label="compensate", kind="compensate", op=lambda e, s: s.compensate()),
        result=lambda e, s: OrderRejected(order_id=K, reason=e["why"].reason),
    )
    stage = Stage(saga)
    stage.start()
    stage.reply(CHARGED)
    stage.reply(OutOfStock(order_id=K))
    assert stage.status == "unwinding"
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated"
    assert json.loads(stage.record.outcome_body)["reason"] == "OutOfStock"


def test_a_reply_during_unwinding_settles_an_entry_that_was_not_visited_yet() -> None:
    """U11, X10."""
    caught = order(
        Await(
            label="ChargeCard",
            op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K), within="30s"),
            catch=(StepFailed,),
            handler=1,
        ),
        reserve(),
        ship(),
    )
    stage = Stage(caught)
    stage.start()
    key = stage.pending().key
    stage.later(30_000)
    stage.reply(StockReserved(order_id=K))
    stage.reply(OutOfStock(order_id=K))
    assert stage.labels() == ["undo(ReserveStock)"]
    stage.reply(CardDeclined(order_id=K, reason="limit"), key=key)
    assert stage.undo("ChargeCard").status == "failed"
    stage.reply(StockReleased(order_id=K))
    assert stage.status == "compensated" and not stage.took("RefundCard")


@pytest.mark.case(82, "`FOREVER` around the pivot; not constant")
def test_a_forever_step_has_no_failure() -> None:
    """Section 2: FOREVER repeats definite failures too, after a pause that is state, under one key."""
    stage = Stage(order(ship(retry=FOREVER)))
    stage.start()
    for pause in (1000, 2000, 4000):
        stage.reply(OutOfStock(order_id=K))
        assert stage.status == "retrying" and stage.pending().retry_at == stage.now + pause
        stage.later(pause)
        assert stage.status == "waiting"
    assert len({m.id for m in stage.took("ShipOrder")}) == 1
    stage.reply(Shipped(order_id=K))
    assert stage.status == "done"


def test_nothing_said_about_undo_registers_none() -> None:
    """MISSING is no undo for a command; the checker speaks up."""
    assert repr(MISSING) == "MISSING"
    stage = Stage(order(Await(label="ChargeCard", op=lambda e, s: s.step(ChargeCard(order_id=K)))))
    stage.start()
    assert not stage.record.root.undo
