"""An existing HTTP service with a store, under a real server: orders over HTTP, killed in the middle, each charged once."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contrapas.participant.sqlite_base import create

ENDED = ("done", "failed", "compensated", "parked")
ROOT = Path(__file__).parents[2]


@contextmanager
def _serving(folder: Path, app: str, failpoints: str = "") -> Generator[tuple[httpx.Client, Any]]:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SHOP_DB": str(folder / "shop.db"),
            "CONTRAPAS_LOG": f"sqlite:///{folder}/log.db",
            "CONTRAPAS_FAILPOINTS": failpoints,
        }
        args = ["-m", "uvicorn", f"tests.scenarios.shop_service:{app}", "--fd", str(listening.fileno())]
        process = subprocess.Popen(
            [sys.executable, *args, "--log-level", "warning"],
            cwd=folder,
            env=env,
            pass_fds=(listening.fileno(),),
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=30) as client:
                yield client, process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(str(tmp_path / "shop.db"))
    with closing(sqlite3.connect(tmp_path / "shop.db")) as con, con:
        con.execute("create table orders(id text primary key, cents int)")
        con.execute("create table notes(order_id text)")
        con.execute("create table charges(id text, cents int, key text)")
    return tmp_path


def _rows(folder: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "shop.db")) as con:
        return con.execute(statement).fetchall()


def _ended(client: httpx.Client, watch: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        answer = client.get(watch, headers={"host": "localhost"})
        if answer.status_code == 200 and answer.json()["status"] in ENDED:
            return dict(answer.json())
        time.sleep(0.05)
    raise AssertionError(f"{watch} did not end")


@pytest.mark.parametrize("app", ["api", "star"])
def test_orders_over_http_are_charged_once_and_answered_where_the_page_says(folder: Path, app: str) -> None:
    with _serving(folder, app) as (client, process):
        for number, cents in enumerate((4200, 90_000)):
            answer = client.post("/orders", json={"id": f"o-{number}", "cents": cents})
            assert answer.status_code == 202, answer.text
            found = _ended(client, answer.json()["watch"])
            assert found["status"] == "done", found
        assert _rows(folder, "select id, cents from charges") == [("ch_o-0", 4200)]
        assert process.poll() is None
    assert process.returncode in (0, -15)
    assert _rows(folder, "select consumer, count(*) from contrapas_inbox group by 1 order by 1") == [
        ("payments", 2),
        ("steps", 2),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    ["delivery.handled", "delivery.finished", "delivery.committed", "step.finished", "step.committed"],
)
def test_i_18_a_server_killed_in_a_delivery_or_a_step_goes_on_and_writes_once(
    folder: Path, place: str
) -> None:
    with _serving(folder, "api", f"{place}=kill") as (client, process):
        assert client.post("/orders", json={"id": "o-1", "cents": 100}).status_code == 202
        assert process.wait(60) == -9
    with _serving(folder, "api") as (client, _):
        assert client.post("/orders", json={"id": "o-2", "cents": 200}).status_code == 202
        for one in ("o-1", "o-2"):
            assert _ended(client, f"/contrapas/sagas/place_order/{one}")["status"] == "done"
    assert _rows(folder, "select order_id from notes order by 1") == [("o-1",), ("o-2",)]
    assert _rows(folder, "select id, cents from charges order by id") == [("ch_o-1", 100), ("ch_o-2", 200)]
