"""Chance, ids and time on a tape: both forms of one stretch of a saga draw the same."""

from __future__ import annotations

import inspect
import random
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Any


class Tape:
    """Chance, ids and time, the same for both forms of one stretch."""

    def __init__(self, now_ms: int) -> None:
        self.now_s = now_ms / 1000
        self._state = random.getstate()
        self._seed = random.Random(now_ms).getrandbits(64)

    @contextmanager
    def playing(self, fn: Callable[..., Any]) -> Generator[None]:
        """Names in the saga's module that mean chance or the clock give what stands on the tape."""
        random.setstate(self._state)
        draw = random.Random(self._seed)

        def uuid4() -> uuid.UUID:
            return uuid.UUID(int=draw.getrandbits(128), version=4)

        own = _clock(self.now_s)
        swapped: list[tuple[Any, str, Any]] = [(uuid, "uuid4", uuid.uuid4)]
        names: dict[str, Any] = inspect.unwrap(fn).__globals__
        for name, value in list(names.items()):
            found = uuid4 if value is uuid.uuid4 else own if value is datetime else None
            if found is not None:
                swapped.append((names, name, value))
                names[name] = found
        uuid.uuid4 = uuid4
        try:
            yield
        finally:
            for where, name, value in swapped:
                if isinstance(where, dict):
                    where[name] = value
                else:
                    setattr(where, name, value)


def _clock(now_s: float) -> type[datetime]:
    """`datetime` whose `now` is the test's; instances of the real one count as its own."""

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Clock(datetime, metaclass=Meta):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.fromtimestamp(now_s, tz)

        @classmethod
        def today(cls) -> Any:
            return datetime.fromtimestamp(now_s)

        @classmethod
        def utcnow(cls) -> Any:
            raise TypeError("datetime.utcnow() has no time zone: datetime.now(UTC)")

    Clock.__name__ = "datetime"
    return Clock
