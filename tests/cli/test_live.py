"""`check --against-live`: instances on a log against the code that is to be deployed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contrapas.runtime.engine import Engine
from contrapas.runtime.find import app as find_app
from tests.cli.test_diff import HARSH, OLD, ORPHAN, write

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def clean(here: Path) -> Iterator[None]:
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name in ("before", "fine", "harsh", "gone", "orphan"):
            del sys.modules[name]


@pytest.fixture
def begun(here: Path) -> Path:
    """A log with three instances in wait(Yes), written by the old code."""

    async def run() -> None:
        app = find_app("before.py:app")
        async with Engine.opened(app.definition(), f"sqlite:///{here}/shop.db") as engine, engine.working():
            go = engine.world.types.messages["Go"].cls
            for key in "abc":
                await engine.client.start("main", go(k=key, n=1), timeout_ms=5_000)

    write(here, before=OLD)
    asyncio.run(run())
    return here


def test_live_instances_are_counted_by_state_and_judged(begun: Path, cli: Cli) -> None:
    write(begun, fine=OLD.replace("n=cents", "n=cents * 2"), harsh=HARSH)
    log = f"sqlite:///{begun}/shop.db"
    assert cli("check", "before.py:app", "--update")[0] == 0
    code, out, err = cli("check", "fine.py:app", "--against-live", "--log", log)
    assert (code, err) == (0, "")
    assert "main   ok     3 live instances fit @" in out
    assert "3 in wait(Yes)" in out
    code, out, _ = cli("check", "harsh.py:app", "--against-live", "--log", log)
    assert code == 4
    assert "CP310  3 live instances are in state 'wait(Yes)'" in out
    assert "fix    renamed? migrate=" in out
    code, out, _ = cli("check", "harsh.py:app", "--against-live", "--log", log, "--format", "json")
    live = json.loads(out)["live"]
    assert live["findings"][0]["number"] == 3
    assert live["places"][0]["label"] == "wait(Yes)"
    assert code == 4


def test_a_state_that_is_gone_says_what_to_type(begun: Path, cli: Cli) -> None:
    gone = OLD.replace('await s.wait(Yes, within="1h")', 'await s.wait(Yes, Go, within="1h")')
    write(begun, gone=gone, orphan=ORPHAN)
    assert cli("check", "before.py:app", "--update")[0] == 0
    code, out, _ = cli("check", "gone.py:app", "--against-live", "--log", f"sqlite:///{begun}/shop.db")
    assert code == 4
    assert 'fix    migrate={"wait(Yes)": "wait(Yes|Go)"}' in out
    assert cli("check", "orphan.py:app", "--against-live", "--log", f"sqlite:///{begun}/shop.db")[0] == 0


def test_no_log_is_said_in_words(here: Path, cli: Cli) -> None:
    write(here, before=OLD)
    code, _, err = cli("check", "before.py:app", "--against-live", "--log", "sqlite:///nothing.db")
    assert code == 5
    assert "CP501" in err
