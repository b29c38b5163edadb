"""`contrapas topic create`: what a namespace's log and its topics need on a server or in a file; made only with `--apply`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import click

from contrapas.cli import exits, screen, text
from contrapas.cli.lanes import file_of, is_far, url_of
from contrapas.cli.options import Run, command, verb
from contrapas.errors import Refused
from contrapas.log import Plan
from contrapas.runtime.open import connector_of, shown

TOPIC_PARTITIONS = 8


@command("create", "What a namespace's log and the named topics still need; made with --apply.")
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@click.option(
    "--partitions", type=click.IntRange(1, 4096), help="Of the log and of the topics, when they are made."
)
@click.option(
    "--plan", "show", is_flag=True, help="Show what would be made: also without it, unless --apply is there."
)
@click.option("--dev", is_flag=True, help="For development: one replica is enough.")
@click.option("--apply", "do", is_flag=True, help="Make it; without it nothing is changed.")
@click.option("--sql", is_flag=True, help="Print the statements instead, for a server with tables.")
@verb(log=True)
def topic_create(
    run: Run, topics: tuple[str, ...], partitions: int | None, show: bool, dev: bool, do: bool, sql: bool
) -> int:
    """`contrapas topic create --log URL --namespace NS` shows what would be made for the log itself."""
    url = url_of(run.settings)
    namespace = str(run.settings.get("namespace") or "")
    if not namespace:
        raise Refused("CP817", "a log is made for a namespace, and none is named", fix="--namespace NS")
    wanted = dict.fromkeys(topics, partitions or TOPIC_PARTITIONS)
    if sql:
        _print(url, namespace)
        return exits.DONE
    if show and do:
        raise click.UsageError("--plan shows and --apply makes: one of them")
    made = _plan(url, namespace, partitions, wanted, dev)
    words = made.words()
    if not words:
        screen.line(run.look, f"{text.escape(shown(url))}: nothing is missing")
        return exits.DONE
    for line in words:
        if line.startswith(" "):
            screen.line(run.look, f"             {text.escape(line)}")
        else:
            screen.line(run.look, f"{'make' if do else 'would make'}   {text.escape(line)}")
    if do:
        _apply(url, made)
        screen.note("made")
    else:
        screen.note("nothing was changed: --apply makes it")
    return exits.DONE


def _print(url: str, namespace: str) -> None:
    tell: Any = getattr(connector_of(url), "sql", None) if is_far(url) else None
    if tell is None:
        raise Refused("CP814", f"{text.escape(shown(url))} has no tables to be made", fix="leave --sql out")
    click.echo(tell(namespace), nl=False)


def _plan(url: str, namespace: str, partitions: int | None, topics: Mapping[str, int], dev: bool) -> Plan:
    if is_far(url):
        made: Plan = asyncio.run(connector_of(url).plan(url, namespace, partitions, topics, dev=dev))
        return made
    from contrapas.log import sqlite_admin

    return sqlite_admin.plan(file_of(url), namespace, partitions or TOPIC_PARTITIONS, topics)


def _apply(url: str, made: Plan) -> None:
    if is_far(url):
        asyncio.run(connector_of(url).apply(made))
        return
    from contrapas.log import sqlite_admin

    sqlite_admin.apply(made)
