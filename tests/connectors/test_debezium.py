"""Debezium's event router, the real one, beside our relay: the same rows give the same messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import asyncpg
import pytest

from contrapas import Event
from contrapas.log.memory import MemoryLog
from contrapas.participant import Outgoing, Receipt, Store
from contrapas.participant.rows import digest
from contrapas.runtime.relay import Relay
from contrapas_postgres import PostgresStore
from deploy.debezium.engine import Engine, Missing, Sent
from tests.installed import missing
from tests.postgres import StartServer

LISTED = ("ce_id", "ce_type", "ce_source", "ce_specversion", "content-type", "traceparent")
BYTES = {"value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter"}
PUBLICATION = (
    "create publication contrapas_outbox for table contrapas_outbox "
    "with (publish = 'insert', publish_via_partition_root = true)"
)
pytestmark = pytest.mark.slow


class Placed(Event, topic="orders.events", key="order_id"):
    order_id: str
    note: str = ""
    parts: tuple[float, ...] = ()


class Plain(NamedTuple):
    """A message, whoever sent it."""

    topic: str
    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


def engine(url: str, folder: Path, settings: dict[str, str] | None = None) -> Engine:
    folder.mkdir(exist_ok=True)
    try:
        return Engine(url, folder, settings)
    except Missing as why:
        missing(str(why))


async def started(one: Engine, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Start it, and wait until its slot is read."""
    one.start()
    async with asyncio.timeout(120):
        while not await pool.fetchval("select bool_or(active) from pg_replication_slots"):
            assert one.running(), one.words()[-3000:]
            await asyncio.sleep(0.1)


def plain_of(sent: Sent) -> Plain:
    """Without `id`, which the router always adds, and without headers that are null."""
    headers = dict(sent.headers)
    assert headers.pop("id") == headers["ce_id"]
    pairs = tuple(sorted((name, value) for name, value in headers.items() if value is not None))
    return Plain(sent.topic, sent.key or b"", pairs, sent.value or b"")


async def relayed(log: MemoryLog, at: dict[tuple[str, int], int]) -> list[Plain]:
    """What has come to the topics since, with the headers that are listed."""
    found: list[Plain] = []
    for topic in ("orders.events", "payments.replies"):
        for partition in range(3):
            where = (topic, partition)
            records, at[where] = await log.read(topic, partition, at.get(where, 0), max_records=10_000)
            for r in records:
                pairs = tuple(sorted((n, v) for n, v in r.headers if n in LISTED))
                found.append(Plain(topic, r.key, pairs, r.value or b""))
    return found


def by_key(messages: Sequence[Plain]) -> dict[tuple[str, bytes], list[Plain]]:
    found: dict[tuple[str, bytes], list[Plain]] = {}
    for one in messages:
        found.setdefault((one.topic, one.key), []).append(one)
    return found


async def a_log() -> MemoryLog:
    log = MemoryLog("shop", 4)
    await log.create_topics({"orders.events": 3, "payments.replies": 3})
    return log


async def publish(pool: asyncpg.Pool[asyncpg.Record], store: PostgresStore, first: int, count: int) -> None:
    for n in range(first, first + count):
        async with pool.acquire() as con, con.transaction():
            key = ("o-1", "ö-2", "k" * 255)[n % 3]
            await store.publish(con, Placed(order_id=key, note=f"{n} \"'\\ ä 字 🚢", parts=(1.5, 2.0, 1e-7)))


async def answer(store: PostgresStore, n: int, payload: bytes, content_type: str) -> None:
    """A reply, as a service writes it: with a trace, and headers of ours that only the relay forwards."""
    row = Outgoing(
        f"00000000-0000-4000-8000-{n:012}",
        "payments.replies",
        f"p-{n % 2}",
        "Charged",
        payload,
        "/services/payments",
        content_type,
        f"00-{n:032x}-00f067aa0ba902b7-01" if n % 2 else "",
        {"cp-kind": "reply", "cp-outcome": "ok"},
    )
    receipt = Receipt("shop", "payments", "/somebody", f"c-{n}", b"\0" * 32)
    async with store.begin() as tx:
        assert await tx.take(receipt) is None
        await tx.finish(receipt, reply=None, reply_type="", rows=[row])


@pytest.mark.parametrize("payload", ["jsonb", "bytea"])
async def test_debezium_sends_the_same_topics_keys_headers_and_payloads_as_the_relay(
    payload: Any, own_postgres: StartServer, tmp_path: Path
) -> None:
    server = own_postgres(tcp=True)
    log = await a_log()
    async with asyncpg.create_pool(server.url(), min_size=1, max_size=6) as pool:
        store = PostgresStore(pool, payload=payload)
        await store.prepare()
        await pool.execute(PUBLICATION)
        with engine(server.tcp_url(), tmp_path / "debezium", BYTES if payload == "bytea" else None) as one:
            await started(one, pool)
            relay = Relay(cast("Store[Any]", store), log, "shop")
            work = asyncio.create_task(relay.run())
            await publish(pool, store, 0, 30)
            for n in range(10):
                body = json.dumps({"z": n, "a": {"ü": [None, True, 1.50, "x" * 10_000 * n]}}).encode()
                if payload == "bytea" and n % 2:
                    await answer(store, n, b"\xc3\x01" + bytes(range(256)), "application/avro")
                else:
                    await answer(store, n, body, "application/json")
            sent = [plain_of(s) for s in await asyncio.to_thread(one.wait, 40)]
            async with asyncio.timeout(20):
                while relay.sent < 40:
                    await asyncio.sleep(0.02)
            await relay.stop()
            await work
            ours = await relayed(log, {})
            assert len(sent) == len(ours) == 40
            assert by_key(sent) == by_key(ours)
            assert {"traceparent" in dict(m.headers) for m in ours} == {True, False}
            assert await pool.fetchval("select count(*) from contrapas_outbox_default") == 0, (
                "days are partitions"
            )


async def test_switching_to_debezium_and_back_loses_nothing_and_what_repeats_falls_to_the_inbox(
    own_postgres: StartServer, tmp_path: Path
) -> None:
    server = own_postgres(tcp=True)
    log = await a_log()
    async with asyncpg.create_pool(server.url(), min_size=1, max_size=6) as pool:
        store = PostgresStore(pool)
        await store.prepare()
        await pool.execute(PUBLICATION)
        await pool.execute("create table applied (id text primary key, n serial)")
        at: dict[tuple[str, int], int] = {}

        async def relay_until(last: int) -> list[Plain]:
            relay = Relay(cast("Store[Any]", store), log, "shop")
            work = asyncio.create_task(relay.run())
            async with asyncio.timeout(30):
                while relay.last < last:
                    await asyncio.sleep(0.02)
            await relay.stop()
            await work
            return await relayed(log, at)

        await publish(pool, store, 0, 10)
        arrived = await relay_until(10)
        with engine(server.tcp_url(), tmp_path / "debezium") as one:
            await started(one, pool)
            await publish(pool, store, 10, 10)
            arrived += await relay_until(20)
            await publish(pool, store, 20, 10)
            sent = await asyncio.to_thread(one.wait, 20)
            one.stop()
        arrived += [plain_of(s) for s in sent]
        await publish(pool, store, 30, 10)
        arrived += await relay_until(40)
        repeated = 0
        for message in arrived:
            repeated += not await applied(store, message)
        rows = await pool.fetch(
            "select aggregateid, array_agg(o.seq order by a.n) from applied a join contrapas_outbox o "
            "on o.id::text = a.id group by aggregateid"
        )
        assert sum(len(r[1]) for r in rows) == 40 and repeated >= 20
        assert all(list(r[1]) == sorted(r[1]) for r in rows), "in order per key, whoever sent it"


async def applied(store: PostgresStore, message: Plain) -> bool:
    """False: the inbox knows it, with the same digest."""
    h = {name: value.decode() for name, value in message.headers}
    mark = digest(h["ce_type"], h["content-type"], message.value)
    receipt = Receipt("shop", "readers", h["ce_source"], h["ce_id"], mark)
    async with store.begin() as tx:
        known = await tx.take(receipt)
        if known is not None:
            assert known.digest == mark, "CP412: another relay's bytes would be refused"
            return False
        await tx.session.execute("insert into applied values ($1)", h["ce_id"])
        await tx.finish(receipt, reply=None, reply_type="", rows=())
        return True
