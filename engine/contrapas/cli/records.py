"""Instances as rows: what lists, filters and `-o json` show of a record of the log lane."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from contrapas.cli import avro, text
from contrapas.cli.lanes import LogFile
from contrapas.core.lane import Record
from contrapas.core.partition import ITEM, home_of
from contrapas.errors import ContrapasError, Refused

if TYPE_CHECKING:
    from contrapas.core.envelope import InstanceRecord, Pending

ORDER = (
    "waiting",
    "running",
    "retrying",
    "unwinding",
    "settling",
    "failed",
    "compensated",
    "done",
    "paused",
    "parked",
)
"""The ten statuses as tallies name them; `core.envelope.STATUSES` decides, a test compares."""
ENDED = frozenset({"done", "compensated", "failed"})
Items = Mapping[str, Counter[str]]
_SIGN = ITEM.encode()
_ITEM = re.compile(r"(.*)\[[0-9]+\](/[^/]*)", re.DOTALL)
FIELDS = (
    "id", "key", "saga", "state", "status", "age", "started", "tries", "error", "code", "outcome", "version", "mode", "partition",
)  # fmt: skip
"""What `--where` knows."""
_BODY_FIELDS = frozenset({"started", "tries", "error", "code", "outcome", "mode"})


class Head(NamedTuple):
    """What the headers of a record tell, without its body."""

    record: Record
    instance: str
    saga: str
    key: str
    state: str
    status: str
    version: int


def heads(log: LogFile) -> Iterator[Head]:
    """The newest record of every instance."""
    for record in log.newest():
        if (head := head_of(record)) is not None:
            yield head


def head_of(record: Record) -> Head | None:
    """None for what is no instance: control, rendezvous, graphs, tombstones."""
    if record.value is None or record.key[:1] == b"$":
        return None
    headers = {name: value for name, value in record.headers}
    if headers.get("cp-kind", b"instance") != b"instance":
        return None
    instance = record.key.decode("utf-8", "backslashreplace")
    saga, _, key = instance.partition("/")
    version = headers.get("cp-version", b"0")
    return Head(
        record,
        instance,
        saga,
        key,
        headers.get("cp-state", b"").decode("utf-8", "backslashreplace"),
        headers.get("cp-status", b"").decode("utf-8", "backslashreplace"),
        int(version) if version.isdigit() and len(version) < 19 else 0,
    )


def body_of(record: Record) -> InstanceRecord:
    """The decoded record."""
    return avro.decode(_value(record))


def loose_of(record: Record) -> InstanceRecord:
    """The decoded record, for looking only: the same attributes without the class."""
    found: InstanceRecord = avro.loose(_value(record))
    return found


def _value(record: Record) -> bytes:
    if record.value is None:
        raise Refused("CP813", "the instance was removed after its retention")
    return record.value


def needs_body(names: Sequence[str]) -> bool:
    """Whether a filter over these fields must read bodies."""
    return not _BODY_FIELDS.isdisjoint(names)


def fields(head: Head, body: InstanceRecord | None, now_ms: int) -> Mapping[str, object]:
    """What `--where` sees."""
    found: dict[str, object] = {
        "id": head.instance,
        "key": head.key,
        "saga": head.saga,
        "state": head.state,
        "status": head.status,
        "age": max(0, now_ms - head.record.timestamp_ms),
        "version": head.version,
        "partition": head.record.partition,
    }
    if body is not None:
        pending = first_pending(body)
        found |= {
            "started": max(0, now_ms - body.started_at),
            "tries": pending.attempt if pending else None,
            "error": error_of(body) or None,
            "code": body.parked.code if body.parked else None,
            "outcome": body.outcome or None,
            "mode": body.mode,
        }
    return found


def mapping(body: Any) -> bool:
    """Whether an instance has a map in progress."""
    return any(pending.kind == "map" for pending in operations(body))


def map_of(instance: str) -> str:
    """The key of the map that an item of its own record is of."""
    head, _, visit = instance.rpartition(ITEM)[2].rpartition("/")
    label = head.partition("/")[2].rpartition("[")[0]
    return f"{home_of(instance)}/{label}/{visit}"


def items_of(log: LogFile) -> Items:
    """How many items of each map in progress have which status, by the map's key."""
    found: dict[str, Counter[str]] = {}
    for record in log.newest():
        if record.value is not None and _SIGN in record.key:
            said = dict(record.headers).get("cp-status", b"").decode(errors="replace")
            word = "failed" if said in ("failed", "compensated") else said
            found.setdefault(map_of(record.key.decode("utf-8", "backslashreplace")), Counter())[word] += 1
            continue
        if record.value is None or not record.key.startswith(b"$item/"):
            continue
        if (where := _ITEM.fullmatch(record.key[6:].decode("utf-8", "backslashreplace"))) is not None:
            status = next((value for name, value in record.headers if name == "cp-status"), b"")
            found.setdefault(f"{where[1]}{where[2]}", Counter())[status.decode(errors="replace")] += 1
    return found


def row(
    head: Head,
    body: InstanceRecord | None,
    now_ms: int,
    limits: Mapping[str, int] | None = None,
    items: Items | None = None,
) -> dict[str, Any]:
    """One instance as JSON; field names are public (`instance_list.json`)."""
    found: dict[str, Any] = {
        "id": head.key,
        "instance": head.instance,
        "saga": head.saga,
        "key": head.key,
        "state": head.state,
        "status": head.status,
        "since_ms": max(0, now_ms - head.record.timestamp_ms),
        "version": head.version,
        "partition": head.record.partition,
        "offset": head.record.offset,
        "started_ms": None,
        "tries": None,
        "waits_for": "",
        "deadline_ms": None,
        "outcome": None,
        "error": "",
        "note": "",
    }
    if body is not None:
        pending = first_pending(body)
        found |= {
            "started_ms": body.started_at,
            "tries": attempts_of(pending, limits) if pending else None,
            "waits_for": waits_for(body, now_ms, items),
            "deadline_ms": pending.deadline if pending else body.deadline,
            "outcome": body.outcome or None,
            "error": error_of(body),
            "note": note_of(body),
        }
    return found


def note_of(body: InstanceRecord) -> str:
    """What the saga notes for people."""
    return "" if body.talk is None else body.talk.note


def first_pending(body: InstanceRecord) -> Pending | None:
    """The operation that stands for the instance in a list."""
    return next(operations(body), None)


def operations(body: InstanceRecord) -> Iterator[Pending]:
    """As `InstanceRecord.operations`, also of one that was read without its class."""
    yield from _of_node(body.root)
    for entry in body.owed:
        if entry.pending is not None:
            yield entry.pending


def _of_node(node: Any) -> Iterator[Pending]:
    if node.pending is not None:
        yield node.pending
    if node.join is not None:
        for child in node.join.children:
            yield from _of_node(child)
    for entry in node.undo:
        yield from _of_undo(entry)


def _of_undo(entry: Any) -> Iterator[Pending]:
    if entry.pending is not None:
        yield entry.pending
    for branch in entry.branches:
        for inner in branch:
            yield from _of_undo(inner)


def error_of(body: InstanceRecord) -> str:
    """The last thing that went wrong, for people."""
    if body.parked is not None:
        return body.parked.error or body.parked.reason
    pending = first_pending(body)
    return (pending.error if pending else "") or body.error


def waits_for(body: InstanceRecord, now_ms: int, items: Items | None = None) -> str:
    """`StockReserved|OutOfStock, 19s left`, `try in 4s`, `CP847: …`."""
    if body.parked is not None:
        return f"{body.parked.code}: {body.parked.reason}"
    if body.status == "settling":
        return _owed(body.owed, now_ms)
    if body.status in ENDED:
        return body.outcome or body.error
    pending = first_pending(body)
    if pending is None:
        return ""
    many = sum(1 for _ in operations(body))
    more = f" and {many - 1} more" if many > 1 else ""
    if pending.retry_at is not None:
        return f"try in {text.duration(max(0, pending.retry_at - now_ms))}{more}"
    if pending.kind == "sleep":
        return f"a timer, {left(pending.deadline, now_ms)}{more}"
    if pending.kind == "child":
        limit = f", {left(pending.deadline, now_ms)}" if pending.deadline is not None else ""
        return f"{pending.name}/{pending.target}{limit}{more}"
    if pending.kind == "local":
        return f"{pending.name}{more}"
    if pending.kind == "map":
        return f"{items_text(pending, items or {})}{more}"
    tail = f", {left(pending.deadline, now_ms)}" if pending.deadline is not None else ""
    return f"{'|'.join(pending.types) or pending.name}{tail}{more}"


def items_text(pending: Pending, items: Items) -> str:
    """`612/1000 done, 3 failed`."""
    count = len(json.loads(pending.body)["items"])
    seen = items.get(pending.key, Counter())
    bad = seen["failed"] + seen["unknown"]
    return f"{seen['done']}/{count} done" + (f", {bad} failed" if bad else "")


def _owed(entries: Sequence[Any], now_ms: int) -> str:
    if not entries:
        return ""
    first = entries[0]
    kinds = "|".join(first.types) or first.label
    return f"late {kinds}, {left(first.owed_until, now_ms)}" if first.owed_until else f"undo of {first.label}"


def left(deadline: int | None, now_ms: int) -> str:
    """`19s left`, `due 3s ago`."""
    if deadline is None:
        return ""
    rest = deadline - now_ms
    return f"{text.duration(rest)} left" if rest >= 0 else f"due {text.duration(-rest)} ago"


def attempts_of(pending: Pending, limits: Mapping[str, int] | None = None) -> str:
    """`3/5`, `1`, `–`: attempts made, of how many. limits: of steps that say it themselves (`machines.Note.attempts`)."""
    if pending.kind in ("wait", "sleep"):
        return "–"
    limit: Any = (limits or {}).get(pending.name)
    if pending.policy.startswith("["):
        limit = pending.policy[1:].partition(",")[0]
    return f"{pending.attempt}/{limit}" if limit and limit != "null" else str(pending.attempt)


def one(log: LogFile, id: str) -> Head:
    """The instance of a key or `saga/key`; Refused CP813, or CP808 when two sagas share the key."""
    found = [head for record in log.instances(id) if (head := head_of(record)) is not None]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(head.instance for head in found)
        raise Refused(
            "CP814", f"several sagas have the key '{text.escape(id)}': {names}", fix=found[0].instance
        )
    raise Refused("CP813", f"there is no instance '{text.escape(id)}'", fix="contrapas ls")


def history(log: LogFile, head: Head) -> list[InstanceRecord]:
    """The records of the present run of an instance that are still there, oldest first."""
    found: list[InstanceRecord] = []
    for record in log.history(head.record.key, head.record.partition):
        if record.value is None:
            found.clear()
            continue
        try:
            body = body_of(record)
        except ContrapasError:
            continue
        if found and found[-1].run != body.run:
            found.clear()
        if not found or body.version > found[-1].version:
            found.append(body)
    return found


def tally(statuses: Sequence[str]) -> str:
    """`waiting 29 · retrying 4`."""
    return " · ".join(f"{word} {text.count(n)}" for word in ORDER if (n := sum(s == word for s in statuses)))
