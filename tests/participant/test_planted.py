"""Each case of the stores' suite fails on a store that breaks its rule."""

from __future__ import annotations

import pytest

from contrapas.participant.memory import MemoryStore
from contrapas.testing import exercise_store
from contrapas.testing.conformance_store import StoreCase
from tests.participant.benches import memory
from tests.participant.planted import PLANTS

ALL = ("parallel", "clock", "faults", "kill", "bare")
PAIRS = [
    pytest.param(case, id=f"{kind.__name__}-{case.name}")
    for kind, names in PLANTS.items()
    for case in exercise_store(memory(kind), *ALL)  # type: ignore[arg-type]
    if case.name in names
]


@pytest.mark.parametrize("case", PAIRS)
async def test_a_store_with_that_rule_broken_fails(case: StoreCase) -> None:
    with pytest.raises((AssertionError, TimeoutError)):
        await case()


def test_every_case_has_a_store_that_it_fails() -> None:
    names = {case.name for case in exercise_store(memory(MemoryStore), *ALL)}  # type: ignore[arg-type]
    planted = {name for names in PLANTS.values() for name in names}
    assert names == planted
