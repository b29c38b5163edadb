"""`PostgresStore` passes the conformance suite of stores, on the newest PostgreSQL and on the oldest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contrapas.testing.conformance_store import StoreCase, exercise_store
from tests.connectors.postgres_store_bench import PostgresBench, make
from tests.postgres import Database

CASES = exercise_store(lambda: pytest.fail("no database"), "parallel", "clock", "kill", "bare")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_store_on_the_newest_postgresql(case: StoreCase, postgres: Database) -> None:
    await replace(case, make=make(PostgresBench, postgres))()


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_store_on_the_oldest_postgresql(case: StoreCase, postgres_oldest: Database) -> None:
    await replace(case, make=make(PostgresBench, postgres_oldest))()
