"""What the stores over PostgreSQL share: the tables they find, business events, care of the tables, the relay's view."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Generic, Literal

from typing_extensions import TypeVar

from contrapas.errors import DataError, Refused, Retriable
from contrapas.participant import Event, Finding, StoreStatus, written
from contrapas.participant.durations import Duration, duration_ms, every_ms
from contrapas.participant.session import Current
from contrapas.participant.tables import Payload, qualified
from contrapas_postgres import care, examine
from contrapas_postgres.meaning import told
from contrapas_postgres.outbox import Held, PostgresOutbox
from contrapas_postgres.proxied import refused, shared_out
from contrapas_postgres.statements import TABLES, VERSION, Statements, statements
from contrapas_postgres.transaction import Link, add

S = TypeVar("S")
Sender = Literal["relay", "debezium"]
DEADLINE_S: Final = 10.0
"""Seconds within which each statement of ours is answered, and a row that another delivery holds is waited for."""


class Base(ABC, Generic[S]):
    """A store on PostgreSQL 13 or newer, whoever talks to it."""

    def __init__(
        self,
        name: str,
        *,
        schema: str,
        payload: Payload,
        inbox: Duration,
        prune: Duration,
        keep_days: int,
        sender: Sender,
        idle: Duration,
        deadline_s: float,
    ) -> None:
        if sender not in ("relay", "debezium"):  # pyright: ignore[reportUnnecessaryContains]
            raise DataError("CP850", f'sender={sender!r}: "relay" or "debezium"')
        self.name = name
        self.source = f"/services/{name}"
        self.inbox_ms = duration_ms(inbox, what="inbox=")
        self.prune_ms = every_ms(prune, what="prune=")
        self.sender: Sender = sender
        self.idle_ms = every_ms(idle, what="idle=")
        self.schema = schema
        self.deadline_s = deadline_s
        self._payload: Payload = payload
        self._keep_days = keep_days
        self._statements: Statements | None = None
        self._looking = asyncio.Lock()
        self._current: Current[S] = Current(name)
        self._outbox = PostgresOutbox(self)

    @abstractmethod
    def lent(self) -> AbstractAsyncContextManager[Link]:
        """A session for a few statements, each its own transaction."""

    @abstractmethod
    async def hold(self) -> Held:
        """A session of the outbox's own."""

    @property
    def outbox(self) -> PostgresOutbox:
        """For the relay; it keeps one connection for as long as it holds the claim."""
        return self._outbox

    def session(self) -> S:
        """The session of the delivery in hand, for `Depends(store.session)`. Refused CP850 outside of one."""
        return self._current.get()

    async def statements(self, link: Link) -> Statements:
        """For the tables as they are, looked at once. Refused CP514: there are none, or not these."""
        if self._statements is None:
            rows = await link.rows(qualified(TABLES, self.schema))
            if not rows:
                raise Refused(
                    "CP514",
                    f"PostgreSQL {self.name}: the tables do not say their version",
                    fix="contrapas store status",
                )
            version, readable_from, payload, here = rows[0]
            if (why := examine.tables_wrong(self.name, version, readable_from)) is not None:
                raise Refused(why.code, why.text, fix=why.fix)
            said, kept = await link.kept()
            if kept and said not in (0, here):
                async with self.lent() as one, self.lent() as other:
                    if await shared_out(one, other):
                        raise refused(self.name, "prepared statements of others would run in place of ours")
            self._statements = statements(payload, self.schema, self.idle_ms)
        return self._statements

    async def looked_up(self) -> Statements:
        """The same with a session of its own, before a delivery takes one: of many at the start, one looks."""
        async with self._looking:
            if self._statements is None:
                with told(self.name):
                    async with self.lent() as link:
                        return await self.statements(link)
            return self._statements

    def idled(self, since: float) -> Retriable | None:
        """Why the session of a transaction may be gone that began at `since` (monotonic seconds); None: not for this."""
        open_s = time.monotonic() - since
        if not self.idle_ms or open_s * 1000 < self.idle_ms:
            return None
        return Retriable(
            f"PostgreSQL {self.name} ended a transaction that was open for {open_s:.0f} s: one that is idle for "
            f"{self.idle_ms / 1000:g} s is ended, so that what a stopped worker holds becomes free. Nothing was written; wait for other "
            "systems outside of the transaction, or give the store a longer idle=",
            code="CP501",
        )

    async def _publish(self, link: Link, events: Sequence[Event]) -> None:
        now = time.time_ns() // 1_000_000
        rows = [written(event, self.source, now) for event in events]
        if not rows:
            return
        with told(self.name):
            sql = await self.statements(link)
            await add(link, sql, rows)
        self._outbox.committed()

    async def prepare(self) -> None:
        """Create the tables where there are none, with days ahead: `dev` and tests only."""
        with told(self.name):
            async with self.lent() as link:
                await care.prepare(link, payload=self._payload, schema=self.schema)

    async def examine(self) -> Sequence[Finding]:
        """What `doctor` says of the database and its tables."""
        with told(self.name):
            async with self.lent() as link:
                return await examine.findings(link, self)

    async def status(self) -> StoreStatus:
        """Figures for people."""
        with told(self.name):
            async with self.lent() as link:
                return await care.status(link, self.schema)

    async def plan(self) -> care.Plan:
        """What `prune` would do, looked up only."""
        with told(self.name):
            async with self.lent() as link:
                return await care.plan(link, self._care)

    async def prune(self, *, budget_ms: int) -> tuple[int, int]:
        """Make days ahead, drop acknowledged ones, delete what the inbox may forget; (outbox rows, inbox rows)."""
        with told(self.name):
            async with self.lent() as link:
                return await care.prune(link, self._care, budget_ms=budget_ms)

    @property
    def _care(self) -> care.Rules:
        return care.Rules(
            schema=self.schema,
            inbox_ms=self.inbox_ms,
            keep_days=self._keep_days,
            sent=self.sender == "debezium",
        )

    async def close(self) -> None:
        """Give back the connection of the claim; the pool or engine stays the user's."""
        await self._outbox.close()


__all__ = ["DEADLINE_S", "VERSION", "Base", "Sender"]
