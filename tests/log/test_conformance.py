"""The conformance suite over the twin in memory, with either fence, and over SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrapas.testing.conformance import Case, exercise_log
from tests.log.benches import memory, sqlite

_folders: list[Path] = []


@pytest.fixture(autouse=True)
def folder() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as name:
        _folders.append(Path(name))
        yield
        _folders.pop()


REFUSE = exercise_log(memory("refuse"), "clock", "faults", "refuse", "topics", "owner-compaction")
ORDER = exercise_log(memory("order"), "clock", "faults", "order", "topics")
SQLITE = exercise_log(sqlite(lambda: _folders[-1]), "clock", "refuse", "topics", "owner-compaction")


@pytest.mark.parametrize("case", REFUSE, ids=str)
async def test_the_twin_that_refuses(case: Case) -> None:
    await case()


@pytest.mark.parametrize("case", ORDER, ids=str)
async def test_the_twin_that_goes_by_order(case: Case) -> None:
    await case()


@pytest.mark.parametrize("case", SQLITE, ids=str)
async def test_sqlite(case: Case) -> None:
    await case()
