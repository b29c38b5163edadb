"""The stores' conformance suite over the twin in memory and over SQLite."""

from __future__ import annotations

import pytest

from contrapas.testing import exercise_store
from contrapas.testing.conformance_store import StoreCase
from tests.participant.benches import memory, sqlite

MEMORY = exercise_store(memory(), "parallel", "clock", "faults", "kill", "bare")
SQLITE = exercise_store(sqlite, "clock", "kill", "bare")


@pytest.mark.parametrize("case", MEMORY, ids=str)
async def test_the_twin_in_memory(case: StoreCase) -> None:
    await case()


@pytest.mark.parametrize("case", SQLITE, ids=str)
async def test_sqlite(case: StoreCase) -> None:
    await case()
