"""Who judges a race of owners: sees every record as it arrives and knows its writer; and what may be wrong in a race on purpose."""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from typing import NamedTuple, Self

from contrapas.core.control import is_control
from contrapas.core.envelope_avro import decode as decode_instance
from contrapas.core.envelope_rendezvous import decode as decode_rendezvous
from contrapas.core.lane import Record
from contrapas.log import order
from contrapas.log.checks import epoch_of


class Wrong(Exception):
    """Something that must hold does not."""


class Habits:
    """What processes and their world do right; a broken rule turns one of them off."""

    dispatch_first = False
    """Effects are let out before the offsets are compared."""
    goes_on = False
    """After an unclear commit the next one comes under the old epoch."""
    no_lag = False
    """The cleaner takes what it likes."""
    no_floor = False
    """Nobody asks where the history begins."""
    no_prefix = False
    """A later batch may be stored without the earlier."""


class Weather(NamedTuple):
    """How it is in one run. Each run draws its own, so that what is rare in one is common in another."""

    processes: int
    keys: int
    steps: int
    late: float
    """Share of commits of which the end, or all, is not answered: late or lost."""
    cleaning: float
    """Share of steps in which the cleaner comes by."""
    stops: float
    """Share of the worst places at which a process stands still until others have gone on."""
    burials: float
    """Share of commits, of owners that owe no heal, that bury claims of former owners."""
    strangers: float
    """Share of steps in which somebody writes who knows nothing of epochs."""

    @classmethod
    def drawn(cls, chance: random.Random) -> Self:
        """Of a run."""
        return cls(
            processes=chance.choice((2, 3, 3, 4)),
            keys=chance.choice((2, 4, 4, 6)),
            steps=chance.choice((20, 30, 40, 60, 80)),
            late=chance.choice((0.04, 0.10, 0.25)),
            cleaning=chance.choice((0.06, 0.12, 0.25)),
            stops=chance.choice((0.0, 0.08, 0.25)),
            burials=chance.choice((0.15, 0.6, 0.9)),
            strangers=chance.choice((0.0, 0.0, 0.03)),
        )


class Referee:
    """Sees every record as it arrives, and knows who wrote it: the first claim above the ruling one rules, what anybody
    else writes is void."""

    def __init__(self, seen: Counter[str]) -> None:
        self.seen = seen
        self.epoch = -1
        self.ruler = ""
        self.ruled: set[str] = set()
        """Whose claims ruled once."""
        self.states: dict[bytes, Record] = {}
        self.counts: set[int] = set()
        self.tops: dict[bytes, int] = {}
        """Keys that somebody wrote whose record does not count, and where last."""

    def takes_over(self, writer: str) -> None:
        """Somebody begins to act. Wrong when its claim never ruled: it may have been void by then, it may not always."""
        if writer not in self.ruled:
            raise Wrong(f"{writer} acts, and its claim never counted")

    def see(self, record: Record, writer: str) -> None:
        """The next record. Wrong for a heal that says something else than what counts."""
        if record.key.startswith(order.CLAIM_PREFIX) and record.value is not None:
            if (e := epoch_of(record)) > self.epoch:
                self.epoch, self.ruler = e, writer
                self.ruled.add(writer)
            elif e == self.epoch:
                self.seen["equal claims"] += 1
        if writer != self.ruler:
            self.seen["void"] += 1
            self.tops[record.key] = record.offset
            return
        self.counts.add(record.offset)
        if is_control(record):
            return
        heals = dict(record.headers).get("cp-cause") == b"heal"
        if record.value is None:
            if heals and record.key in self.states:
                raise Wrong(f"a heal buried {record.key!r}, which is there")
            self.states.pop(record.key, None)
            return
        if heals:
            before = self.states.get(record.key)
            if before is None or token_of(before) != token_of(record):
                raise Wrong(f"a heal of {record.key!r} says something else than what counts")
        self.states[record.key] = record


def token_of(record: Record) -> int:
    """What a record says, whatever its version."""
    return _token(record.key.startswith(b"$wait"), record.value or b"")


@lru_cache(maxsize=4096)
def _token(wait: bool, value: bytes) -> int:
    return decode_rendezvous(value).at if wait else decode_instance(value).at


def key_of(number: int) -> str:
    """Of instances and of rendezvous."""
    return f"$wait/Go/k{number}" if number % 2 else f"s/k{number}"
