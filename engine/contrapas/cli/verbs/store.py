"""`contrapas store sql|status|prune`: outbox and inbox tables of a participant. Migrations are printed, never run."""

from __future__ import annotations

import sys
from typing import Any, Protocol, runtime_checkable

import click

from contrapas.cli import exits, positions, screen, text
from contrapas.cli.options import Run, command, verb
from contrapas.cli.stores import with_store
from contrapas.errors import Refused
from contrapas.participant import Store, StoreStatus, tables


@command(
    "sql",
    "Print the outbox and inbox tables as SQL for PostgreSQL, and the rights that roles need. Nothing is run.",
)
@click.option(
    "--from", "start", type=click.IntRange(0), default=0, help="Version of the tables there are (0: none)."
)
@click.option(
    "--payload",
    type=click.Choice(("jsonb", "bytea")),
    default="jsonb",
    show_default=True,
    help="jsonb: readable, JSON only; bytea: Avro, too.",
)
@click.option(
    "--schema",
    metavar="NAME",
    default="",
    help="The schema of the tables, where it is not the search path's.",
)
@verb()
def store_sql(run: Run, start: int, payload: tables.Payload, schema: str) -> int:
    """One transaction; a later release prints with `--from N` what it adds."""
    sys.stdout.write(tables.script(start=start, payload=payload, schema=schema))
    return exits.DONE


@command(
    "status", "What waits in a store's outbox, what its inbox remembers, who relays, and what holds it back."
)
@click.argument("target", metavar="MODULE:STORE")
@verb(data=True)
def store_status(run: Run, target: str) -> int:
    """MODULE is a dotted name or a file; without `:STORE` the name is `store`. Exit 6 without tables."""
    about = with_store(target, _status)
    if run.look.form == "json":
        screen.document(about)
    elif run.look.form == "jsonl":
        screen.stream(about)
    else:
        _status_page(run.look, about)
    if not about["version"]:
        raise Refused(
            "CP514", f"{about['store']} has no outbox and inbox tables", fix="contrapas store sql | psql"
        )
    return exits.DONE


async def _status(store: Store) -> dict[str, Any]:
    found: StoreStatus = await store.status()
    held = await store.outbox.horizon() if found.version else None
    return {
        "store": store.name,
        "version": found.version,
        "outbox": found.outbox,
        "outbox_oldest_ms": found.oldest_ms,
        "inbox": found.inbox,
        "inbox_oldest_ms": found.inbox_oldest_ms,
        "inbox_keeps_ms": store.inbox_ms,
        "relays": [{"name": name, "epoch": c.epoch, "last": c.last} for name, c in found.relays.items()],
        "horizon": None if held is None else {"age_ms": held.age_ms, "pid": held.pid, "query": held.query},
    }


def _status_page(look: screen.Look, about: dict[str, Any]) -> None:
    def age(ms: int) -> str:
        return f"   oldest {text.duration(ms)}" if ms else ""

    screen.line(look, f"{text.escape(about['store'])}   tables of version {about['version']}")
    screen.line(look, f"outbox   {text.count(about['outbox'])} waiting{age(about['outbox_oldest_ms'])}")
    keeps = f"{about['inbox_keeps_ms'] / 86_400_000:g} d"
    screen.line(
        look,
        f"inbox    {text.count(about['inbox'])} remembered{age(about['inbox_oldest_ms'])}   kept for {keeps}",
    )
    for one in about["relays"]:
        screen.line(
            look, f"relay    {text.escape(one['name'])}   up to seq {one['last']}   epoch {one['epoch']}"
        )
    held = about["horizon"]
    if held and held["age_ms"] >= 1_000:
        words = f"held     by pid {held['pid']} for {text.duration(held['age_ms'])}   {text.escape(held['query'])}"
        screen.line(look, words)


@runtime_checkable
class Planned(Protocol):
    """A store whose outbox has days."""

    async def plan(self) -> Any:
        """What `prune` would do: `make`, `drop`, `waiting` (days), `default_rows`, `inbox_rows`, `owner`."""
        ...


@command(
    "prune",
    "Make days of the outbox ahead, drop acknowledged ones, delete inbox rows beyond their time. A dry run without --yes.",
)
@click.argument("target", metavar="MODULE:STORE")
@click.option("--yes", is_flag=True, help="Do it.")
@click.option(
    "--budget",
    metavar="TIME",
    default="1m",
    show_default=True,
    help="Stop after so long; the rest is for next time.",
)
@verb(data=True)
def store_prune(run: Run, target: str, yes: bool, budget: str) -> int:
    """Run it once a day with the role that owns the tables. Nothing that was not acknowledged is dropped."""
    budget_ms = positions.duration_ms(budget)
    about = with_store(target, _planned if not yes else lambda store: _pruned(store, budget_ms))
    if run.look.form == "json":
        screen.document(about)
    elif run.look.form == "jsonl":
        screen.stream(about)
    else:
        _prune_page(run.look, about)
    if yes and not about["owner"]:
        raise Refused(
            "CP822",
            f"{about['store']}: days of the outbox are made and dropped by the owner of contrapas_outbox",
            fix="contrapas store prune --yes with the role that ran the migrations",
        )
    return exits.DONE if yes else exits.REFUSED


async def _planned(store: Store) -> dict[str, Any]:
    about: dict[str, Any] = {
        "store": store.name,
        "done": False,
        "owner": True,
        "make": [],
        "drop": [],
        "waiting": [],
        "outbox_rows": 0,
        "inbox_rows": None,
    }
    if isinstance(store, Planned):
        plan = await store.plan()
        about |= {
            "owner": plan.owner,
            "make": [str(day) for day in plan.make],
            "drop": [str(day) for day in plan.drop],
            "waiting": [str(day) for day in plan.waiting],
            "outbox_rows": plan.default_rows,
            "inbox_rows": plan.inbox_rows,
        }
    return about


async def _pruned(store: Store, budget_ms: int) -> dict[str, Any]:
    about = await _planned(store)
    outbox, inbox = await store.prune(budget_ms=budget_ms)
    about |= {"done": True, "outbox_rows": outbox, "inbox_rows": inbox}
    if isinstance(store, Planned):
        left = await store.plan()
        for what in ("make", "drop"):
            still = {str(day) for day in getattr(left, what)}
            about[what] = [day for day in about[what] if day not in still]
    return about


def _prune_page(look: screen.Look, about: dict[str, Any]) -> None:
    done = about["done"]
    rows = [
        ("made" if done else "would make", "days ahead", about["make"]),
        ("dropped" if done else "would drop", "acknowledged days", about["drop"]),
    ]
    for what, which, days in rows:
        if days:
            span = days[0] if len(days) == 1 else f"{days[0]} … {days[-1]}"
            screen.line(look, f"{what} {text.plural(len(days), 'day')} of the outbox ({which}): {span}")
    if about["waiting"]:
        words = f"{text.plural(len(about['waiting']), 'day')} not acknowledged as a whole"
        screen.line(look, f"kept {words}: {', '.join(about['waiting'][:7])}")
    removed = "removed" if done else "would delete"
    if about["outbox_rows"]:
        screen.line(look, f"{removed} {text.count(about['outbox_rows'])} of the outbox")
    inbox = (
        "inbox rows beyond their time"
        if about["inbox_rows"] is None
        else f"{text.count(about['inbox_rows'])} inbox rows"
    )
    screen.line(look, f"{removed} {inbox}")
    if not done:
        screen.line(look, "nothing done.  repeat with --yes")
