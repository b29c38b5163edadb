"""Follows the log lane and tells each instance in one line when it ends, and each failed attempt when it is recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from contrapas.cli import machines, records, screen, tale, text
from contrapas.cli.lanes import LogFile
from contrapas.cli.stepfail import Failure
from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.lane import Record
from contrapas.errors import ContrapasError

MOST = 40
"""Instances told one by one in one look; the others are counted."""
_STILL = frozenset({*ENDED, "parked", "settling"})


class Teller:
    """What happened since the last look. history: whether the lines also tell what was before the first look."""

    def __init__(self, log: LogFile) -> None:
        self.log = log
        self.ends = [part.log_head for part in log.parts()]
        self.stories: dict[str, list[InstanceRecord]] = {}
        self.seen = -1
        self.limits = machines.limits(log)
        self.marks: dict[str, tuple[str, ...]] = {}
        """Instance -> keys of operations that were answered while nobody was there."""
        self.after: set[tuple[str, int]] = set()
        """(instance, version) of what came in the last look after the end of a run: an event that was too late, say."""

    def look(self) -> list[tuple[str, InstanceRecord, Record]]:
        """(instance, new record, as stored) for everything new, in the order of the log's time."""
        version = self.log.version()
        if version == self.seen:
            return []
        self.seen = version
        info = self.log.topic(f"{self.log.namespace}.log")
        fresh: list[Record] = []
        for partition, end in enumerate(self.ends):
            fresh += self.log.read(info, partition, end, info.heads[partition])
        self.ends = list(info.heads)
        self.after.clear()
        fresh.sort(key=lambda r: r.timestamp_ms)
        found: list[tuple[str, InstanceRecord, Record]] = []
        for record in fresh:
            head = records.head_of(record)
            if head is None:
                continue
            try:
                body = records.body_of(record)
            except ContrapasError:
                continue
            self._add(head, body)
            found.append((head.instance, body, record))
        return found

    def _add(self, head: records.Head, body: InstanceRecord) -> None:
        story = self.stories.get(head.instance)
        if story is None:
            story = (
                []
                if body.version == 1
                else [r for r in records.history(self.log, head) if r.version < body.version]
            )
            self.stories[head.instance] = story
        if story and story[-1].run != body.run:
            story.clear()
        if story and story[-1].status in ENDED and body.status in ENDED:
            self.after.add((head.instance, body.version))
        story.append(body)

    def line(self, instance: str) -> str:
        """The tale of an instance so far."""
        return tale.tale(self.stories[instance], marks=self.marks.get(instance, ()))

    def forget(self, instance: str) -> None:
        """Let go of an instance that has ended."""
        self.stories.pop(instance, None)


def told(teller: Teller, failures: Mapping[str, Failure], now_ms: int) -> list[str]:
    """Lines for everything new: ended and parked instances, failed attempts."""
    out: list[str] = []
    count = 0
    more = 0
    for instance, body, record in teller.look():
        stamp = clock(body.at)
        if body.cause.kind == "result" and body.cause.note:
            out += attempt(body, record, failures, teller, now_ms)
        if (instance, body.version) in teller.after:
            teller.forget(instance)
        elif body.status in _STILL:
            count += 1
            if count <= MOST:
                out.append(f"{stamp}  {teller.line(instance)}")
            else:
                more += 1
            if body.status in ENDED:
                teller.forget(instance)
    if more:
        out.append(f"{clock(now_ms)}  … and {text.count(more)} more:  contrapas ls")
    return out


def attempt(
    body: InstanceRecord, record: Record, failures: Mapping[str, Failure], teller: Teller, now_ms: int
) -> list[str]:
    """A failed attempt of a local step: at most 25 lines, the user's line within the first five."""
    key = body.cause.id
    pending = next((p for p in body.operations() if p.key == key), None)
    label = pending.label if pending is not None else body.cause.type
    last = "   last attempt" if pending is None else ""
    head = f"{clock(body.at)}  {text.escape(body.key)}  {label} failed{last}"
    if pending is not None:
        head += f"   attempt {records.attempts_of(pending, teller.limits)}"
        if pending.retry_at is not None:
            head += f"   next try in {text.duration(max(0, pending.retry_at - now_ms))}"
    found = failures.get(key)
    if found is None:
        return [head, f"  {text.escape(body.cause.note)}"]
    since = f"   since {clock(pending.since)}" if pending is not None and pending.since else ""
    hidden = f"   ({text.plural(found.hidden, 'library frame')}: -v)" if found.hidden else ""
    return [
        head,
        "",
        f"  {found.place}   {found.call}" if found.place else f"  {found.call}",
        *found.source,
        f"  {found.error}",
        "",
        f"  state {label}{since}   record {teller.log.namespace}.log/{record.partition}@{record.offset}   key sent {text.escape(key)}{hidden}",
        f"  now   contrapas instance describe {body.key}      contrapas instance retry {body.key} --now",
    ]


def clock(ms: int) -> str:
    """`12:00:04`, local time."""
    return time.strftime("%H:%M:%S", time.localtime(ms / 1000))


def show(look: screen.Look, lines: Sequence[str]) -> None:
    """Print at once, also into a pipe."""
    screen.lines(look, lines)
    import sys

    sys.stdout.flush()
