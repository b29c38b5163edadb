"""The stores' conformance suite over the twin in memory and over SQLite."""

from __future__ import annotations

import pytest

from contrapas.testing import exercise_store
from contrapas.testing.conformance_store import StoreCase
from tests.participant.benches import memory

MEMORY = exercise_store(memory(), "parallel", "clock", "faults", "kill", "bare")


@pytest.mark.parametrize("case", MEMORY, ids=str)
async def test_the_twin_in_memory(case: StoreCase) -> None:
    await case()
