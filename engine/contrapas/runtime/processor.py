"""One partition's work, in one screen: read, decode, correlate, load, transition, commit, dispatch, a batch at a time.

`run` is the loop and waits; `decide` and `walk` are synchronous and do not: a simulator calls them with a clock and a
step runner of its own. Nothing leaves before the commit, and everything that leaves is in the record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from contrapas.codec.framing import Ref
from contrapas.codec.schemas import Wanted
from contrapas.core.correlate import correlate
from contrapas.core.decode import Rejected, decode
from contrapas.core.world import Input
from contrapas.runtime import apply, careful, commands, items, midstream
from contrapas.runtime.batch import Batch, Due, Work
from contrapas.runtime.partition import Partition


class Shell(Protocol):
    """What surrounds a partition: it waits, calls and measures."""

    async def read(self, p: Partition) -> bool:
        """Wait until something can be decided; False: stop."""
        ...

    async def commit(self, p: Partition, batch: Batch) -> None:
        """Make the batch durable and in force, then have its duties done."""
        ...

    async def wanted(self, ref: Ref) -> None:
        """Wait until a schema is known, or known not to be there, or the partition is to stop."""
        ...

    def now(self) -> int:
        """ms of log time, at least."""
        ...

    def elapsed(self) -> float:
        """Monotonic ms."""
        ...


async def run(p: Partition, shell: Shell) -> None:
    """From read to dispatch, until the shell says stop or the log says somebody else is the owner."""
    while await shell.read(p):  # 1 runtime/read.py
        try:
            batch = decide(p, shell.now(), shell.elapsed)  # 2 to 5, below
        except Wanted as why:
            await shell.wanted(why.ref)
            continue
        await shell.commit(p, batch)  # 6 runtime/commit.py, 7 runtime/dispatch.py


def decide(p: Partition, now: int, elapsed_ms: Callable[[], float]) -> Batch:
    """Drain what is there, up to a batch. An exception leaves the partition as it was."""
    care: careful.Care | None = p.care
    if care is not None and (special := careful.decide(p, care, now)) is not None:
        return special
    batch = p.open(now)
    try:
        for work in p.take(batch, elapsed_ms):
            walk(p, batch, work)
        if p.litter and not p.draining:
            items.sweep(p, batch)
    except BaseException:
        abort(p, batch)
        raise
    if batch.steps:
        spare(batch)
    if care is not None and p.care is care:  # it may just have ended
        careful.took(care, batch)
    return batch


def spare(batch: Batch) -> None:
    """A further attempt need not run whose step was answered after all, later in this batch: a thread whose time was over
    came to its end."""
    again = {call.key for call in batch.steps if call.attempt > 1 and not call.undoes}
    if not again:
        return
    over = {w.in_reply_to for w in batch.taken if isinstance(w, Input) and w.outcome in ("ok", "declined")}
    if over & again:
        batch.steps = [call for call in batch.steps if call.key not in over or call.key not in again]


def abort(p: Partition, batch: Batch) -> None:
    """Nothing of a batch happened."""
    p.abort(batch)
    if batch.maps or p.litter:
        items.abort(p, batch)


def walk(p: Partition, batch: Batch, work: Work) -> None:
    """One result, timer or record of the inbound lane, up to its drafts."""
    if isinstance(work, Input):
        if not work.map or not items.result(p, batch, work):
            apply.transition_of(p, batch, work)
        return
    if isinstance(work, Due):
        apply.fire(p, batch, work)
        return
    event = decode(work, p.setting.doors)  # 2 core/decode.py
    if isinstance(event, Rejected):
        apply.reject(p, batch, event)
        return
    if commands.asks(event, p.setting.world, p.setting.routes):
        commands.deliver(p, batch, event)
        return
    targets = correlate(event, p.setting.routes, p.standing)  # 3 core/correlate.py
    if targets.waits and p.setting.world.unmatched and midstream.meets(p, batch, event):
        p.counts.inputs += 1
        return
    apply.deliver(p, batch, event, targets)  # 4 core/load.py, 5 core/transition.py
