"""Waits: early events kept for a state ahead, other keys through a rendezvous, limits, sleeps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contrapas.author.timeout import Timeout
from contrapas.core.envelope import Cause
from contrapas.core.outcomes import dump_body
from contrapas.core.timers import timers
from contrapas.machine import Machine
from tests.core import shop
from tests.core.lines import Await, Env, machine
from tests.core.shop import (
    REGISTRY,
    Approved,
    CardCharged,
    ChargeCard,
    Noticed,
    OrderConfirmed,
    OrderPlaced,
    Rejected,
)
from tests.core.stage import Stage

K = "o-9"
CHARGE = Await(label="ChargeCard", op=lambda e, s: s.step(ChargeCard(order_id=K), undo=None))


def wait(**options: Any) -> Await:
    return Await(label="wait", kind="wait", op=lambda e, s: s.wait(Approved, Rejected, **options), into="got")


def order(*awaits: Await, **more: Any) -> Machine:
    def result(env: Env, s: Any) -> Any:
        return OrderConfirmed(order_id=K, note=type(env.get("got")).__name__)

    return machine(
        "place_order", list(awaits), REGISTRY, slots={"order": OrderPlaced, "got": Any}, result=result, **more
    )


def note(stage: Stage) -> str:
    return str(json.loads(stage.record.outcome_body)["note"])


@pytest.mark.case(87, "early event")
def test_an_event_for_a_state_ahead_is_kept_and_passes_that_state_in_the_same_transition() -> None:
    """Case 87, L26."""
    stage = Stage(order(CHARGE, wait(), later={"ChargeCard": frozenset({"Approved"})}))
    stage.start()
    assert stage.event(Approved(order_id=K, by="ann")).verdict == "kept"
    assert stage.record.cause.note == "kept" and stage.record.state == "ChargeCard"
    assert stage.event(Noticed(order_id=K)).verdict == "no-op"
    stage.reply(CardCharged(order_id=K, charge_id="c"))
    assert stage.status == "done" and note(stage) == "Approved" and not stage.record.kept


def test_a_start_collects_early_events_that_a_state_ahead_takes() -> None:
    stage = Stage(order(CHARGE, wait(), later={"START": frozenset({"Approved"})}))
    early = Cause(kind="event", type="Approved", id="a-1", value=dump_body(Approved(order_id=K)).encode())
    other = Cause(kind="event", type="Noticed", id="n-1", value=dump_body(Noticed(order_id=K)).encode())
    assert stage.start(early=(early, other)).collected == ["a-1"]
    stage.reply(CardCharged(order_id=K, charge_id="c"))
    assert stage.status == "done" and note(stage) == "Approved"


def test_within_ends_a_wait_with_a_timeout_and_a_stale_timer_changes_nothing() -> None:
    stage = Stage(order(wait(within="9h"), CHARGE))
    stage.start()
    name = timers(stage.record)[0].name
    stage.later(9 * 3_600_000)
    assert stage.record.state == "ChargeCard"
    assert Timeout() == REGISTRY.codec(Any).load(stage.record.root.frames[0].slots["got"])
    stale = stage.feed(stage._input("timer", type=name, timer=name))  # pyright: ignore[reportPrivateUsage]
    assert (stale.record, stale.verdict) == (None, "no-op")


def test_a_sleep_ends_at_its_time_and_never_before() -> None:
    stage = Stage(order(Await(label="sleep", kind="sleep", op=lambda e, s: s.sleep("2h")), CHARGE))
    stage.start()
    stage.later(7_200_000 - 1)
    assert stage.record.state == "sleep"
    stage.later(1)
    assert stage.record.state == "ChargeCard"


def test_a_wait_for_another_key_binds_there_and_again_until_it_is_acknowledged() -> None:
    stage = Stage(order(wait(correlate="ticket-3"), CHARGE))
    stage.start()
    binds = [json.loads(m.value) for m in stage.sent]
    assert [(b["type"], b["value"], b["instance"]) for b in binds] == [
        ("Approved", "ticket-3", "place_order/o-9"),
        ("Rejected", "ticket-3", "place_order/o-9"),
    ]
    assert {(m.to, m.key, dict(m.headers)["cp-kind"]) for m in stage.sent} == {("in", b"ticket-3", b"bind")}
    wait_id = binds[0]["wait_id"]
    stage.later(1_000)
    assert len(stage.sent) == 4
    stage.later(2_000)
    assert len(stage.sent) == 6
    for name in ("Approved", "Rejected"):
        stage.feed(stage._input("bound", type=name, wait_id=wait_id, outcome="ok"))  # pyright: ignore[reportPrivateUsage]
    assert stage.record.binds == [] and stage.record.state == "wait"
    assert stage.event(Approved(order_id=K)).verdict == "no-op"

    stage.event(Approved(order_id="ticket-3"), "deliver", wait_id=wait_id, value="ticket-3")
    assert stage.record.state == "ChargeCard"
    sent = [
        (dict(m.headers)["cp-kind"], json.loads(m.value)["type"]) for m in stage.record.out if m.to == "in"
    ]
    assert sent == [(b"unbind", "Rejected"), (b"delivered", "Approved")]
    answer = json.loads(stage.record.out[1].value)
    assert (answer["outcome"], answer["event"], answer["value"]) == (
        "applied",
        stage.record.seen[-1].hex(),
        "ticket-3",
    )


def test_a_wait_that_ends_without_its_event_unbinds_and_a_delivery_then_goes_back() -> None:
    stage = Stage(order(wait(correlate="ticket-3", within="1h"), CHARGE))
    stage.start()
    wait_id = stage.pending().wait_id
    for name in ("Approved", "Rejected"):
        stage.feed(stage._input("bound", type=name, wait_id=wait_id, outcome="ok"))  # pyright: ignore[reportPrivateUsage]
    stage.later(3_600_000)
    assert [b.kind for b in stage.record.binds] == ["unbind", "unbind"]
    late = stage.event(Approved(order_id="ticket-3"), "deliver", wait_id=wait_id, value="ticket-3")
    assert late.verdict == "no-op"
    assert json.loads(stage.record.out[-1].value)["outcome"] == "refused"
    for name in ("Approved", "Rejected"):
        stage.feed(stage._input("bound", type=name, wait_id=wait_id, outcome="gone"))  # pyright: ignore[reportPrivateUsage]
    assert stage.record.binds == []


def test_a_refused_bind_parks() -> None:
    """CP848, B-79."""
    stage = Stage(order(wait(correlate="ticket-3")))
    stage.start()
    stage.feed(
        stage._input(  # pyright: ignore[reportPrivateUsage]
            "bound",
            type="Approved",
            wait_id=stage.pending().wait_id,
            outcome="refused",
            reason="place_order/o-1 waits",
        )
    )
    parked = stage.record.parked
    assert parked is not None and (parked.code, parked.error) == ("CP848", "place_order/o-1 waits")


def test_correlating_on_the_own_key_needs_no_rendezvous() -> None:
    stage = Stage(order(wait(correlate=K)))
    stage.start()
    assert stage.sent == []
    stage.event(Approved(order_id=K))
    assert stage.status == "done"


def test_emit_and_deadline_take_effect_with_the_transition_in_program_order() -> None:
    """Section 2: immediate calls."""

    def op(env: Any, s: Any) -> Any:
        s.emit(Noticed(order_id=K, text="one"))
        s.emit(Noticed(order_id=K, text="two"))
        s.deadline("1h")
        return s.step(ChargeCard(order_id=K), undo=None)

    stage = Stage(order(Await(label="ChargeCard", op=op)))
    stage.start()
    assert stage.types_sent() == ["Noticed", "Noticed", "ChargeCard"]
    run = stage.record.run
    assert [m.id for m in stage.sent[:2]] == [f"place_order/o-9@{run}.1#0", f"place_order/o-9@{run}.1#1"]
    assert stage.record.deadline == stage.now + 3_600_000
    assert shop.price is not None
