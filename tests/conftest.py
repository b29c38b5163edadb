"""Golden files: `pytest --rewrite` writes them anew, and git shows what changed. `--case 30`: the tests of one tricky case."""

from __future__ import annotations

import pytest

from tests.kafka import kafka, kafka_servers, own_kafka
from tests.postgres import own_postgres, postgres, postgres_oldest, postgres_servers

__all__ = [
    "kafka",
    "kafka_servers",
    "own_kafka",
    "own_postgres",
    "postgres",
    "postgres_oldest",
    "postgres_servers",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", default=False, help="write golden files anew")
    parser.addoption(
        "--case", type=int, default=None, help="only the tests of this tricky case of the compiler"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number: int | None = config.getoption("--case")
    if number is not None:
        chosen = [i for i in items if any(m.args[:1] == (number,) for m in i.iter_markers("case"))]
        chosen += [i for i in items if f"case_{number:02}_" in i.name and i not in chosen]
        config.hook.pytest_deselected(items=[i for i in items if i not in chosen])
        items[:] = chosen
