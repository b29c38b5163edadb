"""The explorer knows what is in flight: begun steps may have happened, limits may expire at any await, scopes join."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.check.explore import explore
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_all
from contrapas.draw.edges import graph_of
from contrapas.draw.segment import Walker
from contrapas.draw.text import text
from tests.core import flights
from tests.runtime import hauling

SAGAS = (
    flights.one, flights.quotes, flights.pausing, flights.scoped, flights.most, flights.limited, flights.framed,
    flights.nested, hauling.choose, hauling.haul,
)  # fmt: skip


@pytest.mark.parametrize("saga", SAGAS, ids=[s.name for s in SAGAS])
def test_every_saga_that_keeps_operations_in_flight_is_explored_whole_and_drawn(saga: Any) -> None:
    done = compile_all([saga], registry=Registry())
    assert not done.refusals
    walkers = {name: Walker(program) for name, program in done.programs.items()}
    found = explore(saga.name, walkers)
    assert found.complete and not found.model.unknown and len(found.parents) < 2000
    ends = {config.end for config in found.parents}
    assert "killed" in ends and any(end.startswith("return ") for end in ends)
    shown = text(graph_of(done.machines[saga.name]))
    assert saga.name in shown
