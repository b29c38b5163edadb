"""Parking: bugs (X5), versions (CP312), sizes (CP846), pause and resume, what is kept meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from contrapas.author.saga import Saga, saga
from contrapas.core.envelope_avro import encode
from contrapas.core.transition import transition
from contrapas.errors import StepFailed
from contrapas.machine import Machine
from tests.core import flights, shop
from tests.core.lines import Await, Env, machine
from tests.core.shop import (
    REGISTRY,
    Approved,
    CardCharged,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    RefundCard,
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
        slots={"order": OrderPlaced, "got": Any, "why": Any},
        result=result,
        **more,
    )


CHARGE = Await(
    label="ChargeCard", op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K))
)
WAIT = Await(label="wait(Approved)", kind="wait", op=lambda e, s: s.wait(Approved), into="got")


class Fault:
    """Code that fails until it is repaired."""

    def __init__(self, why: BaseException | None = None) -> None:
        self.why = why
        self.runs = 0

    def __call__(self, env: Any, s: Any) -> Any:
        self.runs += 1
        if self.why is not None:
            raise type(self.why)(*self.why.args)
        return shop.price(K)


def faulty(fault: Fault) -> Machine:
    return order(CHARGE, Await(label="price", kind="local", op=fault))


def test_a_bug_is_not_committed_and_parks_the_instance_with_its_event() -> None:
    """X5, B-38: tried twice, then parked; nothing is undone; retry goes on after the fix."""
    fault = Fault(KeyError("sku"))
    stage = Stage(faulty(fault))
    stage.start()
    fault.runs = 0
    stage.reply(CHARGED)
    assert fault.runs == 6  # two tries, and the stage computes everything three times
    record = stage.record
    assert record.status == "parked" and record.parked is not None
    assert (record.parked.code, record.parked.error) == ("CP847", "KeyError: 'sku'")
    assert "test_parking.py" in record.parked.trace
    assert record.parked.input is not None and record.parked.input.type == "CardCharged"
    assert record.state == "ChargeCard" and stage.undo("ChargeCard").status == "issued" and record.out == []

    fault.why = None
    stage.operate("retry")
    assert stage.status == "running" and stage.undo("ChargeCard").status == "done"
    stage.result(1)
    assert stage.status == "done"


def test_skip_drops_the_input_and_the_instance_waits_on() -> None:
    """X5."""
    fault = Fault(KeyError("sku"))
    stage = Stage(faulty(fault))
    stage.start()
    stage.reply(CHARGED)
    stage.operate("skip", "wrong event")
    assert stage.status == "waiting" and "skipped reply CardCharged" in stage.record.cause.note
    fault.why = None
    stage.reply(CHARGED)
    assert stage.status == "running"


def test_cancelling_a_parked_instance_unwinds_it() -> None:
    """X5: retry after the fix, or cancel to unwind."""
    stage = Stage(faulty(Fault(KeyError("sku"))))
    stage.start()
    stage.reply(CHARGED)
    stage.operate("cancel")
    assert stage.labels() == ["undo(ChargeCard)"]
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated"


def test_a_start_that_fails_parks_before_the_first_await_and_can_be_retried() -> None:
    """X5."""
    fault = Fault(ValueError("no"))
    stage = Stage(order(Await(label="price", kind="local", op=fault)))
    stage.start()
    assert stage.status == "parked" and stage.record.version == 1 and stage.record.state == "START"
    assert stage.start().verdict == "duplicate"
    fault.why = None
    stage.operate("retry")
    assert stage.status == "running" and stage.calls[-1].key.endswith("/price/2")


@pytest.mark.parametrize("why", [KeyboardInterrupt(), SystemExit(1), MemoryError(), GeneratorExit()])
def test_what_ends_the_process_is_never_stored(why: BaseException) -> None:
    """X6, case 29."""
    fault = Fault(None)
    stage = Stage(faulty(fault))
    stage.start()
    fault.why = why
    with pytest.raises(type(why)):
        stage.reply(CHARGED)


def test_events_for_a_parked_instance_are_kept_and_applied_in_order_afterwards() -> None:
    """Section 8 of the log: kept in the record, applied at retry."""
    fault = Fault(KeyError("sku"))
    saga = order(
        CHARGE, Await(label="price", kind="local", op=fault), WAIT, later={"price": frozenset({"Approved"})}
    )
    stage = Stage(saga)
    stage.start()
    stage.reply(CHARGED)
    assert stage.event(Approved(order_id=K, by="ann")).verdict == "kept"
    assert stage.status == "parked" and len(stage.record.kept) == 1
    fault.why = None
    stage.operate("retry")
    assert stage.status == "running" and len(stage.record.kept) == 1
    stage.result(1)
    assert stage.status == "done" and stage.record.kept == []


def test_a_held_instance_keeps_a_hundred_events_then_they_are_dead_letters() -> None:
    stage = Stage(order(WAIT))
    stage.start()
    stage.operate("pause")
    for _ in range(100):
        assert stage.event(Approved(order_id=K)).verdict == "kept"
    dead = stage.event(Approved(order_id=K))
    assert (dead.verdict, dead.record) == ("dead", None)
    stage.operate("resume")
    assert stage.status == "done"


def test_a_paused_instance_keeps_its_deadlines_and_fires_them_at_resume() -> None:
    """Statuses: paused."""
    stage = Stage(order(Await(label="sleep", kind="sleep", op=lambda e, s: s.sleep("1h")), CHARGE))
    stage.start()
    stage.operate("pause")
    assert stage.status == "paused"
    assert stage.later(7_200_000) == []
    stage.operate("resume")
    assert stage.status == "waiting"
    stage.later(0)
    assert stage.record.state == "ChargeCard"


def test_a_paused_instance_keeps_the_result_of_a_step_in_progress() -> None:
    stage = Stage(order(Await(label="price", kind="local", op=lambda e, s: shop.price(K)), CHARGE))
    stage.start()
    stage.operate("pause")
    stage.result(7)
    assert stage.status == "paused" and stage.record.kept[0].kind == "result"
    stage.operate("resume")
    assert stage.record.state == "ChargeCard"


def test_a_label_that_todays_code_does_not_have_parks_the_instance_until_a_release_has_it() -> None:
    """CP312: rolling back is safe; it resumes by itself."""
    old = order(CHARGE, WAIT)
    stage = Stage(old)
    stage.start()
    new = replace(
        order(Await(label="ChargeCard#2", op=lambda e, s: s.step(ChargeCard(order_id=K))), WAIT), graph="g2"
    )
    kept = stage.world
    stage.world = replace(kept, machines={"place_order": new})
    stage.reply(CHARGED)
    parked = stage.record.parked
    assert parked is not None and (parked.code, parked.reason) == ("CP312", "version")
    assert stage.record.root.frames[0].graph == "g1"
    stage.world = kept
    stage.event(Approved(order_id=K))
    assert stage.status == "done"


def test_a_slot_that_todays_code_needs_and_the_record_lacks_parks_too() -> None:
    """CP312, C2."""
    stage = Stage(order(CHARGE, WAIT))
    stage.start()
    new = order(CHARGE, WAIT, graph="g2")
    states = dict(new.states)
    states["ChargeCard"] = replace(states["ChargeCard"], needs=frozenset({"order", "got"}))
    stage.world = replace(stage.world, machines={"place_order": replace(new, states=states)})
    stage.reply(CHARGED)
    parked = stage.record.parked
    assert parked is not None and parked.code == "CP312" and "got" in parked.error


def grow(env: Env, s: Any) -> Any:
    env["got"] = "x" * 950_000
    return shop.price(K)


def test_a_record_that_would_grow_beyond_its_limit_parks_in_the_state_before() -> None:
    """CP846, R7."""
    stage = Stage(
        order(
            Await(label="price", kind="local", op=lambda e, s: shop.price(K)),
            Await(
                label="more",
                kind="local",
                op=grow,
            ),
        )
    )
    stage.start()
    stage.result(1)
    parked = stage.record.parked
    assert parked is not None and parked.code == "CP846" and stage.record.state == "price"


def shout(env: Env, s: Any) -> Any:
    s.emit(shop.Noticed(order_id=K, text="x" * 950_000))
    return shop.price(K)


def test_a_message_over_the_limit_parks_before_it_is_sent() -> None:
    """CP409, B-24."""
    stage = Stage(
        order(
            Await(
                label="Noticed",
                op=shout,
            )
        )
    )
    stage.start()
    parked = stage.record.parked
    assert parked is not None and parked.code == "CP409"


def test_a_loop_that_never_waits_is_a_bug() -> None:
    """L26: 1,000 awaits whose answer is there."""
    stage = Stage(order(Await(label="all", kind="all", op=lambda e, s: s.all(*[]), then=lambda e, s: 0)))
    stage.start()
    parked = stage.record.parked
    assert parked is not None and parked.code == "CP847" and "without waiting" in parked.error


def test_a_taken_key_gives_the_first_answer_to_the_same_start_and_refuses_another() -> None:
    """CP412, B-29, B-30."""
    stage = Stage(order(WAIT))
    stage.start()
    assert stage.start().verdict == "duplicate"
    other = stage.start(OrderPlaced(order_id=K, cents=1))
    assert (other.verdict, other.code, other.record) == ("refused", "CP412", None)


def test_an_input_for_no_instance_is_dead() -> None:
    stage = Stage(order(WAIT))
    event = stage._input("reply", type="CardCharged", body=CHARGED)  # pyright: ignore[reportPrivateUsage]
    assert transition(None, event, stage.world).code == "CP414"


@saga
async def buggy(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    try:
        got = await s.step(
            ChargeCard(order_id=order.order_id),
            undo=lambda ok: RefundCard(order_id=order.order_id, charge_id=ok.charge_id),
        )
    except StepFailed as why:
        raise KeyError("declined") from why
    raise KeyError(got.charge_id)


@pytest.mark.parametrize("verb", ["cancel", "kill"])
def test_what_the_parked_input_says_of_its_step_is_heard_when_the_instance_is_given_up(verb: str) -> None:
    """The reply lies in the record: an undo that needs it runs, and is not owed until the window of late replies ends."""
    st = flights.stage(buggy)
    st.reply(CHARGED)
    assert st.status == "parked"
    st.operate(verb)
    assert st.status == "unwinding" and st.labels() == ["undo(ChargeCard)"]
    assert b"ch-1" in st.took("RefundCard")[-1].value
    st.reply(CardRefunded(order_id=K))
    assert st.status == "compensated"


@pytest.mark.parametrize("verb", ["cancel", "kill"])
def test_a_failure_that_lies_in_a_parked_instance_is_not_taken_back(verb: str) -> None:
    st = flights.stage(buggy)
    st.reply(shop.CardDeclined(order_id=K, reason="limit"))
    assert st.status == "parked"
    st.operate(verb)
    assert st.took("RefundCard") == [] and st.status == "failed"


@pytest.mark.parametrize("kept", ["now", "by an earlier release"])
def test_what_a_rendezvous_delivered_is_in_hand_when_a_parked_instance_goes_on(kept: str) -> None:
    """The rendezvous takes a second delivery of what the instance knows for done: the parked input is all there is."""
    fault = Fault(KeyError("sku"))

    def price(env: Env, s: Any) -> Any:
        return fault(env, s) and OrderConfirmed(order_id=K, note=cast(Approved, env.get("got")).by)

    got = Await(
        label="wait", kind="wait", op=lambda e, s: s.wait(Approved, correlate="t-3", within="1h"), into="got"
    )
    stage = Stage(order(got, result=price))
    stage.start()
    wait_id = stage.pending().wait_id
    stage.event(Approved(order_id="t-3", by="ann"), "deliver", wait_id=wait_id, value="t-3")
    assert stage.status == "parked"
    stage.later(2 * 3_600_000)
    fault.why = None
    if kept != "now":
        record = stage.record
        assert record.parked is not None and record.parked.input is not None
        record.parked.input.headers = tuple(h for h in record.parked.input.headers if h[0][:3] != "cp-")
        stage.value = encode(record)
        stage.warm = stage.record
    stage.operate("retry")
    assert stage.status == "done" and json.loads(stage.record.outcome_body)["note"] == "ann"
    answer = json.loads(
        next(m for m in stage.record.out if dict(m.headers).get("cp-kind") == b"delivered").value
    )
    assert (answer["outcome"], answer["wait_id"], answer["value"]) == ("applied", wait_id, "t-3")
