"""`contrapas instance start | wait | signal | cancel | kill | retry`: what changes an instance, or waits for it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

from contrapas.cli import exits, fail, machines, positions, records, screen, text, where
from contrapas.cli.lanes import open_file
from contrapas.cli.options import Run, command, verb
from contrapas.cli.verbs.describe import text_of
from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.errors import ContrapasError, Refused, Unreachable

PATIENCE_MS = 1000
"""How long a start or signal waits for the owner's answer when nobody asked it to."""


def body_of(given: Sequence[str], text_body: str | None, key: tuple[str, str] | None) -> bytes:
    """A body from `name=value` pairs or JSON; `key` fills the key field when it is absent."""
    values: dict[str, Any] = {}
    if text_body is not None:
        raw = sys.stdin.buffer.read() if text_body == "-" else text_body.encode("utf-8", "surrogateescape")
        from contrapas.codec.strict import load_json

        load_json(raw)  # refuses what Python's own reader would accept
        values = text.object_of(raw)
        if not raw.lstrip().startswith(b"{"):
            raise exits.Usage("CP403", "the body is no JSON object", fix='--body \'{"order_id":"o-9"}\'')
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise exits.Usage("CP814", f"'{text.escape(pair)}' is no field=value", fix="by=ops@example.com")
        values[name] = value if key is not None and name == key[0] else _value(value)
    if key is not None and key[0]:
        values.setdefault(*key)
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def _value(raw: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def _timeout(given: str | None) -> int:
    return PATIENCE_MS if given is None else positions.duration_ms(given)


@command("start", "Start an instance of SAGA from its first event: fields as name=value, or --body JSON.")
@click.argument("saga")
@click.argument("fields", nargs=-1)
@click.option("--body", metavar="JSON", help="The event as JSON; - reads it from stdin.")
@click.option("--type", "kind", metavar="EVENT", help="Its type, where the saga has several starts.")
@click.option("--key", metavar="KEY", help="The saga's key, where the type does not say which field it is.")
@click.option("--event-id", metavar="ID", default="", help="Repeating a start under one id is safe.")
@click.option("--timeout", metavar="TIME", help="Wait so long for the owner's answer, else exit 7.")
@verb(data=True, log=True)
def instance_start(
    run: Run,
    saga: str,
    fields: tuple[str, ...],
    body: str | None,
    kind: str | None,
    key: str | None,
    event_id: str,
    timeout: str | None,
) -> int:
    """Accepted once the log has it; with --timeout once the owner has answered."""
    with open_file(run.settings) as log:
        note = machines.read(log)
    chosen = _start_type(note, saga, kind)
    field = note.keys.get(chosen, "")
    value = body_of(fields, body, (field, key) if field and key else None)
    found = key or str(json.loads(value).get(field, "")) if field or key else ""
    if not found:
        raise exits.Usage("CP413", f"the key of {chosen} is not known", fix="--key o-9")
    return asyncio.run(_tell(run, f"{saga}/{found}", chosen, value, "start", event_id, timeout))


def _start_type(note: machines.Note, saga: str, kind: str | None) -> str:
    starts = note.starts.get(saga, ())
    if kind:
        if note.starts and kind not in starts:
            raise exits.Usage(
                "CP402",
                f"{text.escape(kind)} does not start {text.escape(saga)}",
                fix=", ".join(starts) or "contrapas topic list",
            )
        return kind
    if len(starts) == 1:
        return starts[0]
    if starts:
        raise exits.Usage("CP814", f"{saga} starts by one of {', '.join(starts)}", fix=f"--type {starts[0]}")
    near = text.nearest(saga, list(note.starts))
    if note.starts:
        raise Refused(
            "CP813",
            f"there is no saga '{text.escape(saga)}'" + (f", the nearest is '{near}'" if near else ""),
            fix=", ".join(note.starts),
        )
    raise exits.Usage(
        "CP814",
        "no worker has run on this log yet, so the start of the saga is not known",
        fix="--type EVENT --key KEY",
    )


@command("signal", "Send an event to one instance: its type, then fields as name=value, or --body JSON.")
@click.argument("id")
@click.argument("event")
@click.argument("fields", nargs=-1)
@click.option("--body", metavar="JSON", help="The event as JSON; - reads it from stdin.")
@click.option("--event-id", metavar="ID", default="", help="Repeating a signal under one id is safe.")
@click.option("--timeout", metavar="TIME", help="Wait so long for the owner's answer, else exit 7.")
@verb(data=True, log=True)
def instance_signal(
    run: Run,
    id: str,
    event: str,
    fields: tuple[str, ...],
    body: str | None,
    event_id: str,
    timeout: str | None,
) -> int:
    """ID is a key or an instance."""
    with open_file(run.settings) as log:
        head = records.one(log, id)
        note = machines.read(log)
    if note.keys and event not in note.keys:
        near = text.nearest(event, list(note.keys))
        raise exits.Usage(
            "CP402",
            f"there is no event '{text.escape(event)}'" + (f", the nearest is '{near}'" if near else ""),
        )
    value = body_of(fields, body, (note.keys.get(event, ""), head.key))
    return asyncio.run(_tell(run, head.instance, event, value, "signal", event_id, timeout))


async def _tell(
    run: Run, instance: str, kind: str, value: bytes, verb: str, event_id: str, timeout: str | None
) -> int:
    from contrapas.cli.door import opened

    async with opened(run.settings) as door:
        ident = event_id or _drawn()
        try:
            told = await door.tell(instance, kind, value, verb, event_id=ident, timeout_ms=_timeout(timeout))
        except Unreachable as late:
            if late.code != "CP507" or timeout is not None:
                late.fix = f"contrapas instance describe {instance}      (sending it again is safe: --event-id {ident})"
                raise
            return _said(run, instance, "accepted", "", "", ident)
    if told.verdict == "no-op" and told.ended:
        raise Refused(
            "CP815",
            f"{instance} has ended {told.outcome or told.status}: {kind} changed nothing",
            fix=f"contrapas instance describe {instance}",
        )
    return _said(run, instance, told.verdict or "accepted", told.status, told.state, ident)


def _drawn() -> str:
    import uuid

    return uuid.uuid4().hex


def _said(run: Run, instance: str, verdict: str, status: str, state: str, ident: str) -> int:
    if run.look.form in ("json", "jsonl"):
        value = {
            "instance": instance,
            "verdict": verdict,
            "status": status,
            "state": state,
            "event_id": ident,
        }
        (screen.document if run.look.form == "json" else screen.stream)(value)
    elif run.look.form == "id":
        screen.line(run.look, instance)
    else:
        where_now = f"   {status}" + (f" in {state}" if state else "") if status else ""
        screen.line(run.look, f"{instance.partition('/')[2]}  {verdict}{where_now}   {instance}")
    return exits.DONE


@command("wait", "Wait until an instance has ended; exit 8 when it failed, was compensated or is parked.")
@click.argument("id")
@click.option("--timeout", metavar="TIME", default="60s", show_default=True, help="Exit 7 after this time.")
@verb(data=True, log=True)
def instance_wait(run: Run, id: str, timeout: str) -> int:
    """ID is a key or an instance; it may not have started yet."""
    until = time.monotonic() + positions.duration_ms(timeout) / 1000
    with open_file(run.settings) as log:
        seen = -1
        head: records.Head | None = None
        while True:
            if (version := log.version()) != seen:
                seen = version
                try:
                    head = records.one(log, id)
                except Refused as error:
                    if error.code != "CP813":
                        raise
                if head is not None and head.status in (*ENDED, "parked"):
                    break
            if time.monotonic() >= until:
                if head is None:
                    raise Refused("CP813", f"there is no instance '{text.escape(id)}'", fix="contrapas ls")
                raise Unreachable(
                    "CP507",
                    f"{head.key} has not ended within {timeout}: it is {head.status} in {head.state}",
                    fix=f"contrapas instance describe {head.key}",
                )
            time.sleep(0.02)
        body = records.body_of(head.record)
        masks = machines.read(log).masks
    good = body.status == "done"
    if run.look.form in ("json", "jsonl"):
        row = records.row(head, body, time.time_ns() // 1_000_000) | {
            "outcome_body": json.loads(masks.message(body.outcome, body.outcome_body) or "null")
        }
        (screen.document if run.look.form == "json" else screen.stream)(row)
    elif body.status == "parked" and body.parked is not None:
        screen.line(run.look, f"{head.key} is parked: {body.parked.code} {text.escape(body.parked.reason)}")
    else:
        screen.line(run.look, f"{head.key} ended {body.outcome or text.escape(body.error)} ({body.status})")
    return exits.DONE if good else exits.ENDED_BADLY


_SELECT = [
    click.argument("selector"),
    click.option("--where", "condition", metavar="EXPR", help="""'state=ReserveStock and age>10m'"""),
    click.option("--reason", default="", help="Why; it stands in the record."),
    click.option("--timeout", metavar="TIME", default="10s", show_default=True, help="For each instance."),
]


@command(
    "cancel",
    "Throw Cancelled at the current await: handlers run, then what is left unwinds. A dry run without --yes.",
)
@_SELECT[0]
@_SELECT[1]
@_SELECT[2]
@_SELECT[3]
@click.option("--yes", is_flag=True, help="Do it.")
@verb(data=True, log=True)
def instance_cancel(
    run: Run, selector: str, condition: str | None, reason: str, timeout: str, yes: bool
) -> int:
    """SELECTOR is a key, SAGA/KEY or a glob."""
    return _operate(run, "cancel", selector, condition, reason, timeout, yes)


@command("kill", "Run no line of the saga any more and unwind its undos. A dry run without --yes.")
@_SELECT[0]
@_SELECT[1]
@_SELECT[2]
@_SELECT[3]
@click.option("--yes", is_flag=True, help="Do it.")
@verb(data=True, log=True)
def instance_kill(
    run: Run, selector: str, condition: str | None, reason: str, timeout: str, yes: bool
) -> int:
    """SELECTOR is a key, SAGA/KEY or a glob."""
    return _operate(run, "kill", selector, condition, reason, timeout, yes)


@command("retry", "Apply the parked input or undo again, or make the next attempt at once.")
@_SELECT[0]
@_SELECT[1]
@_SELECT[2]
@_SELECT[3]
@click.option("--now", is_flag=True, help="Do not wait for the next attempt's time.")
@verb(data=True, log=True)
def instance_retry(
    run: Run, selector: str, condition: str | None, reason: str, timeout: str, now: bool
) -> int:
    """SELECTOR is a key, SAGA/KEY or a glob."""
    return _operate(run, "retry", selector, condition, reason, timeout, True)


def _operate(
    run: Run, verb: str, selector: str, condition: str | None, reason: str, timeout: str, yes: bool
) -> int:
    now = time.time_ns() // 1_000_000
    conditions = where.parse(condition, records.FIELDS) if condition else ()
    with open_file(run.settings) as log:
        if condition is None and not any(sign in selector for sign in "*?["):
            heads = [records.one(log, selector)]
        else:
            heads = [h for h in records.heads(log) if where.selected(selector, h.saga, h.key)]
        bodies = {h.instance: records.body_of(h.record) for h in heads}
        note = machines.read(log)
    heads = [h for h in heads if where.holds(conditions, records.fields(h, bodies[h.instance], now))]
    wanted = [h for h in heads if _takes(verb, bodies[h.instance])]
    if not wanted:
        named = heads[0] if len(heads) == 1 else None
        state = (
            f"{named.key} is {named.status}" if named else f"none of {len(heads)} selected instances takes it"
        )
        raise Refused("CP815", f"nothing to {verb}: {state}", fix="contrapas ls")
    plan = _plan(verb, wanted, bodies, note)
    if not yes:
        screen.lines(run.look, [plan, "nothing done.  repeat with --yes"])
        return exits.REFUSED
    return asyncio.run(_do(run, verb, wanted, reason, positions.duration_ms(timeout)))


def _takes(verb: str, body: InstanceRecord) -> bool:
    if verb == "retry":
        return body.status in ("parked", "retrying") or any(p.retry_at is not None for p in body.operations())
    return body.status not in ENDED


def _plan(
    verb: str, heads: Sequence[records.Head], bodies: Mapping[str, InstanceRecord], note: machines.Note
) -> str:
    undos: Counter[str] = Counter()
    past = 0
    for head in heads:
        body = bodies[head.instance]
        if body.pivoted:
            past += 1
            continue
        names = dict(
            next((note.graphs[f.graph].undos for f in body.root.frames if f.graph in note.graphs), ())
        )
        for entry in body.root.undo:
            if entry.status in ("issued", "done", "unknown"):
                undos[names.get(entry.label, "") or text_of(entry).partition("(")[0] or entry.label] += 1
    first = ", ".join(h.key for h in heads[:3])
    words = f"would {verb} {text.plural(len(heads), 'instance')} (first: {text.escape(first)})"
    if undos:
        words += f" and run {text.plural(sum(undos.values()), 'undo step')}: {', '.join(f'{n} ×{c}' for n, c in undos.most_common())}"
    if past and verb != "retry":
        words += f"; {past} past the point of no return will refuse"
    return words


async def _do(run: Run, verb: str, heads: Sequence[records.Head], reason: str, timeout_ms: int) -> int:
    from contrapas.cli.door import opened

    worst = exits.DONE
    done: list[dict[str, Any]] = []
    async with opened(run.settings) as door:
        progress = screen.Progress(verb, len(heads))
        for number, head in enumerate(heads, 1):
            try:
                told = await door.operate(head.instance, verb, reason=reason, timeout_ms=timeout_ms)
            except ContrapasError as error:
                worst = max(worst, exits.exit_of(error))
                fail.write(fail.lines(error)[:2])
                done.append(
                    {
                        "instance": head.instance,
                        "verdict": "refused",
                        "code": error.code,
                        "status": head.status,
                        "state": head.state,
                    }
                )
                continue
            done.append(
                {
                    "instance": told.instance or head.instance,
                    "verdict": told.verdict,
                    "code": told.code,
                    "status": told.status,
                    "state": told.state,
                }
            )
            progress.at(number)
    table: list[screen.Column] = [
        ("INSTANCE", lambda r: text.escape(r["instance"])),
        (verb.upper(), lambda r: r["verdict"]),
        ("STATUS", lambda r: r["status"]),
        ("STATE", lambda r: text.escape(r["state"]) or "–"),
    ]
    screen.rows(run.look, done, table, id="instance")
    return worst
