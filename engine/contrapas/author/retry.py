"""`Retry`: how often, and how far apart, a step whose outcome is unknown is tried again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, cast

from contrapas.author.duration import Duration, duration_ms, duration_text
from contrapas.errors import DataError

ATTEMPTS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """A policy. Pauses double from the first of `backoff="1s..1m"` to the last; `"5s"` alone stays the same.

    attempts: the first one counted in; None: without end. each: an attempt unanswered for so long is repeated.
    DataError CP850 names the value that makes no sense.
    """

    attempts: int | None
    first_ms: int
    last_ms: int
    each_ms: int | None

    def __init__(self, attempts: int | None, backoff: str = "1s..1m", each: Duration | None = None) -> None:
        if attempts is not None and not _whole(attempts, 1, ATTEMPTS_MAX):
            raise DataError(
                "CP850",
                f"Retry({attempts!r}): attempts must be a whole number from 1 to {ATTEMPTS_MAX}",
                expected=f"1 to {ATTEMPTS_MAX}, or None for no end",
                got=repr(attempts)[:80],
                fix="Retry(1) tries once, FOREVER never gives up",
            )
        first, last = _pauses(backoff)
        object.__setattr__(self, "attempts", attempts)
        object.__setattr__(self, "first_ms", first)
        object.__setattr__(self, "last_ms", last)
        object.__setattr__(self, "each_ms", None if each is None else duration_ms(each, what="each="))

    @property
    def forever(self) -> bool:
        """It never gives up."""
        return self.attempts is None

    def delay_ms(self, attempt: int) -> int:
        """Pause after the `attempt`-th failed attempt, counted from 1."""
        return min(self.last_ms, self.first_ms << min(attempt - 1, 40))

    def allows(self, attempt: int) -> bool:
        """May there be another one after the `attempt`-th attempt?"""
        return self.attempts is None or attempt < self.attempts

    def text(self) -> str:
        """As JSON text, for the record."""
        return json.dumps([self.attempts, self.first_ms, self.last_ms, self.each_ms], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Retry:
        """Back from `text()`."""
        value: Any = json.loads(text)
        attempts, first, last, each = cast("tuple[int | None, int, int, int | None]", tuple(value))
        made = object.__new__(cls)
        for name, part in (("attempts", attempts), ("first_ms", first), ("last_ms", last), ("each_ms", each)):
            object.__setattr__(made, name, part)
        return made

    def __repr__(self) -> str:
        if self == FOREVER:
            return "FOREVER"
        pauses = duration_text(self.first_ms)
        if self.last_ms != self.first_ms:
            pauses += f"..{duration_text(self.last_ms)}"
        each = "" if self.each_ms is None else f', each="{duration_text(self.each_ms)}"'
        return f'Retry({self.attempts}, backoff="{pauses}"{each})'


def _whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _pauses(backoff: object) -> tuple[int, int]:
    if not isinstance(backoff, str):
        raise DataError(
            "CP850", f"backoff={backoff!r} is no pause", got=repr(backoff)[:80], fix='write it as "1s..1m"'
        )
    low, dots, high = backoff.partition("..")
    first = duration_ms(low, what="backoff=", zero=True)
    last = duration_ms(high, what="backoff=", zero=True) if dots else first
    if last < first:
        raise DataError(
            "CP850",
            f"backoff='{backoff[:80]}' ends below its beginning",
            expected="the shorter pause first",
            got=backoff[:80],
            fix=f'write it as "{high}..{low}"',
        )
    return first, last


FOREVER: Final = Retry(None, backoff="1s..1m")
"""Try again without end, business failures included: no failure leaves the step."""
STEP_RETRY: Final = Retry(5)
"""Of a bare `@step`."""
STEP_TIMEOUT_MS: Final = 30_000
"""One attempt of a bare `@step`."""
UNDO_RETRY: Final = Retry(10, backoff="1s..5m")
"""Of an undo that says nothing else."""
