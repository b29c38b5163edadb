"""The command line on a log in PostgreSQL: tables made on request only, the demo, and every command that looks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.installed import connector_listed
from tests.postgres import Database, StartServer, execute

ROOT = Path(__file__).parents[2]


def contrapas(folder: Path, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """A command as a user runs it."""
    connector_listed("postgresql")
    env = {name: value for name, value in os.environ.items() if not name.startswith("CONTRAPAS_")}
    return subprocess.run(
        [sys.executable, "-m", "contrapas", *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_log_is_made_on_request_only_and_once(tmp_path: Path, postgres: Database) -> None:
    where = ("--log", postgres.url, "--namespace", "shop")
    first = contrapas(tmp_path, "topic", "create", *where, "orders.events")
    assert first.returncode == 0
    assert "would make" in first.stdout and "24 partitions" in first.stdout
    assert "topic orders.events, 8 partitions" in first.stdout
    missing = contrapas(tmp_path, "ls", *where)
    assert missing.returncode != 0
    assert "CP505" in missing.stderr and "contrapas topic create" in missing.stderr
    printed = contrapas(tmp_path, "topic", "create", *where, "--sql")
    assert "create schema contrapas_shop;" in printed.stdout
    made = contrapas(tmp_path, "topic", "create", *where, "orders.events", "--apply")
    assert made.returncode == 0, made.stderr
    again = contrapas(tmp_path, "topic", "create", *where, "orders.events", "--apply")
    assert "nothing is missing" in again.stdout
    listed = contrapas(tmp_path, "topic", "list", *where, "-o", "json")
    assert [row["topic"] for row in json.loads(listed.stdout)] == ["orders.events"]


def test_a_worker_makes_no_tables_and_says_who_does(tmp_path: Path, postgres: Database) -> None:
    saga = (ROOT / "sagas/order/saga.py").read_text()
    (tmp_path / "shop.py").write_text(saga)
    ended = contrapas(tmp_path, "worker", "shop.py:app", "--log", postgres.url)
    assert ended.returncode == 5
    assert "CP505" in ended.stderr and "contrapas topic create --log" in ended.stderr


def test_the_demo_plays_and_every_command_can_look_at_it(tmp_path: Path, postgres: Database) -> None:
    played = contrapas(tmp_path, "demo", "--alone", "--log", postgres.url)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "every outcome as expected" in played.stdout

    def looked(*words: str) -> str:
        done = contrapas(tmp_path, *words, "--log", postgres.url)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "done 2" in looked("ls")
    assert "OrderConfirmed" in looked("instance", "trace", "o-1")
    assert "place_order" in looked("instance", "describe", "o-2")
    assert "payments.commands" in looked("topic", "list")
    assert "every checksum holds" in looked("log", "verify")
    described = json.loads(looked("log", "describe", "-o", "json"))
    assert described["partitions"] == 24
    assert "OrderConfirmed" in looked("topic", "read", "orders.events", "-o", "jsonl")
    assert re.search(r"3 instances", looked("doctor"))


def test_doctor_says_of_a_server_that_is_down_or_loses_data(
    tmp_path: Path, own_postgres: StartServer
) -> None:
    server = own_postgres(settings={"fsync": "off"})
    where = ("--log", server.url(), "--namespace", "shop")
    execute(server.url(), "select 1")
    found = contrapas(tmp_path, "doctor", *where)
    assert found.returncode == 4
    assert "CP514" in found.stdout and "fsync is off" in found.stdout
    server.stop()
    down = contrapas(tmp_path, "doctor", *where)
    assert down.returncode != 0 and "CP501" in down.stdout + down.stderr


def test_two_namespaces_in_one_database_must_be_told_apart(tmp_path: Path, postgres: Database) -> None:
    for name in ("shop", "bank-2"):
        made = contrapas(tmp_path, "topic", "create", "--log", postgres.url, "--namespace", name, "--apply")
        assert made.returncode == 0
    asked = contrapas(tmp_path, "ls", "--log", postgres.url)
    assert "CP817" in asked.stderr and "bank-2, shop" in asked.stderr
    assert contrapas(tmp_path, "ls", "--log", postgres.url, "--namespace", "bank-2").returncode == 0
