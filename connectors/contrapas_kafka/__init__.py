"""Kafka for contrapas: the log at `kafka://…`, on the brokers a team already runs, without transactions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrapas_kafka.log import KafkaLog

__all__ = ["KafkaLog"]

_HOME = {"KafkaLog": "contrapas_kafka.log"}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used. Refused CP510: its client is not installed."""
    if (home := _HOME.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as missing:
        if missing.name != "confluent_kafka":
            raise
        from contrapas.errors import Refused

        raise Refused(
            "CP510", f"{name} needs confluent-kafka", fix="pip install 'contrapas[kafka]'"
        ) from None
