"""What a store says when its PostgreSQL refuses, is away, is shared out, or does not answer; and that nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from contrapas.errors import ContrapasError, DataError, Indeterminate, Refused, Retriable
from contrapas.participant import Receipt
from contrapas.runtime.open import shown as shown_anywhere
from contrapas.testing.conformance_store import Noted, deliver, message, receipt
from contrapas_postgres import connector
from contrapas_postgres.explain import shown
from contrapas_postgres.meaning import meaning
from contrapas_postgres.sqlalchemy import SqlStore
from contrapas_postgres.store import PostgresStore
from tests.connectors.pooler import pooler
from tests.connectors.postgres_store_bench import alchemy
from tests.postgres import Database, StartServer, execute


@asynccontextmanager
async def stores(url: str, **options: Any) -> AsyncGenerator[list[Any]]:
    """One of each kind."""
    engine = create_async_engine(alchemy(url))
    plain = PostgresStore(url, deadline_s=3, **options)
    try:
        yield [plain, SqlStore(async_sessionmaker(engine), deadline_s=3, **options)]
    finally:
        await plain.close()
        await engine.dispose()


async def prepared(url: str, *statements: str) -> None:
    """Our tables, and what a test needs."""
    async with stores(url) as (store, _):
        await store.prepare()
        async with store.lent() as link:
            for statement in statements:
                await link.rows(statement)


def raises_in(table: str, state: str, when: str = "before insert") -> tuple[str, str]:
    """A trigger by which the server fails as it would by itself."""
    return (
        "create function fail() returns trigger language plpgsql as "
        + f"$$ begin raise exception 'made by the test' using errcode = '{state}'; end $$",
        f"create trigger fail {when} on {table} for each row execute function fail()",
    )


async def failing(store: Any, id: str = "c-1", **more: Any) -> ContrapasError:
    """The error of a delivery."""
    with pytest.raises(ContrapasError) as caught:
        await deliver(store, receipt(id), rows=[message("m1")], **more)
    return caught.value


@pytest.mark.parametrize(
    ("state", "kind", "code", "words"),
    [
        ("40001", Retriable, "CP523", "nothing was written"),
        ("40P01", Retriable, "CP523", "nothing was written"),
        ("55P03", Retriable, "CP523", "nothing was written"),
        ("57014", Retriable, "CP523", "nothing was written"),
        ("53100", Retriable, "CP523", "disk is full"),
        ("53300", Retriable, "CP501", "cannot reach"),
        ("57P01", Retriable, "CP501", "cannot reach"),
        ("25006", Refused, "CP514", "takes no writes"),
        ("42501", Refused, "CP822", "made by the test"),
        ("26000", Refused, "CP514", "proxy"),
        ("22P05", DataError, "CP408", "NUL"),
    ],
)
async def test_each_state_of_the_server_has_its_meaning(
    postgres: Database, state: str, kind: type[ContrapasError], code: str, words: str
) -> None:
    await prepared(postgres.url, *raises_in("contrapas_inbox", state))
    async with stores(postgres.url) as both:
        for store in both:
            error = await failing(store)
            assert type(error) is kind and error.code == code and words in error.text, repr(error)


async def test_a_refusal_at_commit_is_one_and_a_broken_promise_of_the_user_s_tables_is_theirs(
    postgres: Database,
) -> None:
    trigger = raises_in("contrapas_inbox", "40001", "after insert")
    late = trigger[1].replace("create trigger", "create constraint trigger")
    late = late.replace("for each row", "deferrable initially deferred for each row")
    await prepared(postgres.url, trigger[0], late)
    async with stores(postgres.url) as both:
        for store in both:
            assert type(await failing(store)) is Retriable
            assert await store.outbox.upto(0, wait_ms=50) >= 0
            assert list(await store.outbox.page(0, 1 << 60, 10)) == []
    execute(postgres.url, "drop trigger fail on contrapas_inbox", "create table parent (id int primary key)",
            "create table child (id int references parent deferrable initially deferred)")  # fmt: skip

    async def plain(tx: Any) -> None:
        await tx.session.execute("insert into child values (1)")

    async def mapped(tx: Any) -> None:
        await tx.session.execute(text("insert into child values (1)"))

    async with stores(postgres.url) as (one, other):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await deliver(one, receipt("c-2"), plain)
        with pytest.raises(Exception, match="ForeignKeyViolation"):
            await deliver(other, receipt("c-2"), mapped)
        assert await deliver(one, receipt("c-2")) is None


async def test_a_commit_that_nobody_answers_is_unclear_and_the_inbox_decides(
    postgres: Database, tmp_path: Path
) -> None:
    await prepared(postgres.url)
    async with pooler(postgres.url, tmp_path, "session") as proxy, stores(proxy.url) as both:
        for n, store in enumerate(both):
            for when in ("before", "after"):
                id = f"{when}-{n}"
                await deliver(store, receipt(f"warm-{id}"))
                proxy.cut = "before" if when == "before" else "after"
                assert type(await failing(store, id)) is Indeterminate
                known = await deliver(store, receipt(id))
                assert (known is not None) == (when == "after"), id


async def test_a_server_that_is_away_or_silent_is_told_without_its_password(
    own_postgres: StartServer,
) -> None:
    server = own_postgres(tcp=True)
    url = server.tcp_url()
    await prepared(url)
    async with stores(url) as both:
        for store in both:
            await deliver(store, receipt(f"up-{store}"))
        server.pause()
        try:
            for store in both:
                error = await asyncio.wait_for(failing(store), 30)
                assert type(error) is Retriable, repr(error)
        finally:
            server.go_on()
        server.stop()
        for store in both:
            errors = [await failing(store) for _ in range(3)]
            error = errors[-1]
            assert type(error) is Retriable and error.code == "CP501"
            assert server.password not in str(error) + repr(error)
        server.start()
        for store in both:
            for _ in range(20):
                try:
                    await deliver(store, receipt(f"again-{store}"))
                    break
                except Retriable:
                    await asyncio.sleep(0.1)
            assert await deliver(store, receipt(f"up-{store}")) is not None


async def test_tables_that_are_old_or_newer_are_named_with_what_to_do(postgres: Database) -> None:
    await prepared(postgres.url, "update contrapas_store set version = 0, readable_from = 0")
    async with stores(postgres.url) as both:
        for store in both:
            error = await failing(store)
            assert isinstance(error, Refused) and error.code == "CP514" and "--from 0" in error.fix
            assert [f.code for f in await store.examine() if f.refused] == ["CP514"]
    execute(postgres.url, "update contrapas_store set version = 9, readable_from = 9")
    async with stores(postgres.url) as (store, _):
        assert (await failing(store)).fix == "update contrapas here"
    execute(postgres.url, "update contrapas_store set readable_from = 1")
    async with stores(postgres.url) as both:
        for store in both:
            assert await deliver(store, receipt(f"c-{store}")) is None


async def test_a_role_without_rights_is_told_which_and_the_printed_rights_are_enough(
    postgres: Database,
) -> None:
    role = f"app_{postgres.name}"
    try:
        await prepared(postgres.url, f"create role {role} login")
        mine = postgres.url.replace("postgres@", f"{role}@")
        async with stores(mine) as both:
            for store in both:
                assert (await failing(store)).code == "CP822"
                lacking = [f for f in await store.examine() if f.code == "CP822"]
                assert lacking[0].refused and "insert on contrapas_outbox" in lacking[0].text
        from contrapas.participant.tables import RIGHTS

        grants = [line[3:].rstrip(";") for line in RIGHTS.splitlines() if line.startswith("-- grant")]
        execute(
            postgres.url, *(g.replace("APP", role).replace("RELAY", role) for g in grants if "CARE" not in g)
        )
        async with stores(mine) as both:
            for store in both:
                assert await deliver(store, receipt(f"c-{store}"), rows=[message(f"m{store}")]) is None
                assert not [f for f in await store.examine() if f.refused]
                claim = await store.outbox.claim("shop", "one")
                upto = await store.outbox.upto(claim.last, wait_ms=500)
                await store.outbox.advance("shop", claim.epoch, upto)
                await store.outbox.release("shop", claim.epoch)
                assert not (await store.plan()).owner
                assert await store.prune(budget_ms=1_000) == (0, 0)
    finally:
        execute(postgres.url, f"drop owned by {role}", f"drop role {role}")


async def test_what_is_not_kept_by_the_server_is_refused_and_what_is_odd_is_warned_of(
    postgres: Database,
) -> None:
    await prepared(postgres.url)
    execute(postgres.url, f"alter database {postgres.name} set synchronous_commit = off",
            f"alter database {postgres.name} set default_transaction_read_only = on")  # fmt: skip
    async with stores(postgres.url) as both:
        for store in both:
            found = {(f.code, f.refused) for f in await store.examine()}
            assert found == {("CP514", True)}
            words = " ".join(f.text for f in await store.examine())
            assert "synchronous_commit is off" in words and "takes no writes" in words
            assert (await failing(store)).code == "CP514"
    execute(postgres.url, "set default_transaction_read_only = off",
            f"alter database {postgres.name} reset all",
            "alter sequence contrapas_outbox_seq_seq cache 20")  # fmt: skip
    async with stores(postgres.url) as both:
        for store in both:
            assert "hands out 20 numbers" in " ".join(f.text for f in await store.examine() if f.refused)


async def test_behind_a_proxy_by_transaction_deliveries_work_without_prepared_statements_and_the_relay_is_refused(
    postgres: Database, tmp_path: Path
) -> None:
    await prepared(postgres.url)
    async with pooler(postgres.url, tmp_path) as proxy:
        async with stores(proxy.url) as both:
            for one in both:
                told = await asyncio.gather(*(failing(one, f"a{n}") for n in range(20)))
                assert {(type(e), e.code) for e in told} == {(Refused, "CP514")}, told
                assert "statement_cache_size=0" in told[0].fix
        pool = await asyncpg.create_pool(proxy.url, min_size=0, max_size=8, statement_cache_size=0)
        engine = create_async_engine(
            alchemy(proxy.url),
            connect_args={
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": lambda: str(uuid4()),
            },
        )
        plain = PostgresStore(pool, deadline_s=3)
        mapped = SqlStore(async_sessionmaker(engine), deadline_s=3)
        for name, store in (("p", plain), ("m", mapped)):
            for n in range(3):
                ids = [f"{name}{n}-{i}" for i in range(8)]
                await asyncio.gather(*(deliver(store, receipt(i), rows=[message(i)]) for i in ids))
            with pytest.raises(Refused) as caught:
                await store.outbox.claim("shop", "one")
            assert caught.value.code == "CP514" and "session of its own" in caught.value.text
            assert any("behind a proxy" in f.text for f in await store.examine())
        await mapped.close()
        await engine.dispose()
        await plain.close()
        pool.terminate()
    async with stores(postgres.url) as (direct, _):
        assert (await direct.status()).outbox == 48


async def test_what_drivers_say_of_a_connection_that_is_going_is_that_it_is_lost() -> None:
    lost = (
        asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        PendingRollbackError("Can't reconnect until invalid transaction is rolled back."),
    )
    for error in lost:
        found = meaning(error, "shop")
        assert isinstance(found, Retriable) and found.code == "CP501", repr(error)
    assert (
        meaning(asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), "x")
        is None
    )
    assert meaning(ValueError("connection closed"), "shop") is None


async def test_publish_outside_of_a_transaction_is_refused(postgres: Database) -> None:
    await prepared(postgres.url)
    async with stores(postgres.url) as (store, _):
        pool = await store.pool()
        async with pool.acquire() as con:
            with pytest.raises(Refused) as caught:
                await store.publish(con, Noted(key="k"))
            assert caught.value.code == "CP850"
    engine = create_async_engine(alchemy(postgres.url), isolation_level="AUTOCOMMIT")
    mapped = SqlStore(async_sessionmaker(engine))
    async with async_sessionmaker(engine)() as session:
        with pytest.raises(Refused):
            await mapped.publish(session, Noted(key="k"))
    await engine.dispose()


async def test_a_row_that_another_delivery_holds_is_waited_for_until_the_deadline(postgres: Database) -> None:
    await prepared(postgres.url)
    async with stores(postgres.url) as (store, other):
        store.deadline_s = other.deadline_s = 0.3
        held: Receipt = receipt("held")
        async with store.begin() as tx:
            await tx.take(held)
            for one in (store, other):
                error = await failing(one, "held")
                assert type(error) is Retriable and "no answer in time" in error.text, error
        assert await deliver(other, held) is not None


async def test_a_handler_that_ends_its_transaction_itself_is_refused_and_its_reply_is_not_lost_in_silence(
    postgres: Database,
) -> None:
    await prepared(postgres.url, "create table business(key text, value text)")
    async with stores(postgres.url) as (plain, mapped):

        async def puts(session: Any, key: str, *then: str) -> None:
            for words in (f"insert into business values ('{key}', '')", *then):
                said: Any = text(words) if hasattr(session, "begin_nested") else words
                await session.execute(said)

        async def by_commit(tx: Any) -> None:
            await puts(tx.session, "a")
            await tx.session.commit()
            await puts(tx.session, "b")

        async def by_rollback(tx: Any) -> None:
            await tx.session.rollback()
            await puts(tx.session, "c")

        async def by_words(tx: Any) -> None:
            await puts(tx.session, "d", "rollback")

        async def by_savepoint(tx: Any) -> None:
            async with tx.session.begin_nested():
                await puts(tx.session, "e")

        for store, how in ((mapped, by_commit), (mapped, by_rollback), (mapped, by_words), (plain, by_words)):
            for reply in (b"{}", None):
                for _ in range(2):
                    with pytest.raises(DataError) as caught:
                        await deliver(store, receipt(how.__name__), how, reply=reply)
                    assert caught.value.code == "CP850"
        assert await deliver(mapped, receipt("e"), by_savepoint) is None
        for store in (plain, mapped):
            async with store.begin():
                pass  # whether it answers: nothing was done, nothing was ended
        async with plain.lent() as link:
            assert [r[0] for r in await link.rows("select key from business")] == ["e"]
            assert [r[0] for r in await link.rows("select id from contrapas_inbox")] == [receipt("e").id]


async def test_sessions_that_commit_each_statement_are_refused_for_deliveries(postgres: Database) -> None:
    await prepared(postgres.url)
    engine = create_async_engine(alchemy(postgres.url), isolation_level="AUTOCOMMIT")
    with pytest.raises(Refused) as caught:
        await deliver(SqlStore(async_sessionmaker(engine)), receipt("x"))
    assert caught.value.code == "CP850"
    await engine.dispose()


@pytest.mark.parametrize("password", ["s3c/ret", "s3c#ret", "s3c?ret", "s3c@ret", "s3c:ret"])
async def test_i48_a_password_that_was_not_escaped_is_shown_by_nobody(password: str) -> None:
    address = f"postgresql://shop:{password}@127.0.0.1:1/shop"
    for found in (shown(address), shown_anywhere(address), repr(await _told(address))):
        assert "s3c" not in found and "ret" not in found, found


async def _told(address: str) -> list[str]:
    said: list[str] = []
    try:
        store = PostgresStore(address, deadline_s=1)
        said.append(store.name)
        await store.examine()
    except ContrapasError as why:
        said.append(str(why))
    try:
        await connector.open(address, "shop")
    except ContrapasError as why:
        said += [str(why), why.place]
    assert len(said) >= 3
    return said
