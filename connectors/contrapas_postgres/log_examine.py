"""What `doctor` finds about a PostgreSQL log: first what refuses a start, then what deserves a look."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from typing import Final

from contrapas.errors import ContrapasError
from contrapas.log import Finding
from contrapas.log.control import decode_control
from contrapas_postgres import tables
from contrapas_postgres.connections import Connection, Server, close
from contrapas_postgres.explain import FAILURES, explain, pooled
from contrapas_postgres.log_statements import Statements, statements
from contrapas_postgres.session import SILENT_MS

HELD_S: Final = 10
"""A transaction open for longer holds back the outbox, and the removal of dead rows, for long enough to be named."""
SLOT_BYTES: Final = 1 << 30
_LATE_MS: Final = 60_000


async def findings(
    server: Server, namespace: str | None, partitions: int | None, *, relaxed: bool
) -> list[Finding]:
    """Everything that is found; a server that does not answer is the only finding then."""
    try:
        conn = await server.connect()
    except ContrapasError as no:
        return [_finding(no)]
    found: list[Finding] = []
    try:
        for check in (tables.check_version, tables.check_writable):
            await _asked(found, check(conn, server.place))
        await _asked(found, _pooled(server, conn))
        found += [one async for one in _lasting(conn, server.place, relaxed)]
        if namespace is not None and await _recorded(found, conn, namespace, partitions, server.place):
            sql = statements(namespace)
            for look in (_permissions, _positions, _holders):
                found += [one async for one in look(conn, sql, server.place)]
        for glance in (_horizon, _prepared, _slots, _standby):
            found += [one async for one in glance(conn, server.place)]
    except FAILURES as why:
        found.append(_finding(explain(why, server.place, sent=False)))
    finally:
        await close(conn)
    return sorted(found, key=lambda one: not one.refused)


async def _asked(found: list[Finding], check: Awaitable[None]) -> bool:
    try:
        await check
    except ContrapasError as no:
        found.append(_finding(no))
        return False
    return True


def _finding(error: ContrapasError) -> Finding:
    return Finding(True, error.code, error.text, error.fix, error.place)


async def _pooled(server: Server, conn: Connection) -> None:
    other = await server.connect()
    try:
        if await tables.is_pooled(conn, other):
            raise pooled(server.place, "the server's process changes")
    finally:
        await close(other)


async def _lasting(conn: Connection, place: str, relaxed: bool) -> AsyncGenerator[Finding]:
    for name in await tables.not_lasting(conn):
        fix = f"alter system set {name} = on; select pg_reload_conf()"
        text = f"{name} is off: what is confirmed may be lost"
        yield Finding(not relaxed, "CP514", text, fix, place)


async def _recorded(
    found: list[Finding], conn: Connection, namespace: str, partitions: int | None, place: str
) -> bool:
    marks = await tables.marks(conn, namespace)
    if marks is None:
        fix = f"contrapas topic create --log '{place}' --namespace {namespace} --apply"
        found.append(Finding(True, "CP505", f"no tables of namespace {namespace}", fix, place))
        return False
    return await _asked(found, tables.check_marks(conn, marks, namespace, partitions, place))


async def _permissions(conn: Connection, sql: Statements, place: str) -> AsyncGenerator[Finding]:
    names = ("part", "lane_log", "topic", "topic_part", "lane_topic", "position", "session")
    for name in names:
        missing = [
            word
            for word in ("select", "insert", "update", "delete")
            if not await conn.fetchval("select has_table_privilege($1, $2)", f"{sql.schema}.{name}", word)
        ]
        if missing:
            user = await conn.fetchval("select current_user")
            text = f"{user} may not {', '.join(missing)} on {sql.schema}.{name}"
            yield Finding(
                True, "CP822", text, f"grant {', '.join(missing)} on {sql.schema}.{name} to {user}", place
            )


async def _positions(conn: Connection, sql: Statements, place: str) -> AsyncGenerator[Finding]:
    namespace = sql.schema.removeprefix("contrapas_").replace("_", "-")
    for row in await conn.fetch(sql.parts):
        p, start, end = row["p"], row["in_start"], row["in_head"]
        try:
            control = decode_control(row["control"], place=f"{namespace}.part/{p}")
        except ContrapasError as no:
            yield _finding(no)
            continue
        at = next(
            (o for (s, q), o in control.cursor.items() if q == p and s.partition("@")[0] == "in"), start
        )
        where = f"{namespace}.in/{p}@{at}"
        if at > end:
            yield Finding(True, "CP506", f"position {at} lies beyond the end, {end}", place=where)
        elif at < start:
            text = f"position {at} lies below the first record, {start}"
            yield Finding(True, "CP519", text, place=where)
        elif at < end:
            late = await conn.fetchval(
                f"select (extract(epoch from clock_timestamp()) * 1000)::bigint - ts from {sql.schema}.lane_topic "
                "where t = 0 and p = $1 and o >= $2 order by o limit 1",
                p,
                at,
            )
            if late is not None and late > _LATE_MS:
                text = f"{end - at} records wait, the oldest for {late // 1000} s"
                yield Finding(False, "CP523", text, "start a worker: contrapas worker", where)


async def _holders(conn: Connection, sql: Statements, place: str) -> AsyncGenerator[Finding]:
    for row in await conn.fetch(sql.holders):
        if row["silent_ms"] >= SILENT_MS:
            text = (
                f"{row['owner'] or 'a worker'} (pid {row['pid']} on {row['host']}) holds partition {row['p']} "
                f"and has been silent for {row['silent_ms'] // 1000} s"
            )
            fix = f"continue or kill that process; or: select pg_terminate_backend({row['backend']})"
            yield Finding(False, "CP811", text, fix, place)


# ---- the server


async def _horizon(conn: Connection, place: str) -> AsyncGenerator[Finding]:
    """Transactions that write, or that see an old state, hold back who reads what is surely complete."""
    rows = await conn.fetch(
        "select pid, extract(epoch from clock_timestamp() - xact_start)::int as age, state, left(query, 120) as query "
        "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
        "and backend_type = 'client backend' and (backend_xid is not null or backend_xmin is not null) "
        "and xact_start < clock_timestamp() - make_interval(secs => $1) order by xact_start",
        float(HELD_S),
    )
    for row in rows:
        text = (
            f"pid {row['pid']} has a transaction open for {row['age']} s ({row['state']}), which holds back the outbox and "
            f"the removal of dead rows: {row['query']}"
        )
        yield Finding(False, "CP515", text, f"end it: select pg_terminate_backend({row['pid']})", place)


async def _prepared(conn: Connection, place: str) -> AsyncGenerator[Finding]:
    rows = await conn.fetch(
        "select gid, owner, extract(epoch from clock_timestamp() - prepared)::int as age from pg_prepared_xacts "
        "where database = current_database() order by prepared"
    )
    for row in rows:
        text = f"the prepared transaction {row['gid']!r} of {row['owner']} is {row['age']} s old and holds back the outbox"
        yield Finding(False, "CP515", text, f"commit prepared or rollback prepared '{row['gid']}'", place)


async def _slots(conn: Connection, place: str) -> AsyncGenerator[Finding]:
    rows = await conn.fetch(
        "select slot_name, active, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint as behind "
        "from pg_replication_slots where restart_lsn is not null and not pg_is_in_recovery()"
    )
    for row in rows:
        if row["behind"] >= SLOT_BYTES:
            state = "" if row["active"] else ", which nobody reads,"
            text = f"the replication slot {row['slot_name']}{state} keeps {row['behind'] >> 20} MiB of write-ahead log"
            fix = f"start its reader, or: select pg_drop_replication_slot('{row['slot_name']}')"
            yield Finding(False, "CP515", text, fix, place)


async def _standby(conn: Connection, place: str) -> AsyncGenerator[Finding]:
    names = await conn.fetchval("select current_setting('synchronous_standby_names')")
    if not names:
        text = "no synchronous standby: after a failover the newest commits may be missing"
        yield Finding(
            False, "CP514", text, "set synchronous_standby_names, if failovers are to lose nothing", place
        )
