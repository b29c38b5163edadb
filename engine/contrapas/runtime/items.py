"""The runtime's side of a map: begin its items, write their records, end it, and remove them afterwards.

An item costs one record of its own; the instance's is written when the map begins and ends. Results come through memory
and share commits. What is known of a map in progress is worked out from the log at a takeover, and copied before a batch
changes it, so that an abort finds it as it was.
"""

from __future__ import annotations

from typing import Any

from contrapas.core import items
from contrapas.core.correlate import LIVE
from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_item import PREFIX, ItemRecord, encode_item, head_of, owner_bytes
from contrapas.core.items import Progress
from contrapas.core.lane import Draft
from contrapas.core.parking import held
from contrapas.core.partition import home_of
from contrapas.core.timers import next_deadline
from contrapas.core.world import Input
from contrapas.runtime import kin
from contrapas.runtime.batch import Batch, Entry, checksum
from contrapas.runtime.partition import Partition

SWEPT_MAX = 1_000
"""Item records removed in one batch."""
Maps = dict[str, Progress]


def concerns(p: Partition, instance: str, record: InstanceRecord | None) -> bool:
    """Has an instance to do with maps, now or a moment ago?"""
    if instance in p.maps:
        return True
    if record is None or record.ended_at is not None:
        return False
    root = record.root
    if root.pending is not None and root.pending.kind == "map":
        return True
    if root.join is None and root.pending is not None:
        for frame in root.frames:
            if frame.begun:
                break
        else:
            return False
    return bool(items.maps_of(record))


def told(p: Partition, event: Input, record: InstanceRecord) -> None:
    """Tell a transition what has become of the maps that its instance waits for."""
    if event.instance not in p.maps:
        found = {m.key: kin.made(p, m, record) for m in items.maps_of(record)}
        if not found:
            return
        p.maps[event.instance] = found
    event.maps = p.maps[event.instance]


def result(p: Partition, batch: Batch, event: Input) -> bool:
    """The result of an item, or the end of a map; False: its map is no more, and the instance should hear of it. Also
    what begins an item of its own: True, if it is no more wanted."""
    if event.cause.kind == "start":
        return kin.unwanted(p, event)
    maps = p.maps.get(event.instance)
    progress = None if maps is None else maps.get(event.map)
    if progress is None:
        return event.item < 0  # a map that ended twice is said once
    record = p.load(event.instance)
    assert record is not None
    if event.item < 0:
        if not progress.complete or held(record):
            return True
        event.maps = maps
        return False
    progress = _mine(p, batch, event.instance, event.map)
    event.at = batch.at
    item = progress.take(event, p.setting.world)
    if item is None:
        p.counts.ignored += 1
        return True
    _write(p, batch, event, progress, item)
    _go_on(p, batch, record, progress)
    return True


def moved(p: Partition, batch: Batch, record: InstanceRecord) -> None:
    """An item that runs a saga has moved: if it has ended, its map goes on."""
    home = home_of(record.instance)
    parent = p.load(home)
    if record.ended_at is None or parent is None or record.map not in p.maps.get(home, {}):
        return
    progress = _mine(p, batch, home, record.map)
    if progress.over(record, p.setting.world):
        _go_on(p, batch, parent, progress)


def _mine(p: Partition, batch: Batch, instance: str, key: str) -> Progress:
    """The progress of a map, to be changed in this batch."""
    maps = _touch(p, batch, instance)
    progress = maps[key]
    if (instance, key) not in batch.copied:
        batch.copied.add((instance, key))
        progress = maps[key] = progress.copy()
    return progress


def _touch(p: Partition, batch: Batch, instance: str) -> Maps:
    if instance not in batch.maps:
        batch.maps[instance] = p.maps.get(instance)
        p.maps[instance] = dict(p.maps.get(instance, {}))
    return p.maps[instance]


def _write(p: Partition, batch: Batch, event: Input, progress: Progress, item: items.Item) -> None:
    """Draft an item's record."""
    pending = progress.pending
    if not progress.head:
        progress.head = head_of(event.instance, pending.key, pending.label, pending.name)
    if batch.owner is None:
        batch.owner = owner_bytes(p.epoch, p.setting.writer, batch.at)
    value = encode_item(
        progress.head,
        event.item,
        item.version,
        batch.owner,
        item.status,
        item.attempt,
        progress.begun,
        item.text,
        item.reason,
        item.retry_at,
    )
    headers: Any = (
        _KIND,
        ("cp-version", b"%d" % item.version),
        ("cp-epoch", b"%d" % p.epoch),
        ("cp-status", item.status.encode()),
        ("cp-state", pending.label.encode()),
        _LOCAL,
        ("cp-sum", checksum(value)),
    )
    if item.retry_at is not None:
        headers = (*headers, ("cp-deadline", b"%d" % item.retry_at))
    key = PREFIX + event.in_reply_to
    p.put(batch, key, Entry(value, None, LIVE, item.version))
    batch.log.append(Draft("", p.number, key.encode(), value, headers))
    batch.size += len(value)
    p.counts.transitions += 1


_KIND = ("cp-kind", b"item")
_LOCAL = ("cp-cause", b"local")


def _go_on(p: Partition, batch: Batch, record: InstanceRecord, progress: Progress) -> None:
    """Begin what may begin now, and end the map where nothing more will."""
    if held(record):
        return
    if (
        progress.begun == len(progress.texts) and not progress.retries
    ):  # most results of a map with room for all
        if progress.complete:
            p.results.append(items.finished(progress, record))
        return
    instance = record.instance
    if progress.nested:
        kin.births(p, progress, record, batch.at)
    for position in progress.to_retry(batch.at):
        batch.steps.append(progress.call(instance, position, p.epoch))
        batch.fence = True
    for position in progress.to_begin(batch.at):
        batch.steps.append(progress.call(instance, position, p.epoch))
        batch.fence = True
    if progress.complete:
        p.results.append(items.finished(progress, record))
    else:
        arm(p, instance)


def follow(p: Partition, batch: Batch, record: InstanceRecord, *, again: bool) -> None:
    """After a transition of an instance: maps that it began begin, those it left are removed, held ones go on.

    again: what is in flight is to be issued again, whoever may have lost it.
    """
    instance = record.instance
    maps = _touch(p, batch, instance)
    wanted = {m.key: m for m in items.maps_of(record)}
    for key in [k for k in maps if k not in wanted]:
        _leave(p, record, maps.pop(key))
    for key, pending in wanted.items():
        if key not in maps:
            maps[key] = kin.made(p, pending, record)
            batch.copied.add((instance, key))
        progress = _mine(p, batch, instance, key)
        if progress.nested:
            progress.pending = pending
            kin.given_up(p, progress)
        elif again and not held(record):
            batch.steps += [progress.call(instance, at, p.epoch) for at in progress.in_flight()]
        _go_on(p, batch, record, progress)
    if not maps:
        del p.maps[instance]


def _leave(p: Partition, record: InstanceRecord, progress: Progress) -> None:
    """A map is no more: its item records are to be removed."""
    if progress.nested:
        for name in kin.names(record, progress):
            inner, item = p.maps.pop(name, {}), p.load(name)
            for one in inner.values():
                if item is not None:
                    _leave(p, item, one)
            p.litter[name] = None
    for position in progress.items:
        p.litter[PREFIX + items.item_key(progress.key, position)] = None


def wake(p: Partition, batch: Batch, instance: str) -> None:
    """The time of an item's next attempt, or of the next that the rate lets begin."""
    record = p.load(instance)
    if record is None:
        return
    for key in list(p.maps[instance]):
        _go_on(p, batch, record, _mine(p, batch, instance, key))


def arm(p: Partition, instance: str) -> None:
    """Be woken when something is due in an instance's maps."""
    times = [at for m in p.maps.get(instance, {}).values() if (at := m.wake()) is not None]
    entry = p.entries.get(instance)
    if not times or entry is None:
        return
    record = p.load(instance)
    if record is None or held(record):
        return
    own = next_deadline(record)
    at = min(times) if own is None else min(own, *times)
    if at != entry.deadline:
        p.postpone(instance, at)


def sweep(p: Partition, batch: Batch) -> None:
    """Remove item records of maps that are no more, as many as fit."""
    room = min(SWEPT_MAX, p.setting.caps.max_commit_records - len(batch.log) - len(batch.out) - 8)
    while p.litter and room > 0:
        key = next((k for k in p.litter if p.published(k, batch)), "")
        if not key:
            return  # what an item has sent is not known to have left: its record keeps it
        del p.litter[key]
        if key in p.entries:
            p.bury(batch, key)
            room -= 1


def abort(p: Partition, batch: Batch) -> None:
    """Nothing of the batch happened."""
    for instance, maps in batch.maps.items():
        for gone in (p.maps.get(instance) or {}).values():
            gone.head = b""
        if maps is None:
            p.maps.pop(instance, None)
        else:
            p.maps[instance] = maps
    living = {
        PREFIX + items.item_key(m.key, position)
        for maps in p.maps.values()
        for m in maps.values()
        for position in m.items
    }
    for instance, maps in p.maps.items():
        for m in maps.values():
            if m.nested and (record := p.load(instance)) is not None:
                living.update(kin.names(record, m))
    for key in living & p.litter.keys():
        del p.litter[key]
    for key, entry in batch.undo.items():
        if entry is not None and (key.startswith(PREFIX) or kin.is_item(key)) and key not in living:
            p.litter[key] = None


def restored(p: Partition, found: dict[str, dict[str, list[ItemRecord]]]) -> None:
    """At a takeover, when all records are there: what has become of each map, and what is left of others."""
    homes = {home_of(name): None for name in p.kin}
    for instance in {**found, **dict.fromkeys(p.mapping), **homes}:
        record = p.load(instance) if instance in p.entries else None
        wanted = {} if record is None else {m.key: m for m in items.maps_of(record)}
        for key, records in found.get(instance, {}).items():
            if key not in wanted:
                for r in records:
                    p.litter[PREFIX + items.item_key(key, r.position)] = None
        for key, pending in wanted.items():
            assert record is not None
            progress = kin.made(p, pending, record)
            if progress.nested:
                kin.restore(p, progress, record)
            for r in found.get(instance, {}).get(key, []):
                progress.restore(r)
            progress.settle_begun(found.get(instance, {}).get(key, []))
            p.maps.setdefault(instance, {})[key] = progress
    living: set[str] = set()
    for instance, maps in p.maps.items():
        for m in maps.values():
            if m.nested and (record := p.load(instance)) is not None:
                living.update(kin.names(record, m))
    p.litter.update(dict.fromkeys(name for name in p.kin if name not in living))
    p.mapping.clear()
    p.kin.clear()


def reissued(p: Partition) -> list[Any]:
    """At a takeover: the items in flight, to be issued again, or to begin; a map that had ended is ended."""
    calls: list[Any] = []
    for instance, maps in p.maps.items():
        record = p.load(instance)
        assert record is not None
        if record.parked is not None:
            continue
        for progress in maps.values():
            if progress.nested:
                kin.given_up(p, progress)
                if not record.paused:
                    kin.births(p, progress, record, p.at)
            else:
                calls += [progress.call(instance, at, p.epoch) for at in progress.in_flight()]
            if not record.paused:
                calls += [progress.call(instance, at, p.epoch) for at in progress.to_begin(p.at)]
                if progress.complete:
                    p.results.append(items.finished(progress, record))
        arm(p, instance)
    return calls
