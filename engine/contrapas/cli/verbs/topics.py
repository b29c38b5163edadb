"""`contrapas topic list` and `topic read`: what lies on the users' topics and on the lanes."""

from __future__ import annotations

import heapq
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from contrapas.cli import exits, machines, positions, screen, text, where
from contrapas.cli.lanes import LogFile, TopicInfo, open_file
from contrapas.cli.mask import Masks
from contrapas.cli.options import Run, command, verb
from contrapas.core.lane import Record

FIELDS = ("topic", "partition", "offset", "key", "type", "id", "age", "size", "value", "instance")


@command("list", "Topics of the log: partitions, records, keys, last record.")
@verb(data=True, log=True)
def topic_list(run: Run) -> int:
    """One row per topic."""
    with open_file(run.settings) as log:
        found = [row_of(log, one) for one in log.topics()]
    wide: list[screen.Column] = [("FROM", lambda r: str(r["start"])), ("TO", lambda r: str(r["end"]))]
    table: list[screen.Column] = [
        ("TOPIC", lambda r: text.escape(r["topic"])),
        ("PART", lambda r: str(r["partitions"])),
        ("RECORDS", lambda r: text.count(r["records"])),
        ("LAST", lambda r: text.duration(r["last_age_ms"]) if r["last_age_ms"] is not None else "–"),
        ("TYPES", lambda r: text.escape(", ".join(r["types"])) or "–"),
    ]
    screen.rows(
        run.look,
        found,
        table,
        wide,
        id="topic",
    )
    return exits.DONE


def row_of(log: LogFile, topic: TopicInfo) -> dict[str, Any]:
    """A topic as a row of the list: what its last records show."""
    last = 0
    types: dict[str, None] = {}
    for partition, (start, head) in enumerate(zip(topic.starts, topic.heads, strict=True)):
        for record in log.read(topic, partition, max(start, head - 20), head):
            last = max(last, record.timestamp_ms)
            if kind := header(record, "ce_type"):
                types[kind] = None
    age = time.time_ns() // 1_000_000 - last if last else None
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "records": topic.records,
        "start": list(topic.starts),
        "end": list(topic.heads),
        "last_age_ms": age,
        "types": sorted(types),
    }


@command("read", "Records of a topic, or of the lanes NS.in and NS.log, from a position.")
@click.argument("topic")
@click.option(
    "--from",
    "first",
    metavar="POS",
    help="start, end, 1041, -100, +5, @-1h, @2026-11-20T09:00Z, @-2d:@-1d, 2:1041",
)
@click.option("--to", "last", metavar="POS", help="Up to, not including, this position.")
@click.option("--since", metavar="TIME", help="--since 1h is --from @-1h.")
@click.option("-p", "--partition", type=click.IntRange(min=0), help="One partition only.")
@click.option("--where", "condition", metavar="EXPR", help="""type=CardCharged and key="o-9" and age<1h""")
@click.option("-n", "limit", type=click.IntRange(min=1), help="At most so many records.")
@click.option("-F", "--follow", is_flag=True, help="Go on with new records.")
@verb(data=True, log=True, format=True)
def topic_read(
    run: Run,
    topic: str,
    first: str | None,
    last: str | None,
    since: str | None,
    partition: int | None,
    condition: str | None,
    limit: int | None,
    follow: bool,
) -> int:
    """Records merged by time; ends at the high-water mark of its start unless it follows."""
    now = time.time_ns() // 1_000_000
    span = positions.span(first, last, since, now)
    conditions = where.parse(condition, FIELDS) if condition else ()
    if span.first.partition is not None:
        partition = span.first.partition
    shown: list[dict[str, Any]] = []
    with open_file(run.settings) as log:
        info = log.topic(topic)
        masks = machines.read(log).masks
        count = 0
        for stored in _records(log, info, span, partition, follow):
            record = _masked(stored, info, masks)
            if conditions and not where.holds(conditions, fields(info.name, record, now)):
                continue
            if run.look.form == "json" and not run.look.format:
                shown.append(data(info.name, record))
            else:
                show(run, info.name, record)
            count += 1
            if limit is not None and count >= limit:
                break
    if run.look.form == "json" and not run.look.format:
        screen.document(shown)
    return exits.DONE


def _masked(record: Record, info: TopicInfo, masks: Masks) -> Record:
    """Without what may not be shown: fields of messages by their type; whole records of the log lane, which hold locals."""
    if record.value is None or not masks.names:
        return record
    if info.number == -2:
        return record._replace(value=f"({text.count(len(record.value))} B, sensitive)".encode())
    try:
        return record._replace(
            value=masks.message(header(record, "ce_type"), record.value.decode("utf-8")).encode()
        )
    except UnicodeDecodeError:
        return record


def _records(
    log: LogFile, info: TopicInfo, span: positions.Span, only: int | None, follow: bool
) -> Iterator[Record]:
    if only is not None and only >= info.partitions:
        raise exits.Usage(
            "CP807",
            f"{info.name} has partitions 0 to {info.partitions - 1}",
            fix=f"2:1041 names partition 2, not {only}",
        )
    chosen = range(info.partitions) if only is None else [only]
    ends: dict[int, int] = {}
    streams: list[Iterator[Record]] = []
    for partition in chosen:
        low, high = info.starts[partition], info.heads[partition]
        spot = f"{info.name}/{partition}"
        begin = positions.resolve(span.first, low, high, _at(log, info, partition, span.first), spot)
        end = positions.resolve(span.last, low, high, _at(log, info, partition, span.last), spot)
        ends[partition] = end
        streams.append(log.read(info, partition, begin, end))
    yield from heapq.merge(*streams, key=lambda r: r.timestamp_ms)
    seen = log.version()
    while follow:
        if (version := log.version()) == seen:
            time.sleep(0.05)
            continue
        seen = version
        fresh = log.topic(info.name)
        batch = [log.read(fresh, p, ends[p], fresh.heads[p]) for p in chosen]
        yield from heapq.merge(*batch, key=lambda r: r.timestamp_ms)
        ends = {p: fresh.heads[p] for p in chosen}


def _at(log: LogFile, info: TopicInfo, partition: int, position: positions.Position) -> int | None:
    return log.at_time(info, partition, position.value) if position.kind == "time" else None


def header(record: Record, name: str) -> str:
    """A header as text, empty when absent."""
    return next(
        (value.decode("utf-8", "backslashreplace") for key, value in record.headers if key == name), ""
    )


def fields(topic: str, record: Record, now: int) -> Mapping[str, object]:
    """What `--where` sees of a record."""
    return {
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode("utf-8", "backslashreplace"),
        "type": header(record, "ce_type") or header(record, "cp-kind") or None,
        "id": header(record, "ce_id") or None,
        "age": now - record.timestamp_ms,
        "size": len(record.value or b""),
        "value": (record.value or b"").decode("utf-8", "backslashreplace"),
        "instance": header(record, "ce_correlationid") or header(record, "cp-to") or None,
    }


def data(topic: str, record: Record) -> dict[str, Any]:
    """A record as JSON: text where it is text, hex where it is not."""
    value = record.value
    try:
        shown = None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        shown = None
    return {
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": record.key.decode("utf-8", "backslashreplace"),
        "type": header(record, "ce_type") or None,
        "value": shown,
        "value_hex": value.hex() if value is not None and shown is None else None,
        "headers": [[name, raw.decode("utf-8", "backslashreplace")] for name, raw in record.headers],
    }


def show(run: Run, topic: str, record: Record) -> None:
    """One record in the form asked for."""
    look = run.look
    if look.format:
        sys.stdout.write(formatted(look.format, topic, record))
    elif look.form == "raw":
        sys.stdout.flush()
        sys.stdout.buffer.write(record.value or b"")
        sys.stdout.buffer.flush()
    elif look.form == "jsonl":
        screen.stream(data(topic, record))
    elif look.form == "id":
        sys.stdout.write(f"{topic}/{record.partition}@{record.offset}\n")
    else:
        _table(look, topic, record)
    if sys.stdout.isatty():
        sys.stdout.flush()


def _table(look: screen.Look, topic: str, record: Record) -> None:
    key = text.payload(record.key, cut=text.CUT)
    kind = text.escape(header(record, "ce_type") or header(record, "cp-kind"))
    head = f"{topic}/{record.partition}@{record.offset}  {screen.moment(look, record.timestamp_ms)}  key {key}  {kind}"
    screen.line(look, screen.paint(look, head.rstrip(), "bold"))
    tail = ""
    if instance := header(record, "ce_correlationid"):
        tail += f"      instance {text.escape(instance)}"
    if cause := header(record, "ce_causationid"):
        tail += f"   caused by {text.escape(cause)}"
    screen.line(look, f"  {text.payload(record.value, cut=None if look.form == 'wide' else 2000)}{tail}")
    if look.form == "wide":
        for name, raw in record.headers:
            screen.line(look, f"    {text.escape(name)}: {text.payload(raw, cut=text.CUT)}")


def formatted(form: str, topic: str, record: Record) -> str:
    """`-f '%t/%p@%o %k %v\\n'`."""
    values = {
        "t": topic,
        "p": str(record.partition),
        "o": str(record.offset),
        "k": text.payload(record.key),
        "v": text.payload(record.value),
        "d": str(record.timestamp_ms),
        "h": json.dumps([[n, v.decode("utf-8", "backslashreplace")] for n, v in record.headers]),
        "y": text.escape(header(record, "ce_type")),
        "%": "%",
    }
    out: list[str] = []
    letters = iter(form)
    for letter in letters:
        if letter == "%":
            name = next(letters, "%")
            if name not in values:
                raise exits.Usage(
                    "CP814", f"-f knows no %{text.escape(name)}", fix="%t %p %o %k %v %d %h %y %%"
                )
            out.append(values[name])
        elif letter == "\\":
            out.append({"n": "\n", "t": "\t", "\\": "\\"}.get(follow := next(letters, "\\"), f"\\{follow}"))
        else:
            out.append(letter)
    return "".join(out)
