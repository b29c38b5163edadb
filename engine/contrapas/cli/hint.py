"""Why an instance does not move: the first answer that holds, in the order in which people should look."""

from __future__ import annotations

from contrapas.cli import records, text
from contrapas.cli.lanes import LogFile, Part
from contrapas.cli.machines import Note
from contrapas.core.envelope import ENDED, InstanceRecord

SILENT_MS = 30_000


def hint(log: LogFile, head: records.Head, body: InstanceRecord, note: Note, now_ms: int) -> str:
    """One sentence with the next command, or nothing when the instance is fine."""
    if body.parked is not None:
        return f"parked with {body.parked.code}: correct the cause, then  contrapas instance retry {head.key}"
    if body.status == "paused":
        return "held by an operator: events are kept"
    if body.status in ENDED:
        return ""
    part = log.parts()[head.record.partition]
    pending = records.first_pending(body)
    due = [
        t
        for t in (pending.deadline if pending else None, pending.retry_at if pending else None, body.deadline)
        if t is not None
    ]
    owner = _owner(part, now_ms)
    if due and min(due) < now_ms - 1000 and owner:
        return f"the deadline passed {text.duration(now_ms - min(due))} ago, and {owner}"
    if owner:
        return owner
    if pending is None or pending.kind not in ("command", "ask"):
        return ""
    topic = note.topics.get(pending.name)
    if topic and now_ms - (pending.since or body.at) > 2000:
        return _consumer(log, topic, pending.name)
    return ""


def _owner(part: Part, now_ms: int) -> str:
    if not part.owner:
        return f"no worker owns partition {part.partition}:  contrapas worker MODULE:APP"
    if part.beat_ms is not None and now_ms - part.beat_ms > SILENT_MS:
        return f"{text.escape(part.owner)} owns partition {part.partition} and has been silent for {text.duration(now_ms - part.beat_ms)}"
    return ""


def _consumer(log: LogFile, topic: str, name: str) -> str:
    groups = log.groups(topic)
    if not groups:
        return f"no service of this app reads {topic}: {name} is answered by somebody else, or by nobody"
    behind = {group: lag for group, lag in groups.items() if lag}
    if behind:
        group, lag = max(behind.items(), key=lambda item: item[1])
        return f"group '{text.escape(group)}' has lag {text.count(lag)} on {topic}:  contrapas topic read {topic} --from -10"
    return ""
