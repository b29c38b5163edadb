"""The worked example of services that exist: its own files, as its page runs them, on a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sagas.billing import follow, shop
from tests.connectors.kafka_running import gone
from tests.connectors.test_kafka_topics import client, delete
from tests.installed import connector_listed
from tests.kafka import Broker

FOLDER = Path(__file__).parents[2] / "sagas" / "billing"
TOPICS = (
    "legacy.orders", "billing.commands", "billing.events", "delivery.commands", "delivery.events", "billing.outcomes",
)  # fmt: skip
ENDS = {
    "fulfil/A-1": ("done", ""),
    "fulfil/X-2": ("compensated", ""),
    "fulfil/A-3": ("compensated", ""),
    "fulfil/A-4": ("done", ""),
}


def environment(broker: Broker, state: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTRAPAS_")}
    return {**kept, "CONTRAPAS_LOG": broker.url, "CONTRAPAS_CHECKPOINTS": str(state)}


def cleared(broker: Broker) -> None:
    there = client(broker).list_topics(timeout=10).topics
    left = [name for name in there if name in TOPICS or name.startswith("billing.")]
    if left:
        delete(broker, *left)
        gone(broker, left)


@contextmanager
def running(env: dict[str, str], until: str, *words: str) -> Generator[subprocess.Popen[str]]:
    """A process of the page, once it has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, *words], cwd=FOLDER, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = ""
        while until not in (line := process.stdout.readline()):
            assert line, said
            said += line
        yield process
    finally:
        process.kill()
        process.wait(20)


def ended(broker: Broker, instances: set[str], seconds: float = 60) -> dict[str, tuple[str, str]]:
    until = time.monotonic() + seconds
    while True:
        found = follow.states(broker.address, "billing")
        mine = {key: state for key, state in found.items() if key in instances}
        if len(mine) == len(instances) and all(
            status in ("done", "compensated") for status, _ in mine.values()
        ):
            return mine
        assert time.monotonic() < until, found
        time.sleep(0.2)


@pytest.fixture
def clean(kafka: Broker) -> Iterator[Broker]:
    connector_listed("kafka")
    cleared(kafka)
    yield kafka
    cleared(kafka)


def test_services_that_exist_are_led_by_a_saga_also_after_its_worker_was_killed(
    clean: Broker, tmp_path: Path
) -> None:
    env = environment(clean, tmp_path)
    made = subprocess.run(
        [sys.executable, "-m", "contrapas", "topic", "create", "--dev", "--namespace", "billing", "--apply",
         "--partitions", "3", *TOPICS],
        cwd=FOLDER, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    worker = ("-m", "contrapas", "worker", "--dev", "saga.py:app")
    with ExitStack() as stack:
        stack.enter_context(running(env, "ready", "services.py", clean.address))
        first = stack.enter_context(running(env, "ready", *worker))
        for number, cents in (("A-1", 4200), ("X-2", 900), ("A-3", 500_000)):
            shop.main(clean.address, number, cents)
        assert ended(clean, ENDS.keys() - {"fulfil/A-4"}).items() <= ENDS.items()
        first.kill()
        first.wait(20)
        shop.main(clean.address, "A-4", 100)
        shop.main(clean.address, "A-1", 4200)  # said again
        stack.enter_context(running(env, "ready", *worker))
        assert ended(clean, set(ENDS)) == ENDS
    assert follow.states(clean.address, "billing") == ENDS
