"""`contrapas ls`, `contrapas instance list`: instances with state, status and what they wait for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

import click

from contrapas.cli import exits, machines, records, screen, text
from contrapas.cli.lanes import open_file
from contrapas.cli.options import Run, command, verb

LIMIT = 100
_COLORS = {"parked": "red", "failed": "red", "retrying": "yellow", "unwinding": "yellow", "done": "green"}


@command("list", "Instances with their state, status and what they wait for; newest change first.")
@click.argument("selector", required=False)
@click.option(
    "--where",
    "condition",
    metavar="EXPR",
    help="""'status!=done and state=ReserveStock and age>1h and error~"503"'""",
)
@click.option("-n", "limit", type=click.IntRange(min=1), help=f"At most so many (a table: {LIMIT}).")
@verb(data=True, log=True)
def instance_list(run: Run, selector: str | None, condition: str | None, limit: int | None) -> int:
    """One row per instance. SELECTOR is a key, SAGA/KEY, or a glob over either."""
    now = time.time_ns() // 1_000_000
    chosen = _chooser(selector, condition, now) if condition or selector else _all
    with open_file(run.settings) as log:
        found = chosen(records.heads(log))
        limits = machines.limits(log)
        found.sort(key=lambda h: h.record.timestamp_ms, reverse=True)
        table = run.look.form in ("table", "wide")
        most = limit if limit is not None else (LIMIT if table else len(found))
        light = run.look.form == "id"
        bodies = [None if light else records.loose_of(h.record) for h in found[:most]]
        items = records.items_of(log) if any(b is not None and records.mapping(b) for b in bodies) else None
    shown = [records.row(h, b, now, limits, items) for h, b in zip(found, bodies, strict=False)]
    keys = Counter(head.key for head in found[:most])
    for one in shown:
        if keys[one["key"]] > 1:
            one["id"] = one["instance"]
    screen.rows(run.look, shown, columns(), [("VERSION", _version), ("PLACE", _place)])
    if table and found:
        screen.line(
            run.look,
            f"{len(shown)} of {text.count(len(found))}     {records.tally([h.status for h in found])}",
        )
    return exits.DONE


def _all(heads: Iterable[records.Head]) -> list[records.Head]:
    return list(heads)


def _chooser(
    selector: str | None, condition: str | None, now: int
) -> Callable[[Iterable[records.Head]], list[records.Head]]:
    from contrapas.cli import where

    conditions = where.parse(condition, records.FIELDS) if condition else ()
    bodies = records.needs_body([one.field for one in conditions])

    def chosen(head: records.Head) -> bool:
        if selector is not None and not where.selected(selector, head.saga, head.key):
            return False
        body = records.loose_of(head.record) if bodies else None
        return where.holds(conditions, records.fields(head, body, now))

    return lambda heads: [head for head in heads if chosen(head)]


def columns() -> list[screen.Column]:
    """Of a list of instances."""
    return [
        ("ID", lambda r: text.escape(r["id"], cut=40)),
        ("SAGA", lambda r: text.escape(r["saga"], cut=40)),
        ("STATE", lambda r: text.escape(r["state"], cut=40)),
        ("STATUS", lambda r: r["status"]),
        ("SINCE", lambda r: text.duration(r["since_ms"])),
        ("TRIES", lambda r: r["tries"] or "–"),
        ("WAITS FOR", lambda r: text.escape(_waiting(r), cut=80)),
    ]


def _waiting(row: screen.Row) -> str:
    """What it waits for, and what the saga says to that."""
    return f"{row['waits_for']}   {row['note']}".strip()


def _version(row: screen.Row) -> str:
    return str(row["version"])


def _place(row: screen.Row) -> str:
    return f"{row['partition']}@{row['offset']}"
