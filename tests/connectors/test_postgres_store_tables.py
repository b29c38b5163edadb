"""The store's tables: as printed, as Alembic runs them, with either payload, in any schema, and from the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

import contrapas_postgres.alembic as ours
from contrapas.cli.main import main
from contrapas.errors import DataError, Refused
from contrapas.participant import tables
from contrapas.testing.conformance_store import deliver, message, receipt, relayed
from contrapas_postgres.sqlalchemy import SqlStore
from contrapas_postgres.store import PostgresStore
from tests.cli.test_reading import fits, schema
from tests.connectors.postgres_store_bench import alchemy
from tests.postgres import Database, execute

NAMES = ["contrapas_inbox", "contrapas_outbox", "contrapas_relay", "contrapas_store"]


async def names(url: str, of: str = "public") -> list[str]:
    con = await asyncpg.connect(url)
    rows = await con.fetch(
        "select relname from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = $1 "
        "and relkind in ('r', 'p') and relname like 'contrapas%' and not relispartition order by 1",
        of,
    )
    await con.close()
    return [r[0] for r in rows]


@pytest.mark.parametrize("payload", ["jsonb", "bytea"])
async def test_the_printed_tables_work_in_a_schema_of_their_own(
    postgres: Database, payload: tables.Payload
) -> None:
    execute(postgres.url, "create schema shop", tables.script(payload=payload, schema="shop"))
    assert await names(postgres.url, "shop") == NAMES
    assert await names(postgres.url) == []
    engine = create_async_engine(alchemy(postgres.url))
    stores: list[Any] = [
        PostgresStore(postgres.url, schema="shop"),
        SqlStore(async_sessionmaker(engine), schema="shop"),
    ]
    for n, store in enumerate(stores):
        await deliver(store, receipt(f"c-{n}"), rows=[message(f"{n}-{i}") for i in range(n + 1)])
        assert not await store.examine()
        assert (await store.plan()).owner and await store.prune(budget_ms=1_000) == (0, 0)
        assert (await store.status()).inbox == n + 1
    assert len(await relayed(stores[1])) == 3
    avro = message("avro")._replace(payload=b"\x00\x00\x00\x00\x07\xff", content_type="application/avro")
    for n, store in enumerate(stores):
        if payload == "bytea":
            await deliver(store, receipt(f"a-{n}"), rows=[avro])
            assert (await relayed(store))[-1].message.payload == avro.payload
        else:
            with pytest.raises(DataError) as caught:
                await deliver(store, receipt(f"a-{n}"), rows=[avro])
            assert "bytea" in caught.value.fix
    await stores[0].close()
    await engine.dispose()


async def test_two_processes_that_prepare_at_once_make_the_tables_once(postgres: Database) -> None:
    stores = [PostgresStore(postgres.url, schema="dev") for _ in range(4)]
    await asyncio.gather(*(s.prepare() for s in stores))
    assert await names(postgres.url, "dev") == NAMES
    for store in stores:
        assert not await store.examine()
        await store.close()


async def test_alembic_runs_the_same_tables_up_and_down(
    postgres: Database, postgres_oldest: Database
) -> None:
    for database in (postgres, postgres_oldest):
        engine = create_async_engine(alchemy(database.url))
        async with engine.begin() as con:
            await con.run_sync(_up)
        assert await names(database.url) == NAMES
        store = PostgresStore(database.url)
        await deliver(store, receipt(), rows=[message("m1")])
        assert not await store.examine()
        await store.close()
        async with engine.connect() as con:
            assert await con.run_sync(_differences) == []
        async with engine.begin() as con:
            await con.run_sync(_down)
        assert await names(database.url) == []
        await engine.dispose()


def _up(con: Connection) -> None:
    operations: Any = Operations(MigrationContext.configure(con))
    operations.contrapas_store(to=1)


def _down(con: Connection) -> None:
    operations: Any = Operations(MigrationContext.configure(con))
    operations.drop_contrapas_store(start=1)


def _differences(con: Connection) -> Any:
    """What autogenerate would do to a database with our tables in it, under a model that does not know them."""
    return compare_metadata(
        MigrationContext.configure(con, opts={"include_name": ours.include_name}), MetaData()
    )


def test_alembic_prints_the_same_tables_offline(tmp_path: Path) -> None:
    out = (tmp_path / "out.sql").open("w+")
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": out}
    )
    operations: Any = Operations(context)
    operations.contrapas_store(payload="bytea", schema="shop")
    out.seek(0)
    text = out.read()
    wanted = [" ".join(s.split()) for s in tables.statements(tables.upgrade(payload="bytea", schema="shop"))]
    assert [s for s in wanted if s not in " ".join(text.split())] == []


def test_names_and_versions_that_cannot_be_are_refused() -> None:
    for bad in ('x"; drop table y; --', "1a", "a-b", "x" * 64):
        with pytest.raises(Refused, match="CP801"):
            tables.script(schema=bad)
    with pytest.raises(Refused, match="CP514"):
        tables.upgrade(start=5)
    assert "newest" in tables.script(start=tables.version())


# ---- the command line


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(args))
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def test_store_sql_prints_what_psql_can_run(postgres: Database, cli: Callable[..., Any]) -> None:
    code, out, _ = cli("store", "sql", "--schema", "shop", "--payload", "bytea")
    assert code == 0 and "payload       bytea" in out and '"shop".contrapas_outbox' in out
    execute(postgres.url, "create schema shop", out)
    assert asyncio.run(names(postgres.url, "shop")) == NAMES
    assert cli("store", "sql", "--from", "1")[1].startswith("-- contrapas: the tables are of version 1")
    assert cli("store", "sql", "--from", "9")[0] == 6


def test_store_status_and_prune_show_and_do(
    postgres: Database, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    """The first in a process of its own, as people run them; a process for each would take most of the time."""
    (tmp_path / "svc.py").write_text(
        f"from contrapas_postgres import PostgresStore\nstore = PostgresStore({postgres.url!r}, name='shop')\n"
        "gone = PostgresStore('postgresql://u:s3cret@127.0.0.1:1/away')\n"
        "from contrapas import App, Service\n"
        f"forgets = PostgresStore({postgres.url!r}, name='short', inbox='1h')\n"
        "app = App('shop')\napp.serve(Service('payments', store=forgets))\n"
    )
    words = [sys.executable, "-m", "contrapas", "store", "status", "svc"]
    done = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    code, out, err = done.returncode, done.stdout, done.stderr
    assert code == 6 and "version 0" in out and "CP514" in err and "store sql" in err
    run = cli
    execute(postgres.url, tables.script(), "drop table " + _tomorrow())
    asyncio.run(_deliver(postgres.url))
    code, out, _ = run("store", "status", "svc:store", "-o", "json")
    found = json.loads(out)
    fits(found, schema("store_status"))
    assert (code, found["outbox"], found["inbox"], found["version"]) == (0, 1, 1, 1)
    assert "1 waiting" in run("store", "status", "svc")[1]
    code, out, _ = run("store", "prune", "svc")
    assert code == 6 and "would make 1 day" in out and "repeat with --yes" in out
    code, out, _ = run("store", "prune", "svc", "--yes", "-o", "json")
    fits(json.loads(out), schema("store_prune"))
    assert code == 0 and len(json.loads(out)["make"]) == 1
    assert "nothing done" in run("store", "prune", "svc")[1]
    code, out, _ = run("doctor", "svc:store")
    assert "store shop: settings, tables, rights and days" in out
    code, out, _ = run("doctor", "svc:app")
    assert code == 4 and "CP805" in out and "store short: settings" in out
    code, out, err = run("store", "status", "svc:gone")
    assert code == 5 and "CP501" in err and "s3cret" not in err
    code, out, err = run("doctor", "svc:gone")
    assert code == 4 and "CP501" in out and "s3cret" not in out
    assert run("store", "status", "svc:nothing")[0] == 3


def _tomorrow() -> str:
    from datetime import UTC, datetime, timedelta

    return f"contrapas_outbox_{datetime.now(UTC).date() + timedelta(1):%Y%m%d}"


async def _deliver(url: str) -> None:
    store = PostgresStore(url)
    await deliver(store, receipt(), rows=[message("m1")])
    await store.close()
