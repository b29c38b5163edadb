"""The commit of a batch: durable and in force, or one of the seam's three errors. Only then its duties are done.

`Retriable` repeats the same call with back-off, 30 s at most. `Fenced` and `Indeterminate` end the station: the first
drops everything, the second acquires anew before anything else. One commit of a partition is in flight at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrapas.core.lane import Commit, Control, Draft
from contrapas.errors import LogError, Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.runtime.batch import Batch
from contrapas.runtime.clock import pause
from contrapas.runtime.dispatch import dispatch
from contrapas.runtime.processor import abort

if TYPE_CHECKING:
    from contrapas.runtime.station import Station

NAMES["commit.before"] = "a batch is decided, nothing of it is written"
NAMES["commit.unread"] = "a commit was accepted, its answer is not read"
NAMES["commit.undispatched"] = "a commit counts, nothing of it is dispatched"
NAMES["cursor.before"] = "an idle commit is about to bring the cursor level"
NAMES["park.before"] = "a batch with a park record is decided, nothing of it is written"
NAMES["tombstone.before"] = "a batch with a tombstone is decided, nothing of it is written"
NAMES["tombstone.after"] = "a tombstone is written, nothing of its commit is dispatched"
NAMES["cursor.after"] = "an idle commit has brought the cursor level"
RETRY_MS = 30_000
TAKEOVERS_FORGOTTEN_MS = 600_000


async def commit(s: Station, batch: Batch) -> None:
    """Write a batch, then do what it made true."""
    p = s.partition
    if batch.empty:
        dispatch(s, p.passed(batch))
        return
    buried = any(d.value is None for d in batch.log)
    failpoint("commit.before")
    if buried:
        failpoint("tombstone.before")
    if any(r.status == "parked" for r in batch.ended):
        failpoint("park.before")
    control = _control(s, batch)
    atomic = s.setting.caps.atomic_external
    try:
        done = await _write(s, batch.log, batch.out if atomic else (), control)
    except BaseException as why:
        abort(p, batch)
        if not _refused(s, batch, why):
            raise
        return
    failpoint("commit.unread")
    s.log_clock.saw(done.timestamp_ms)
    duties = p.committed(batch, done, s.lease.control)
    s.stood(done.losers)
    failpoint("commit.undispatched")
    if buried:
        failpoint("tombstone.after")
    dispatch(s, duties)


async def commit_control(s: Station) -> None:
    """A commit of what is owed and the control record alone: heals, cursor and `relayed` come level."""
    failpoint("cursor.before")
    batch = s.partition.open(s.now())
    done = await _write(s, batch.log, (), _control(s, batch))
    failpoint("cursor.after")
    s.log_clock.saw(done.timestamp_ms)
    s.partition.committed(batch, done, s.lease.control)
    s.stood(done.losers)


def _refused(s: Station, batch: Batch, why: BaseException) -> bool:
    """A destination that refuses for good parks who sends there: the batch is decided once more. Says whether it was
    one; a dead letter that cannot be written stops the partition."""
    topic = why.place.partition("/")[0] if isinstance(why, LogError) and why.code == "CP505" else ""
    if not topic or topic in s.partition.refused or topic == f"{s.setting.namespace}.dlq":
        return False
    if not any(d.to == topic for d in batch.out) or not isinstance(why, LogError):
        return False
    s.partition.refused[topic] = why
    return True


def _control(s: Station, batch: Batch) -> Control:
    control = s.partition.next_control(batch)
    if control.takeovers and s.clock.ms() - s.acquired_ms > TAKEOVERS_FORGOTTEN_MS:
        control = control._replace(takeovers=0)
    return control


async def _write(s: Station, log: list[Draft], out: list[Draft] | tuple[()], control: Control) -> Commit:
    began = s.clock.ms()
    wait = 5.0
    while True:
        try:
            return await s.lease.commit(log, out, control)
        except Retriable:
            if s.clock.ms() - began > RETRY_MS:
                raise
            await pause(s.clock, wait * (0.5 + s.chance()))
            wait = min(wait * 2, 1_000.0)
