"""Three databases under fire, in the short form; the long ones are a command in `clearing.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installed import connector_listed
from tests.postgres import StartServer
from tests.scenarios import clearing


@pytest.mark.slow
@pytest.mark.parametrize("log", ["sqlite", "postgres"])
async def test_money_stays_and_each_transfer_is_done_once_or_undone_whatever_is_killed(
    tmp_path: Path, own_postgres: StartServer, log: str
) -> None:
    if log == "postgres":
        connector_listed("postgresql")
    verdict = await clearing.under_fire(tmp_path, own_postgres(), seconds=20, seed=3, log=log)
    assert verdict.exact, verdict
    assert verdict.done > 0 and verdict.refused > 0 and sum(verdict.kills.values()) >= 3
