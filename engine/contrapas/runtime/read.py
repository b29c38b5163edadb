"""Reading: the inbound lane ahead of the decider, and waiting until there is something to decide.

One task per partition reads ahead, bounded; the loop itself awaits only when nothing is there. A timer that is due is
held until a look at the lane's end has shown that no earlier input is unread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from contrapas.errors import Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.runtime.batch import TRANSITIONS_MAX
from contrapas.runtime.clock import pause
from contrapas.runtime.commit import RETRY_MS, commit_control

if TYPE_CHECKING:
    from contrapas.runtime.station import Station

NAMES["timer.due"] = "a timer was found due, its transition is not committed"
NAMES["read.fed"] = "inputs were read, nothing of them is decided"
POLL_MS = 5_000
IDLE_MS = 1_000
LOOK_MS = 1_000


async def read(s: Station) -> bool:
    """Wait until the partition has something to decide; False: stop."""
    p = s.partition
    idle_at = s.clock.ms() + IDLE_MS
    while True:
        if s.failure is not None:
            raise s.failure
        if s.stopping and not p.results:
            return False
        now = s.log_clock.now()
        if p.ready(now):
            if not p.inputs and not p.results:
                failpoint("timer.due")
            s.moved_ms = s.clock.ms()
            if not s.room.is_set() and p.wants_input():
                s.room.set()
            return True
        s.room.set()
        if p.must_confirm(now) and not p.timers_held:
            await confirm(s, now)
            continue
        behind = p.behind()
        if behind and s.clock.ms() >= idle_at:
            await commit_control(s)
            continue
        if s.looks and s.clock.ms() >= s.look_at:
            await look(s)
            continue
        await _sleep(s, idle_at if behind else None)


async def look(s: Station) -> None:
    """Ask what others wrote to our lane since our last commit. An owner that cannot read could not heal: after a while
    it gives the partition back, for its commits would count."""
    try:
        losers = await s.lease.look()
    except Retriable:
        if s.clock.ms() - s.looked_ms > RETRY_MS:
            raise
        s.look_at = s.clock.ms() + LOOK_MS * (0.5 + s.chance())
        return
    s.stood(losers)


async def _sleep(s: Station, idle_at: float | None) -> None:
    waits: list[float] = [s.look_at - s.clock.ms()] if s.looks else []
    at = s.partition.wakes_at()
    if at is not None:
        waits.append(s.log_clock.until(at) + 0.5)
    if idle_at is not None:
        waits.append(idle_at - s.clock.ms())
    s.wake.clear()
    if not waits:
        await s.wake.wait()
        return
    handle = s.clock.call_later(max(0.0, min(waits)), s.wake.set)
    try:
        await s.wake.wait()
    finally:
        handle.cancel()


async def confirm(s: Station, now: int) -> None:
    """Look at the lane's end: what is stamped before `now` has been read, or is about to be."""
    p = s.partition
    _, end = await s.log.bounds("in", p.number)
    if p.fetched >= end:
        p.complete_until = max(p.complete_until, now)
        return
    s.wake.clear()
    if p.fetched < end and not p.inputs:
        await s.wake.wait()


async def feed(s: Station) -> None:
    """Read the inbound lane ahead of the decider, for as long as the station lives."""
    p = s.partition
    since = s.clock.ms()
    try:
        while not s.stopping:
            if not p.wants_input():
                s.room.clear()
                await s.room.wait()
                continue
            try:
                records, after = await s.log.read(
                    "in", p.number, p.fetched, max_records=TRANSITIONS_MAX, wait_ms=POLL_MS
                )
            except Retriable:
                if s.clock.ms() - since > POLL_MS + RETRY_MS:
                    raise  # somebody else may be able to read
                await pause(s.clock, 50 + 100 * s.chance())
                continue
            since = s.clock.ms()
            if records:
                failpoint("read.fed")
                s.log_clock.saw(records[-1].timestamp_ms)
                p.feed(records, after)
                s.wake.set()
            elif after != p.fetched:
                p.skip(after)
                s.wake.set()
    except asyncio.CancelledError:
        raise
    except BaseException as why:  # noqa: BLE001  a failure here ends the station, whatever it is
        s.fail(why)
