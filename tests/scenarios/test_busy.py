"""Short form of the siege: a worker dies at every named place; the long one is a command in `busy.py`."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import contrapas.log
import contrapas.runtime
from contrapas.failpoints import NAMES
from tests.scenarios import busy

ROOT = Path(__file__).resolve().parents[2]


def test_every_named_place_is_a_place_where_a_worker_is_killed() -> None:
    for package in (contrapas.log, contrapas.runtime):  # each module names its own places
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    killed = [place for places in busy.CHAINS.values() for place in places]
    assert len(killed) == len(set(killed))
    elsewhere = ("postgres.", "kafka.")  # killed in tests/connectors, and in test_kafka_rows.py
    ours = [name for name in NAMES if not name.startswith(elsewhere)]
    assert sorted({*killed, *busy.ELSEWHERE}) == sorted(ours)
    for place, test in busy.ELSEWHERE.items():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), place


@pytest.mark.slow
@pytest.mark.parametrize("chain", busy.CHAINS)
async def test_everything_happens_once_though_workers_die_at_each_place(tmp_path: Path, chain: str) -> None:
    places = busy.CHAINS[chain]
    verdict = await busy.siege(tmp_path, places, instances=60, more=16, haste=chain == "room")
    assert verdict.exact, verdict
    assert verdict.killed == list(places)
    assert all(verdict.in_flight.values())
