"""Operations in flight (cases 91 to 95): begun, awaited, given up, and ended with their scope."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contrapas.errors import StepFailed
from tests.core import flights
from tests.core.flights import K, note, run_on, stage
from tests.core.shop import (
    Approved,
    CardCharged,
    CardDeclined,
    CardRefunded,
    OutOfStock,
    Rejected,
    Shipped,
    StockReleased,
    StockReserved,
)

CHARGED = CardCharged(order_id=K, charge_id="ch-1")


@pytest.mark.case(91, "`begin` twice in a transition")
def test_what_is_begun_is_issued_with_the_await_after_it_and_answered_by_its_key() -> None:
    st = stage(flights.one)
    assert st.types_sent() == ["ReserveStock", "ChargeCard"]
    assert (
        st.pending("begin(ChargeCard)").key
        == f"place/{K}".replace("place", "one") + f"/{st.record.run}/begin(ChargeCard)/1"
    )
    st.reply(CHARGED, "begin(ChargeCard)")
    assert st.record.state == "ReserveStock"
    st.reply(StockReserved(order_id=K), "ReserveStock")
    assert st.record.state == "ShipOrder" and not st.record.root.frames[0].begun
    st.reply(Shipped(order_id=K))
    assert (st.status, note(st)) == ("done", "ch-1")


def test_an_untaken_failure_waits_for_its_await() -> None:
    st = stage(flights.one)
    st.reply(CardDeclined(order_id=K, reason="poor"), "begin(ChargeCard)")
    st.reply(StockReserved(order_id=K), "ReserveStock")
    st.reply(Shipped(order_id=K))
    assert note(st) == "poor/False"


def test_a_begun_step_expires_while_its_saga_waits_for_another() -> None:
    st = stage(flights.one)
    st.later(11 * 60_000)
    assert st.undo("begin(ChargeCard)").status == "unknown"
    st.reply(StockReserved(order_id=K), "ReserveStock")
    st.reply(CHARGED, key=f"one/{K}/{st.record.run}/begin(ChargeCard)/1")
    st.reply(OutOfStock(order_id=K))
    assert st.types_sent()[-1] == "ReleaseStock", "the newest first"
    st.reply(StockReleased(order_id=K))
    assert st.types_sent()[-1] == "RefundCard"
    st.reply(CardRefunded(order_id=K))
    assert st.status == "compensated"


def test_a_failure_takes_back_what_was_begun_where_it_was_begun() -> None:
    st = stage(flights.one)
    st.reply(CHARGED, "begin(ChargeCard)")
    st.reply(OutOfStock(order_id=K), "ReserveStock")
    assert st.types_sent()[-1] == "RefundCard", "the untaken charge is taken back with the saga"
    st.reply(CardRefunded(order_id=K))
    assert st.status == "compensated"


def test_what_was_in_flight_at_a_failure_is_cancelled_and_its_late_reply_settles_its_undo() -> None:
    st = stage(flights.one)
    st.reply(OutOfStock(order_id=K), "ReserveStock")
    assert st.status == "settling"
    st.reply(CHARGED, key=f"one/{K}/{st.record.run}/begin(ChargeCard)/1")
    st.reply(CardRefunded(order_id=K))
    assert st.status == "compensated"


@pytest.mark.case(93, "`next`: ended, twice, taken, none")
def test_next_gives_what_ended_first_and_each_once() -> None:
    st = stage(flights.quotes)
    keys = {p.body: p.key for p in st.record.operations() if p.kind == "local"}
    assert len(keys) == 3 and len({k for k in keys.values()}) == 3
    (a, b, c) = [p.key for p in st.record.operations() if p.kind == "local"]
    st.result("seat-b", key=b)
    st.result("seat-c", key=c)
    st.result("seat-a", key=a)
    assert note(st) == "seat-b,seat-c,seat-a" and st.status == "done"
    assert [e.label for e in st.record.root.undo] == []


@pytest.mark.case(93, "`next`: ended, twice, taken, none")
def test_a_timeout_of_next_leaves_what_flies_and_cancelling_takes_it_back_before_the_end() -> None:
    st = stage(flights.impatient)
    (a, b, c) = [p.key for p in st.record.operations() if p.kind == "local"]
    st.result("seat-a", key=a)
    st.later(59 * 60_000)
    assert st.record.state == "next"
    st.later(60_000)
    assert (st.status, note(st)) == ("settling", "seat-a"), "what was given up may still have happened"
    assert [(e.label, e.status) for e in st.record.owed] == [("begin(take_seat)", "owed")] * 2
    st.result("seat-b", key=b)
    assert st.calls[-1].step == "free_seat" and '"seat-b"' in st.calls[-1].body
    st.result(None, "undo(begin(take_seat))")
    st.result("seat-c", key=c)
    st.result(None, "undo(begin(take_seat))")
    assert st.status == "done" and st.record.owed == []


def test_a_saga_reacts_to_messages_while_it_works() -> None:
    st = stage(flights.pausing)
    st.event(Approved(order_id=K))
    st.event(Approved(order_id=K))
    assert st.record.state == "next"
    assert st.labels() == ["next", "take_seat", "begin(wait(Approved|Rejected))#2"]
    st.result("seat", "take_seat")
    st.event(Approved(order_id=K))
    st.result(3, "price")
    assert note(st) == "3:7" and st.status == "done"


@pytest.mark.case(94, "`cancel`: unissued, running, ended, taken, after the pivot")
def test_giving_up_lets_the_handlers_of_the_branch_run_then_undoes_beside_the_saga() -> None:
    st = stage(flights.pausing)
    st.result("seat", "take_seat")
    st.event(Rejected(order_id=K))
    assert "price#2" in st.labels()
    st.event(Approved(order_id=K))
    st.result(1, "price#2")
    assert "undo(take_seat)" in st.labels() and st.status == "running"
    st.event(Approved(order_id=K))
    st.result(None, "undo(take_seat)")
    assert note(st) == "3:cancelled/False"


@pytest.mark.case(92, "scope, function left in every way with step, frame, wait, untaken failure")
@pytest.mark.parametrize("cents", [0, 1, 2, 3])
def test_a_scope_left_well_waits_for_what_works_and_drops_what_waits(cents: int) -> None:
    st = stage(flights.scoped, cents)
    st.reply(CHARGED)
    assert st.record.state.startswith("join") and "take_seat" in st.labels()
    assert "begin(wait(Approved))" not in st.labels() and "begin(sleep)" not in st.labels()
    st.result("seat", "take_seat")
    st.result(1, "price")
    if cents == 1:
        assert note(st) == "returned" and st.status == "done"
    else:
        assert [e.kind for e in st.record.root.undo] == ["command", "group"], "handed to the saga (U7)"
        st.reply(StockReserved(order_id=K))
        assert note(st) == "ended"


@pytest.mark.case(92, "scope, function left in every way with step, frame, wait, untaken failure")
def test_a_failure_that_nobody_took_fails_the_scope() -> None:
    st = stage(flights.scoped)
    st.reply(CHARGED)
    st.fails(StepFailed("no seat"), "take_seat")
    assert st.record.state == "ReserveStock"
    st.reply(StockReserved(order_id=K))
    assert note(st) == "failed: StepFailed take_seat: no seat"


def test_a_failed_scope_cancels_what_flies_then_unwinds_it() -> None:
    st = stage(flights.scoped, 4)
    st.reply(CHARGED)
    st.result("seat", "take_seat")
    st.reply(OutOfStock(order_id=K), "ShipOrder")
    assert st.record.state.startswith("join"), "its handler cleans up"
    st.result(1, "price#2")
    assert st.labels() == ["undo(take_seat)"] and st.status == "unwinding"
    st.result(None, "undo(take_seat)")
    assert st.record.state == "ReserveStock"
    st.reply(StockReserved(order_id=K))
    assert note(st) == "failed: StepFailed ShipOrder: OutOfStock"


def test_a_bug_that_leaves_a_scope_ends_what_flies_on_the_spot_and_undoes_nothing_yet() -> None:
    st = stage(flights.scoped, 5)
    st.reply(CHARGED)
    assert st.labels() == ["ReserveStock"]
    st.reply(StockReserved(order_id=K))
    assert st.labels() == ["undo(ChargeCard)"], "never issued, nothing to undo"


@pytest.mark.parametrize("at", range(7))
def test_a_cancel_ends_everything_wherever_it_comes(at: int) -> None:
    st = stage(flights.pausing)
    steps: list[Callable[[], object]] = [
        lambda: st.result("seat", "take_seat"),
        lambda: st.event(Approved(order_id=K)),
        lambda: st.event(Rejected(order_id=K)),
        lambda: st.result(1, "price#2"),
        lambda: st.event(Approved(order_id=K)),
        lambda: st.result(None, "undo(take_seat)"),
    ]
    for do in steps[:at]:
        do()
    if st.record.ended_at is not None:
        return
    st.operate("cancel")
    run_on(st)
    assert st.status == ("settling" if at == 0 else "compensated"), (st.labels(), st.record.parked)


@pytest.mark.parametrize(
    ("at", "end"), [(0, "compensated"), (1, "settling"), (2, "compensated"), (3, "compensated")]
)
def test_a_kill_takes_everything_back_wherever_it_comes(at: int, end: str) -> None:
    """With a seat in flight it is owed: the late result may still give one back."""
    st = stage(flights.scoped)
    steps: list[Callable[[], object]] = [
        lambda: st.reply(CHARGED),
        lambda: st.result("seat", "take_seat"),
        lambda: st.result(1, "price"),
    ]
    for do in steps[:at]:
        do()
    st.operate("kill")
    run_on(st)
    assert (st.status, st.record.error) == (end, "killed")
    assert st.types_sent()[-1] == "RefundCard"
    assert [e.status for e in st.record.owed] == (["owed"] if end == "settling" else [])


def test_some_gives_the_first_successes_and_takes_back_the_rest() -> None:
    st = stage(flights.most)
    (a, b, c) = [p.key for p in st.record.operations() if p.kind == "local"]
    st.result("C", key=c)
    st.result("A", key=a)
    assert st.labels() == ["ShipOrder"]
    assert [(e.label, e.status) for e in st.record.owed] == [("take_seat", "owed")]
    st.result("B", key=b)
    assert st.calls[-1].step == "free_seat" and '"B"' in st.calls[-1].body
    st.reply(Shipped(order_id=K), "ShipOrder")
    assert note(st) == "2=C,0=A", "in the order of their ends, with their positions"


@pytest.mark.case(95, "`some`: too few, 0, ignored failure")
def test_some_goes_on_with_the_rest_where_it_is_ignored() -> None:
    st = stage(flights.most, 1)
    keys = [p.key for p in st.record.operations() if p.kind == "local"]
    st.result("B", key=keys[1])
    st.result("C", key=keys[2])
    assert st.record.state == "ShipOrder" and "take_seat" in st.labels()
    st.reply(Shipped(order_id=K), "ShipOrder")
    assert st.record.state.startswith("join")
    st.result("A", key=keys[0])
    st.fails(StepFailed("no price"), "price")
    assert note(st) == "1=B,2=C", "its failure is not raised"


@pytest.mark.case(95, "`some`: too few, 0, ignored failure")
def test_some_fails_once_too_few_can_succeed() -> None:
    st = stage(flights.most)
    keys = [p.key for p in st.record.operations() if p.kind == "local"]
    st.fails(StepFailed("first"), "take_seat")
    assert st.record.state.startswith("some")
    event = next(p for p in st.record.operations() if p.key == keys[1])
    st.fails(StepFailed("second"), event.label)
    st.reply(Shipped(order_id=K), "ShipOrder")
    assert note(st) == "failed second"
    assert [(e.label, e.status) for e in st.record.owed] == [("take_seat", "owed")], "the third was given up"


@pytest.mark.case(91, "`begin` twice in a transition")
def test_what_is_begun_sees_its_arguments_and_captures_as_they_were() -> None:
    st = stage(flights.copies)
    call = next(c for c in st.calls if c.step == "joined")
    assert '"b"' not in call.body
    st.result("a", "begin(joined)")
    st.reply(OutOfStock(order_id=K), "ReserveStock")
    assert '"a1"' in st.pending("undo(begin(joined))").body


def test_too_many_operations_in_flight_park_the_instance() -> None:
    assert stage(flights.crowd, 256).status == "waiting"
    st = stage(flights.crowd, 257)
    assert st.record.parked is not None and st.record.parked.code == "CP846"


def test_a_timer_that_is_set_anew_for_ever_does_not_make_the_record_grow() -> None:
    st = stage(flights.resetting)
    sizes: list[int] = []
    for _ in range(40):
        st.event(Approved(order_id=K))
        sizes.append(len(st.value or b""))
    assert len(st.record.root.frames[0].begun) <= 3
    assert sizes[-1] - sizes[2] < 64 * 20, "the ids that it has seen, and nothing else"
    st.later(3_600_000)
    assert note(st) == "40"


def test_moments_do_as_lengths_do_and_a_deadline_can_be_moved() -> None:
    st = stage(flights.until)
    st.later(3_600_000)
    st.later(2_610_000)
    assert st.record.state.startswith("wait"), st.record.state
    st.later(60_000)
    assert (st.status, st.record.error) == ("failed", "Cancelled: deadline")


@pytest.mark.parametrize("late", ["alert", "compensate"])
def test_an_observer_follows_what_is_in_flight_by_the_types_of_its_events(late: str) -> None:
    st = stage(flights.one, mode="observe", on_late=late)
    assert st.types_sent() == []
    st.event(StockReserved(order_id=K))
    st.event(CHARGED)
    assert st.record.state == "ShipOrder"
    st.event(Shipped(order_id=K))
    assert note(st) == "ch-1"
