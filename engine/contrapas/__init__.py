"""contrapas: sagas on the broker you already run. One function, one machine, one log.

This is the front door, and it opens nothing by itself: a name is imported at its first use. Below it, arrows point
down only:

    cli | testing → app → web → runtime → check → compiler | draw | log → core → codec → machine | author
    → errors | failpoints → codes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrapas.app import App
    from contrapas.author.entity import Entity, handler, query
    from contrapas.author.event import Command, Event
    from contrapas.author.flight import Pending
    from contrapas.author.op import Op
    from contrapas.author.retry import FOREVER, Retry
    from contrapas.author.saga import Saga, saga
    from contrapas.author.sensitive import Sensitive
    from contrapas.author.service import SUPPLIED, Delivery, Depends, Service
    from contrapas.author.step import step
    from contrapas.author.telling import Telling
    from contrapas.author.timeout import Failed, Timeout
    from contrapas.errors import Cancelled, StepFailed

__version__ = "0.1.0"

__all__ = [
    "FOREVER",
    "SUPPLIED",
    "App",
    "Cancelled",
    "Command",
    "Delivery",
    "Depends",
    "Entity",
    "Event",
    "Failed",
    "Op",
    "Pending",
    "Retry",
    "Saga",
    "Sensitive",
    "Service",
    "StepFailed",
    "Telling",
    "Timeout",
    "handler",
    "query",
    "saga",
    "step",
]

_HOME = {
    "App": "contrapas.app",
    "Cancelled": "contrapas.errors",
    "Command": "contrapas.author.event",
    "Delivery": "contrapas.author.service",
    "Depends": "contrapas.author.service",
    "Entity": "contrapas.author.entity",
    "Event": "contrapas.author.event",
    "FOREVER": "contrapas.author.retry",
    "SUPPLIED": "contrapas.author.service",
    "Failed": "contrapas.author.timeout",
    "Op": "contrapas.author.op",
    "Pending": "contrapas.author.flight",
    "Retry": "contrapas.author.retry",
    "Saga": "contrapas.author.saga",
    "Sensitive": "contrapas.author.sensitive",
    "Service": "contrapas.author.service",
    "StepFailed": "contrapas.errors",
    "Telling": "contrapas.author.telling",
    "Timeout": "contrapas.author.timeout",
    "handler": "contrapas.author.entity",
    "query": "contrapas.author.entity",
    "saga": "contrapas.author.saga",
    "step": "contrapas.author.step",
}
"""Where each promised name lives; a test keeps it, the imports above and `__all__` equal."""


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'contrapas' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
