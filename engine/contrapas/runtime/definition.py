"""What a user declared, as plain values: the sagas with their modes, the services, what the app provides, its topics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contrapas.core.decode import TopicMapping
from contrapas.errors import Refused

__all__ = ["Definition", "SagaUse", "TopicMapping"]

OUTAGE_MS: Final = 7 * 86_400_000
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaUse:
    """One saga of the app."""

    saga: Any
    """The `author.saga.SagaDef`."""
    mode: str
    """`orchestrate` or `observe`."""
    on_late: str = "alert"
    """Of an observed one: `alert` or `compensate`."""
    unmatched: str = "park"
    """Of an observed one: what becomes of events whose start was never seen: `park`, `count` or `adopt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """An app, before it is built."""

    namespace: str
    sagas: tuple[SagaUse, ...] = ()
    services: tuple[Any, ...] = ()
    """`author.service.Service` each."""
    entities: tuple[Any, ...] = ()
    """`author.entity.Entity` classes."""
    provided: Mapping[Any, Callable[[], Any]] = field(default_factory=dict[Any, Callable[[], Any]])
    """Type -> how a value of it is made, for ambient parameters of sagas and handlers, anew at each use."""
    topics: tuple[TopicMapping, ...] = ()
    partitions: int | None = None
    """Of the lanes, at creation; None: the backend's default."""
    file: str = ""
    """Where the app was declared: beside it lies `sagas.lock.json`."""
    externals: tuple[Any, ...] = ()
    """`author.external.External` each."""
    outage_ms: int = OUTAGE_MS
    """The longest time that a service is planned to be away: its inbox must remember as much (CP805)."""
    registry: Any = None
    """`runtime.schema_desk.Address` of the schema registry; None: there is none."""

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise Refused(
                "CP801",
                f"namespace {self.namespace!r}: expected lower-case letters, digits and '-', at most 40, no dot",
                fix="name the app like shop or shop-eu",
            )
