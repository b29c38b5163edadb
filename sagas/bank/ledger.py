"""The bank's own books: accounts, holds and entries in a SQLite file. Each operation of a transfer happens at most once.

It stands for a participant that knows nothing of sagas but keeps what it was asked under the asker's key: an operation
asked again changes nothing, an undo of what never happened is remembered, and the operation that comes after its undo
does nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_TABLES = """
create table if not exists account(name text primary key, cents integer not null, held integer not null, open integer not null);
create table if not exists entry(transfer text, operation text, account text, cents integer, attempts integer not null,
  state text not null, primary key(transfer, operation)) without rowid;
"""


class Refusal(Exception):
    """The bank says no, for a reason that will not go away."""


class Books:
    """One file of books, shared by processes."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)

    def open(self, accounts: int, cents: int) -> None:
        """Begin with `accounts` accounts of `cents` each; every tenth account is closed and takes no money."""
        with self._transaction() as db:
            for number in range(accounts):
                db.execute(
                    "insert or ignore into account values(?,?,0,?)",
                    (f"a{number}", cents, 0 if number % 10 == 9 else 1),
                )

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        try:
            db.execute("pragma journal_mode=wal")
            db.execute("pragma synchronous=off")
            db.executescript(_TABLES)
            db.execute("begin immediate")
            yield db
            db.execute("commit")
        finally:
            db.close()

    def do(self, transfer: str, operation: str, account: str, cents: int) -> None:
        """Hold, debit, credit or confirm, once; after its undo: nothing. Refusal when the bank says no."""
        with self._transaction() as db:
            row = db.execute(
                "select state from entry where transfer=? and operation=?", (transfer, operation)
            ).fetchone()
            if row is not None:
                db.execute(
                    "update entry set attempts=attempts+1 where transfer=? and operation=?",
                    (transfer, operation),
                )
                return
            self._apply(db, operation, account, cents)
            db.execute("insert into entry values(?,?,?,?,1,'done')", (transfer, operation, account, cents))

    def undo(self, transfer: str, operation: str) -> None:
        """Take an operation back, once; one that never happened is barred from happening."""
        with self._transaction() as db:
            row = db.execute(
                "select state, account, cents from entry where transfer=? and operation=?",
                (transfer, operation),
            ).fetchone()
            if row is None:
                db.execute("insert into entry values(?,?,'',0,0,'barred')", (transfer, operation))
                return
            state, account, cents = row
            if state == "done":
                self._revert(db, operation, account, cents)
                db.execute(
                    "update entry set state='undone' where transfer=? and operation=?", (transfer, operation)
                )

    def _apply(self, db: sqlite3.Connection, operation: str, account: str, cents: int) -> None:
        found = db.execute("select cents, held, open from account where name=?", (account,)).fetchone()
        if found is None:
            raise Refusal("no such account")
        balance, held, is_open = found
        if operation == "hold":
            if balance - held < cents:
                raise Refusal("not enough money")
            db.execute("update account set held=held+? where name=?", (cents, account))
        elif operation == "debit":
            db.execute("update account set cents=cents-?, held=held-? where name=?", (cents, cents, account))
        elif operation == "credit":
            if not is_open:
                raise Refusal("account closed")
            db.execute("update account set cents=cents+? where name=?", (cents, account))

    def _revert(self, db: sqlite3.Connection, operation: str, account: str, cents: int) -> None:
        if operation == "hold":
            db.execute("update account set held=held-? where name=?", (cents, account))
        elif operation == "debit":
            db.execute("update account set cents=cents+?, held=held+? where name=?", (cents, cents, account))
        elif operation == "credit":
            db.execute("update account set cents=cents-? where name=?", (cents, account))

    def total(self) -> int:
        """All money of the bank."""
        with self._transaction() as db:
            return int(db.execute("select sum(cents) from account").fetchone()[0])

    def faults(self) -> list[str]:
        """What must not be: negative accounts, holds left over, transfers half done. Empty when all is well."""
        with self._transaction() as db:
            bad = [
                f"account {n} has {c} cents"
                for n, c in db.execute("select name, cents from account where cents<0")
            ]
            bad += [
                f"account {n} holds {h}"
                for n, h in db.execute("select name, held from account where held<>0")
            ]
            states: dict[str, dict[str, str]] = {}
            for transfer, operation, state in db.execute("select transfer, operation, state from entry"):
                states.setdefault(transfer, {})[operation] = state
        for transfer, operations in states.items():
            done = {operation for operation, state in operations.items() if state == "done"}
            if done and done != {"hold", "debit", "credit", "confirm"}:
                bad.append(f"transfer {transfer} is half done: {sorted(done)}")
        return bad

    def done(self) -> set[str]:
        """Transfers that were carried out whole."""
        with self._transaction() as db:
            rows = db.execute(
                "select transfer from entry where operation='confirm' and state='done'"
            ).fetchall()
        return {str(row[0]) for row in rows}
