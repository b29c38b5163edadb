"""Rules of the product taken out by name, in a worker of a test that must then fail, or that needs what is refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final


def _lag() -> None:
    """`min.compaction.lag.ms` may be short: seconds instead of the hours that are refused."""
    rules: Any = import_module("contrapas_kafka.rules")

    rules.__dict__["HOUR"] = 0
    rules.__dict__["RESTORE_MS"] = 0


def _offsets() -> None:
    """The offsets of a commit are not compared with the last one."""
    lease: Any = import_module("contrapas_kafka.lease")

    def unjudged(self: Any, expected: int, upto: int, mine: Any, found: Any) -> tuple[()]:
        return ()

    setattr(lease.KafkaLease, "_judged", unjudged)  # noqa: B010


RULES: Final[dict[str, Callable[[], None]]] = {"lag": _lag, "offsets": _offsets}


def take_out(names: str) -> None:
    """The rules of these names, joined by commas."""
    for name in filter(None, names.split(",")):
        RULES[name]()
