"""A FastAPI service with SQLAlchemy: what its path function commits reaches the saga, and its handler acts once."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.connectors.postgres_store_bench import alchemy
from tests.postgres import Database


async def test_rows_and_events_of_a_service_are_one_commit_from_the_request_to_the_reply(
    postgres: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP", alchemy(postgres.url))
    service: Any = importlib.import_module("tests.connectors.service")
    async with service.engine.begin() as con:
        await con.run_sync(service.Base.metadata.create_all)
    await service.store.prepare()
    con = await asyncpg.connect(postgres.url)
    transport = httpx.ASGITransport(service.api)
    async with (
        service.api.router.lifespan_context(service.api),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
    ):
        for id, cents in (("o-1", 4200), ("o-2", 60_000)):
            answer = await http.post("/orders", json={"id": id, "sku": "mug", "cents": cents})
            assert answer.status_code == 202, answer.text
        again = asyncio.create_task(http.post("/orders", json={"id": "o-1", "sku": "mug", "cents": 1}))
        with pytest.raises(Exception, match="orders_pkey"):  # rolled back, event and all
            await again
        for _ in range(300):
            if await con.fetchval("select count(*) from contrapas_inbox where reply is not null") == 2:
                break
            await asyncio.sleep(0.05)
        status = await service.store.status()
        for _ in range(300):
            if not status.outbox:
                break
            await asyncio.sleep(0.05)
            status = await service.store.status()
        assert (status.outbox, status.inbox) == (0, 2)
        watched = (await http.get("/contrapas/sagas/place_order/o-2")).json()
        for _ in range(100):
            if watched.get("status") not in ("running", "waiting"):
                break
            await asyncio.sleep(0.05)
            watched = (await http.get("/contrapas/sagas/place_order/o-2")).json()
        assert "OrderRejected" in str(watched), watched
    assert [tuple(r) for r in await con.fetch("select id, cents from orders order by id")] == [
        ("o-1", 4200),
        ("o-2", 60_000),
    ]
    assert [tuple(r) for r in await con.fetch("select id, cents from charges")] == [("ch_o-1", 4200)]
    sent = await con.fetch("select aggregatetype, aggregateid, type from contrapas_outbox order by seq")
    assert sorted(tuple(r) for r in sent) == [
        ("orders.events", "o-1", "OrderPlaced"),
        ("orders.events", "o-2", "OrderPlaced"),
        ("payments.events", "o-1", "CardCharged"),
        ("payments.events", "o-2", "CardDeclined"),
    ]
    assert await con.fetchval("select owner from contrapas_relay") is None
    await con.close()
    await service.engine.dispose()
