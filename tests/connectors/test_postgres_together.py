"""A delivery through asyncpg in two round trips of ours, those of BEGIN and COMMIT; and whatever does not fit into them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from contrapas.errors import DataError, Retriable
from contrapas.participant import Outgoing, Receipt, Tx
from contrapas.testing.conformance_store import deliver, message, receipt, relayed
from contrapas_postgres import together
from contrapas_postgres.sqlalchemy import SqlStore
from contrapas_postgres.store import PostgresStore
from tests.connectors.postgres_store_bench import alchemy
from tests.postgres import Database, execute

NASTY = (
    "it's", "''", "'); drop table contrapas_inbox; --", "back\\slash", "\\'", "$1", "%s", "ü€𝄞", "a\nb\r\tc", "", '"', "/* */",
    "x" * (together.LARGE + 1), "E'\\x00'",
)  # fmt: skip


class Seen:
    """What a pool's only connection was asked."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.said: list[str] = []

    def __call__(self, record: Any) -> None:
        self.said.append(" ".join(record.query.split()))

    async def watch(self) -> None:
        async with self.pool.acquire() as con:
            con.add_query_logger(self)
        self.said.clear()


@asynccontextmanager
async def opened(url: str, **settings: str) -> AsyncGenerator[tuple[PostgresStore, Any]]:
    """A store on a pool of one connection, so that everything happens on it."""
    pool = await asyncpg.create_pool(url, min_size=1, max_size=1, server_settings=settings)
    store = PostgresStore(pool, name="shop", deadline_s=5)
    await store.prepare()
    await pool.execute("create table if not exists business (key text primary key, value text)")
    try:
        yield store, pool
    finally:
        pool.terminate()


def writes(key: str) -> Any:
    async def handle(tx: Tx[Any]) -> None:
        await tx.session.execute("insert into business values ($1, '1')", key)

    return handle


async def test_a_delivery_costs_no_round_trip_more_than_its_own_transaction(
    postgres: Database, postgres_oldest: Database
) -> None:
    for database in (postgres, postgres_oldest):
        async with opened(database.url) as (store, pool):
            assert await deliver(store, receipt("c-0"), writes("k0"), rows=[message("m0")]) is None
            seen = Seen(pool)
            async with pool.acquire() as con:
                con.add_query_logger(seen)
                seen.said.clear()
                await con.reset()
                reset = len(seen.said)
            await seen.watch()
            assert await deliver(store, receipt("c-1"), writes("k1"), undoes="", rows=[message("m1")]) is None
            began, business, ended, *others = [s for s in seen.said if s]
            assert began.startswith("BEGIN; execute cp_") and business.startswith("insert into business")
            assert (
                ended.startswith("execute cp_")
                and ended.endswith("; COMMIT;")
                and len(others) <= max(1, reset)
            )
            known = await deliver(store, receipt("c-1"), writes("k1"))
            assert known is not None and (known.reply, known.reply_type) == (b'{"ok":1}', "Charged")
            assert [r.message.id for r in await relayed(store)] == [message("m0").id, message("m1").id]


async def test_every_value_comes_back_as_it_was_given(postgres: Database) -> None:
    chance = random.Random(6)
    async with opened(postgres.url) as (store, pool):
        for n in range(60):
            words = [chance.choice(NASTY) for _ in range(4)]
            one = Receipt(
                "shop",
                f"p{words[0]}"[:60],
                f"/{words[1]}"[:200],
                f"c-{n}-{words[2]}"[:300],
                bytes(chance.randbytes(32)),
            )
            reply = chance.choice([None, b"", chance.randbytes(50), chance.randbytes(20_000)])
            text = words[3][:200]
            row = Outgoing(
                message(f"m{n}").id, "store.notes", f"k{text}"[:250], "Noted", b'{"a": "' + b"y" * chance.choice([1, 40_000]) + b'"}',
                "/services/it's", "application/json", chance.choice(["", "00-ab"]), {"ce_subject": text, "x'y": "\\"},
            )  # fmt: skip
            rows = [row][: chance.choice([0, 1, 1])]
            step = chance.choice(["", f"s-{words[1]}"[:100]])
            async with store.begin(one, undoes=step) as tx:
                assert await tx.take(one, undoes=step) is None
                await tx.finish(one, reply=reply, reply_type="" if reply is None else f"T{text}", rows=rows)
            async with store.begin(one) as tx:
                known = await tx.take(one)
            assert known is not None and (known.digest, known.reply) == (one.digest, reply)
            assert known.reply_type == ("" if reply is None else f"T{text}")
            if rows:
                found = (await pool.fetch("select * from contrapas_outbox order by seq desc limit 1"))[0]
                assert (found["aggregateid"], found["source"]) == (row.key, row.source)
                (sent,) = [r.message for r in await relayed(store) if r.message.id == row.id]
                assert dict(sent.headers) == dict(row.headers) and len(sent.payload) >= len(row.payload)


async def test_what_cannot_be_a_literal_goes_as_a_parameter(postgres: Database) -> None:
    """Where a backslash means something else, literals are not used at all."""
    async with opened(postgres.url, standard_conforming_strings="off", backslash_quote="on") as (store, pool):
        seen = Seen(pool)
        await seen.watch()
        assert await deliver(store, receipt("c-\\'1"), writes("k"), rows=[message("m1")]) is None
        assert not [s for s in seen.said if "execute cp_" in s]
        known = await deliver(store, receipt("c-\\'1"))
        assert known is not None and known.reply == b'{"ok":1}'
    for value in ("a\0b", "x" * (together.LARGE + 1), b"x" * together.LARGE, 7, 1.5, True):
        with pytest.raises(together.Unfit):
            together.literal(value)


async def test_a_session_that_forgets_what_was_prepared_is_served_the_usual_way(postgres: Database) -> None:
    async with opened(postgres.url) as (store, pool):
        assert await deliver(store, receipt("c-0"), writes("k0")) is None
        await pool.execute("deallocate all")
        with pytest.raises(Retriable, match="forgot"):
            await deliver(store, receipt("c-1"), writes("k1"))
        async with pool.acquire() as con:
            await con.reload_schema_state()
        for n in (1, 2):
            assert await deliver(store, receipt(f"c-{n}"), writes(f"k{n}"), rows=[message(f"m{n}")]) is None
        assert await pool.fetchval("select count(*) from business") == 3


async def test_what_is_refused_with_the_commit_leaves_nothing_and_a_session_that_can_be_used(
    postgres: Database,
) -> None:
    noise: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
    bad = Outgoing(message("m1").id, "store.notes", "k", "Noted", b"no json", "/s")
    async with opened(postgres.url) as (store, pool):
        async with pool.acquire() as con:
            pid = con.get_server_pid()
        with pytest.raises(DataError, match="no JSON"):
            await deliver(store, receipt(), writes("k"), rows=[bad])
        assert await pool.fetchval("select count(*) from business") == 0
        assert await deliver(store, receipt(), writes("k"), rows=[message("m1")]) is None
        async with pool.acquire() as con:
            assert con.get_server_pid() == pid
    assert noise == []


async def test_a_handler_that_swallows_an_error_of_its_database_commits_nothing(postgres: Database) -> None:
    async with opened(postgres.url) as (store, pool):

        async def swallows(tx: Tx[Any]) -> None:
            await tx.session.execute("insert into business values ('k', '1')")
            try:
                await tx.session.execute("select 1 / 0")
            except asyncpg.DivisionByZeroError:
                return

        with pytest.raises(Exception):  # noqa: B017  whichever it is, it is no success
            await deliver(store, receipt(), swallows, rows=[message("m1")])
        assert await pool.fetchval("select count(*) from business") == 0
        assert await deliver(store, receipt(), writes("k"), rows=[message("m1")]) is None


async def test_savepoints_of_the_handler_work_and_a_second_finish_is_added(postgres: Database) -> None:
    async with opened(postgres.url) as (store, pool):
        async with store.begin(receipt()) as tx:
            assert await tx.take(receipt()) is None
            async with tx.session.transaction():
                await tx.session.execute("insert into business values ('a', '1')")
            try:
                async with tx.session.transaction():
                    await tx.session.execute("insert into business values ('b', '1')")
                    raise ValueError
            except ValueError:
                pass
            await tx.finish(receipt(), reply=b"1", reply_type="T", rows=[message("m1")])
            await tx.finish(receipt(), reply=None, reply_type="", rows=[message("m2")])
        assert await pool.fetch("select key from business") == [("a",)]
        assert [r.message.id for r in await relayed(store)] == [message("m1").id, message("m2").id]


async def test_a_key_that_is_held_is_waited_for_until_the_deadline_and_no_session_is_left_behind(
    postgres: Database,
) -> None:
    execute(postgres.url, "create table business (key text primary key, value text)")
    first, second = (PostgresStore(postgres.url, name="shop", deadline_s=d) for d in (5, 0.4))
    await first.prepare()
    try:
        async with first.begin(receipt()) as tx:
            await tx.take(receipt())
            with pytest.raises(Retriable, match="no answer in time"):
                await deliver(second, receipt())
            await tx.finish(receipt(), reply=b"{}", reply_type="T", rows=())
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            assert await tx.session.fetchval(waiting) == 0
        known = await deliver(second, receipt())
        assert known is not None and known.reply == b"{}"
    finally:
        await first.close()
        await second.close()


async def test_sqlalchemy_s_sessions_share_the_round_trips_and_survive_a_refusal(postgres: Database) -> None:
    engine = create_async_engine(alchemy(postgres.url), pool_size=1, max_overflow=0)
    store = SqlStore(async_sessionmaker(engine), name="shop", deadline_s=5)
    await store.prepare()
    execute(postgres.url, "create table business (key text primary key, value text)")
    bad = Outgoing(message("m1").id, "store.notes", "k", "Noted", b"no json", "/s")

    async def writes_with_savepoint(tx: Tx[Any]) -> None:
        async with tx.session.begin_nested():
            await tx.session.execute(text("insert into business values ('k', '1')"))

    async with engine.connect() as con:
        raw: Any = (await con.get_raw_connection()).driver_connection
        pid = raw.get_server_pid()
        seen = Seen(None)
        raw.add_query_logger(seen)
    for _ in range(2):
        with pytest.raises(DataError, match="no JSON"):
            await deliver(store, receipt(), writes_with_savepoint, rows=[bad])
    await asyncio.sleep(0.01)  # asyncpg tells its loggers a turn later
    seen.said.clear()
    assert await deliver(store, receipt(), writes_with_savepoint, rows=[message("m1")]) is None
    await asyncio.sleep(0.01)
    ours = [s for s in seen.said if "contrapas" in s or "cp_" in s or s.startswith(("BEGIN", "COMMIT"))]
    assert len(ours) == 2 and ours[0].startswith("BEGIN") and ours[1].endswith("; COMMIT;"), seen.said
    known = await deliver(store, receipt())
    assert known is not None and known.reply == b'{"ok":1}'
    async with engine.connect() as con:
        raw = (await con.get_raw_connection()).driver_connection
        assert raw.get_server_pid() == pid and not raw.is_in_transaction()
        assert (await con.execute(text("select count(*) from business"))).scalar_one() == 1
    await engine.dispose()
