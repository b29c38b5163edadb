"""A delivery's transaction in which nothing happens is ended by the server: what a stopped worker holds becomes free."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from contrapas.errors import Retriable
from contrapas.participant import FAILED, Tx
from contrapas.testing.conformance_store import deliver, message, receipt
from tests.connectors.test_postgres_store_faults import prepared, stores
from tests.postgres import Database

SHOW = "select current_setting('idle_in_transaction_session_timeout')"


async def setting(tx: Tx[Any]) -> str:
    """As it stands in the transaction."""
    if hasattr(tx.session, "fetchval"):
        return str(await tx.session.fetchval(SHOW))
    return str((await tx.session.execute(text(SHOW))).scalar_one())


async def test_a_handler_that_waits_for_too_long_in_its_transaction_is_told_why_it_was_ended(
    postgres: Database, postgres_oldest: Database
) -> None:
    for database in (postgres, postgres_oldest):
        await prepared(database.url)
        async with stores(database.url, idle="200ms") as both:
            for n, store in enumerate(both):

                async def waits(tx: Tx[Any]) -> None:
                    await asyncio.sleep(0.6)
                    await setting(tx)

                async def waits_only(tx: Tx[Any]) -> None:
                    await asyncio.sleep(0.6)

                for handler in (waits, waits_only):
                    with pytest.raises(Retriable, match="idle for 0.2 s is ended.* a longer idle="):
                        await deliver(store, receipt(f"c-{n}"), handler, rows=[message(f"m{n}")])
                assert await deliver(store, receipt(f"c-{n}"), rows=[message(f"m{n}")]) is None
            assert (await both[0].status()).outbox == 2


async def test_a_key_that_a_stopped_holder_has_is_free_for_the_next_one(postgres: Database) -> None:
    """The holder does nothing for ever; who comes next waits for its session's end, and no longer."""
    await prepared(postgres.url)
    async with stores(postgres.url, idle="400ms") as (store, other):
        stopped = asyncio.Event()

        async def never(tx: Tx[Any]) -> None:
            stopped.set()
            await asyncio.sleep(3_600)

        first = asyncio.create_task(deliver(store, receipt(), never))
        await stopped.wait()
        assert await asyncio.wait_for(deliver(other, receipt(), rows=[message("m1")]), 2.5) is None
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


@pytest.mark.parametrize(("idle", "found"), [("90s", "90s"), ("off", "0")])
async def test_the_time_is_the_transaction_s_and_costs_no_statement(
    postgres: Database, idle: str, found: str
) -> None:
    await prepared(postgres.url)
    async with stores(postgres.url, idle=idle) as both:
        for n, store in enumerate(both):
            async with store.begin() as tx:
                assert await tx.take(receipt(f"c-{n}"), undoes=f"s-{n}") is None
                assert await setting(tx) == ("90s" if found == "90s" else "0")
                await tx.finish(receipt(f"c-{n}"), reply=b"{}", reply_type=FAILED, rows=())
            async with store.begin() as tx:
                known = await tx.take(receipt(f"c-{n}"))
                assert await setting(tx) == "0"
                assert known is not None and await tx.retake(receipt(f"c-{n}"), known) is None
                assert await setting(tx) == ("90s" if found == "90s" else "0")


async def test_a_time_that_the_server_has_already_stays(postgres: Database) -> None:
    await prepared(
        postgres.url,
        "alter database {} set idle_in_transaction_session_timeout = '7s'".format(
            postgres.url.split("?")[0].rpartition("/")[2]
        ),
    )
    async with stores(postgres.url) as both:
        for n, store in enumerate(both):
            async with store.begin() as tx:
                await tx.take(receipt(f"c-{n}"))
                assert await setting(tx) == "7s"
