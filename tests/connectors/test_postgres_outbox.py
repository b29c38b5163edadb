"""The outbox on a real PostgreSQL: nothing lost behind the barrier, one relay at a time, what holds it back is named."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from contrapas.errors import Fenced, Refused
from contrapas.participant import SILENT_MS, Row, tables
from contrapas.testing.conformance_store import deliver, message, receipt, relayed
from contrapas_postgres import examine
from contrapas_postgres.sqlalchemy import SqlStore
from contrapas_postgres.store import PostgresStore
from tests.connectors.outbox_writer import KEYS
from tests.connectors.postgres_store_bench import alchemy
from tests.postgres import Database, execute

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def opened(url: str, count: int = 1) -> AsyncGenerator[list[PostgresStore]]:
    """Stores over one prepared database, each with a pool of its own."""
    stores = [PostgresStore(url, name="shop", deadline_s=5) for _ in range(count)]
    await stores[0].prepare()
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


async def test_the_very_first_row_is_not_passed_over_by_a_relay_that_was_there_before(
    postgres: Database, postgres_oldest: Database
) -> None:
    for database in (postgres, postgres_oldest):
        async with opened(database.url) as (store,):
            claim = await store.outbox.claim("shop", "one")
            assert await store.outbox.upto(claim.last, wait_ms=50) == 0
            await deliver(store, receipt(), rows=[message("m1")])
            assert [r.message.id for r in await relayed(store)] == [message("m1").id]


async def test_writers_killed_in_mid_transaction_leave_no_hole_that_holds_and_no_row_out_of_order(
    postgres: Database,
) -> None:
    execute(postgres.url, "create table business (key text primary key, value text)",
            f"insert into business select 'k' || n, '0' from generate_series(0, {KEYS - 1}) n")  # fmt: skip
    async with opened(postgres.url) as (store,):
        claim = await store.outbox.claim("shop", "one")
        last, rows = claim.last, list[Row]()

        async def read(wait_ms: int) -> int:
            nonlocal last
            upto = await store.outbox.upto(last, wait_ms=wait_ms)
            found = list(await store.outbox.page(last, upto, 10_000)) if upto > last else []
            rows.extend(found)
            last = max(last, upto)
            await store.outbox.advance("shop", claim.epoch, last)
            return len(found)

        for turn in range(3):
            writers = [_writer(postgres.url, f"{turn}-{n}") for n in range(2)]
            for writer in writers:
                assert writer.stdout is not None
                await asyncio.to_thread(writer.stdout.readline)
            seen = 0
            while seen < 60:
                seen += await read(100)
            for writer in writers:
                writer.kill()
                writer.wait()
        while await read(500):
            pass
        pool = await store.pool()
        committed = {str(r[0]): r[1] for r in await pool.fetch("select id, seq from contrapas_outbox")}
        assert {r.message.id for r in rows} == set(committed)
        for k in range(KEYS):
            numbers = [json.loads(r.message.payload)["n"] for r in rows if r.message.key == f"k{k}"]
            assert numbers == list(range(1, len(numbers) + 1)), k
        assert await pool.fetchval("select count(*) from contrapas_inbox") == len(committed)


def _writer(url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.connectors.outbox_writer", url, name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_a_relay_that_was_stopped_is_taken_over_when_it_has_been_silent(postgres: Database) -> None:
    async with opened(postgres.url, 3) as (one, two, three):
        old = await one.outbox.claim("shop", "one")
        with pytest.raises(Fenced, match="one relays the outbox"):
            await two.outbox.claim("shop", "two")
        execute(
            postgres.url,
            f"update contrapas_relay set updated_at = updated_at - interval '{SILENT_MS + 1000} ms'",
        )
        new = await two.outbox.claim("shop", "two")
        assert new.epoch == old.epoch + 1
        with pytest.raises(Fenced):
            await one.outbox.advance("shop", old.epoch, 5)
        with pytest.raises(Fenced):
            await three.outbox.claim("shop", "three")
        assert (await two.status()).relays["shop"] == (new.epoch, 0)


async def test_of_many_that_claim_at_once_one_gets_it(postgres: Database) -> None:
    async with opened(postgres.url, 6) as stores:
        first = await stores[0].outbox.claim("shop", "s0")
        execute(
            postgres.url,
            f"update contrapas_relay set updated_at = updated_at - interval '{SILENT_MS + 1000} ms'",
        )
        claims = await asyncio.gather(
            *(s.outbox.claim("shop", f"s{n}") for n, s in enumerate(stores[1:], 1)), return_exceptions=True
        )
        won = [c for c in claims if not isinstance(c, BaseException)]
        assert len(won) == 1 and won[0].epoch > first.epoch, claims
        assert all(isinstance(c, Fenced) for c in claims if isinstance(c, BaseException)), claims


async def test_a_claim_outlives_the_loss_of_its_session(postgres: Database) -> None:
    async with opened(postgres.url) as (store,):
        claim = await store.outbox.claim("shop", "one")
        await deliver(store, receipt(), rows=[message("m1")])
        for _ in range(3):
            execute(
                postgres.url,
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and database = "
                "(select oid from pg_database where datname = current_database()) and pid <> pg_backend_pid()",
            )
            upto = await store.outbox.upto(0, wait_ms=500)
            assert len(await store.outbox.page(0, upto, 10)) == 1
            await store.outbox.advance("shop", claim.epoch, upto)


async def test_what_holds_the_outbox_back_is_named_with_pid_age_and_query(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "HORIZON_MS", 50)
    async with opened(postgres.url) as (store,):
        other = await asyncpg.connect(postgres.url)
        open_one = other.transaction()
        await open_one.start()
        await other.execute("create temp table held as select 'secret'::text as word")
        await deliver(store, receipt(), rows=[message("m1")])
        await asyncio.sleep(0.1)
        assert await store.outbox.upto(0, wait_ms=30) == 0
        held = await store.outbox.horizon()
        assert held.pid == other.get_server_pid() and held.age_ms >= 100 and "create temp table" in held.query
        (found,) = [f for f in await store.examine() if f.code == "CP515"]
        assert not found.refused and str(held.pid) in found.text and "pg_terminate_backend" in found.fix
        await open_one.rollback()
        assert await store.outbox.upto(0, wait_ms=2_000) > 0
        with suppress(asyncpg.PostgresError):
            await other.execute("begin")
            await other.execute("create table kept (n int)")
            await other.execute("prepare transaction 'forgotten'")
            await asyncio.sleep(0.1)
            held = await store.outbox.horizon()
            assert (held.pid, held.query) == (0, "prepared transaction forgotten")
            (found,) = [f for f in await store.examine() if f.code == "CP515"]
            assert "rollback prepared 'forgotten'" in found.fix
            await other.execute("rollback prepared 'forgotten'")
        await other.close()


async def test_days_are_made_ahead_and_dropped_when_every_relay_has_passed_them(postgres: Database) -> None:
    async with opened(postgres.url) as (store,):
        pool = await store.pool()
        for age, kind in ((3, "day"), (2, "day"), (5, "default")):
            if kind == "day":
                await pool.execute(_day(age))
            await pool.execute(
                "insert into contrapas_outbox (aggregatetype, aggregateid, type, payload, source, created_at) "
                f"select 't', 'k', 'T', '{{}}', '/s', now() - interval '{age} days' from generate_series(1, 3)"
            )
        await pool.execute(f"drop table {_name(-5)}")
        plan = await store.plan()
        assert (len(plan.make), plan.drop, len(plan.waiting), plan.default_rows) == (1, (), 2, 0)
        assert await store.prune(budget_ms=5_000) == (0, 0)
        claim = await store.outbox.claim("shop", "one")
        upto = await store.outbox.upto(0, wait_ms=1_000)
        rows = await store.outbox.page(0, upto, 100)
        assert len(rows) == 9
        await store.outbox.advance("shop", claim.epoch, rows[2].seq)
        plan = await store.plan()
        assert (len(plan.make), len(plan.drop), len(plan.waiting), plan.default_rows) == (0, 1, 1, 0)
        assert await store.prune(budget_ms=5_000) == (1, 0)
        await store.outbox.advance("shop", claim.epoch, rows[8].seq)
        assert await store.prune(budget_ms=5_000) == (4, 0)
        assert await pool.fetchval("select count(*) from contrapas_outbox") == 0
        assert not [f for f in await store.examine()]


async def test_under_debezium_days_go_by_age_and_none_while_its_slot_is_not_there(postgres: Database) -> None:
    async with opened(postgres.url) as (relayed_store,):
        pool = await relayed_store.pool()
        store = PostgresStore(pool, name="shop", sender="debezium", keep_days=2)
        for age in (2, 3, 4):
            await pool.execute(_day(age))
            await pool.execute(
                "insert into contrapas_outbox (aggregatetype, aggregateid, type, payload, source, created_at) "
                f"values ('t', 'k', 'T', '{{}}', '/s', now() - interval '{age} days')"
            )
        await pool.execute(
            "insert into contrapas_outbox (aggregatetype, aggregateid, type, payload, source, created_at) "
            "values ('t', 'k', 'T', '{}', '/s', now() - interval '40 days')"
        )
        plan = await store.plan()
        assert (plan.drop, len(plan.waiting), plan.default_rows) == ((), 2, 0), "nobody has read them"
        assert await store.prune(budget_ms=5_000) == (0, 0)
        await pool.execute("select pg_create_logical_replication_slot('debezium', 'pgoutput')")
        try:
            plan = await store.plan()
            assert (len(plan.drop), len(plan.waiting), plan.default_rows) == (2, 0, 1)
            assert (await relayed_store.plan()).drop == (), "a relay goes by what it was acknowledged"
            # Two processes at once: each does what the other has not done yet.
            await asyncio.gather(*(store.prune(budget_ms=5_000) for _ in range(3)))
            assert await pool.fetchval("select count(*) from contrapas_outbox") == 1
            assert await store.prune(budget_ms=5_000) == (0, 0)
        finally:
            await pool.execute("select pg_drop_replication_slot('debezium')")


def _name(ago: int) -> str:
    from datetime import UTC, datetime, timedelta

    return f"contrapas_outbox_{datetime.now(UTC).date() - timedelta(ago):%Y%m%d}"


def _day(ago: int) -> str:
    low, high = (_name(n)[-8:] for n in (ago, ago - 1))
    return f"create table {_name(ago)} partition of contrapas_outbox for values from ('{low} 00:00+00') to ('{high} 00:00+00')"


async def test_a_day_that_nobody_made_lies_in_the_default_partition_and_is_sent_all_the_same(
    postgres: Database,
) -> None:
    async with opened(postgres.url) as (store,):
        for ago in range(-7, 1):
            execute(postgres.url, f"drop table {_name(ago)}")
        await deliver(store, receipt(), rows=[message("m1")])
        assert [r.message.id for r in await relayed(store)] == [message("m1").id]
        told = " ".join(f.text for f in await store.examine())
        assert "no day of the outbox is made ahead" in told and "default partition" in told
        await store.prune(budget_ms=5_000)
        left = await store.plan()
        assert left.make == () and len(await relayed(store)) == 1
        assert "no day" not in " ".join(f.text for f in await store.examine())


async def test_care_waits_behind_nobody_for_long_and_nobody_behind_it(postgres: Database) -> None:
    async with opened(postgres.url) as (store,):
        execute(postgres.url, _day(3))
        await store.outbox.claim("shop", "one")
        async with store.begin() as tx:
            await tx.take(receipt())
            await tx.finish(receipt(), reply=None, reply_type="", rows=[message("m1")])
            began = asyncio.get_running_loop().time()
            pruning = asyncio.create_task(store.prune(budget_ms=10_000))
            await asyncio.sleep(0.05)
            other = PostgresStore(await store.pool(), deadline_s=5)
            await deliver(other, receipt("c-2"), rows=[message("m2")])
            assert asyncio.get_running_loop().time() - began < 2
            assert await pruning == (0, 0)
        assert await store.prune(budget_ms=5_000) == (1, 0)


async def test_a_pool_of_one_connection_is_refused_to_a_relay(postgres: Database) -> None:
    pool: Any = await asyncpg.create_pool(postgres.url, min_size=0, max_size=1)
    store = PostgresStore(pool, deadline_s=2)
    await store.prepare()
    with pytest.raises(Refused, match="one connection"):
        await store.outbox.claim("shop", "one")
    await deliver(store, receipt())
    await store.close()
    await pool.close()
    engine = create_async_engine(alchemy(postgres.url), pool_size=1, max_overflow=0)
    mapped = SqlStore(async_sessionmaker(engine), deadline_s=2)
    with pytest.raises(Refused, match="one connection"):
        await mapped.outbox.claim("shop", "one")
    await deliver(mapped, receipt("c-2"))
    await engine.dispose()


async def test_a_relay_that_is_stopped_in_the_middle_of_a_wait_gives_its_outbox_up(
    postgres: Database,
) -> None:
    """SQLAlchemy throws a connection away whose statement was cancelled; asyncpg keeps it."""
    engine = create_async_engine(alchemy(postgres.url))
    async with opened(postgres.url) as (plain,):
        mapped = SqlStore(async_sessionmaker(engine), name="shop", deadline_s=5)
        stores: list[Any] = [mapped, plain, mapped]
        for turn, store in enumerate(stores):
            for wait_s in (0.0, 0.001, 0.003, 0.01, 0.03):
                claim = await store.outbox.claim("shop", f"owner {turn}")
                waiting = asyncio.create_task(store.outbox.upto(1 << 40, wait_ms=5_000))
                await asyncio.sleep(wait_s)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await store.outbox.release("shop", claim.epoch)
                pool = await plain.pool()
                assert await pool.fetchval("select owner from contrapas_relay") is None
        await mapped.close()
    await engine.dispose()


async def test_who_may_not_see_the_query_of_others_still_learns_whose_it_is_and_for_how_long(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "HORIZON_MS", 50)
    role = f"relay_{postgres.name}"
    other = await asyncpg.connect(postgres.url)
    try:
        async with opened(postgres.url) as (store,):
            grants = [
                g[3:] for g in tables.RIGHTS.splitlines() if g.startswith("-- grant") and "CARE" not in g
            ]
            execute(postgres.url, f"create role {role} login")
            execute(postgres.url, *(g.replace("APP", role).replace("RELAY", role) for g in grants))
            held = other.transaction()
            await held.start()
            await other.execute("create temp table held as select 'secret'::text as word")
            await deliver(store, receipt(), rows=[message("m1")])
            mine = PostgresStore(postgres.url.replace("postgres@", f"{role}@"), name="shop")
            assert await mine.outbox.upto(0, wait_ms=120) == 0
            found = await mine.outbox.horizon()
            assert found.pid == other.get_server_pid() and found.age_ms >= 100, found
            assert found.query.startswith("hidden: grant pg_read_all_stats")
            await held.rollback()
            assert await mine.outbox.upto(0, wait_ms=2_000) > 0
            await mine.close()
    finally:
        await other.close()
        execute(postgres.url, f"drop owned by {role}", f"drop role {role}")
