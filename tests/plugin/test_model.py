"""The Hypothesis machine: every order of replies, time and crashes over a real saga; and it finds what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from contrapas.testing import Run, Sagas
from sagas.order.saga import OrderPlaced, place_order

FEW = settings(
    max_examples=25,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
)
ORDERS = st.builds(OrderPlaced, order_id=st.just("o-1"), sku=st.just("mug"), cents=st.integers(1, 10**6))


def test_an_order_keeps_its_promises_in_any_order_of_things(sagas: Sagas) -> None:
    ends: set[str] = set()

    def check(run: Run[object]) -> None:
        ends.add(run.status)

    run_state_machine_as_test(sagas.model(place_order, ORDERS, check=check), settings=FEW)
    assert ends >= {"waiting", "settling"}


def test_a_rule_that_does_not_hold_is_found(sagas: Sagas) -> None:
    def check(run: Run[object]) -> None:
        assert run.status != "settling", "it owes something"

    with pytest.raises(AssertionError, match="it owes something"):
        run_state_machine_as_test(sagas.model(place_order, ORDERS, check=check), settings=FEW)
