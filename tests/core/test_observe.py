"""Observed sagas send nothing and follow the same states by the services' events."""

from __future__ import annotations

from typing import Any

from contrapas.errors import StepFailed
from contrapas.machine import Machine
from tests.core import shop
from tests.core.lines import Await, machine
from tests.core.shop import (
    REGISTRY,
    CardCharged,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    OutOfStock,
    RefundCard,
    ReleaseStock,
    ReserveStock,
    StockReserved,
)
from tests.core.stage import Stage

K = "o-9"
CHARGED = CardCharged(order_id=K, charge_id="ch-1")


def order(*awaits: Await, **more: Any) -> Machine:
    return machine(
        "place_order",
        list(awaits)
        or [
            Await(
                label="ChargeCard",
                op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
                into="ok",
            ),
            Await(
                label="ReserveStock",
                op=lambda e, s: s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K), within="1m"),
            ),
        ],
        REGISTRY,
        slots={"order": OrderPlaced, "ok": CardCharged, "why": StepFailed},
        result=lambda e, s: OrderConfirmed(order_id=K) if "why" not in e else OrderRejected(order_id=K),
        **more,
    )


def test_both_modes_pass_the_same_states_with_the_same_locals_and_the_observer_sends_nothing() -> None:
    """I-33."""
    walks: list[list[tuple[str, dict[str, str]]]] = []
    for mode in ("orchestrate", "observe"):
        stage = Stage(order(), mode=mode)
        walk: list[tuple[str, dict[str, str]]] = []
        for message in (None, CHARGED, StockReserved(order_id=K)):
            stage.start() if message is None else stage.event(message)
            frames = stage.record.root.frames
            walk.append((stage.record.state, frames[0].slots if frames else {}))
        walks.append(walk)
        assert stage.status == "done" and stage.record.outcome == "OrderConfirmed"
        assert bool(stage.sent) == (mode == "orchestrate")
    assert walks[0] == walks[1]


def test_events_that_came_before_the_observer_stood_there_are_kept() -> None:
    stage = Stage(order(), mode="observe")
    stage.start()
    assert stage.event(StockReserved(order_id=K)).verdict == "kept"
    stage.event(CHARGED)
    assert stage.status == "done"


def test_lateness_is_recorded_and_the_observer_waits_on() -> None:
    """on_late="alert"."""
    stage = Stage(order(), mode="observe")
    stage.start()
    stage.event(CHARGED)
    stage.later(60_000)
    assert stage.status == "waiting" and "late: ReserveStock expired after 1m" in stage.record.cause.note
    stage.event(StockReserved(order_id=K))
    assert stage.status == "done"


def test_an_observed_undo_waits_for_the_event_of_whoever_compensates() -> None:
    """on_late="alert": nothing is sent, also when unwinding."""
    stage = Stage(order(), mode="observe")
    stage.start()
    stage.event(CHARGED)
    stage.event(OutOfStock(order_id=K))
    assert stage.status == "unwinding" and stage.sent == []
    stage.event(CardRefunded(order_id=K))
    assert stage.status == "compensated"


def test_on_late_compensate_throws_the_expiry_and_sends_the_undos() -> None:
    stage = Stage(order(), mode="observe", on_late="compensate")
    stage.start()
    stage.event(CHARGED)
    stage.later(60_000)
    assert stage.status == "unwinding" and stage.types_sent() == ["ReleaseStock"]


def test_local_steps_run_under_observe_only_where_they_say_so() -> None:
    """CP721."""
    looking = Stage(order(Await(label="look", kind="local", op=lambda e, s: shop.look(K))), mode="observe")
    looking.start()
    assert looking.status == "running"
    acting = Stage(order(Await(label="price", kind="local", op=lambda e, s: shop.price(K))), mode="observe")
    acting.start()
    parked = acting.record.parked
    assert parked is not None and parked.code == "CP721"
