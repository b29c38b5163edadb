"""Services and steps on PostgreSQL: the tests of every store, over `PostgresStore` and `SqlStore` on a real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.connectors.postgres_store_bench import PostgresBench, SqlBench, make
from tests.postgres import Database
from tests.runtime import ledger
from tests.runtime import test_stored_services as services
from tests.runtime import test_stored_steps as steps
from tests.runtime.ledger import EFFECTS
from tests.runtime.stores import Effects

pytestmark = pytest.mark.slow  # two minutes in all


@pytest.fixture(params=[PostgresBench, SqlBench], ids=["asyncpg", "sqlalchemy"])
async def bench(request: pytest.FixtureRequest, postgres: Database) -> AsyncGenerator[Any]:
    async with make(request.param, postgres)() as made:
        store = await made.open()
        services.STORE.inner = ledger.STORE.inner = store
        EFFECTS.append(Effects(made))
        yield made
    services.STORE.inner = ledger.STORE.inner = None


effects = services.effects
_calm = services._calm  # pyright: ignore[reportPrivateUsage]
_clean = steps._calm  # pyright: ignore[reportPrivateUsage]

OVER_MEMORY = (
    "database",
    "without_an_answer",
    "different_keys",
    "nothing_more",
    "plain_function_runs_in_the_transaction",
)
"""Those that pull levers of the twin in memory, or write a plain function's rows in its own way."""

for _module in (services, steps):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and not any(words in _name for words in OVER_MEMORY):
            globals()[_name] = _test
