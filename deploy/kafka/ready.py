"""When a broker is ready: when it has taken a record on every node, not when its port is open."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

__all__ = ["wait_ready"]

_QUIET: Final[dict[str, str | int | float | bool]] = {"log_level": 0, "socket.connection.setup.timeout.ms": 1000, "reconnect.backoff.ms": 20,
                 "reconnect.backoff.max.ms": 100}  # fmt: skip


def wait_ready(address: str, nodes: int, running: Callable[[], bool], seconds: float) -> str:
    """Wait until so many nodes have taken a record; "", or what went wrong. `running`: no process ended meanwhile."""
    until = time.monotonic() + seconds
    why = "nothing was tried"
    while time.monotonic() < until:
        if not running():
            return "it ended."
        try:
            _once(address, nodes)
        except (KafkaException, TimeoutError) as failed:
            why = f"{failed}."
            time.sleep(0.05)
        else:
            return ""
    return why


def _once(address: str, nodes: int) -> None:
    config: dict[str, str | int | float | bool] = {"bootstrap.servers": address, **_QUIET}
    admin: Any = AdminClient(config)  # its stubs do not say what its futures give
    while len(admin.list_topics(timeout=2).brokers) < nodes:
        time.sleep(0.05)
        raise TimeoutError(f"fewer than {nodes} nodes")
    name = f"ready-{secrets.token_hex(6)}"
    admin.create_topics([NewTopic(name, nodes, nodes)])[name].result(5)
    try:
        left: list[object] = []
        producer = Producer({**config, "acks": "all", "linger.ms": 0})
        producer.list_topics(name, timeout=2)
        for partition in range(nodes):
            producer.produce(name, b"", partition=partition, on_delivery=lambda why, _: left.append(why))
        if producer.flush(5) or any(why is not None for why in left):
            raise TimeoutError(f"no record is taken: {[str(why) for why in left if why is not None]}")
    finally:
        admin.delete_topics([name])[name].result(5)
