"""The bank under fire with its log in PostgreSQL: workers are killed, and so is the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from contrapas_postgres import connector
from tests.installed import connector_listed
from tests.postgres import StartServer
from tests.scenarios import bank


async def test_books_are_exact_after_workers_and_server_were_killed(
    tmp_path: Path, own_postgres: StartServer
) -> None:
    connector_listed("postgresql")
    server = own_postgres()
    await (await connector.open(server.url(), "bank", partitions=8, make=True)).close()

    async def strike(number: int) -> None:
        if number % 2:
            await asyncio.sleep(0.2)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    verdict = await bank.kill_loop(
        tmp_path, kills=4, seed=5, pause=(0.3, 0.8), url=server.url(), strike=strike
    )
    assert verdict.exact, verdict
    assert verdict.done > 0 and verdict.refused > 0
