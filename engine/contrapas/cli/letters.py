"""Dead letters of a namespace as the command line sees them: one per original, with what became of it, and how to choose some."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from contrapas.cli import text, where
from contrapas.cli.exits import Usage
from contrapas.cli.lanes import LogFile, TopicInfo
from contrapas.core.lane import Record
from contrapas.core.letter import Letter, letter_of
from contrapas.errors import Refused

FIELDS = (
    "id", "source", "partition", "offset", "key", "type", "code", "error", "instance", "event", "age", "attempts",
    "disposition", "redriven",
)  # fmt: skip
"""What `--where` knows."""
_PLACE = re.compile(r"([0-9]{1,9})@([0-9]{1,18})")
CAUSES = 5


class Entry(NamedTuple):
    """A dead letter, where its bytes lie, and what became of it."""

    letter: Letter
    partition: int
    """Of `<ns>.dlq`."""
    offset: int
    key: bytes
    size: int
    disposition: str
    redrives: int
    """So many times it was sent again."""
    settled_at: int
    words: str
    """Of who settled it."""

    @property
    def place(self) -> str:
        """`0@17`: its id on the command line."""
        return f"{self.partition}@{self.offset}"


def topic_of(log: LogFile) -> TopicInfo | None:
    """`<ns>.dlq`; None when there is none."""
    try:
        return log.topic(f"{log.namespace}.dlq")
    except Refused as why:
        if why.code != "CP813":
            raise
        return None


def read(log: LogFile) -> list[Entry]:
    """Every dead letter once, in the order in which they lie; copies of one count as one."""
    info = topic_of(log)
    found: dict[str, Entry] = {}
    for p in range(info.partitions if info is not None else 0):
        assert info is not None
        for record in log.read(info, p, info.starts[p], info.heads[p]):
            _take(found, record)
    return list(found.values())


def _take(found: dict[str, Entry], record: Record) -> None:
    letter = letter_of(record)
    if letter is None:
        return
    known = found.get(letter.id)
    if letter.disposition == "dead":
        if known is None:
            size = len(record.value or b"")
            found[letter.id] = Entry(
                letter, record.partition, record.offset, record.key, size, "dead", 0, 0, ""
            )
    elif known is not None:  # else its letter is older than what is still there
        more = letter.disposition == "redriven"
        found[letter.id] = known._replace(
            disposition=letter.disposition,
            redrives=known.redrives + more,
            settled_at=letter.at,
            words=letter.error,
        )


def chosen(entries: Sequence[Entry], which: Sequence[str], condition: str | None, now_ms: int) -> list[Entry]:
    """Those of the sources or ids `which` (all without any) for which `condition` holds, whatever became of them.

    Refused CP813 for a source or id that no dead letter has; Usage CP808.
    """
    conditions = where.parse(condition, FIELDS) if condition else ()
    places = {e.place: e for e in entries}
    sources = {e.letter.topic for e in entries}
    for one in which:
        if one not in sources and one not in places:
            near = text.nearest(one, sorted(sources))
            what = "has the id" if _PLACE.fullmatch(one) else "comes from"
            tail = f", the nearest is '{near}'" if near else ""
            raise Refused(
                "CP813", f"no dead letter {what} '{text.escape(one)}'{tail}", fix="contrapas dlq list"
            )
    found = [e for e in entries if not which or e.place in which or e.letter.topic in which]
    return [e for e in found if where.holds(conditions, fields(e, now_ms))]


def fields(entry: Entry, now_ms: int) -> Mapping[str, object]:
    """What `--where` sees."""
    letter = entry.letter
    return {
        "id": entry.place,
        "source": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": entry.key.decode("utf-8", "backslashreplace"),
        "type": letter.type or None,
        "code": letter.code,
        "error": letter.error,
        "instance": letter.instance or None,
        "event": letter.event_id or None,
        "age": max(0, now_ms - letter.at),
        "attempts": letter.attempts,
        "disposition": entry.disposition,
        "redriven": entry.redrives,
    }


def data(entry: Entry) -> dict[str, Any]:
    """A dead letter as JSON, without its value."""
    letter = entry.letter
    return {
        "id": entry.place,
        "source": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": entry.key.decode("utf-8", "backslashreplace"),
        "type": letter.type or None,
        "event_id": letter.event_id or None,
        "code": letter.code,
        "error": letter.error,
        "instance": letter.instance or None,
        "attempts": letter.attempts,
        "at_ms": letter.at,
        "sha256": letter.sha256,
        "by_reference": letter.by_reference,
        "came_by_redrive": letter.delivery or None,
        "disposition": entry.disposition,
        "redrives": entry.redrives,
        "settled_at_ms": entry.settled_at or None,
        "settled_words": entry.words or None,
    }


def sources(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """By source, with its causes, the most frequent first."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.letter.topic, []).append(entry)
    found: list[dict[str, Any]] = []
    for topic, some in sorted(groups.items()):
        causes = Counter((e.letter.code, e.letter.error) for e in some)
        found.append(
            {
                "source": topic,
                "count": len(some),
                "oldest_ms": min(e.letter.at for e in some),
                "again": sum(bool(e.letter.delivery) for e in some),
                "causes": [{"code": c, "error": words, "count": n} for (c, words), n in causes.most_common()],
            }
        )
    return found


def named(which: Sequence[str], condition: str | None, verb: str) -> None:
    """Usage CP814 when nothing says which dead letters a verb is for."""
    if not which and not condition:
        raise Usage(
            "CP814",
            f"which dead letters are to be {verb}?",
            fix="name a source or ids of contrapas dlq show, or --where 'code=CP403'",
        )


def masked(record: Record, kind: str, masks: Any) -> bytes:
    """A value as it may be shown."""
    value = record.value or b""
    if not masks.names:
        return value
    try:
        shown: str = masks.message(kind, value.decode("utf-8"))
    except UnicodeDecodeError:
        return value
    return shown.encode()
