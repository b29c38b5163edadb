"""`contrapas entity list | describe | get | call | clear`: entities by their key."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import click

from contrapas.cli import exits, machines, positions, records, screen, text
from contrapas.cli.lanes import open_file
from contrapas.cli.options import Run, command, verb
from contrapas.cli.verbs.acts import body_of
from contrapas.cli.verbs.describe import instance_describe
from contrapas.cli.verbs.instances import columns
from contrapas.errors import Refused

_TIMEOUT = click.option(
    "--timeout", metavar="TIME", default="30s", show_default=True, help="Exit 7 after this time."
)


entity_describe = instance_describe
"""ID is a key or `Chat/s-42`."""


def calls_of(note: machines.Note, name: str) -> list[str]:
    """Handlers and queries of an entity."""
    return [
        start.removeprefix(f"{name}.") for start in note.starts.get(name, ()) if start.startswith(f"{name}.")
    ]


def _entity(note: machines.Note, name: str) -> str:
    """The entity's registered name, however its letters are cased."""
    known = [saga for saga in note.starts if calls_of(note, saga)]
    found = next((saga for saga in known if saga.lower() == name.replace("_", "").lower()), None)
    if found is None:
        near = text.nearest(name, known)
        words = f"there is no entity '{text.escape(name)}'"
        raise Refused("CP813", words + (f", the nearest is '{near}'" if near else ""), fix=", ".join(known))
    return found


@command("list", "Entities with what they do and how many calls wait.")
@click.argument("name", required=False)
@verb(data=True, log=True)
def entity_list(run: Run, name: str | None) -> int:
    """NAME is an entity's; without it all of them."""
    now = time.time_ns() // 1_000_000
    with open_file(run.settings) as log:
        note = machines.read(log)
        only = _entity(note, name) if name else ""
        heads = [h for h in records.heads(log) if calls_of(note, h.saga) and only in ("", h.saga)]
        bodies = [records.loose_of(h.record) for h in heads]
    rows = [records.row(h, b, now) for h, b in zip(heads, bodies, strict=True)]
    for row, body in zip(rows, bodies, strict=True):
        row["waits_for"] = (
            f"{len(body.kept)} waiting" if body.kept else "" if row["state"] == "idle" else row["waits_for"]
        )
    screen.rows(run.look, rows, columns(), [])
    return exits.DONE


@command("get", "The fields of an entity, as last committed.")
@click.argument("name")
@click.argument("key")
@verb(data=True, log=True)
def entity_get(run: Run, name: str, key: str) -> int:
    """NAME is an entity's, KEY one of its keys."""
    with open_file(run.settings) as log:
        note = machines.read(log)
        body = records.body_of(records.one(log, f"{_entity(note, name)}/{key}").record)
    fields = body.root.frames[0].slots.get("self", "{}") if body.root.frames else "{}"
    value = json.loads(note.masks.value(fields))
    if run.look.form in ("json", "jsonl"):
        (screen.document if run.look.form == "json" else screen.stream)(value)
    else:
        shown = json.dumps(value, ensure_ascii=False, indent=2).splitlines()
        screen.lines(run.look, [text.escape(line, cut=None) for line in shown])
    return exits.DONE


@command("call", "Call a handler or query: arguments as name=value, or --body JSON. Prints its result.")
@click.argument("name")
@click.argument("key")
@click.argument("handler")
@click.argument("fields", nargs=-1)
@click.option("--body", metavar="JSON", help="The arguments as a JSON object; - reads it from stdin.")
@click.option("--event-id", metavar="ID", default="", help="Repeating a call under one id is safe.")
@_TIMEOUT
@verb(data=True, log=True)
def entity_call(
    run: Run,
    name: str,
    key: str,
    handler: str,
    fields: tuple[str, ...],
    body: str | None,
    event_id: str,
    timeout: str,
) -> int:
    """NAME is an entity's, KEY one of its keys. Exit 8 when the handler fails."""
    with open_file(run.settings) as log:
        note = machines.read(log)
    entity = _entity(note, name)
    known = calls_of(note, entity)
    if handler not in known:
        near = text.nearest(handler, known)
        words = f"{entity} has no handler '{text.escape(handler)}'" + (
            f", the nearest is '{near}'" if near else ""
        )
        raise Refused("CP813", words, fix=", ".join(known))
    kind = f"{entity}.{handler}"
    value = body_of(fields, body, (note.keys.get(kind, "key"), key))
    return asyncio.run(_call(run, note, f"{entity}/{key}", kind, value, event_id, timeout))


async def _call(
    run: Run, note: machines.Note, instance: str, kind: str, value: bytes, event_id: str, timeout: str
) -> int:
    from contrapas.cli.door import opened

    async with opened(run.settings) as door:
        told = await door.tell(
            instance, kind, value, "command", event_id=event_id, timeout_ms=positions.duration_ms(timeout)
        )
    if told.verdict == "declined":
        raise Refused(told.code or "CP815", f"{instance} declined: {told.reason}")
    answer: dict[str, Any] = json.loads(note.masks.message(told.outcome, told.outcome_body) or "{}")
    if told.outcome != f"{kind}.Returned":
        sys.stderr.write(
            f"{text.escape(kind)} failed: {text.escape(str(answer.get('reason', told.reason)))}\n"
        )
        return exits.ENDED_BADLY
    found = answer.get("value")
    if run.look.form in ("json", "jsonl"):
        (screen.document if run.look.form == "json" else screen.stream)(found)
    else:
        screen.line(run.look, text.escape(json.dumps(found, ensure_ascii=False), cut=None))
    return exits.DONE


@command("clear", "Remove an idle entity's record: its fields begin anew. A dry run without --yes.")
@click.argument("name")
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do it.")
@_TIMEOUT
@verb(data=True, log=True)
def entity_clear(run: Run, name: str, key: str, yes: bool, timeout: str) -> int:
    """NAME is an entity's, KEY one of its keys."""
    with open_file(run.settings) as log:
        head = records.one(log, f"{_entity(machines.read(log), name)}/{key}")
    if not yes:
        screen.lines(
            run.look,
            [f"would remove the fields of {text.escape(head.instance)}", "nothing done.  repeat with --yes"],
        )
        return exits.REFUSED
    asyncio.run(_clear(run, head.instance, positions.duration_ms(timeout)))
    screen.line(run.look, f"{text.escape(head.instance)} cleared")
    return exits.DONE


async def _clear(run: Run, instance: str, timeout_ms: int) -> None:
    from contrapas.cli.door import opened

    async with opened(run.settings) as door:
        await door.operate(instance, "clear", timeout_ms=timeout_ms)
