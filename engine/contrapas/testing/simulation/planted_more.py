"""Wrong ones of positions, sagas, checkpoints and mended defects: patches that `planted` puts in place of the right ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from contrapas.core.lane import Record
from contrapas.core.order import HEADER
from contrapas.errors import Indeterminate


def passes_over(right: Any) -> Any:
    """What a commit had taken that nobody answered is taken for done; the owner goes on."""

    async def commit(s: Any, batch: Any) -> None:
        try:
            await right(s, batch)
        except Indeterminate:
            p = s.partition
            for work in batch.taken:
                if isinstance(work, Record) and p.inputs:
                    p.inputs.popleft()
            p.position = p.settled[p.source] = batch.position

    return commit


def carries_nothing(right: Any) -> Any:
    """A newer record does not carry along what the one before it has not sent yet."""

    def published(self: Any, instance: str, batch: Any = None) -> bool:
        return True

    return published


def lower(right: Any) -> Any:
    """Keys of starts are compared without case."""

    def correlate(a: Any, routes: Any, standing: Any) -> Any:
        found = right(a, routes, standing)
        return replace(found, starts=tuple(name.lower() for name in found.starts)) if found.starts else found

    return correlate


def moves(right: Any) -> Any:
    """A reply that came too late ends whatever the saga waits for now."""

    def late(work: Any, event: Any, match: Any) -> bool:
        taken = bool(right(work, event, match))
        node = work.root.node
        if taken and node.pending is not None and node.frames:
            node.pending = None
            work.resume(work.root, event.body)
        return taken

    return late


def prunes(right: Any) -> Any:
    """Who leaves a wait forgets which events it knows."""

    def leave(work: Any, pending: Any, *, but: str = "") -> None:
        right(work, pending, but=but)
        work.record.seen, work.record.memory = [], b""

    return leave


def unread(right: Any) -> Any:
    """What an owner cannot read is taken for nothing."""

    def judge(self: Any, hold: Any, upto: int, mine: Any) -> Any:
        try:
            return right(self, hold, upto, mine)
        except Indeterminate:
            return ()

    return judge


def owes_nothing(right: Any) -> Any:
    """A checkpoint does not say which heals are owed."""

    def fold(self: Any, name: str, floor: int) -> Any:
        judge = right(self, name, floor)
        judge.owed = {}
        return judge

    return fold


def same_version(right: Any) -> Any:
    """A healed rendezvous keeps the version in its body."""

    def wait(p: Any, entry: Any, version: int) -> bytes:
        return bytes(entry.value)

    return wait


def spins(right: Any) -> Any:
    """A careful owner with a step in hand wakes for every timer."""

    def wakes_at(self: Any) -> Any:
        return None if self.timers_held or self.draining else self.next_timer()

    return wakes_at


def forever(right: Any) -> Any:
    """The history is taken for endless: no checkpoint is too old."""

    def history(log: Any) -> int:
        return 1 << 50

    return history


def keeps_numbers(right: Any) -> Any:
    """What is sent once more, later than others, has the number that it had."""

    def numbered(record: Any, sender: Any, namespace: str) -> None:
        known = {m.id: m for m in record.out if m.headers and m.headers[-1][0] == HEADER}
        right(record, sender, namespace)
        record.out = [known.get(m.id, m) for m in record.out]

    return numbered


def lets_go(right: Any) -> Any:
    """Who goes on after it stood still does not take up what a rendezvous had handed to it."""

    def again(work: Any, cause: Any, code: str) -> None:
        if cause.kind != "deliver":
            right(work, cause, code)

    return again
