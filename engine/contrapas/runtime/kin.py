"""The runtime's side of a map over a saga: its items begin as instances of their own, are told when it is given up, and
tell it when they have ended.

What is in hand here comes through memory, as the results of steps do: a birth, a giving up or the end of a map that was
told twice is said once. What is known of such a map at a takeover is which item records there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contrapas.core import kin
from contrapas.core.envelope import InstanceRecord, Pending
from contrapas.core.items import Progress, progress_of
from contrapas.core.partition import ITEM, home_of
from contrapas.core.world import Input
from contrapas.runtime.partition import Partition

_EVENTS = frozenset({"event", "reply"})


def made(p: Partition, pending: Pending, record: InstanceRecord) -> Progress:
    """A map of which nothing has begun yet."""
    progress = progress_of(pending, record, p.setting.world)
    if progress.nested:

        def look(position: int) -> tuple[InstanceRecord, Mapping[str, Any] | None] | None:
            name = kin.name_of(record, pending, position)
            item = None if name in p.litter else p.load(name)
            return None if item is None else (item, p.maps.get(name))

        progress.look = look
    return progress


def names(record: InstanceRecord, progress: Progress) -> list[str]:
    """The items that have begun."""
    return [kin.name_of(record, progress.pending, at) for at in range(progress.begun)]


def births(p: Partition, progress: Progress, record: InstanceRecord, at: int) -> None:
    """Begin what may begin now."""
    p.results.extend(kin.birth(progress, record, position) for position in progress.to_begin(at))


def unwanted(p: Partition, event: Input) -> bool:
    """A birth that was told before, or whose map is no more."""
    maps = p.maps.get(home_of(event.instance), {})
    return event.map not in maps or (event.instance in p.entries and event.instance not in p.litter)


def given_up(p: Partition, progress: Progress) -> None:
    """Tell the items in flight that their map is given up; each is told once."""
    reason = progress.pending.error
    look = progress.look
    for position in progress.in_flight() if reason and look is not None else ():
        found = None if look is None else look(position)
        if found is not None and not found[0].cancel:
            p.results.append(kin.giving_up(found[0], reason))


def addressed(p: Partition, event: Input) -> None:
    """Find who an input is for: what comes for an item that is no more is its parent's; an answer that names nothing
    it answers is for the first item that waits for one."""
    while event.instance not in p.entries or event.instance in p.litter:
        home = home_of(event.instance)
        if not home or event.cause.kind != "result":
            return
        event.instance = home
    maps = p.maps.get(event.instance)
    if maps and event.cause.kind in _EVENTS and not event.in_reply_to:
        _first_that_waits(p, event, maps)


def _first_that_waits(p: Partition, event: Input, maps: Mapping[str, Progress]) -> None:
    record = p.load(event.instance)
    if record is None or any(event.type in one.types for one in record.operations()):
        return
    for progress in maps.values():
        look = progress.look
        for position in progress.in_flight() if look is not None else ():
            found = None if look is None else look(position)
            if found is not None and any(
                event.type in one.types and not one.wait_id for one in found[0].operations()
            ):
                event.instance = found[0].instance
                return


def restore(p: Partition, progress: Progress, record: InstanceRecord) -> None:
    """At a takeover: which items have begun, and which of them have ended."""
    while (name := kin.name_of(record, progress.pending, progress.begun)) in p.entries:
        progress.begun += 1
        item = p.load(name)
        if item is not None and item.ended_at is not None:
            progress.over(item, p.setting.world)


def is_item(key: str) -> bool:
    """The key of a record that an item of a map has of its own."""
    return ITEM in key
