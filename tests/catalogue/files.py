"""Logs in files, made for a test: with records, holes and wrong positions."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from contrapas.core.lane import Draft, Source
from contrapas.log.sqlite import SqliteLog

APP = """
import os
import sys

from contrapas import App, Event, Saga, Timeout, saga, step


class Opened(Event, topic="desk.events", key="id"):
    id: str
    cents: int = 1


class Approved(Event, topic="desk.events", key="id"):
    id: str
    by: str


class Closed(Event, topic="desk.closed", key="id"):
    id: str
    by: str


@step(undo=None)
async def check(id: str) -> str:
    if id.startswith("exits"):
        sys.exit(0)
    if id.startswith("dies"):
        os._exit(3)
    return "system"


@saga
async def claim(s: Saga, e: Opened) -> Closed:
    by = await check(e.id)
    if e.cents > 100:
        answer = await s.wait(Approved, within="2d")
        by = "nobody" if isinstance(answer, Timeout) else answer.by
    return Closed(id=e.id, by=by)


app = App("desk")
app.orchestrate(claim)
"""


def made(folder: Path, *, partitions: int = 1) -> Path:
    """`desk.py` and an empty log in `.contrapas`; gives the log's path."""
    (folder / "desk.py").write_text(APP)
    (folder / ".contrapas").mkdir(mode=0o700)
    path = folder / ".contrapas" / "desk.db"

    async def work(log: SqliteLog) -> None:
        await log.create_topics({"desk.events": 1, "desk.closed": 1, "desk.dlq": 1})

    using(path, work, partitions=partitions)
    return path


def using(path: Path, work: Any, *, partitions: int | None = None) -> None:
    """Do something with a log in a file."""

    async def run() -> None:
        log = SqliteLog(path, "desk", partitions)
        try:
            done: Coroutine[Any, Any, None] = work(log)
            await done
        finally:
            await log.close()

    asyncio.run(run())


def put(path: Path, *drafts: Draft) -> None:
    """Publish."""

    async def work(log: SqliteLog) -> None:
        await log.publish(drafts)

    using(path, work)


def opened(id: str, cents: int = 1) -> Draft:
    """A claim is opened."""
    headers = (
        ("ce_id", f"e-{id}".encode()),
        ("ce_source", b"/x"),
        ("ce_specversion", b"1.0"),
        ("ce_type", b"Opened"),
    )
    value = b'{"id":"%s","cents":%d}' % (id.encode(), cents)
    return Draft("desk.events", -1, id.encode(), value, headers, id)


def positioned(path: Path, at: dict[Source, int], *, partition: int = 0) -> None:
    """Have the control record of a partition say that these offsets were read."""

    async def work(log: SqliteLog) -> None:
        lease = await log.acquire(partition, "test")
        control = lease.control
        await lease.commit([], [], control._replace(cursor={**control.cursor, **at}))
        await lease.release()

    using(path, work)


def edited(path: Path, *statements: str) -> None:
    """Change the file behind the engine's back."""
    conn = sqlite3.connect(path)
    try:
        for statement in statements:
            conn.execute(statement)
        conn.commit()
    finally:
        conn.close()
