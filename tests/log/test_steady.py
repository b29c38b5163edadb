"""A machine's clock that is put back: the time of its log goes on, in this process and for the next owner."""

from __future__ import annotations

from pathlib import Path

from contrapas.core.lane import Draft
from contrapas.log.sqlite import SqliteLog
from contrapas.log.steady import Steady, boot_id

HOUR = 3_600_000


class Machine:
    """One machine: a clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.since = 5_000
        self.wall = 1_700_000_000_000

    def clock(self) -> Steady:
        """As a process that starts now reads it."""
        return Steady(lambda: self.wall, lambda: self.since)

    def passes(self, ms: int) -> None:
        """Time passes."""
        self.since += ms
        self.wall += ms


def test_a_clock_that_is_put_back_goes_on_from_where_it_was() -> None:
    machine = Machine()
    clock = machine.clock()
    began = clock()
    machine.wall -= HOUR
    machine.passes(700)
    assert clock() == began + 700
    machine.wall += 2 * HOUR
    assert clock() == began + 700 + HOUR
    clock.saw(began + 3 * HOUR)
    machine.passes(5)
    assert clock() == began + 3 * HOUR + 5


def test_what_no_clock_can_say_is_not_believed() -> None:
    machine = Machine()
    clock = machine.clock()
    for ahead in (1 << 62, -(1 << 62), 1 << 200):
        clock.knew(ahead)
        assert clock() == machine.wall


async def _stamp(log: SqliteLog) -> int:
    await log.publish([Draft("in", 0, b"k", b"v")])
    _, end = await log.bounds("in", 0)
    records, _ = await log.read("in", 0, end - 1)
    return records[-1].timestamp_ms


async def test_records_after_a_clock_was_put_back_are_stamped_later_than_those_before(tmp_path: Path) -> None:
    machine = Machine()
    log = SqliteLog(tmp_path / "log.db", "shop", 1, clock=machine.clock())
    before = await _stamp(log)
    machine.wall -= HOUR
    machine.passes(40)
    assert await _stamp(log) == before + 40
    await log.close()


async def test_the_next_owner_reckons_on_from_the_last_one_however_long_that_one_wrote_nothing(
    tmp_path: Path,
) -> None:
    machine = Machine()
    first = SqliteLog(tmp_path / "log.db", "shop", 1, clock=machine.clock())
    await first.acquire(0, "a")
    was = await _stamp(first)
    machine.wall -= HOUR
    machine.passes(600_000)
    await first.close()
    other = SqliteLog(tmp_path / "log.db", "shop", 1, clock=machine.clock())
    await other.acquire(0, "b")
    assert await _stamp(other) == was + (600_000 if boot_id() else 0)
    machine.passes(25)
    assert await _stamp(other) == was + (600_025 if boot_id() else 25)
    await other.close()
