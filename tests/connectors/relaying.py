"""Twelve writers with jittered transactions on a real PostgreSQL, and what a relay made of their rows."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from contrapas import Event
from contrapas.log import Log
from contrapas_postgres import PostgresStore

WRITERS = 12
KEYS = 8
MODULE = """
from contrapas_postgres import PostgresStore

store = PostgresStore({url!r}, name="bank")
"""


class Counted(Event, topic="counted", key="key"):
    key: str
    n: int


class Undone(Exception):
    """A transaction that is rolled back."""


class Verdict(NamedTuple):
    rows: int
    lost: list[str]
    invented: list[str]
    """Delivered, and committed by nobody."""
    disordered: int
    """First deliveries that came after a later one of their key."""
    repeated: int
    changed: list[str]
    """Repetitions with other bytes or headers."""


@asynccontextmanager
async def a_store(
    url: str, **more: Any
) -> AsyncGenerator[tuple[PostgresStore, asyncpg.Pool[asyncpg.Record]]]:
    async with asyncpg.create_pool(url, min_size=1, max_size=WRITERS + 4) as pool:
        store = PostgresStore(pool, name="bank", **more)
        await store.prepare()
        yield store, pool


async def writes(pool: asyncpg.Pool[asyncpg.Record], store: PostgresStore, each: int, *, seed: int) -> None:
    """Rows of one key follow one another; the transaction's id is taken long before its row's number, and its end comes
    long after."""
    await pool.execute("create table counter (key text primary key, n int not null)")
    await pool.executemany("insert into counter values ($1, 0)", [(f"k{i}",) for i in range(KEYS)])

    async def writer(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        for _ in range(each):
            try:
                async with pool.acquire() as con, con.transaction():
                    await con.execute("select pg_current_xact_id()")
                    await asyncio.sleep(chance.random() * 0.005)
                    key = f"k{chance.randrange(KEYS)}"
                    n = await con.fetchval("update counter set n = n + 1 where key = $1 returning n", key)
                    await store.publish(con, Counted(key=key, n=n))
                    await asyncio.sleep(chance.random() * 0.010)
                    if chance.random() < 0.1:
                        raise Undone
            except Undone:
                continue

    await asyncio.gather(*(writer(n) for n in range(WRITERS)))


async def verdict(pool: asyncpg.Pool[asyncpg.Record], log: Log, topic: str = "counted") -> Verdict:
    """What lies in the outbox against what lies on the topic."""
    rows = await pool.fetch("select id::text, aggregateid, payload::text from contrapas_outbox order by seq")
    committed = {r[0]: (r[1], json.loads(r[2])["n"]) for r in rows}
    found = await log.topic(topic)
    assert found is not None
    first: dict[str, Any] = {}
    newest: dict[str, int] = {}
    repeated = disordered = 0
    changed: list[str] = []
    for partition in range(found.partitions):
        at = 0
        while True:
            records, at = await log.read(topic, partition, at, max_records=5000)
            if not records:
                break
            for r in records:
                ident = dict(r.headers)["ce_id"].decode()
                said = (partition, r.key, r.value, r.headers)
                if ident in first:
                    repeated += 1
                    if first[ident] != said:
                        changed.append(ident)
                    continue
                first[ident] = said
                n = json.loads(r.value or b"")["n"]
                disordered += n < newest.get(r.key.decode(), 0)
                newest[r.key.decode()] = max(n, newest.get(r.key.decode(), 0))
    return Verdict(
        len(committed),
        sorted(set(committed) - set(first)),
        sorted(set(first) - set(committed)),
        disordered,
        repeated,
        changed,
    )
