"""Short forms of the bank under fire; the long ones are commands in `bank.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios import bank


async def test_books_are_exact_after_workers_were_killed_again_and_again(tmp_path: Path) -> None:
    verdict = await bank.kill_loop(tmp_path, kills=4, seed=7, pause=(0.3, 0.8))
    assert verdict.exact, verdict
    assert verdict.done > 0 and verdict.refused > 0


@pytest.mark.parametrize(
    "point",
    ["commit.undispatched", "step.done", "release.before"],
)
async def test_a_kill_at_a_named_place_loses_nothing(tmp_path: Path, point: str) -> None:
    verdict = await bank.kill_at(tmp_path, point, instances=60, seed=11)
    assert verdict.kills == 1
    assert verdict.exact, verdict
