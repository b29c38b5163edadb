"""Hand-written sagas in both forms, each under sixty scripts of outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.testing.differential import compare, pair_of
from contrapas.testing.differential_prelude import EXCEPTIONS, Go
from tests.compiler.differential.cases import ALL

SCRIPTS = 60
NEVER = {"next#3", "some(num,num)"}
"""Awaits whose operation cannot be built."""


@pytest.mark.parametrize(("saga", "others"), ALL, ids=[s.name for s, _ in ALL])
def test_the_machine_does_what_the_function_does(saga: Any, others: tuple[Any, ...]) -> None:
    pair = pair_of(saga, *others, exceptions=EXCEPTIONS)
    report = compare(pair, lambda: (Go(k="k", n=4),), range(SCRIPTS), fails=0.12)
    report = compare(pair, lambda: (Go(k="k", n=1),), range(10), report=report, fails=0.0, cancels=0.0)
    assert report.runs == SCRIPTS + 10
    entered = {state.partition("/")[2] for state in report.states if state.startswith(f"{saga.name}/")}
    states = pair.machines[saga.name].states.values()
    awaited = {state.label for state in states if state.kind != "begin"} - NEVER
    assert entered == awaited, "a state that no script reached proves nothing"
