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


def _passes(seconds: float) -> None:
    """Nobody waits for it."""


@contextmanager
def virtual(seed: int, now: Callable[[], int]) -> Generator[None]:
    """For code of users: clocks show the world's time and chance comes from its seed; sockets and threads raise.

    now: ms since 1970. `datetime.now` cannot be replaced: code that stores what it says is another run each time.
    """
    chance = random.Random(f"{seed}:code")

    def drawn(n: int | None = None) -> bytes:
        return chance.randbytes(32 if n is None else n)

    def hexed(n: int | None = None) -> str:
        return drawn(n).hex()

    ours: tuple[tuple[Any, str, Any], ...] = (
        (time, "time", lambda: now() / 1_000),
        (time, "time_ns", lambda: now() * 1_000_000),
        (time, "sleep", _passes),
        (os, "urandom", drawn),
        (secrets, "token_bytes", drawn),
        (secrets, "token_hex", hexed),
        (uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
        (socket, "create_connection", _raises("a socket")),
        (socket.socket, "connect", _raises("a socket")),
        (threading.Thread, "start", _raises("a thread")),
    )
    before = [(where, name, getattr(where, name)) for where, name, _ in ours]
    state = random.getstate()
    random.seed(f"{seed}:code")
    for where, name, value in ours:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
        random.setstate(state)
