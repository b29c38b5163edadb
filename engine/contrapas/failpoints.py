"""Named places where a test may stop, kill or fail the process: nothing happens unless one is armed.

A place is armed in this process by `arm`, or in a child by the environment variable `CONTRAPAS_FAILPOINTS`
(`name=kill`, `name=kill@3` for the third visit, `name=raise`, joined by commas). `NAMES` lists every place.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

NAMES: dict[str, str] = {}
"""Every place by name, with the sentence that says where it is; a test compares it with the calls in the source."""

_armed: dict[str, Callable[[], None]] = {}


class Injected(Exception):
    """Raised by a place armed with `raise`."""


def failpoint(name: str) -> None:
    """Do what was armed for `name`; usually nothing."""
    if _armed and (action := _armed.get(name)) is not None:
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Run `action` at every visit of `name`, until `disarm`."""
    _armed[name] = action


def disarm(name: str | None = None) -> None:
    """Forget one place, or all."""
    if name is None:
        _armed.clear()
    else:
        _armed.pop(name, None)


def arm_from(text: str) -> None:
    """Arm from `name=kill@3,other=raise`; an unknown action is a ValueError."""
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, action = part.partition("=")
        verb, _, nth = action.partition("@")
        left = int(nth) if nth else 1
        if verb not in ("kill", "raise"):
            raise ValueError(f"failpoint {name!r}: unknown action {verb!r}")
        arm(name, _counted(name, verb, left))


def _counted(name: str, verb: str, left: int) -> Callable[[], None]:
    count = left

    def act() -> None:
        nonlocal count
        count -= 1
        if count:
            return
        if verb == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise Injected(name)

    return act


if text := os.environ.get("CONTRAPAS_FAILPOINTS"):
    arm_from(text)
