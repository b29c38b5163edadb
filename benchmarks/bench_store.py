"""What inbox and outbox cost a handler on PostgreSQL, beside its bare transaction, in one run.

Prints one JSON line. `…_ms` are wall time per delivery (one business row; the store's adds an inbox row with the reply and
an outbox row), the tenth percentile, so that a busy machine is not what is measured; `…_more_ms` is what the store adds.
Bare and store alternate, without waiting for the disk at commit: both wait once, and that wait is longer than all else.
`--url` measures a server of yours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from contrapas.participant import Outgoing, Receipt
from contrapas.participant.rows import derived_id, digest
from contrapas_postgres.sqlalchemy import SqlStore
from contrapas_postgres.store import PostgresStore
from deploy.postgres.server import Missing, Server

ROUNDS = 1_500
VALUE = b'{"order_id":"o-1","cents":4200,"sku":"mug"}'
LAZY = {"synchronous_commit": "off"}
INSERT = "insert into charges (id, cents) values ({}, {})"
DIGEST = digest("ChargeCard", "application/json", VALUE)
Deliver = Callable[[str], Awaitable[None]]


def receipt(id: str) -> Receipt:
    """Of one command."""
    return Receipt(
        "shop", "payments", "/contrapas/shop/place_order", f"place_order/{id}/4f1c09e2/ChargeCard/1", DIGEST
    )


def row(id: str) -> Outgoing:
    """Its reply."""
    headers = {
        "ce_subject": id,
        "ce_time": "2026-11-20T12:00:00.000Z",
        "cp-in-reply-to": id,
        "cp-outcome": "ok",
    }
    return Outgoing(
        derived_id(id), "payments.events", id, "CardCharged", VALUE, "/services/payments", headers=headers
    )


async def handled(store: Any, id: str, business: Callable[[Any], Awaitable[Any]]) -> None:
    """What the runtime does for a delivery."""
    async with store.begin(receipt(id)) as tx:
        if await tx.take(receipt(id)) is None:
            await business(tx.session)
            await tx.finish(receipt(id), reply=VALUE, reply_type="CardCharged", rows=[row(id)])


async def pairs(bare: Deliver, stored: Deliver, rounds: int) -> tuple[float, float]:
    """Milliseconds of both; they alternate."""
    slow: list[float] = []
    fast: list[float] = []
    for n in range(rounds + 50):
        began = time.perf_counter()
        await bare(f"b-{n}")
        middle = time.perf_counter()
        await stored(f"s-{n}")
        if n >= 50:
            fast.append((middle - began) * 1000)
            slow.append((time.perf_counter() - middle) * 1000)
    return statistics.quantiles(fast, n=10)[0], statistics.quantiles(slow, n=10)[0]


async def by_asyncpg(pool: Any, rounds: int) -> tuple[float, float]:
    """`PostgresStore`."""
    store = PostgresStore(pool)
    sql = INSERT.format("$1", "$2")

    async def bare(id: str) -> None:
        async with pool.acquire() as con, con.transaction():
            await con.execute(sql, f"p{id}", 42)

    async def stored(id: str) -> None:
        await handled(store, id, lambda con: con.execute(sql, f"p{id}", 42))

    return await pairs(bare, stored, rounds)


async def by_sqlalchemy(url: str, rounds: int) -> tuple[float, float]:
    """`SqlStore`."""
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1), connect_args={"server_settings": LAZY}
    )
    sessions = async_sessionmaker(engine)
    store = SqlStore(sessions)
    sql = text(INSERT.format(":id", ":cents"))

    async def bare(id: str) -> None:
        async with sessions.begin() as db:
            await db.execute(sql, {"id": f"a{id}", "cents": 42})

    async def stored(id: str) -> None:
        await handled(store, f"a{id}", lambda db: db.execute(sql, {"id": f"a{id}", "cents": 42}))

    try:
        return await pairs(bare, stored, rounds)
    finally:
        await engine.dispose()


async def measured(url: str, rounds: int) -> dict[str, Any]:
    """Everything."""
    pool = await asyncpg.create_pool(url, min_size=2, max_size=4, server_settings=LAZY)
    try:
        await pool.execute("create table if not exists charges (id text primary key, cents int)")
        await PostgresStore(pool).prepare()
        plain = await by_asyncpg(pool, rounds)
        mapped = await by_sqlalchemy(url, rounds)
        version = await pool.fetchval("show server_version")
    finally:
        await pool.close()
    made: dict[str, Any] = {"bench": "store", "postgresql": version, "deliveries": rounds}
    for name, (bare, stored) in (("asyncpg", plain), ("sqlalchemy", mapped)):
        made |= {f"{name}_bare_ms": round(bare, 3), f"{name}_store_ms": round(stored, 3)}
        made[f"{name}_more_ms"] = round(stored - bare, 3)
    return made | {"load": round(os.getloadavg()[0], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="", help="a database of yours; tables are created in it")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.url:
        print(json.dumps(asyncio.run(measured(options.url, options.rounds))))
        return
    try:
        with Server() as server:
            server.start()
            print(json.dumps(asyncio.run(measured(server.url(), options.rounds))))
    except Missing as why:
        print(json.dumps({"bench": "store", "skipped": str(why)}))


if __name__ == "__main__":
    main()
