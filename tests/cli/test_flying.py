"""`instance describe` says what is in flight, and until when a block may last."""

from __future__ import annotations

from contrapas.cli import flying, screen
from tests.core import flights
from tests.core.flights import K, stage
from tests.core.shop import CardCharged


def test_every_operation_in_flight_has_a_line_that_says_how_it_stands() -> None:
    st = stage(flights.pausing)
    st.result("seat", "take_seat")
    look = screen.Look()
    shown = dict.fromkeys(words for _, words in flying.rows(look, st.record, st.now))
    assert list(shown) == [
        "begin(work)/1   at price",
        "begin(wait(Approved|Rejected))/1   at Approved|Rejected",
    ]
    (waits,) = [p for p in st.record.operations() if p.kind == "next"]
    assert flying.waited_for(waits) == "the first of begin(work)/1, begin(wait(Approved|Rejected))/1"


def test_an_untaken_end_and_a_limit_are_told() -> None:
    st = stage(flights.one)
    st.reply(CardCharged(order_id=K, charge_id="ch-1"), "begin(ChargeCard)")
    assert [w for _, w in flying.rows(screen.Look(), st.record, st.now)] == [
        "begin(ChargeCard)/1   ended, not taken"
    ]
    st = stage(flights.owing)
    ((name, words),) = flying.rows(screen.Look(), st.record, st.now)
    assert name == "limit" and words.startswith("the scope ends")
