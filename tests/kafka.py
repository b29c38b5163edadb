"""Kafka for tests: one broker for the session, started when a test first asks for it, names of its own for each test.

In this order: the address in `CONTRAPAS_TEST_KAFKA` (topics may be created and deleted there, and the broker must have
the settings below for what tests of membership and cleaning measure); the private broker of `deploy/kafka`, which needs
Java 17; a container where a container engine answers. What cannot be had is a visible skip, and a failure where `CI` is
set.

Settings, so that nothing takes the minutes that it takes in production: the cleaner looks every 200 ms and keeps for no
time what a topic does not say; a member's session may be 1 s in either protocol (classic: `session.timeout.ms` of the
consumer; KIP-848: `consumer.session.timeout.ms` of the group, which is 45 s unless set, so that a worker chooses the
classic one by default); an open transaction is aborted within a second after its time-out.

A broker that a test kills, stops or reaches through a proxy is the test's own: `own_kafka`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from testcontainers.core.container import DockerContainer

from deploy.kafka.ready import wait_ready
from deploy.kafka.server import Missing, Server, free_port
from tests.installed import missing

__all__ = ["SETTINGS", "Broker", "StartKafka", "kafka", "kafka_servers", "own_kafka"]

SETTINGS: Final = {
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "500",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "300",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}
"""Of the broker of the session and of a test's own, beside those of `deploy/kafka/server.py`."""
IMAGE: Final = "apache/kafka:4.3.1"

StartKafka = Callable[..., Server]


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that many tests use, and a name of this test's own."""

    address: str
    """For `bootstrap.servers`."""
    name: str
    """What the names of this test's topics and groups begin with: a namespace. They are deleted after the test."""
    server: Server | None
    """None when it is not a process of ours. It is not for killing."""

    @property
    def url(self) -> str:
        """For `--log`."""
        return f"kafka://{self.address}"

    def namespace(self) -> str:
        """One more name for this test."""
        return f"{self.name}-{secrets.token_hex(3)}"


class _Servers:
    """The session's broker."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._found: tuple[str, Server | None] | None = None
        self._why = ""

    def one(self) -> tuple[str, Server | None]:
        """Address, and the server where it is ours."""
        if self._found is None and not self._why:
            try:
                self._found = self._any()
            except Missing as why:
                self._why = str(why)
        return missing(self._why) if self._found is None else self._found

    def _any(self) -> tuple[str, Server | None]:
        given = os.environ.get("CONTRAPAS_TEST_KAFKA", "").removeprefix("kafka://")
        if given:
            if why := wait_ready(given, 1, lambda: True, 30):
                raise Missing(f"the broker at {given} takes no record: {why}")
            return given, None
        try:
            server = self._stack.enter_context(Server(settings=SETTINGS)).start()
        except Missing as why:
            return self._container(str(why)), None
        return server.address, server

    def _container(self, why: str) -> str:
        """A broker in a container. Missing, with the reason for needing one, where no engine answers."""
        port = free_port()
        settings = {
            **SETTINGS,
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:9093",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": "1@127.0.0.1:9093",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
        }
        try:
            box = DockerContainer(IMAGE).with_bind_ports(port, port)
            for name, value in settings.items():
                box.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)
            self._stack.enter_context(box)
        except Exception as failed:
            raise Missing(f"{why}; and no container: {failed}") from failed
        if trouble := wait_ready(f"127.0.0.1:{port}", 1, lambda: True, 120):
            raise Missing(f"{why}; and the container takes no record: {trouble}")
        return f"127.0.0.1:{port}"

    def close(self) -> None:
        self._stack.close()


def clear(address: str, name: str) -> None:
    """Delete the topics whose names begin so."""
    admin: Any = AdminClient({"bootstrap.servers": address})
    topics = [topic for topic in admin.list_topics(timeout=10).topics if topic.startswith(name)]
    for done in admin.delete_topics(topics).values() if topics else ():
        try:
            done.result(10)
        except KafkaException:  # it is gone already, or goes with the broker
            pass


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[_Servers]:
    servers = _Servers()
    yield servers
    servers.close()


@pytest.fixture
def kafka(kafka_servers: _Servers) -> Iterator[Broker]:
    """The broker of the session, and a name that is this test's own."""
    address, server = kafka_servers.one()
    broker = Broker(address, f"t{secrets.token_hex(5)}", server)
    yield broker
    clear(address, broker.name)


@pytest.fixture
def own_kafka() -> Iterator[StartKafka]:
    """Starts brokers of the test's own, to be killed and started again; takes what `Server` takes."""
    with ExitStack() as stack:

        def start(nodes: int = 1, *, settings: Mapping[str, str] | None = None) -> Server:
            try:
                return stack.enter_context(Server(nodes, settings={**SETTINGS, **(settings or {})})).start()
            except Missing as why:
                missing(str(why))

        yield start
