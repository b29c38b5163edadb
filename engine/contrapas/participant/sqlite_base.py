"""A service's SQLite file: its connections, our tables in it, and what its errors mean to a delivery."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

import contrapas_schemas
from contrapas.errors import ContrapasError, Indeterminate, Refused, Retriable

VERSION: Final = 1
BUSY_MS: Final = 10_000
COMMIT: Final = "commit -- of contrapas"
"""Spelled so that no statement of a handler is the same: it is let through by the guard below."""
ROLLBACK: Final = "rollback -- of contrapas"
_TABLES: Final = ("contrapas_store", "contrapas_outbox", "contrapas_inbox", "contrapas_relay")


class Guard:
    """Keeps a handler from ending the transaction that is the delivery's."""

    __slots__ = ("denied", "on")

    def __init__(self) -> None:
        self.on = False
        self.denied = False

    def __call__(self, action: int, one: str | None, *rest: str | None) -> int:
        if self.on and action == sqlite3.SQLITE_TRANSACTION:
            self.denied = True
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK


def connect(path: str) -> sqlite3.Connection:
    """A connection that begins and ends its transactions itself; usable from any thread, one at a time."""
    uri = f"file:{quote(path)}?mode=rw"
    try:
        con = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        con.execute(f"pragma busy_timeout={BUSY_MS}")
        con.execute("pragma synchronous=full")
    except (sqlite3.Error, UnicodeDecodeError) as why:  # a damaged schema names itself in no text
        raise explain(why, path) from why
    return con


ROTTEN = (sqlite3.Error, TypeError, ValueError, LookupError, OverflowError)
"""What reading a damaged file raises: errors of SQLite, and those of values that are not of the kind that was written."""


def explain(why: Exception, path: str, *, commit: bool = False) -> ContrapasError:
    """What an error of one of our own statements means. commit: it was the commit that failed."""
    if isinstance(why, ContrapasError):
        return why
    if not isinstance(why, sqlite3.Error):
        return Refused("CP516", f"{path} is damaged: {why}"[:300], fix="restore a backup", place=path)
    code = getattr(why, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_READONLY:
        return Refused("CP514", f"{path} is read-only: {why}", fix="let the service write to it", place=path)
    if code == sqlite3.SQLITE_ERROR and "no such table: contrapas_" in str(why):
        return missing(path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Refused("CP516", f"{path} is damaged: {why}", fix="restore a backup", place=path)
    if commit and code == sqlite3.SQLITE_IOERR:
        return Indeterminate(f"{path}: the commit failed on the disk: {why}", place=path)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_INTERRUPT):
        return Retriable(f"{path} is busy: {why}", place=path)
    return Retriable(f"{path} cannot be used: {why}", code="CP516", place=path)


def exhausted(why: BaseException, path: str) -> ContrapasError | None:
    """What the disk says in the middle of a handler's own statements: that is no outcome of the handler, which runs again
    once there is room."""
    one: BaseException | None = why
    while one is not None:
        code = getattr(one, "sqlite_errorcode", 0) & 0xFF
        if isinstance(one, sqlite3.Error) and code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return explain(one, path)
        one = one.__cause__
    return None


def missing(path: str) -> Refused:
    """There are no tables."""
    return Refused(
        "CP514",
        f"{path} lacks the tables of contrapas",
        fix="contrapas store sql shows them; in dev: await store.prepare()",
        place=path,
    )


def version_of(con: sqlite3.Connection) -> int:
    """Version of our tables; 0: there are none, or not all."""
    marks = ", ".join("?" * len(_TABLES))
    found = con.execute(
        f"select count(*) from sqlite_master where type = 'table' and name in ({marks})", _TABLES
    ).fetchone()
    if found[0] < len(_TABLES):
        return 0
    row = con.execute("select max(version) from contrapas_store").fetchone()
    return int(row[0] or 0)


def create(path: str) -> None:
    """Make the file and the tables where there are none."""
    Path(path).touch(mode=0o600)
    con = connect(path)
    try:
        con.execute("pragma journal_mode=wal")
        con.execute("begin immediate")
        if version_of(con) == 0:
            text = (Path(contrapas_schemas.__file__).parent / "sql" / "sqlite" / "store.sql").read_text()
            bare = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
            for statement in bare.split(";"):
                if statement.strip():
                    con.execute(statement)
            con.execute("insert into contrapas_store values (?)", (VERSION,))
        con.execute(COMMIT)
    except ROTTEN as why:
        raise explain(why, path) from why
    finally:
        con.close()
