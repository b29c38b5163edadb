"""The private Kafka: keeps what it acknowledged through a kill, can be silenced, and never outlives who started it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from deploy import maven
from deploy.kafka import jvm
from deploy.kafka.server import Server
from tests.installed import missing
from tests.kafka import Broker, StartKafka
from tests.proxy import proxied

ROOT = Path(__file__).parents[2]


def create(address: str, topic: str, partitions: int = 1) -> None:
    admin: Any = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(20)


def send(address: str, topic: str, *values: bytes, seconds: float = 20) -> list[KafkaError | None]:
    """What became of each; shorter when some have no answer in time."""
    found: list[KafkaError | None] = []

    def told(why: KafkaError | None, _: Message) -> None:
        found.append(why)

    producer = Producer(
        {"bootstrap.servers": address, "acks": "all", "enable.idempotence": True, "log_level": 0}
    )
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=told)
    producer.flush(seconds)
    producer.purge()
    return found


def values(address: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "x", "enable.auto.commit": False, "log_level": 0}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        end = time.monotonic() + 30
        found: list[bytes | None] = []
        while len(found) < count and time.monotonic() < end:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                found.append(message.value())
        return found
    finally:
        consumer.close()


def test_each_test_has_names_of_its_own_and_one_broker_serves_all(kafka: Broker) -> None:
    one, other = kafka.namespace(), kafka.namespace()
    assert one != other
    create(kafka.address, f"{one}.log")
    assert send(kafka.address, f"{one}.log", b"1", b"2") == [None, None]
    assert values(kafka.address, f"{one}.log", 2) == [b"1", b"2"]


def test_what_was_acknowledged_is_there_after_a_kill_at_the_same_address(own_kafka: StartKafka) -> None:
    server = own_kafka()
    create(server.address, "t")
    assert send(server.address, "t", b"1") == [None]
    before = server.address, server.nodes[0].pid
    server.kill()
    assert server.nodes[0].pid == 0
    assert send(server.address, "t", b"2", seconds=0.5) == []
    server.start()
    assert server.address == before[0]
    assert server.nodes[0].pid not in (0, before[1])
    assert values(server.address, "t", 1) == [b"1"]
    server.pause()
    assert send(server.address, "t", b"3", seconds=0.5) == []
    server.go_on()
    assert send(server.address, "t", b"4") == [None]


async def test_who_comes_through_a_proxy_stays_behind_it(own_kafka: StartKafka) -> None:
    server = own_kafka()
    node = server.nodes[0]
    create(server.address, "t")
    async with proxied(node.behind, at=node.front) as proxy:
        admin = AdminClient({"bootstrap.servers": server.proxied})
        brokers = await asyncio.to_thread(lambda: admin.list_topics(timeout=20).brokers)
        assert [b.port for b in brokers.values()] == [node.front]
        assert await asyncio.to_thread(lambda: send(server.proxied, "t", b"1")) == [None]
        proxy.refusing = True
        proxy.reset()
        assert await asyncio.to_thread(lambda: send(server.proxied, "t", b"2", seconds=0.5)) == []
        assert await asyncio.to_thread(lambda: send(server.address, "t", b"3")) == [None]


@pytest.mark.slow
def test_of_three_nodes_one_may_be_killed_and_comes_back(own_kafka: StartKafka) -> None:
    server = own_kafka(3)
    create(server.address, "t", 3)
    server.kill(2)
    assert send(server.address, "t", b"1", b"2") == [None, None]
    server.start()
    assert all(n.pid for n in server.nodes)
    server.kill(1)
    assert send(server.address, "t", b"3") == [None]
    assert values(server.address, "t", 3) == [b"1", b"2", b"3"]


def test_it_ends_with_who_started_it_even_when_that_is_killed() -> None:
    if shutil.which("java") is None:
        missing("there is no java on this machine")
    program = (
        "import os, sys; from deploy.kafka.server import Server; s = Server().start();"
        "print(s.folder, s.nodes[0].pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    folder, pid = done.stdout.split()
    end = time.monotonic() + 20
    while os.path.exists(folder) and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_the_command_prints_an_address_and_ends_with_the_broker_at_ctrl_c() -> None:
    if shutil.which("java") is None:
        missing("there is no java on this machine")
    with subprocess.Popen(
        [sys.executable, "deploy/kafka/server.py", "run", "--set", "message.max.bytes=2000000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("kafka://127.0.0.1:")
            where = address.removeprefix("kafka://")
            create(where, "t")
            assert send(where, "t", b"1") == [None]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert send(where, "t", b"2", seconds=0.3) == []


def test_a_jar_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "artefacts.lock"
    lock.write_text(f"# pinned\n{'0' * 64}  a/b/1/b-1.jar\n")
    monkeypatch.setenv("CONTRAPAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONTRAPAS_MAVEN", tmp_path.as_uri())
    monkeypatch.setattr(jvm, "LOCK", lock)

    def java(*_: object) -> tuple[str, str]:
        return "java", "17"

    monkeypatch.setattr(jvm, "java", java)
    with pytest.raises(maven.Missing, match="cannot be fetched"):
        Server()
    (tmp_path / "a/b/1").mkdir(parents=True)
    (tmp_path / "a/b/1/b-1.jar").write_bytes(b"something else")
    with pytest.raises(maven.Missing, match="pinned is 0000"):
        Server()


def test_without_a_java_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(maven.Missing, match="there is no java on this machine, Kafka needs 17"):
        Server()
