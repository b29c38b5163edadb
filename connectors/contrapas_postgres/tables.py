"""The log's tables in a database: what the server must be like, what is recorded, how they are made."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Final

import asyncpg

from contrapas.errors import LogError, Refused
from contrapas.log.control import encode_control, new_control
from contrapas_postgres.connections import Connection
from contrapas_postgres.explain import FAILURES, explain
from contrapas_postgres.log_statements import VERSION, definition, statements

PARTITIONER: Final = "murmur2"
PARTITIONS: Final = 24
OLDEST: Final = 130_000
LASTING: Final = ("fsync", "full_page_writes", "synchronous_commit")
"""Without these a server confirms what it may lose."""


async def check_version(conn: Connection, place: str) -> None:
    """Refused CP518 before 13."""
    version = await conn.fetchval("select current_setting('server_version_num')::int")
    if version < OLDEST:
        text = f"PostgreSQL {conn.get_server_version().major} is older than 13"
        raise Refused("CP518", text, fix="update the server to 13 or later", place=place)


async def check_writable(conn: Connection, place: str) -> None:
    """Refused CP514 on a standby, or where transactions are read-only by default."""
    standby, read_only = await conn.fetchrow(
        "select pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'"
    ) or (False, False)
    if standby:
        fix = "name the primary, or all servers: postgresql://a,b/db?target_session_attrs=read-write"
        raise Refused("CP514", "the server is a standby, it takes no writes", fix=fix, place=place)
    if read_only:
        fix = "alter database … set default_transaction_read_only = off, or the same for the role"
        raise Refused(
            "CP514", "the database takes no writes: default_transaction_read_only is on", fix=fix, place=place
        )


async def not_lasting(conn: Connection) -> list[str]:
    """Settings under which what is confirmed may be lost."""
    found = {name: await conn.fetchval("select current_setting($1)", name) for name in LASTING}
    return [name for name, value in found.items() if value == "off"]


async def check_lasting(conn: Connection, place: str) -> None:
    """Refused CP514 for a server that loses what it confirmed."""
    for name in await not_lasting(conn):
        raise Refused(
            "CP514",
            f"{name} is off: a power cut, or for some a crash of the server, loses what it confirmed",
            fix=f"alter system set {name} = on; select pg_reload_conf()",
            place=place,
        )


async def is_pooled(one: Connection, other: Connection) -> bool:
    """Whether a server connection is ours only for a transaction.

    A proxy shows by a process number that is not the server's; one that pools by transaction by giving a session's
    server connection, which it just let go, to the next who asks.
    """
    if await one.fetchval("select pg_backend_pid()") == one.get_server_pid():
        return False
    before = await other.fetchval("select pg_backend_pid()")
    async with one.transaction():
        await one.fetchval("select 1")
        return bool(before != await other.fetchval("select pg_backend_pid()"))


async def marks(conn: Connection, namespace: str) -> dict[str, str] | None:
    """What is recorded of a namespace; None when it has no tables here."""
    sql = statements(namespace)
    if not await conn.fetchval(sql.exists, f"{sql.schema}.meta"):
        return None
    return {r["name"]: r["value"] for r in await conn.fetch(sql.meta)}


async def namespaces(conn: Connection) -> list[str]:
    """Namespaces with a log in this database."""
    rows = await conn.fetch(
        "select nspname from pg_namespace where nspname like 'contrapas\\_%' "
        "and to_regclass(nspname || '.lane_log') is not null order by nspname"
    )
    return [row[0].removeprefix("contrapas_").replace("_", "-") for row in rows]


async def cluster(conn: Connection) -> str:
    """The server's identity, which a copy by `pg_dump` does not take along."""
    try:
        return str(await conn.fetchval("select system_identifier from pg_control_system()"))
    except asyncpg.InsufficientPrivilegeError:
        return ""


async def check_marks(
    conn: Connection, found: Mapping[str, str], namespace: str, partitions: int | None, place: str
) -> None:
    """Refused CP514 (tables newer or older), CP504 (count, partitioner), CP521 (restored elsewhere); LogError CP505."""
    schema = statements(namespace).schema
    version = int(found.get("schema", "0"))
    if version > VERSION:
        text = (
            f"tables of {schema} were made by a newer contrapas (version {version}, this one knows {VERSION})"
        )
        raise Refused("CP514", text, fix="upgrade contrapas", place=place)
    if version < VERSION:
        text = f"tables of {schema} are of version {version}, this contrapas needs {VERSION}"
        raise Refused("CP514", text, fix="contrapas topic create --apply", place=place)
    if found.get("namespace") != namespace:
        text = f"{schema} belongs to namespace {found.get('namespace')!r}, not to {namespace!r}"
        raise LogError("CP505", text, fix="name another database or namespace", place=place)
    if partitions is not None and found.get("partitions") != str(partitions):
        text = f"{schema} was made with {found.get('partitions')} partitions, {partitions} are configured"
        raise Refused(
            "CP504", text, fix="keep the recorded number; a larger one needs a new namespace", place=place
        )
    if found.get("partitioner") != PARTITIONER:
        raise Refused(
            "CP504", f"{schema} was made with partitioner {found.get('partitioner')!r}", place=place
        )
    now = await cluster(conn)
    if now and found.get("cluster") not in ("", now):
        fix = (
            "correct the address; or, when the copy is whole and the old one will never run again: "
            f"update {schema}.meta set value = '{now}' where name = 'cluster'"
        )
        text = f"{schema} was made on server {found.get('cluster')}, this is {now}: a copy"
        raise Refused("CP521", text, fix=fix, place=place)


async def create(conn: Connection, namespace: str, partitions: int, place: str) -> None:
    """Make the tables of a namespace; nothing when they are there. Two who do it at once make them once."""
    sql = statements(namespace)
    try:
        async with conn.transaction():
            await conn.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", sql.schema)
            if await marks(conn, namespace) is not None:
                return
            await conn.execute(definition(namespace))
            await _fill(conn, namespace, partitions)
    except FAILURES as why:
        raise explain(why, place, sent=True) from why


async def _fill(conn: Connection, namespace: str, partitions: int) -> None:
    schema = statements(namespace).schema
    recorded = {
        "schema": str(VERSION),
        "namespace": namespace,
        "partitions": str(partitions),
        "partitioner": PARTITIONER,
        "id": os.urandom(6).hex(),
        "cluster": await cluster(conn),
        "created_ms": str(time.time_ns() // 1_000_000),
    }
    await conn.executemany(f"insert into {schema}.meta values($1, $2)", list(recorded.items()))
    control = encode_control(new_control(partitions))
    await conn.execute(
        f"insert into {schema}.part select p, 0, '', 0, 0, 0, 0, $2 from generate_series(0, $1::int - 1) p",
        partitions,
        control,
    )
    await conn.execute(f"insert into {schema}.topic(t, name, partitions) values (0, 'in', $1)", partitions)
    await conn.execute(
        f"insert into {schema}.topic_part select 0, p, 0, 0, 0 from generate_series(0, $1::int - 1) p",
        partitions,
    )
