"""The command line on a log in Kafka: topics made on request only, the demo, and every command that looks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.connectors.test_kafka_topics import client, topics
from tests.installed import connector_listed
from tests.kafka import Broker, StartKafka

ROOT = Path(__file__).parents[2]
NEEDED = (
    "orders.events",
    "payments.commands",
    "payments.events",
    "shipping.commands",
    "shipping.events",
    "stock.commands",
    "stock.events",
)


def contrapas(folder: Path, *words: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """A command as a user runs it."""
    connector_listed("kafka")
    env = {name: value for name, value in os.environ.items() if not name.startswith("CONTRAPAS_")}
    return subprocess.run(
        [sys.executable, "-m", "contrapas", *words],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_log_is_made_on_request_only_and_once(tmp_path: Path, kafka: Broker) -> None:
    where = ("--log", kafka.url, "--namespace", kafka.name)
    orders = f"{kafka.name}.orders"
    alone = contrapas(tmp_path, "topic", "create", *where, orders, "--plan")
    assert alone.returncode == 6
    assert "CP502" in alone.stderr and "--dev" in alone.stderr
    first = contrapas(tmp_path, "topic", "create", *where, orders, "--plan", "--dev")
    assert first.returncode == 0, first.stderr
    assert f"would make   topic {kafka.name}.log, 24 partitions, 1 replica" in first.stdout
    assert re.search(r"^ +cleanup\.policy=compact$", first.stdout, re.MULTILINE)
    assert f"topic {orders}, 8 partitions" in first.stdout
    assert topics(kafka) == set(), "a plan made something"
    missing = contrapas(tmp_path, "ls", *where)
    assert missing.returncode == 5
    assert "CP505" in missing.stderr and "contrapas topic create" in missing.stderr
    made = contrapas(tmp_path, "topic", "create", *where, orders, "--apply", "--dev")
    assert made.returncode == 0, made.stderr
    again = contrapas(tmp_path, "topic", "create", *where, orders, "--apply", "--dev")
    assert "nothing is missing" in again.stdout
    listed = json.loads(contrapas(tmp_path, "topic", "list", *where, "-o", "json").stdout)
    assert orders in [row["topic"] for row in listed]
    found = contrapas(tmp_path, "doctor", *where)
    assert found.returncode == 4 and "CP502" in found.stdout
    assert contrapas(tmp_path, "doctor", "--dev", *where).returncode == 0


def test_a_worker_makes_no_topics_and_says_who_does(tmp_path: Path, own_kafka: StartKafka) -> None:
    broker = Broker(own_kafka().address, "shop", None)
    (tmp_path / "shop.py").write_text((ROOT / "sagas/order/saga.py").read_text())
    ended = contrapas(tmp_path, "worker", "shop.py:app", "--log", broker.url, "--dev")
    assert ended.returncode == 5
    assert "CP505" in ended.stderr and f"contrapas topic create --log '{broker.url}'" in ended.stderr
    made = contrapas(
        tmp_path, "topic", "create", "--log", broker.url, "--namespace", "shop", "--dev", "--apply"
    )
    assert made.returncode == 0, made.stderr
    ended = contrapas(tmp_path, "worker", "shop.py:app", "--log", broker.url, "--dev")
    assert ended.returncode == 5
    assert "topics are missing: orders.events, payments.commands" in ended.stderr
    (command,) = re.findall(r"contrapas (topic create --log .*--apply)", ended.stderr)
    assert all(name in command for name in NEEDED)
    dev = contrapas(tmp_path, "dev", "shop.py:app", "--log", broker.url, "--port", "0")
    assert dev.returncode == 5
    assert "needs   topic orders.events, 8 partitions, 1 replica" in dev.stdout
    assert "CP505" in dev.stderr
    assert not set(NEEDED) & set(client(broker).list_topics(timeout=10).topics), "made without being asked"


@pytest.mark.slow
def test_the_demo_plays_and_every_command_can_look_at_it(tmp_path: Path, own_kafka: StartKafka) -> None:
    settings = {"broker.session.timeout.ms": "9000", "broker.heartbeat.interval.ms": "1000"}
    url = f"kafka://{own_kafka(settings=settings).address}"
    played = contrapas(tmp_path, "demo", "--alone", "--log", url, timeout=300)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "every outcome as expected" in played.stdout

    def looked(*words: str) -> str:
        done = contrapas(tmp_path, *words, "--log", url)
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
    assert (
        len(looked("topic", "read", "shop.log", "--from", "-2", "-n", "3", "-o", "jsonl").splitlines()) == 3
    )
    assert re.search(r"3 instances", looked("doctor", "--dev"))


def test_a_broker_that_is_not_there_is_six_lines_exit_5_within_three_seconds(tmp_path: Path) -> None:
    for words in (
        ("ls",),
        ("doctor",),
        ("topic", "list"),
        ("topic", "create", "--namespace", "shop", "--plan"),
    ):
        begun = time.monotonic()
        ended = contrapas(tmp_path, *words, "--log", "kafka://127.0.0.1:1")
        took = time.monotonic() - begun
        assert ended.returncode == 5, ended.stdout + ended.stderr
        lines = ended.stderr.splitlines()
        assert len(lines) <= 6
        assert "CP501  cannot reach Kafka at 127.0.0.1:1 (connection refused, 3 tries in" in lines[0]
        if words == ("ls",):
            assert took < 20, f"{took:.1f} s; under three where nothing else runs"


def test_a_secret_is_never_repeated(tmp_path: Path) -> None:
    for url in ("kafka://sagas:hunter2@127.0.0.1:1", "kafka://127.0.0.1:1?sasl.password=hunter2"):
        for words in (("ls",), ("doctor",), ("topic", "create", "--namespace", "shop")):
            ended = contrapas(tmp_path, *words, "--log", url)
            assert ended.returncode in (4, 6)
            assert "hunter2" not in ended.stdout + ended.stderr
            assert "CP802" in ended.stdout + ended.stderr
