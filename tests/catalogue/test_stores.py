"""Rows of the catalogue about stores, as the command that starts a worker meets them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from contrapas.participant.sqlite_base import create
from tests.catalogue.shell import Cli

APP = """
from typing import Annotated
import sqlite3
from contrapas import App, Command, Depends, Event, Service
from contrapas.participant.sqlite import SqliteStore

class Paid(Event, topic="pay.events", key="id"):
    id: str

class Pay(Command[Paid], topic="pay.commands", key="id"):
    id: str

store = SqliteStore("till.db", inbox="{inbox}")
till = Service("till", store=store)
Db = Annotated[sqlite3.Connection, Depends(store.session)]

@till.on(Pay)
async def pay(c: Pay, db: Db) -> Paid:
    return Paid(id=c.id)

app = App("shop")
app.serve(till)
"""


@pytest.mark.parametrize("inbox", ["6d", "30m"])
def test_b56_a_worker_whose_inbox_forgets_too_soon_does_not_start_and_shows_the_sum(
    cli: Cli, inbox: str
) -> None:
    (cli.here / "tilled.py").write_text(APP.format(inbox=inbox))
    create(str(cli.here / "till.db"))
    ran = cli.process("worker", "tilled:app")
    assert ran.code == 6, ran
    for words in ("CP805", f"remembers {inbox}", "of retries + 7d", "longest outage"):
        assert words in ran.err, ran.err


def test_a_worker_does_not_start_without_the_store_s_tables_and_makes_none(cli: Cli) -> None:
    (cli.here / "tilled.py").write_text(APP.format(inbox="30d"))
    with closing(sqlite3.connect(cli.here / "till.db")) as con:
        con.execute("create table mine(id text)")
    ran = cli.process("worker", "tilled:app")
    assert (ran.code, "CP514" in ran.err, "contrapas store sql" in ran.err) == (6, True, True), ran
    with closing(sqlite3.connect(cli.here / "till.db")) as con:
        assert [row[0] for row in con.execute("select name from sqlite_master")] == ["mine"]
