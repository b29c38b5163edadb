"""The outbox of a SQLite file, as its relay sees it.

There is one writer at a time, so numbers appear in their order and no barrier is needed. A relay lives as long as it says so
at least every ten seconds.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import starmap
from typing import Any, Final

from contrapas.errors import Fenced
from contrapas.participant import PAGE_BYTES, Claim, Horizon
from contrapas.participant.rows import Outgoing, Row, paged
from contrapas.participant.sqlite_base import COMMIT, ROLLBACK, ROTTEN, connect, explain

RELAY_MS: Final = 10_000
BEAT_MS: Final = 3_000
POLL_S: Final = 0.01
POLL_MAX_S: Final = 0.05
_PAGE: Final = (
    "select seq, id, aggregatetype, aggregateid, type, payload, source, content_type, traceparent, headers, created_at "
    "from contrapas_outbox where seq > ? and seq <= ? order by seq limit ?"
)


class SqliteOutbox:
    """Over a connection of its own."""

    def __init__(self, path: str, clock: Callable[[], int]) -> None:
        self._path = path
        self._clock = clock
        self._con: sqlite3.Connection | None = None
        self._claims: dict[str, int] = {}
        self._beaten_ms = 0

    def _read(self, statement: str, *values: Any) -> list[Any]:
        try:
            if self._con is None:
                self._con = connect(self._path)
            return self._con.execute(statement, values).fetchall()
        except ROTTEN as why:
            raise explain(why, self._path) from why

    async def _write(self, change: Callable[[sqlite3.Connection], Any]) -> Any:
        def work() -> Any:
            con = connect(self._path)
            try:
                con.execute("begin immediate")
                found = change(con)
                con.execute(COMMIT)
                return found
            except ROTTEN as why:
                raise explain(why, self._path) from why
            finally:
                if con.in_transaction:
                    con.execute(ROLLBACK)
                con.close()

        return await asyncio.to_thread(work)

    async def claim(self, name: str, owner: str) -> Claim:
        now = self._clock()

        def change(con: sqlite3.Connection) -> Claim:
            row = con.execute(
                "select epoch, owner, last_seq, updated_at from contrapas_relay where name = ?", (name,)
            ).fetchone() or (0, "", 0, 0)
            if row[1] not in ("", owner) and 0 <= now - row[3] < RELAY_MS:
                raise Fenced(f"{row[1]} relays the outbox {name!r}", theirs=row[0], place=self._path)
            con.execute(
                "insert into contrapas_relay(name, epoch, owner, last_seq, updated_at) values (?, ?, ?, ?, ?) on "
                "conflict(name) do update set epoch = excluded.epoch, owner = excluded.owner, "
                "updated_at = excluded.updated_at",
                (name, row[0] + 1, owner, row[2], now),
            )
            return Claim(row[0] + 1, row[2])

        claim: Claim = await self._write(change)
        self._claims[name], self._beaten_ms = claim.epoch, now
        return claim

    async def upto(self, last: int, *, wait_ms: int) -> int:
        until = time.monotonic() + wait_ms / 1000
        pause = POLL_S
        while True:
            await self._beat()
            found = self._read("select coalesce(max(seq), 0) from contrapas_outbox")[0][0]
            left = until - time.monotonic()
            if found > last or left <= 0:
                return max(int(found), last)
            await asyncio.sleep(min(pause, left))
            pause = min(POLL_MAX_S, pause * 1.2)

    async def _beat(self) -> None:
        now = self._clock()
        if not self._claims or now - self._beaten_ms < BEAT_MS:
            return
        self._beaten_ms = now
        for name, epoch in list(self._claims.items()):
            await self._write(partial(_beat, now, name, epoch))

    async def page(self, after: int, upto: int, limit: int) -> Sequence[Row]:
        await asyncio.sleep(0)
        try:
            self._con = self._con or connect(self._path)
            found = self._con.execute(_PAGE, (after, upto, limit))
            return paged(starmap(_row, found), PAGE_BYTES)
        except ROTTEN as why:
            raise explain(why, self._path) from why

    async def advance(self, name: str, epoch: int, seq: int) -> None:
        now = self._clock()

        def change(con: sqlite3.Connection) -> None:
            done = con.execute(
                "update contrapas_relay set last_seq = max(last_seq, ?), updated_at = ? where name = ? and epoch = ?",
                (seq, now, name, epoch),
            )
            if not done.rowcount:
                raise Fenced(f"another relay owns the outbox {name!r}", mine=epoch, place=self._path)

        await self._write(change)
        self._beaten_ms = now

    async def horizon(self) -> Horizon:
        """Nothing can appear below the newest row."""
        return Horizon(0, 0, "")

    async def release(self, name: str, epoch: int) -> None:
        self._claims.pop(name, None)
        statement = "update contrapas_relay set owner = '' where name = ? and epoch = ?"
        await self._write(lambda con: con.execute(statement, (name, epoch)))

    async def close(self) -> None:
        """Give up what is owned."""
        for name, epoch in list(self._claims.items()):
            await self.release(name, epoch)
        if self._con is not None:
            self._con.close()
            self._con = None


def _beat(now: int, name: str, epoch: int, con: sqlite3.Connection) -> None:
    con.execute("update contrapas_relay set updated_at = ? where name = ? and epoch = ?", (now, name, epoch))


def _row(
    seq: int, ident: str, topic: str, key: str, type_name: str, payload: Any, source: str, *more: Any
) -> Row:
    content_type, traceparent, headers, created_at = more
    message = Outgoing(
        ident,
        topic,
        key,
        type_name,
        _bytes(payload),
        source,
        content_type,
        traceparent or "",
        json.loads(headers),
    )
    return Row(seq, message, created_at)


def _bytes(payload: bytes | str) -> bytes:
    """A program without our library may have written text."""
    return payload.encode() if isinstance(payload, str) else payload
