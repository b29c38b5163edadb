"""`contrapas ls`, `contrapas instance list`: instances with state, status and what they wait for."""

from __future__ import annotations

import time

import click

from contrapas.cli import exits, records, screen, text
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
    with open_file(run.settings) as log:
        found = list(records.heads(log))
    if condition or selector:
        found = _chosen(found, selector, condition, now)
    found.sort(key=lambda h: h.record.timestamp_ms, reverse=True)
    table = run.look.form in ("table", "wide")
    most = limit if limit is not None else (LIMIT if table else len(found))
    light = run.look.form == "id"
    shown = [records.row(h, None if light else records.loose_of(h.record), now) for h in found[:most]]
    twice = (
        {h.key for h in found[:most] if sum(other.key == h.key for other in found[:most]) > 1}
        if len(found) > 1
        else set[str]()
    )
    for one in shown:
        if one["key"] in twice:
            one["id"] = one["instance"]
    screen.rows(run.look, shown, _columns(), [("VERSION", _version), ("PLACE", _place)])
    if table and found:
        screen.line(
            run.look,
            f"{len(shown)} of {text.count(len(found))}     {records.tally([h.status for h in found])}",
        )
    return exits.DONE


def _chosen(
    found: list[records.Head], selector: str | None, condition: str | None, now: int
) -> list[records.Head]:
    from contrapas.cli import where

    conditions = where.parse(condition, records.FIELDS) if condition else ()
    bodies = records.needs_body([one.field for one in conditions])
    found = [head for head in found if selector is None or where.selected(selector, head.saga, head.key)]
    return [
        h
        for h in found
        if where.holds(conditions, records.fields(h, records.loose_of(h.record) if bodies else None, now))
    ]


def _columns() -> list[screen.Column]:
    return [
        ("ID", lambda r: text.escape(r["id"], cut=40)),
        ("SAGA", lambda r: text.escape(r["saga"], cut=40)),
        ("STATE", lambda r: text.escape(r["state"], cut=40)),
        ("STATUS", lambda r: r["status"]),
        ("SINCE", lambda r: text.duration(r["since_ms"])),
        ("TRIES", lambda r: r["tries"] or "–"),
        ("WAITS FOR", lambda r: text.escape(r["waits_for"], cut=80)),
    ]


def _version(row: screen.Row) -> str:
    return str(row["version"])


def _place(row: screen.Row) -> str:
    return f"{row['partition']}@{row['offset']}"
