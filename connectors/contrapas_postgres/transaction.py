"""One transaction of a delivery: inbox row, the handler's rows, outbox rows; two round trips of our own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from contrapas.errors import DataError, Retriable
from contrapas.participant import Known, Outgoing, Receipt
from contrapas_postgres.meaning import told
from contrapas_postgres.statements import Statements

S = TypeVar("S")


class Link(Protocol):
    """A connection, as far as our statements need one."""

    async def rows(self, sql: str, *values: object) -> Sequence[Any]:
        """Run one statement; rows as sequences, [] for none. Ends by the store's deadline."""
        ...

    def stands(self) -> bool:
        """Whether the transaction that a delivery began is still open, as far as the driver knows; True if it is lost."""
        ...

    async def kept(self) -> tuple[int, bool]:
        """The process id that the server said at connecting (0: not known); whether prepared statements are kept."""
        ...


async def add(link: Link, sql: Statements, rows: Sequence[Outgoing], answer: tuple[Any, ...] = ()) -> None:
    """Outbox rows, and the answer of the inbox row where there is one, in one round trip."""
    if len(rows) == 1:
        one = values(rows[0], sql.binary)
        await link.rows(sql.finish_one if answer else sql.add_one, *answer, *one)
    else:
        columns = map(list, zip(*(values(row, sql.binary) for row in rows), strict=True))
        await link.rows(sql.finish if answer else sql.add, *answer, *columns)


def values(row: Outgoing, binary: bool) -> tuple[Any, ...]:
    """The columns of `Statements.add_one`. DataError CP408: no text, where the column is JSON."""
    payload = row.payload if binary else _text(row)
    headers = json.dumps(dict(row.headers)) if row.headers else "{}"
    return (*row[:4], payload, row.source, row.content_type, row.traceparent, headers)


def _text(row: Outgoing) -> str:
    try:
        return row.payload.decode()
    except UnicodeDecodeError:
        raise DataError(
            "CP408",
            f"{row.type}: a payload of {row.content_type} is no JSON, and the outbox's column is",
            fix="for Avro: contrapas store sql --payload bytea",
        ) from None


def ended() -> DataError:
    """Of a handler that commits or rolls back by itself."""
    return DataError(
        "CP850",
        "the handler ended its transaction itself",
        fix="leave commit and rollback to the store: returning commits, raising rolls back",
    )


class Last(Protocol):
    """What can send a statement together with COMMIT."""

    def last(self, sql: str, values: Sequence[object]) -> bool:
        """False: it must be sent before."""
        ...


class PostgresTx(Generic[S]):
    """What `begin` gives."""

    def __init__(
        self, session: S, link: Link, statements: Statements, name: str, last: Last | None = None
    ) -> None:
        self._session = session
        self._link = link
        self._sql = statements
        self._name = name
        self._last = last
        self._ending: tuple[str, tuple[Any, ...]] | None = None
        """What COMMIT takes with it."""
        self.taken: tuple[Receipt, str, bool] | None = None
        """What BEGIN has taken already, and whether it was new."""
        self.wrote = False
        """Outbox rows stand in it."""

    @property
    def session(self) -> S:
        """What the handler writes its rows with."""
        return self._session

    def check(self) -> None:
        """DataError CP850: the handler ended the transaction, so that nothing more can be one commit with its rows."""
        if not self._link.stands():
            raise ended()

    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        """As the seam says. Retriable also when the row waited for stays locked until the deadline."""
        with told(self._name):
            fresh: Any
            if self.taken is not None and self.taken[:2] == (receipt, undoes):
                fresh, self.taken = self.taken[2], None
            elif undoes:
                fresh = await self._link.rows(self._sql.take_undo, *receipt, undoes)
            else:
                fresh = await self._link.rows(self._sql.take, *receipt)
            if fresh:
                return None
            found = await self._find(receipt, receipt.id)
        if found is None:  # pruned in between
            raise Retriable(f"PostgreSQL {self._name}: the inbox row of {receipt.id} went away; ask again")
        return found

    async def retake(self, receipt: Receipt, known: Known) -> Known | None:
        """As the seam says."""
        with told(self._name):
            if await self._link.rows(self._sql.retake, *receipt[:4], known.reply, known.reply_type):
                return None
        return await self.take(receipt)

    async def _find(self, receipt: Receipt, id: str) -> Known | None:
        rows = await self._link.rows(self._sql.known, *receipt[:3], id)
        if not rows:
            return None
        outcome, digest, reply, reply_type = rows[0]
        return Known(
            outcome, bytes(digest), None if reply is None else bytes(reply), reply_type if reply_type else ""
        )

    async def happened(self, receipt: Receipt, undoes: str) -> bool:
        """Whether the step was done here before its undo was taken."""
        with told(self._name):
            found = await self._find(receipt, undoes)
        return found is not None and found.outcome == "done"

    async def finish(
        self, receipt: Receipt, *, reply: bytes | None, reply_type: str, rows: Sequence[Outgoing]
    ) -> None:
        """Reply and outbox rows, in one round trip, or none when there is neither."""
        self.check()
        answer = (*receipt[:4], reply, reply_type) if reply is not None or reply_type else ()
        with told(self._name):
            if self._ending is not None:
                sent, self._ending = self._ending, None
                await self._link.rows(sent[0], *sent[1])
            self.wrote = self.wrote or bool(rows)
            if self._deferred(rows, answer):
                return
            if rows:
                await add(self._link, self._sql, rows, answer)
            elif answer:
                await self._link.rows(self._sql.answer, *answer)

    def _deferred(self, rows: Sequence[Outgoing], answer: tuple[Any, ...]) -> bool:
        """Whether COMMIT takes it with it: one row at most, by far the most frequent."""
        if self._last is None or len(rows) > 1 or not (rows or answer):
            return False
        sql = self._sql.answer
        if rows:
            sql = self._sql.finish_one if answer else self._sql.add_one
        whole = (*answer, *(values(rows[0], self._sql.binary) if rows else ()))
        if not self._last.last(sql, whole):
            return False
        self._ending = (sql, whole)
        return True
