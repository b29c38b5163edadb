"""Real clocks, chance, sockets and threads raise while a simulated world runs: what is left is the seed."""

from __future__ import annotations

import os
import random
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


class Leak(AssertionError):
    """Something real was asked for in a simulated world."""


def _raises(what: str) -> Callable[..., Any]:
    def leak(*args: Any, **kwargs: Any) -> Any:
        raise Leak(f"{what} was asked for in a simulated world: it takes time and chance from its seed")

    return leak


PLACES: tuple[tuple[Any, str], ...] = (
    (time, "time"),
    (time, "time_ns"),
    (time, "monotonic"),
    (time, "monotonic_ns"),
    (time, "perf_counter"),
    (time, "sleep"),
    (random, "random"),
    (random, "randint"),
    (random, "choice"),
    (random, "shuffle"),
    (random, "getrandbits"),
    (os, "urandom"),
    (secrets, "token_bytes"),
    (secrets, "token_hex"),
    (uuid, "uuid1"),
    (uuid, "uuid4"),
    (socket, "create_connection"),
    (socket.socket, "connect"),
    (threading.Thread, "start"),
)


@contextmanager
def guarded() -> Generator[None]:
    """For as long as the block lasts."""
    before = [(where, name, getattr(where, name)) for where, name in PLACES]
    for where, name in PLACES:
        setattr(where, name, _raises(f"{getattr(where, '__name__', where)}.{name}"))
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
