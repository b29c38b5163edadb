"""The worked FastAPI service as a user runs it: a real PostgreSQL, uvicorn, a worker for the saga, orders over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx

from contrapas_postgres import PostgresStore
from tests.postgres import Database
from tests.scenarios.supervisor import ROOT, Supervisor

TABLES = (
    "create table orders (id varchar primary key, cents integer not null)",
    "create table charges (id varchar primary key, cents integer not null)",
)


class Service:
    """`uvicorn sagas.checkout.service:api` on a socket of its own."""

    def __init__(self, folder: Path, log: str, database: str) -> None:
        self.folder, self.socket = folder, folder / "api.sock"
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CONTRAPAS_LOG": log,
            "SHOP_DB": urlsplit(database)._replace(scheme="postgresql+asyncpg").geturl(),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with open(self.folder / "api.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "sagas.checkout.service:api", "--uds", str(self.socket)],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=log,
            )

    def kill(self, sig: int = signal.SIGKILL) -> int:
        """End it; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(60)

    @asynccontextmanager
    async def http(self) -> AsyncGenerator[httpx.AsyncClient]:
        """A caller; waits until the service answers."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
            for _ in range(600):
                try:
                    await http.get("/contrapas/healthz")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
            yield http


async def test_orders_over_http_are_charged_once_and_rejected_ones_are_refunded_though_the_service_is_killed(
    tmp_path: Path, postgres: Database
) -> None:
    store = PostgresStore(postgres.url)
    await store.prepare()
    await store.close()
    con = await asyncpg.connect(postgres.url)
    for statement in TABLES:
        await con.execute(statement)
    under = Supervisor("sagas/checkout/saga.py:app", tmp_path)
    service = Service(tmp_path, under.url, postgres.url)
    try:
        under.start()
        service.start()
        async with service.http() as http:
            for n in range(20):
                body = {"id": f"o-{n}", "sku": "unicorn" if n % 5 == 4 else "mug", "cents": 100 + n}
                answer = await http.post("/orders", json=body)
                assert answer.status_code == 202, answer.text
        service.kill()
        service.start()
        async with service.http() as http:
            dear = await http.post("/orders", json={"id": "o-dear", "sku": "mug", "cents": 1_000_00})
            ends = {"o-dear": (await http.get(dear.json()["watch"] + "?wait=60s")).json()}
            for n in range(20):
                watch = f"/contrapas/sagas/place_order/o-{n}"
                ends[f"o-{n}"] = (await http.get(watch + "?wait=60s")).json()
        service.kill(signal.SIGTERM)
        assert "Application shutdown complete" in (tmp_path / "api.log").read_text()
    finally:
        if service.process is not None:
            service.kill()
        under.close()
    try:
        outcomes = {key: told.get("outcome") for key, told in ends.items()}
        rejected = {k for k, outcome in outcomes.items() if outcome == "OrderRejected"}
        assert rejected == {"o-4", "o-9", "o-14", "o-19", "o-dear"}, ends
        assert set(outcomes.values()) == {"OrderRejected", "OrderConfirmed"}
        charged = {r["id"] for r in await con.fetch("select id from charges")}
        assert charged == {f"ch_{k}" for k in outcomes if k not in rejected}
        assert await con.fetchval("select count(*) from orders") == 21
        last = await con.fetchval("select max(last_seq) from contrapas_relay")
        assert await con.fetchval("select count(*) from contrapas_outbox where seq > $1", last) == 0
    finally:
        await con.close()
