"""`exercise_log`: what every log must do, one suite for all backends.

    @pytest.mark.parametrize("case", exercise_log(make_bench), ids=str)
    async def test_my_log(case):
        await case()

A bench gives the suite an empty log and, as far as the backend allows, a clock to move, faults to inject and a cleaner.
Cases that need what a bench does not have are left out, and `str(case)` begins with the group they belong to.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol

from contrapas.core.fold import Fold, fold
from contrapas.core.lane import Commit, Control, Draft, Lane, Record
from contrapas.errors import ContrapasError
from contrapas.log import Lease, Log

Feature = Literal["clock", "faults", "order", "refuse", "topics", "owner-compaction"]


class Bench(Protocol):
    """One empty log under test, with the levers that the suite pulls."""

    async def open(self) -> Log:
        """A client of its own, as another process would have; closed with the bench."""
        ...

    async def depose(self, partition: int) -> None:
        """Let a partition be acquired although its owner lives: break the lock, end the session. Often nothing."""
        ...

    async def create(self, topics: Mapping[str, int]) -> None:
        """Create topics."""
        ...

    async def drop(self, topic: str) -> None:
        """Delete a topic (feature `topics`)."""
        ...

    def advance(self, ms: int) -> None:
        """Move the log's clock (feature `clock`)."""
        ...

    def fault(self, call: str, *kinds: str) -> None:
        """Make the next calls end as told, kinds of `contrapas.log.faults` (feature `faults`)."""
        ...

    def land(self) -> None:
        """Let late writes arrive (feature `faults`)."""
        ...

    def stranger(self, partition: int, drafts: Sequence[Draft]) -> None:
        """Write to the log lane past every fence (feature `order`)."""
        ...

    def between(self, call: Callable[[int, int], None] | None) -> None:
        """Call before each record of a commit, (partition, number) (feature `order`)."""
        ...

    def clean(self, partition: int, below: int, choose: Callable[[Record], bool]) -> None:
        """Run the broker's cleaner (feature `order`)."""
        ...


MakeBench = Callable[[], AbstractAsyncContextManager[Bench]]
Body = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing a log must do."""

    group: str
    name: str
    needs: frozenset[Feature]
    body: Body
    make: MakeBench | None = None

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"

    async def __call__(self) -> None:
        assert self.make is not None
        async with self.make() as bench:
            await self.body(bench)


CASES: list[Case] = []


def case(group: str, *needs: Feature) -> Callable[[Body], Body]:
    """Add a case to a group; the function's name is the sentence."""

    def add(body: Body) -> Body:
        CASES.append(Case(group, getattr(body, "__name__", "").replace("_", " "), frozenset(needs), body))
        return body

    return add


def exercise_log(make: MakeBench, *features: Feature) -> list[Case]:
    """The cases that a bench with these features runs, in the order of the groups."""
    for part in ("lanes", "fence", "fold"):
        import_module(f"contrapas.testing.conformance_{part}")
    have = frozenset(features)
    return [Case(c.group, c.name, c.needs, c.body, make) for c in CASES if c.needs <= have]


# ---- what the cases are written with


def draft(
    key: str, version: int, epoch: int, value: bytes | None = b"state", *, cause: str = "local"
) -> Draft:
    """A record of an instance as the engine writes it; value None is the owner's tombstone."""
    headers = [("cp-kind", b"instance"), ("cp-version", b"%d" % version), ("cp-epoch", b"%d" % epoch)]
    headers.append(("cp-cause", cause.encode()))
    if value is not None:
        headers.append(("cp-sum", b"%08x" % zlib.crc32(value)))
    return Draft("", 0, key.encode(), value, tuple(headers))


class Owner:
    """An owner that behaves: it keeps what it wrote, and never commits under a lease that was lost."""

    def __init__(self, log: Log, lease: Lease) -> None:
        self.log = log
        self.lease = lease
        self.partition = lease.partition
        self.epoch = lease.epoch
        self.control = lease.control
        self.versions: dict[str, int] = {}

    @classmethod
    async def of(cls, bench: Bench, log: Log, partition: int = 0, name: str = "owner") -> Owner:
        """Acquire, deposing whoever lives."""
        await bench.depose(partition)
        return cls(log, await log.acquire(partition, name))

    def next(self, key: str, value: bytes = b"state") -> Draft:
        """The next version of an instance."""
        self.versions[key] = version = self.versions.get(key, 0) + 1
        return draft(key, version, self.epoch, value)

    async def write(
        self, *drafts: Draft, out: Sequence[Draft] = (), control: Control | None = None
    ) -> Commit:
        """Commit; afterwards `control` is the lease's."""
        done = await self.lease.commit(drafts, out, control or self.control)
        self.control = self.lease.control
        return done


async def everything(
    log: Log, lane: Lane = "log", partition: int = 0, *, start: int | None = None
) -> list[Record]:
    """Every record of a lane's partition, with small reads."""
    at, end = await log.bounds(lane, partition)
    if start is not None:
        at = start
    found: list[Record] = []
    while at < end:
        records, after = await log.read(lane, partition, at, max_records=97)
        assert after > at, f"read at {at} gave {after} and {len(records)} records before the end {end}"
        found += records
        at = after
    return found


async def folded(log: Log, partition: int = 0, *, floor: int = 0) -> tuple[Fold, dict[bytes, bytes]]:
    """The fold of the whole lane: judge and value of each living key."""
    judge, states = fold(await everything(log, "log", partition), floor=floor)
    return judge, {key: record.value or b"" for key, record in states.items()}


async def raises(kind: type[ContrapasError], call: Awaitable[object], code: str = "") -> ContrapasError:
    """Await a call that must raise `kind`; gives the error."""
    try:
        got = await call
    except kind as error:
        assert not code or error.code == code, f"{error.code} instead of {code}"
        return error
    raise AssertionError(f"{got!r} instead of {kind.__name__}")
