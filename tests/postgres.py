"""PostgreSQL for tests: one server for the session, started when a test first asks for it, a fresh database for each test.

`CONTRAPAS_TEST_POSTGRES` is the address of a server to use instead of our own (its user must be allowed to create
databases). A server that cannot be had is a visible skip, and a failure where `CI` is set.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from deploy.postgres.server import NEWEST, OLDEST, Missing, Server
from tests.installed import missing

__all__ = [
    "Database",
    "StartServer",
    "execute",
    "own_postgres",
    "postgres",
    "postgres_oldest",
    "postgres_servers",
]

StartServer = Callable[..., Server]


@dataclass(frozen=True, slots=True)
class Database:
    """A database that is a test's own."""

    url: str
    name: str
    server: Server | None
    """None when the server is somebody else's."""


def execute(url: str, *statements: str) -> None:
    """Run statements, each by itself, from outside any event loop."""
    failed: list[BaseException] = []

    async def run() -> None:
        conn = await asyncpg.connect(url, timeout=30)
        try:
            for statement in statements:
                await conn.execute(statement)
        finally:
            await conn.close()

    def whole() -> None:
        try:
            asyncio.run(run())
        except BaseException as why:  # noqa: BLE001 - told in the thread that waits
            failed.append(why)

    thread = threading.Thread(target=whole)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


class _Servers:
    """The session's servers, by major version."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._found: dict[int, Server | str] = {}

    def one(self, major: int) -> Server:
        found = self._found.get(major)
        if found is None:
            try:
                found = self._stack.enter_context(Server(major)).start()
            except Missing as why:
                found = str(why)
            self._found[major] = found
        if isinstance(found, str):
            return missing(found)
        return found

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[_Servers]:
    servers = _Servers()
    yield servers
    servers.close()


def _database(servers: _Servers, major: int) -> Iterator[Database]:
    name = f"t_{secrets.token_hex(6)}"
    given = os.environ.get("CONTRAPAS_TEST_POSTGRES", "")
    if given and major == NEWEST:
        server, root = None, given
        url = urlunsplit(urlsplit(given)._replace(path=f"/{name}"))
    else:
        server = servers.one(major)
        root, url = server.url(), server.url(name)
    execute(root, f"create database {name}")
    yield Database(url, name, server)
    execute(root, f"drop database {name} with (force)")


@pytest.fixture
def postgres(postgres_servers: _Servers) -> Iterator[Database]:
    """A fresh database on the newest PostgreSQL."""
    yield from _database(postgres_servers, NEWEST)


@pytest.fixture
def postgres_oldest(postgres_servers: _Servers) -> Iterator[Database]:
    """A fresh database on the oldest PostgreSQL we work with."""
    yield from _database(postgres_servers, OLDEST)


@pytest.fixture
def own_postgres() -> Iterator[StartServer]:
    """Starts a server of the test's own, to be killed and started again; takes what `Server` takes."""
    with ExitStack() as stack:

        def start(
            major: int = NEWEST, *, tcp: bool = False, settings: dict[str, str] | None = None
        ) -> Server:
            try:
                return stack.enter_context(Server(major, tcp=tcp, settings=settings)).start()
            except Missing as why:
                missing(str(why))

        yield start
