"""BEGIN with the statement that follows it, COMMIT with the one before it: a delivery of asyncpg in two round trips less.

asyncpg sends one statement at a time, and several only as text. So the two that frame every delivery are prepared on the
server once per connection, and called by name in the text of BEGIN and COMMIT, their values as literals. asyncpg keeps the
transaction's state by itself: it is given a connection that adds our text to what it executes, and nothing else. Whatever
does not fit (a large value, a NUL, a session whose settings make literals mean something else) goes the usual way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import asyncpg
from asyncpg.transaction import Transaction

from contrapas_postgres.meaning import sqlstate
from contrapas_postgres.proxied import caches
from contrapas_postgres.statements import Statements

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

LARGE: Final = 16_384
"""Characters of a text that is better sent as a parameter."""


class Unfit(Exception):
    """A value that goes the usual way."""


class _Adding:
    """The connection as a `Transaction` sees it: what it executes is sent together with a statement of ours."""

    def __init__(self, con: Connection, deadline_s: float) -> None:
        self.__dict__.update(con=con, before="", after="", said="", deadline_s=deadline_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["con"], name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self.__dict__["con"], name, value)

    async def execute(self, query: str) -> str:
        """BEGIN, COMMIT or ROLLBACK; of the latter alone."""
        said: str
        if query.startswith("BEGIN"):
            said = self.said = await self.con.execute(f"{query} {self.after}", timeout=self.deadline_s)
        elif query.startswith("COMMIT") and self.before:
            said = await self.con.execute(f"{self.before}; {query}")
        else:
            said = await self.con.execute(query)
        return said


class Together:
    """A transaction whose first and last statements of ours share the round trips of BEGIN and COMMIT."""

    __slots__ = ("_adding", "_con", "_names", "transaction")

    def __init__(
        self,
        con: Connection,
        names: dict[str, str],
        deadline_s: float,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
    ) -> None:
        self._con = con
        self._names = names
        self._adding = _Adding(con, deadline_s)
        made: Any = Transaction
        self.transaction: Transaction = made(self._adding, isolation, readonly, deferrable)

    async def start(self, sql: str, values: Sequence[object]) -> bool | None:
        """BEGIN and a statement; whether that touched a row. Unfit: nothing was begun. None: only BEGIN was sent, for this
        asyncpg begins in another way, and `last` must not be used."""
        self._adding.after = self._call(sql, values)
        try:
            await self.transaction.start()
        except (asyncpg.PostgresError, TimeoutError):
            self._adding._top_xact = None  # it began all the same
            with suppress(Exception):
                await self._con.execute("rollback", timeout=5)
            raise
        said = self._adding.said
        return not said.endswith(" 0") if said else None

    def last(self, sql: str, values: Sequence[object]) -> bool:
        """What is to be sent with COMMIT; False: it cannot be, and goes before it."""
        try:
            self._adding.before = self._call(sql, values)
        except Unfit:
            return False
        return True

    def _call(self, sql: str, values: Sequence[object]) -> str:
        if not plain(self._con):
            raise Unfit
        return f"execute {self._names[sql]}({', '.join(map(literal, values))})"


class Framed:
    """The statements that frame deliveries, known to each connection after its first."""

    def __init__(self, sql: Statements) -> None:
        self.sql = sql
        framing = (sql.take, sql.take_undo, sql.answer, sql.add_one, sql.finish_one)
        self.names = {one: f"cp_{hashlib.sha256(one.encode()).hexdigest()[:20]}" for one in framing}
        self._text = "; ".join(f"prepare {name} as {one}" for one, name in self.names.items())
        self._known: WeakKeyDictionary[Connection, bool] = WeakKeyDictionary()

    async def known(self, con: Connection, deadline_s: float) -> Connection | None:
        """The connection itself, behind its pool's; None where these statements are not kept on it."""
        own: Connection = getattr(con, "_con", con)
        kept = self._known.get(own)
        if kept is None:
            if not hasattr(own, "_top_xact") or not caches(own):
                return None
            try:
                await own.execute(self._text, timeout=deadline_s)
            except asyncpg.PostgresError as why:
                if sqlstate(why) not in (
                    "42P05",
                    "26000",
                ):  # known already, though not to us, or not kept at all
                    raise
                self._known[own] = False
                return None
            kept = self._known[own] = True
        return own if kept else None

    def forget(self, con: Connection) -> None:
        """It does not keep them: somebody discards what sessions know."""
        self._known[con] = False


def plain(con: Connection) -> bool:
    """Whether a literal means on this connection what it says."""
    settings: Any = con.get_settings()
    scs, encoding = (
        getattr(settings, name, "") for name in ("standard_conforming_strings", "client_encoding")
    )
    return scs == "on" and encoding.upper() in ("UTF8", "UTF-8", "UNICODE")


def literal(value: object) -> str:
    """A value in SQL text, under `standard_conforming_strings`. Unfit: neither text nor bytes, too large, or with a NUL."""
    if isinstance(value, str) and len(value) <= LARGE and "\0" not in value:
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bytes) and len(value) <= LARGE // 2:
        return f"'\\x{value.hex()}'"
    if value is None:
        return "null"
    raise Unfit
