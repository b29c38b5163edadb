"""The log at `postgresql://…`: open it, plan and make its tables, look at the server. The entry point of the scheme."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from contrapas.errors import LogError
from contrapas.log import Finding, Plan
from contrapas_postgres import tables
from contrapas_postgres.connections import Connection, Server, close
from contrapas_postgres.explain import FAILURES, explain, pooled
from contrapas_postgres.log import PostgresLog
from contrapas_postgres.log_statements import definition, statements

if TYPE_CHECKING:
    from contrapas_postgres.only import PostgresTopics

__all__ = ["apply", "examine", "namespaces", "open", "plan", "reading", "sql"]

RELAXED = "contrapas_durability"
"""`?contrapas_durability=none` in an address: also a server that may lose what it confirms, for development."""


async def open(
    url: str,
    namespace: str,
    *,
    partitions: int | None = None,
    make: bool = False,
    dev: bool = False,
    clock: Callable[[], int] | None = None,
) -> PostgresLog:
    """Open a namespace's log.

    make: create its tables when there are none, with 24 partitions if not told. dev: also on a server that may lose what it
    confirmed. Refused CP514 (a standby, read-only, a
    proxy that pools by transaction, settings that lose what was confirmed, tables newer or older), CP518, CP504, CP521;
    LogError CP505 without tables; Unreachable CP501.
    """
    server, relaxed = _server(url)
    async with _connected(server) as conn:
        await tables.check_version(conn, server.place)
        await tables.check_writable(conn, server.place)
        if not relaxed and not dev:
            await tables.check_lasting(conn, server.place)
        await _check_session(server, conn)
        found = await tables.marks(conn, namespace)
        if found is None:
            if not make:
                fix = f"contrapas topic create --log '{server.place}' --namespace {namespace} --apply"
                text = f"there are no tables of namespace {namespace}"
                raise LogError("CP505", text, fix=fix, place=server.place)
            await tables.create(conn, namespace, partitions or tables.PARTITIONS, server.place)
            found = await tables.marks(conn, namespace) or {}
        await tables.check_marks(conn, found, namespace, partitions, server.place)
        durable = not await tables.not_lasting(conn)
    return PostgresLog(server, namespace, int(found["partitions"]), found["id"], durable=durable, clock=clock)


async def reading(url: str, namespace: str) -> PostgresTopics:
    """A namespace's topics, to be read and nothing else: its connections cannot write. LogError CP505 without tables;
    Unreachable CP501."""
    from contrapas_postgres import only

    return await only.reading(_server(url)[0].url, namespace)


async def plan(
    url: str, namespace: str, partitions: int | None, topics: Mapping[str, int], *, dev: bool = False
) -> Plan:
    """What is missing of a log and its topics. Raises what opening it would. dev: makes no difference here."""
    server, _ = _server(url)
    async with _connected(server) as conn:
        found = await tables.marks(conn, namespace)
        if found is None:
            return Plan(url, namespace, partitions or tables.PARTITIONS, True, dict(topics))
        await tables.check_marks(conn, found, namespace, partitions, server.place)
        there = {r["name"] for r in await conn.fetch(statements(namespace).topics)}
    missing = {name: count for name, count in topics.items() if name not in there}
    return Plan(url, namespace, int(found["partitions"]), False, missing)


async def apply(made: Plan) -> None:
    """Create what a plan lists; again it changes nothing."""
    log = await open(made.url, made.namespace, partitions=made.partitions, make=made.make)
    try:
        if made.topics:
            await log.create_topics(made.topics)
    finally:
        await log.close()


async def namespaces(url: str) -> list[str]:
    """Namespaces that have a log in a database."""
    server, _ = _server(url)
    async with _connected(server) as conn:
        return await tables.namespaces(conn)


def sql(namespace: str) -> str:
    """The statements that `apply` would run, for who runs them by other means."""
    return definition(namespace)


async def examine(
    url: str, namespace: str | None = None, partitions: int | None = None, *, dev: bool = False
) -> list[Finding]:
    """What `doctor` says about a server: first what refuses a start, then what deserves a look. dev: what may lose what it
    confirmed is worth a look only."""
    from contrapas_postgres.log_examine import findings

    server, relaxed = _server(url)
    return await findings(server, namespace, partitions, relaxed=relaxed or dev)


def _server(url: str) -> tuple[Server, bool]:
    """The server of an address, and whether it may lose what it confirmed."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    if RELAXED not in dict(options):
        return Server(url), False
    relaxed = dict(options)[RELAXED] == "none"
    rest = urlencode([(name, value) for name, value in options if name != RELAXED], safe="/")
    return Server(urlunsplit(parts._replace(query=rest))), relaxed


@asynccontextmanager
async def _connected(server: Server) -> AsyncGenerator[Connection]:
    conn = await server.connect()
    try:
        yield conn
    except FAILURES as why:
        raise explain(why, server.place, sent=False) from why
    finally:
        await close(conn)


async def _check_session(server: Server, conn: Connection) -> None:
    """Refused CP514 behind a proxy that pools by transaction."""
    if await conn.fetchval("select pg_backend_pid()") == conn.get_server_pid():
        return
    async with _connected(server) as other:
        if await tables.is_pooled(conn, other):
            raise pooled(server.place, "the server's process changes")
