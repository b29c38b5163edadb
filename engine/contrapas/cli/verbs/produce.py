"""`contrapas topic produce`: append records from JSON lines or CSV, in batches, each with an id of its own."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from typing import IO

import click

from contrapas.cli import exits, rows, screen, text
from contrapas.cli.options import Run, command, verb
from contrapas.core.lane import Draft
from contrapas.errors import ContrapasError, Refused, Retriable
from contrapas.log import Log

BATCH = 500


@command(
    "produce",
    "Append records to a topic from JSON lines or CSV: a file, or stdin. A file is read whole before anything is sent.",
)
@click.argument("topic")
@click.option(
    "--file", "path", metavar="PATH", help="JSON lines, or CSV with names in its first row; - is stdin."
)
@click.option("--csv/--jsonl", "as_csv", default=None, help="Form of the input; default by the file's name.")
@click.option("--key", required=True, metavar="COLUMN", help="Column of the key.")
@click.option(
    "--type", "kind", metavar="COLUMN", default="", help="Column of the event's type, or =Name for all."
)
@click.option(
    "--time", "time_column", metavar="COLUMN", default="", help="Column of the event's time (RFC 3339)."
)
@click.option(
    "--id",
    "ident",
    metavar="COLUMN",
    default="",
    help="Column of the event's id; default: file name and line.",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=COLUMN[:int]",
    help="Only these fields, renamed and typed: int number bool json.",
)
@verb(log=True)
def topic_produce(
    run: Run,
    topic: str,
    path: str | None,
    as_csv: bool | None,
    key: str,
    kind: str,
    time_column: str,
    ident: str,
    fields: tuple[str, ...],
) -> int:
    """Repeating it changes nothing: ids are derived from the file."""
    columns = rows.Columns(key, kind, time_column, ident, tuple(rows.field(one) for one in fields))
    name = "stdin" if path in (None, "-") else str(path).replace("\\", "/").rpartition("/")[2]
    form = "csv" if as_csv or (as_csv is None and name.lower().endswith(".csv")) else "jsonl"
    total: int | None = None
    if name != "stdin":
        with _opened(str(path)) as source:
            total = sum(1 for _ in rows.drafts(rows.read(source, form, name), topic, columns, name))
    with _opened(None if name == "stdin" else str(path)) as source:
        drafts = rows.drafts(rows.read(source, form, name), topic, columns, name)
        return asyncio.run(_send(run, topic, drafts, total))


def _opened(path: str | None) -> IO[bytes]:
    if path is None:
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        raise Refused(
            "CP813", f"{text.escape(path)} cannot be read: {error.strerror}", fix="name a file that exists"
        ) from None


async def _send(run: Run, topic: str, drafts: Iterator[Draft], total: int | None) -> int:
    from contrapas.cli.door import seam

    sent = 0
    async with seam(run.settings) as (log, namespace):
        if await log.topic(topic) is None:
            raise Refused(
                "CP505",
                f"there is no topic '{text.escape(topic)}' in {namespace}",
                fix="contrapas topic list; topics are made when an app that names them first starts",
            )
        progress = screen.Progress(f"produce {topic}", total)
        try:
            while batch := list(itertools.islice(drafts, BATCH)):
                await _publish(log, batch)
                sent += len(batch)
                progress.at(sent)
        except ContrapasError:
            screen.note(f"{text.count(sent)} records were sent before")
            raise
        progress.done(f"{text.plural(sent, 'record')} to {topic}")
    return exits.DONE


async def _publish(log: Log, batch: list[Draft]) -> None:
    for attempt in range(6):
        try:
            await log.publish(batch)
            return
        except Retriable:
            await asyncio.sleep(0.05 * 2**attempt)
    await log.publish(batch)
