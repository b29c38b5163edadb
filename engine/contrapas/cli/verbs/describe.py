"""`contrapas instance describe` and `instance trace`: one instance, whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from contrapas.cli import exits, flying, machines, records, screen, text, travel
from contrapas.cli.hint import hint
from contrapas.cli.lanes import LogFile, open_file
from contrapas.cli.mask import NONE, Masks
from contrapas.cli.options import Run, command, verb
from contrapas.core.envelope import ENDED, InstanceRecord, UndoEntry
from contrapas.core.lane import Record


@command(
    "describe",
    "Everything about one instance: its path, what it waits for, its locals, its undos, why it does not move.",
)
@click.argument("id")
@verb(data=True, log=True)
def instance_describe(run: Run, id: str) -> int:
    """ID is a key (o-9) or an instance (place_order/o-9)."""
    now = time.time_ns() // 1_000_000
    with open_file(run.settings) as log:
        head = records.one(log, id)
        body = records.body_of(head.record)
        past = records.history(log, head) or [body]
        note = machines.read(log)
        items = records.items_of(log) if records.mapping(body) else None
        why = hint(log, head, body, note, now)
        places = sent_places(log, travel.stages(past))
        floor = log.parts()[head.record.partition].horizon
        name = f"{log.namespace}.log"
    if run.look.form in ("json", "jsonl"):
        (screen.document if run.look.form == "json" else screen.stream)(
            _data(head, body, past, why, places, now, note.masks, items)
        )
    elif run.look.form == "id":
        screen.line(run.look, head.instance)
    elif run.look.form == "raw":
        click.get_binary_stream("stdout").write(head.record.value or b"")
    else:
        screen.lines(
            run.look,
            _page(
                run.look,
                head,
                body,
                past,
                note,
                why,
                places,
                f"{name}/{head.record.partition}",
                floor,
                now,
                items,
            ),
        )
    return exits.DONE


def _page(
    look: screen.Look,
    head: records.Head,
    body: InstanceRecord,
    past: Sequence[InstanceRecord],
    note: machines.Note,
    why: str,
    places: dict[str, str],
    place: str,
    floor: int,
    now: int,
    items: records.Items | None = None,
) -> list[str]:
    graph = (
        body.root.frames[0].graph
        if body.root.frames
        else next((r.root.frames[0].graph for r in reversed(past) if r.root.frames), "")
    )
    where = f" in {body.state}" if body.status not in ENDED and body.state else ""
    began = screen.moment(look, body.started_at, now)
    since = text.duration(max(0, now - body.at))
    by = f" by {past[0].cause.type}" if past[0].version == 1 else ""
    out = [
        f"{text.escape(head.key)}   {body.saga}@{graph}   {body.status}{text.escape(where)}   {since}   started {began}{by}",
        "",
    ]
    out += [f"  {line}" for line in path_lines(look, body, past, note, graph)]
    rows = [
        *_waits(look, body, note, places, now, items),
        *flying.rows(look, body, now),
        *_holds(look, body, note, graph, now),
    ]
    size = text.count(len(head.record.value or b""))
    rows.append(
        (
            "record",
            f"{place}@{head.record.offset}   version {body.version}   epoch {body.epoch}   {size} B   history floor {floor}",
        )
    )
    if why:
        rows.append(("hint", why))
    last = ""
    for name, words in rows:
        out.append(f"  {(name if name != last else '').ljust(11)} {words}".rstrip())
        last = name
    return out


def _waits(
    look: screen.Look,
    body: InstanceRecord,
    note: machines.Note,
    places: dict[str, str],
    now: int,
    items: records.Items | None = None,
) -> Iterator[tuple[str, str]]:
    """What it waits for, and what was sent for it."""
    for pending in body.operations():
        limit = f"   deadline {screen.moment(look, pending.deadline, now)}" if pending.deadline else ""
        at = f" correlate {pending.correlate}" if pending.correlate else f" key {body.key}"
        tries = f"   attempt {records.attempts_of(pending, note.attempts)}" if pending.attempt > 1 else ""
        retry = f"   next try {screen.moment(look, pending.retry_at, now)}" if pending.retry_at else ""
        many = f"   {records.items_text(pending, items or {})}" if pending.kind == "map" else ""
        if pending.kind in flying.MEETS:
            yield "waits for", text.escape(f"{flying.waited_for(pending)}{limit}")
            continue
        yield (
            "waits for",
            text.escape(f"{' | '.join(pending.types) or pending.name}{many}  {at}{limit}{tries}{retry}"),
        )
        if pending.error:
            yield "last error", text.escape(pending.error)
        if pending.key in places:
            yield (
                "sent",
                f"{pending.name}   {places[pending.key]}   {screen.moment(look, pending.since or None, now)}",
            )


def _holds(
    look: screen.Look, body: InstanceRecord, note: machines.Note, graph: str, now: int
) -> Iterator[tuple[str, str]]:
    """What it holds: locals, undos, why it stands, how it ended."""
    for frame in body.root.frames:
        for name, value in frame.slots.items():
            yield "locals", f"{name} = {text.escape(note.masks.value(value))}"
    names = dict(note.graphs[graph].undos) if graph in note.graphs else {}
    standing = [e for e in reversed(body.root.undo) if e.status in ("issued", "done", "unknown")]
    if standing and body.status not in ENDED and not body.pivoted:
        yield "would undo", "  then  ".join(text_of(e, note.masks, names) for e in standing)
    for entry in body.owed:
        yield (
            "owes",
            f"{text_of(entry, note.masks, names)}   until {screen.moment(look, entry.owed_until, now)}",
        )
    yield from _says(body, note)
    if body.pivoted and body.status not in ENDED:
        yield "past", "the point of no return: nothing is undone any more"
    if body.parked is not None:
        yield "parked", f"{body.parked.code} {text.escape(body.parked.reason)}"
        for line in (body.parked.error, *body.parked.trace.splitlines()[-6:]):
            if line:
                yield "", text.escape(line)
    if body.outcome:
        yield "outcome", f"{body.outcome} {text.escape(note.masks.message(body.outcome, body.outcome_body))}"
    elif body.error:
        yield "error", text.escape(body.error)


def _says(body: InstanceRecord, note: machines.Note) -> Iterator[tuple[str, str]]:
    """What it has to do with others: its view and note, who waits for an answer, what starts or leaves later."""
    talk = body.talk
    if talk is None:
        return
    if talk.note:
        yield "note", text.escape(talk.note)
    if talk.view:
        yield "shows", f"{talk.view_type} {text.escape(note.masks.value(talk.view))}"
    for ask in talk.asked:
        who = ask.instance or ("a door" if ask.to else "nobody")
        yield "asked", f"{ask.type}   id {text.escape(ask.id)}   by {text.escape(who)}"
    for tell in talk.tells:
        yield "tells", f"{tell.type} {text.escape(tell.key)}   later"
    for cause in talk.next_start:
        yield "then", f"a new run by {cause.type} {text.escape(cause.id)}"


def text_of(entry: UndoEntry, masks: Masks = NONE, names: Mapping[str, str] | None = None) -> str:
    """`RefundCard(order_id=…)`, or `undo(ChargeCard)` where it is computed when it runs."""
    name = (names or {}).get(entry.label, "") or (entry.name if entry.kind != "group" else entry.label)
    if entry.body and entry.kind == "command":
        inner = ", ".join(
            f"{k}={v!r}" for k, v in text.object_of(masks.message(entry.name, entry.body)).items()
        )
        return text.escape(f"{name}({inner})")
    waits = " (when its reply is known)" if entry.needs_reply and entry.status == "unknown" else ""
    return text.escape(f"{name}{waits}")


def path_lines(
    look: screen.Look, body: InstanceRecord, past: Sequence[InstanceRecord], note: machines.Note, graph: str
) -> list[str]:
    """The travelled path over the machine; without the machine, the path alone."""
    taken = [(s.label, travel.CLASSES.get(s.mark, "failed")) for s in travel.stages(past)]
    known = note.graphs.get(graph)
    if known is not None and taken:
        from contrapas.draw.text import path

        return path(
            known,
            taken,
            outcome=(body.outcome or body.status) if body.status in ENDED else "",
            ascii_only=look.ascii,
        ).splitlines()
    line = "START" + "".join(f" ─▶ {label} {_SIGNS.get(mark, mark)}" for label, mark in taken)
    return [line + (f" ─▶ {body.outcome or body.status}" if body.status in ENDED else "")]


_SIGNS = {"done": "✓", "failed": "✗", "undone": "↩", "now": "●"}


def sent_places(log: LogFile, stages: Sequence[travel.Stage]) -> dict[str, str]:
    """Where each command of an instance lies on its topic, by idempotency key."""
    found: dict[str, str] = {}
    topics = {one.name: one for one in log.topics()}
    for stage in stages:
        if stage.message is None or (topic := topics.get(stage.message.to)) is None:
            continue
        from contrapas.core.partition import partition

        number = partition(stage.message.key, topic.partitions)
        first = log.at_time(topic, number, stage.began_ms)
        if first is None:
            continue
        last = min(topic.heads[number], first + 5000)
        for record in log.read(topic, number, first, last):
            if record.key == stage.message.key and _id(record) == stage.message.id:
                found[stage.key] = f"{topic.name}/{number}@{record.offset}"
                break
    return found


def _id(record: Record) -> str:
    return next((v.decode("utf-8", "replace") for n, v in record.headers if n == "ce_id"), "")


def _data(
    head: records.Head,
    body: InstanceRecord,
    past: Sequence[InstanceRecord],
    why: str,
    places: dict[str, str],
    now: int,
    masks: Masks,
    items: records.Items | None = None,
) -> dict[str, Any]:
    row = records.row(head, body, now, items=items)
    row |= {
        "run": body.run,
        "mode": body.mode,
        "epoch": body.epoch,
        "ended_ms": body.ended_at,
        "pivoted": body.pivoted,
        "outcome_body": _json(masks.message(body.outcome, body.outcome_body)),
        "view_type": body.talk.view_type if body.talk else None,
        "view": _json(masks.value(body.talk.view)) if body.talk and body.talk.view else None,
        "note": body.talk.note if body.talk else "",
        "asked": [
            {"id": a.id, "type": a.type, "by": a.instance} for a in (body.talk.asked if body.talk else ())
        ],
        "locals": {
            name: _json(masks.value(value))
            for frame in body.root.frames
            for name, value in frame.slots.items()
        },
        "undo": [
            {"label": e.label, "status": e.status, "undo": text_of(e, masks)}
            for e in (*body.root.undo, *body.owed)
        ],
        "parked": None
        if body.parked is None
        else {"code": body.parked.code, "reason": body.parked.reason, "error": body.parked.error},
        "steps": [step_data(s, places) for s in travel.stages(past)],
        "hint": why,
    }
    return row


def step_data(stage: travel.Stage, places: dict[str, str]) -> dict[str, Any]:
    """One step as JSON (`instance_trace.json`)."""
    words = {
        travel.OK: "done",
        travel.FAILED: "failed",
        travel.UNDONE: "undone",
        travel.UNKNOWN: "unknown",
        travel.OPEN: "open",
    }
    return {
        "label": stage.label,
        "name": stage.name,
        "kind": stage.kind,
        "status": words.get(stage.mark, "dropped"),
        "began_ms": stage.began_ms,
        "ended_ms": stage.ended_ms,
        "attempts": stage.attempts,
        "answer": stage.answer,
        "sent": places.get(stage.key, ""),
        "answered": stage.place,
        "key": stage.key,
    }


def _json(value: str) -> Any:
    try:
        return json.loads(value) if value else None
    except ValueError:
        return value


@command("trace", "The steps an instance has taken, with their times and places.")
@click.argument("id")
@click.option("-F", "--follow", is_flag=True, help="Go on until it has ended.")
@verb(data=True, log=True)
def instance_trace(run: Run, id: str, follow: bool) -> int:
    """ID is a key or an instance."""
    with open_file(run.settings) as log:
        while True:
            head = records.one(log, id)
            body = records.body_of(head.record)
            if not follow or body.status in (*ENDED, "parked"):
                break
            time.sleep(0.1)
        past = records.history(log, head) or [body]
        stages = travel.stages(past)
        places = sent_places(log, stages)
        cut = past[0].version > 1
        masks = machines.read(log).masks
        floor = log.parts()[head.record.partition].horizon
    if run.look.form in ("json", "jsonl"):
        value = {
            "instance": head.instance,
            "status": body.status,
            "outcome": body.outcome or None,
            "steps": [step_data(s, places) for s in stages],
        }
        (screen.document if run.look.form == "json" else screen.stream)(value)
        return exits.DONE
    took = text.duration((body.ended_at or time.time_ns() // 1_000_000) - body.started_at)
    ended = (
        f"{body.outcome or body.status} ({body.status})"
        if body.status in ENDED
        else f"{body.status} in {body.state}"
    )
    out = [f"{text.escape(head.key)}  {body.saga}   {ended}   {took}"]
    out += tree(stages, places, body, masks)
    if cut:
        out.append(f"(what came before lies below the history floor {floor})")
    trace = next((dict(r.cause.headers).get("traceparent", b"").decode("ascii", "replace") for r in past), "")
    if trace.count("-") == 3:
        out.append(f"trace {text.escape(trace.split('-')[1])}        -F to follow · -o json for spans")
    screen.lines(run.look, out)
    return exits.DONE


def tree(
    stages: Sequence[travel.Stage], places: dict[str, str], body: InstanceRecord, masks: Masks = NONE
) -> list[str]:
    """The steps as a tree, one line each, and the outcome."""
    lines: list[tuple[str, ...]] = []
    for stage in stages:
        took = text.duration(stage.took_ms) if stage.took_ms is not None else "…"
        way = places.get(stage.key, "")
        if stage.place:
            way = f"{way} → {stage.place}" if way else stage.place
        answer = stage.answer or (stage.note if stage.mark in (travel.UNKNOWN, travel.FAILED) else "")
        tries = f"attempt {stage.attempts}" if stage.attempts > 1 else ""
        lines.append(
            (
                stage.mark,
                stage.label,
                took,
                way,
                text.escape("  ".join(p for p in (answer, tries) if p), cut=80),
            )
        )
    if body.status in ENDED:
        lines.append(
            (
                "▣",
                body.outcome or body.status,
                "",
                "",
                text.escape(masks.message(body.outcome, body.outcome_body) or body.error, cut=80),
            )
        )
    elif body.parked is not None:
        lines.append(("▣", f"parked {body.parked.code}", "", "", text.escape(body.parked.reason, cut=80)))
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(4)]
    out: list[str] = []
    for number, (mark, label, took, way, answer) in enumerate(lines):
        branch = "└─" if number == len(lines) - 1 else "├─"
        out.append(
            f"{branch} {mark} {label.ljust(widths[1])}  {took.rjust(widths[2])}   {way.ljust(widths[3])}  {answer}".rstrip()
        )
    return out
