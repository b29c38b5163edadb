"""Heals: what an owner owes a key on which somebody else's record lies, and writes first of all in its next commit.

Compaction keeps the last record of a key, so a loser on top would, in time, erase the owner's record under it. The owner
writes its own state again, one version above both, without new messages; a tombstone if it has none. Losers are found
in the restore, in a gap of a commit, and in the look at the lane's end while nothing is committed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from contrapas.core.control import PART_KEY
from contrapas.core.envelope import Cause
from contrapas.core.envelope_avro import decode as decode_instance
from contrapas.core.envelope_avro import encode as encode_instance
from contrapas.core.envelope_item import decode_item, renumbered
from contrapas.core.envelope_rendezvous import decode as decode_rendezvous
from contrapas.core.envelope_rendezvous import encode as encode_rendezvous
from contrapas.core.fold import Fold, Verdict, text_of
from contrapas.core.headers import headers_of
from contrapas.core.lane import Draft, Headers, Record
from contrapas.runtime.batch import Entry, checksum, is_graph, is_wait, kind_of

if TYPE_CHECKING:
    from contrapas.runtime.partition import Partition


def lose(p: Partition, records: Iterable[Record]) -> list[str]:
    """Judge what others wrote, by the fold's rule; what lies on a key of ours is owed a heal from now on.

    Called between batches only. Gives a line for each record that no owner wrote. Damaged CP509 for a foreign record
    under our own epoch.
    """
    lane = f"{p.setting.namespace}.log"
    judge = Fold(lane, epoch=p.epoch)
    judge.control = p.control
    alarms: list[str] = []
    for record in records:
        if (known := known_version(p, record.key)) > 0:
            judge.known[record.key] = known
        verdict = judge.judge(record)
        if judge.error is not None:
            raise judge.error
        if verdict is Verdict.LOSER:
            if is_stranger(record):
                alarms.append(alarm_of(record, lane))
        elif verdict is Verdict.VOID and record.key == PART_KEY:
            p.void = True
    p.counts.losers += judge.losers
    for key, version in judge.owed.items():
        owe(p, key, version)
    return alarms


def owe(p: Partition, key: bytes, version: int) -> None:
    """A heal of a key, above `version` and our own, goes into the next commit."""
    p.heal.pop(key, None)
    if is_graph(text_of(key)):
        p.publish = [d for d in p.publish if d.key != key]  # the heal says the same, under a version above
    p.heal[key] = _draft(p, key, version)


def known_version(p: Partition, key: bytes) -> int:
    """Version of our own state of a key, 0 for none."""
    name = key.decode(errors="replace")
    if name in p.graphs:
        return p.graphs[name][0]
    entry = p.entries.get(name)
    return 0 if entry is None else entry.version


def is_stranger(record: Record) -> bool:
    """A record that no owner wrote, former or not."""
    return not any(name == "cp-epoch" for name, _ in record.headers)


def alarm_of(record: Record, lane: str) -> str:
    """What is said of a stranger's record."""
    code, what = ("CP411", "an empty value") if record.value is None else ("CP509", "a record")
    place = f"{lane}/{record.partition}@{record.offset}"
    return f"{place} {code} {what} that no owner wrote, for {text_of(record.key)!r}: ours is written again"


def _draft(p: Partition, key: bytes, version: int) -> Draft:
    name = key.decode(errors="replace")
    if is_graph(name):
        return p.graph_draft(name, p.graphs.get(name, (0, None))[1], above=version, heal=True)
    entry = p.entries.get(name)
    if entry is not None and not name.startswith("$"):
        return _instance(p, name, entry, version)
    number = max(version, 0 if entry is None else entry.version) + 1
    headers: Headers = (
        ("cp-kind", kind_of(name)),
        ("cp-version", b"%d" % number),
        ("cp-epoch", b"%d" % p.epoch),
        ("cp-cause", b"heal"),
    )
    if entry is None:
        return Draft("", p.number, key, None, headers)
    value = _wait(p, entry, number) if is_wait(name) else _item(p, entry, number)
    p.entries[name] = entry._replace(value=value, version=number)
    if entry.deadline is not None:
        headers = (*headers, ("cp-deadline", b"%d" % entry.deadline))
    return Draft("", p.number, key, value, (*headers, ("cp-sum", checksum(value))))


def _instance(p: Partition, name: str, entry: Entry, version: int) -> Draft:
    record = decode_instance(entry.value)
    record.version = max(version, record.version) + 1
    record.epoch, record.writer = p.epoch, p.setting.writer
    record.unsent, record.out = [*record.unsent, *record.out], []
    record.cause = Cause(kind="heal", type="heal")
    value = encode_instance(record)
    p.entries[name] = entry._replace(value=value, version=record.version)
    p.forget(name)
    return Draft("", p.number, name.encode(), value, headers_of(record, value))


def _wait(p: Partition, entry: Entry, version: int) -> bytes:
    """A rendezvous under another version: the next one is counted from what its body says."""
    meeting = decode_rendezvous(entry.value)
    meeting.version, meeting.epoch, meeting.writer = version, p.epoch, p.setting.writer
    return encode_rendezvous(meeting)


def _item(p: Partition, entry: Entry, version: int) -> bytes:
    """An item under another version, for a map that goes on as well."""
    item = decode_item(entry.value)
    progress = p.maps.get(item.instance, {}).get(item.map)
    if progress is not None and item.position in progress.items:
        progress.items[item.position] = progress.items[item.position]._replace(version=version)
    return renumbered(entry.value, version, p.epoch, p.setting.writer)
