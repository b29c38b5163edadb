"""Care of the tables: creating them in `dev`, days made ahead and dropped behind the relay, old inbox rows deleted.

The worker's role has no DDL. Days are made and dropped by whoever runs `contrapas store prune` with the tables' owner; a
row of a day that nobody made lies in the default partition, is read like any other, and is deleted once acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from contrapas.errors import Refused, Retriable
from contrapas.participant import Claim, StoreStatus
from contrapas.participant.tables import Payload, qualified, upgrade
from contrapas.participant.tables import statements as split
from contrapas_postgres.meaning import meaning, sqlstate
from contrapas_postgres.transaction import Link

DAYS_AHEAD: Final = 7
CHUNK: Final = 5_000
LOCK_MS: Final = 200
"""Nobody waits longer than this behind a lock that care of the tables takes."""
ESTIMATE: Final = 100_000


class Rules(NamedTuple):
    """What may go."""

    schema: str
    inbox_ms: int
    keep_days: int
    """Whole days that stay although acknowledged."""
    sent: bool = False
    """Debezium sends the outbox, by the server's log: what is old enough counts as sent, if no slot has lost its place."""


class Day(NamedTuple):
    """One partition of the outbox."""

    table: str
    day: date


class Plan(NamedTuple):
    """What `prune` would do."""

    make: tuple[date, ...]
    drop: tuple[date, ...]
    waiting: tuple[date, ...]
    """Old enough, but not acknowledged as a whole."""
    default_rows: int
    """Acknowledged ones in the default partition."""
    inbox_rows: int
    """At most `ESTIMATE`."""
    owner: bool
    """This role may make and drop days."""


async def prepare(link: Link, *, payload: Payload, schema: str) -> None:
    """All migrations in one transaction; nothing where there are tables. Two at once: the second finds them."""
    await link.rows("begin")
    try:
        await link.rows("select pg_advisory_xact_lock(hashtextextended('contrapas store prepare', 0))")
        there = (
            await link.rows(f"select to_regclass('{qualified('contrapas_store', schema)}') is not null")
        )[0][0]
        if not there:
            if schema:
                await link.rows(f'create schema if not exists "{schema}"')
            for statement in split(upgrade(payload=payload, schema=schema)):
                await link.rows(statement)
    except BaseException:
        await link.rows("rollback")
        raise
    await link.rows("commit")


async def status(link: Link, schema: str) -> StoreStatus:
    """Figures; version 0 where there are no tables."""

    def q(sql: str) -> str:
        return qualified(sql, schema)

    if not (await link.rows(f"select to_regclass('{q('contrapas_store')}') is not null"))[0][0]:
        return StoreStatus(0, 0, 0, 0, 0, {})
    version = (await link.rows(q("select version from contrapas_store")))[0][0]
    relays = {
        name: Claim(epoch, last)
        for name, epoch, last in await link.rows(
            q("select name, epoch, last_seq from contrapas_relay order by name")
        )
    }
    passed = min((claim.last for claim in relays.values()), default=0)
    outbox = await _count(link, q("select 1 from contrapas_outbox where seq > $1"), passed)
    if outbox > ESTIMATE:
        newest = (await link.rows(q("select last_value from contrapas_outbox_seq_seq")))[0][0]
        outbox = max(outbox, newest - passed)
    oldest = await link.rows(
        q(f"select {_AGE.format('created_at')} from contrapas_outbox where seq > $1 order by seq limit 1"),
        passed,
    )
    inbox = await _count(link, q("select 1 from contrapas_inbox"))
    if inbox > ESTIMATE:
        guess = await link.rows(
            f"select reltuples::bigint from pg_class where oid = '{q('contrapas_inbox')}'::regclass"
        )
        inbox = max(inbox, int(guess[0][0]))
    first = await link.rows(
        q(f"select {_AGE.format('received_at')} from contrapas_inbox order by received_at limit 1")
    )
    return StoreStatus(
        version, outbox, int(oldest[0][0]) if oldest else 0, inbox, int(first[0][0]) if first else 0, relays
    )


_AGE: Final = "(extract(epoch from clock_timestamp() - {}) * 1000)::bigint"


async def _count(link: Link, sql: str, *values: Any) -> int:
    """Rows, counted up to one above `ESTIMATE`."""
    return int(
        (await link.rows(f"select count(*) from ({sql} limit {ESTIMATE + 1}) as found", *values))[0][0]
    )


_DAYS: Final = """\
select c.oid::regclass::text, c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = '{outbox}'::regclass and c.relname ~ '^contrapas_outbox_[0-9]{{8}}$' order by c.relname"""


async def days(link: Link, schema: str) -> list[Day]:
    """The day partitions there are, in order."""
    sql = _DAYS.format(outbox=f'"{schema}".contrapas_outbox' if schema else "contrapas_outbox")
    return [
        Day(table, datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC).date())
        for table, name in await link.rows(sql)
    ]


async def today(link: Link) -> date:
    """The server's day in UTC."""
    found: date = (await link.rows("select (now() at time zone 'UTC')::date"))[0][0]
    return found


async def plan(link: Link, rules: Rules) -> Plan:
    """What there is to do."""

    def q(sql: str) -> str:
        return qualified(sql, rules.schema)

    inbox = await _count(link, q(f"select 1 from contrapas_inbox where {_FORGET}"), rules.inbox_ms)
    if not await _owner(link, rules.schema):
        return Plan((), (), (), 0, inbox, False)
    now, there = await today(link), await days(link, rules.schema)
    passed = await acknowledged(link, rules)
    known = {day.day for day in there}
    make = [now + timedelta(n) for n in range(DAYS_AHEAD + 1) if now + timedelta(n) not in known]
    make = [day for day in make if not await _in_default(link, rules.schema, day)]
    drop: list[date] = []
    waiting: list[date] = []
    for one in there:
        if one.day + timedelta(rules.keep_days) < now:
            low, high = _bounds(
                one.day
            )  # by the whole table: the day may be dropped by another one meanwhile
            late = q(
                f"select 1 from contrapas_outbox where created_at >= '{low}' and created_at < '{high}' "
                "and seq > $1 limit 1"
            )
            (waiting if await link.rows(late, passed) else drop).append(one.day)
    rows = await _count(
        link, q(f"select 1 from contrapas_outbox_default where {_OLD}"), passed, rules.keep_days
    )
    return Plan(tuple(make), tuple(drop), tuple(waiting), rows, inbox, True)


_OLD: Final = "seq <= $1 and created_at < now() - make_interval(days => $2)"
_FORGET: Final = "received_at < clock_timestamp() - $1 * interval '1 millisecond'"


_SLOTS: Final = """\
select count(*), count(*) filter (where wal_status = 'lost') from pg_replication_slots
where slot_type = 'logical' and database = current_database()"""
_ALL: Final = (1 << 63) - 1


async def acknowledged(link: Link, rules: Rules) -> int:
    """Every row up to here was acknowledged to every relay there is; 0 where none has ever run.

    Under Debezium a slot keeps the server's log until its connector has sent it, whatever becomes of the table: all rows
    count, but none while there is no slot, or one that lost its place and must read the table anew.
    """
    if rules.sent:
        slots, lost = (await link.rows(_SLOTS))[0]
        return _ALL if slots and not lost else 0
    sql = qualified("select coalesce(min(last_seq), 0) from contrapas_relay", rules.schema)
    return int((await link.rows(sql))[0][0])


async def _owner(link: Link, schema: str) -> bool:
    sql = f"select pg_has_role(relowner, 'usage') from pg_class where oid = '{qualified('contrapas_outbox', schema)}'::regclass"
    return bool((await link.rows(sql))[0][0])


async def _in_default(link: Link, schema: str, day: date) -> bool:
    """A day whose rows lie in the default partition stays there: PostgreSQL would refuse to make it."""
    low, high = _bounds(day)
    sql = f"select 1 from contrapas_outbox_default where created_at >= '{low}' and created_at < '{high}' limit 1"
    return bool(await link.rows(qualified(sql, schema)))


def _bounds(day: date) -> tuple[str, str]:
    return f"{day.isoformat()} 00:00+00", f"{(day + timedelta(1)).isoformat()} 00:00+00"


async def prune(link: Link, rules: Rules, *, budget_ms: int) -> tuple[int, int]:
    """Make days, drop days (owner only), delete acknowledged rows of the default partition and old inbox rows.

    Gives (outbox rows and days removed, inbox rows removed). Stops when the budget is used up; what is left is for
    the next time.
    """
    end = time.monotonic() + budget_ms / 1000
    todo = await plan(link, rules)
    gone = 0
    if todo.owner:
        passed = await acknowledged(link, rules)
        for day in todo.make:
            await _once(link, _make(rules.schema, day))
        for day in todo.drop:
            if time.monotonic() < end:
                gone += await _dropped(link, rules.schema, day, passed)
        sql = f"""delete from contrapas_outbox_default where ctid = any(array(
          select ctid from contrapas_outbox_default where {_OLD} limit {CHUNK})) returning 1"""
        gone += await _chunks(link, qualified(sql, rules.schema), end, passed, rules.keep_days)
    sql = f"""delete from contrapas_inbox where ctid = any(array(
      select ctid from contrapas_inbox where {_FORGET} limit {CHUNK})) returning 1"""
    return gone, await _chunks(link, qualified(sql, rules.schema), end, rules.inbox_ms)


async def _chunks(link: Link, sql: str, end: float, *values: Any) -> int:
    total = 0
    while time.monotonic() < end:
        count = len(await link.rows(sql, *values))
        total += count
        if count < CHUNK:
            break
    return total


def _make(schema: str, day: date) -> Sequence[str]:
    """Attached, not created in place: writers go on meanwhile."""
    table = qualified(f"contrapas_outbox_{day:%Y%m%d}", schema)
    low, high = _bounds(day)
    outbox = qualified("contrapas_outbox", schema)
    return (
        f"create table {table} (like {outbox} including defaults including constraints)",
        f"alter table {outbox} attach partition {table} for values from ('{low}') to ('{high}')",
    )


async def _dropped(link: Link, schema: str, day: date, passed: int) -> int:
    """Drop a day, looked at once more under the lock that keeps writers out."""
    outbox, table = qualified("contrapas_outbox", schema), qualified(f"contrapas_outbox_{day:%Y%m%d}", schema)
    look = f"""do $$ begin
      if exists (select 1 from {table} where seq > {int(passed)}) then
        raise exception 'contrapas: a row came late' using errcode = '55P03';
      end if;
    end $$"""
    locks = f"lock table {outbox} in access exclusive mode"
    return int(await _once(link, (locks, look, f"drop table {table}")))


async def _once(link: Link, statements: Sequence[str]) -> bool:
    """In one transaction whose locks nobody waits long for; False when they could not be had, after some tries."""
    for attempt in range(5):
        await link.rows("begin")
        try:
            await link.rows(f"set local lock_timeout = {LOCK_MS}")
            for sql in statements:
                await link.rows(sql)
            await link.rows("commit")
            return True
        except BaseException as error:
            await link.rows("rollback")
            if sqlstate(error) in ("42P07", "42P01"):  # somebody else has made or dropped it meanwhile
                return True
            if not isinstance(meaning(error, ""), Retriable):
                raise
            await asyncio.sleep(0.05 * (attempt + 1))
    return False


def needs_owner(name: str) -> Refused:
    """For the command line: this role cannot do all of it."""
    return Refused(
        "CP822",
        f"PostgreSQL {name}: days of the outbox are made and dropped by the owner of contrapas_outbox",
        fix="run contrapas store prune with the role that ran the migrations",
    )
