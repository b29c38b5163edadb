"""The conformance suite over PostgreSQL, newest and oldest."""

from __future__ import annotations

import pytest

from contrapas.testing.conformance import Case, exercise_log
from tests.connectors.postgres_bench import postgres as bench
from tests.postgres import Database

_urls: list[str] = []
CASES = exercise_log(bench(lambda: _urls[-1]), "clock", "faults", "refuse", "topics", "owner-compaction")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_newest_postgresql(case: Case, postgres: Database) -> None:
    _urls.append(postgres.url)
    await case()


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_oldest_postgresql(case: Case, postgres_oldest: Database) -> None:
    _urls.append(postgres_oldest.url)
    await case()
