"""The relay from a PostgreSQL outbox onto three logs, beside the floors: reading the rows alone, publishing them alone.

JSON lines; `of_floor` is the ratio to the sum of both floors' times in the same run. `--quick` for CI, `--rows N`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncpg

from contrapas.cli.calm import calm
from contrapas.errors import ContrapasError
from contrapas.log import Draft, Log
from contrapas.log.memory import MemoryLog
from contrapas.participant import Outbox, draft_of
from contrapas.runtime.open import open_log
from contrapas.runtime.relay import PAGE_ROWS, Relay
from contrapas_postgres import PostgresStore, connector
from deploy.postgres.server import Missing, Server

FILL = """
insert into contrapas_outbox (aggregatetype, aggregateid, type, payload, source, traceparent, headers)
select 'orders.events', 'o-' || n % 1000, 'OrderPlaced',
       jsonb_build_object('order_id', 'o-' || n % 1000, 'sku', 'A-1', 'cents', n, 'note', repeat('x', 200)),
       '/services/shop', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
       jsonb_build_object('ce_subject', 'o-' || n % 1000, 'ce_time', '2026-11-20T09:00:00.000Z',
                          'ce_partitionkey', 'o-' || n % 1000)
from generate_series(1, $1::int) n
"""


class NullLog(MemoryLog):
    """Takes everything and keeps nothing: the relay's own cost."""

    async def publish(self, drafts: Sequence[Draft]) -> None:
        return


async def measured(name: str, rows: int, work: Callable[[], Awaitable[object]], **more: object) -> float:
    """Print one line; the seconds it took."""
    began, used = time.perf_counter(), time.process_time()
    await work()
    seconds, used = time.perf_counter() - began, time.process_time() - used
    line = {
        "bench": name,
        "rows_per_s": round(rows / seconds),
        "cpu_us_per_row": round(used / rows * 1e6, 2),
        "rows_per_cpu_s": round(rows / used) if used else 0,
        **more,
    }
    print(json.dumps(line), flush=True)
    return seconds


async def read(outbox: Outbox, rows: int, take: Callable[[Sequence[Any]], object]) -> None:
    """Pages through the outbox."""
    at = 0
    while page := await outbox.page(at, rows, PAGE_ROWS):
        at = page[-1].seq
        take(page)


async def relayed(store: PostgresStore, pool: asyncpg.Pool[asyncpg.Record], log: Log, rows: int) -> None:
    """From the first row to the last one noted."""
    await pool.execute("update contrapas_relay set last_seq = 0")
    relay = Relay(store, log, "shop")
    work = asyncio.ensure_future(relay.run())
    while relay.last < rows and not work.done():
        await asyncio.sleep(0.005)
    await relay.stop()
    await work
    assert relay.sent == rows, relay.state()


async def bench(server: Server, folder: Path, rows: int) -> None:
    """All of it on one server and one folder."""
    async with asyncpg.create_pool(server.url(), min_size=2, max_size=6) as pool:
        store = PostgresStore(pool)
        await store.prepare()
        await pool.execute(FILL, rows, timeout=600)
        await pool.execute("analyze contrapas_outbox")
        columns = "seq, id::text, aggregatetype, aggregateid, payload::text, headers::text"

        async def cursor() -> None:
            at = 0
            sql = f"select {columns} from contrapas_outbox where seq > $1 order by seq limit {PAGE_ROWS}"
            while found := await pool.fetch(sql, at):
                at = found[-1][0]

        reading = await measured("floor.cursor", rows, cursor)
        claim = await store.outbox.claim(store.name, "bench")
        drafts: list[Draft] = []
        await measured("relay.rows", rows, lambda: read(store.outbox, rows, lambda page: None))
        await measured(
            "relay.drafts",
            rows,
            lambda: read(store.outbox, rows, lambda page: drafts.extend([draft_of(r, "shop") for r in page])),
        )
        await store.outbox.release(store.name, claim.epoch)

        async def publishes(log: Log) -> None:
            for start in range(0, rows, PAGE_ROWS):
                await log.publish(drafts[start : start + PAGE_ROWS])

        null = NullLog("shop", 8)
        await null.create_topics({"orders.events": 4})
        await measured("relay", rows, lambda: relayed(store, pool, null, rows), log="null")
        logs: dict[str, Callable[[str], str]] = {
            "sqlite": lambda name: f"sqlite:///{folder}/{name}.db",
            "postgresql": server.url,
        }
        for kind, address in logs.items():
            try:
                times: list[float] = []
                for turn in ("floor", "relay"):
                    name = f"{turn}_{kind}"
                    if kind == "postgresql":
                        await pool.execute(f"create database {name}")
                    url = address(name)
                    opened = (
                        connector.open(url, "shop", partitions=8, make=True) if kind == "postgresql" else None
                    )
                    log: Any = await (opened or open_log(url, "shop", partitions=8))
                    await log.create_topics({"orders.events": 4})
                    if turn == "floor":
                        times.append(
                            await measured("floor.publish", rows, lambda log=log: publishes(log), log=kind)  # type: ignore[misc]
                        )
                    else:
                        began = time.perf_counter()
                        await measured(
                            "relay",
                            rows,
                            lambda log=log: relayed(store, pool, log, rows),  # type: ignore[misc]
                            log=kind,
                        )
                        ratio = (reading + times[0]) / (time.perf_counter() - began)
                        print(
                            json.dumps({"bench": "relay.of_floor", "log": kind, "of_floor": round(ratio, 2)})
                        )
                    await log.close()
            except ContrapasError as why:
                print(json.dumps({"bench": "relay", "log": kind, "skipped": str(why)}))


def main() -> None:
    """Fill, then measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, default=0)
    options = parser.parse_args()
    rows = options.rows or (20_000 if options.quick else 200_000)
    try:
        started = Server()
    except Missing as why:
        print(json.dumps({"bench": "relay", "skipped": str(why)}))
        return
    with started as server, tempfile.TemporaryDirectory() as folder:
        server.start()
        calm(50_000, 50, 100)
        asyncio.run(bench(server, Path(folder), rows))


if __name__ == "__main__":
    main()
