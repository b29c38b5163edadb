"""I-18 with real processes: a worker is stopped in the middle of a step's transaction, another takes over, the first goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from contrapas.runtime.worker import setting_of
from contrapas_postgres import PostgresStore, connector
from tests.connectors import stopped_saga
from tests.postgres import Database, execute

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, sys
from contrapas.runtime.build import build
from contrapas.runtime.worker import Worker
from contrapas_postgres import connector, session
from tests.connectors import stopped_saga

async def main():
    session.IDLE = session.IDLE.replace("30s", "3s")
    definition = stopped_saga.app.definition()
    worker = Worker(await connector.open(sys.argv[1], "ledger"), definition, build(definition))
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    print("ready", flush=True)
    await running

asyncio.run(main())
"""


@contextmanager
def process(url: str, folder: Path) -> Generator[subprocess.Popen[str]]:
    """A worker; the log's server ends its session when it was silent for three seconds."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LEDGER_DB": url, "MARKS": str(folder)}
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, url], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.wait()


async def appears(path: Path) -> None:
    async with asyncio.timeout(30):
        while not path.exists():
            await asyncio.sleep(0.02)


async def waits_for_the_row(con: asyncpg.Connection[asyncpg.Record]) -> None:
    """Until somebody's insert into the inbox waits for another's transaction."""
    waiting = (  # its statement goes with BEGIN, by the name under which it is prepared
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    async with asyncio.timeout(30):
        while not await con.fetchval(waiting):
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("session", ["kept", "ended", "refused"])
async def test_i_18_i_11_a_worker_stopped_in_a_step_past_its_lease_and_the_next_owner_have_one_effect(
    postgres: Database, tmp_path: Path, session: str
) -> None:
    """kept: the stopped one's transaction is still open when it goes on, and commits first; ended: the server has ended it;
    refused: and the next owner's step has failed for good before it goes on."""
    execute(postgres.url, "create table business (key text, pid int)")
    store = PostgresStore(postgres.url, name="ledger")
    await store.prepare()
    await store.close()
    definition = stopped_saga.app.definition()
    log = await connector.open(postgres.url, "ledger", partitions=1, make=True)
    con = await asyncpg.connect(postgres.url)
    client = Client(log, setting_of(log, definition, build(definition), writer="test"))
    try:
        with process(postgres.url, tmp_path) as stopped:
            await client.start("entry", stopped_saga.Asked(id="e"))
            await appears(tmp_path / f"begun-{stopped.pid}")
            stopped.send_signal(signal.SIGSTOP)
            with process(postgres.url, tmp_path) as heir:
                await waits_for_the_row(con)
                ends = "done" if session != "refused" else "failed"
                if session == "refused":
                    (tmp_path / f"refuse-{heir.pid}").touch()
                if session != "kept":
                    await con.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in transaction'"
                    )
                    await appears(tmp_path / f"begun-{heir.pid}")
                (tmp_path / "go").touch()
                if session != "kept":
                    assert (await client.wait("entry/e", timeout_ms=30_000)).status == ends
                stopped.send_signal(signal.SIGCONT)
                assert (await client.wait("entry/e", timeout_ms=30_000)).status == ends
                await asyncio.sleep(1)  # what the one that was stopped still wants to do
                assert heir.poll() is None and stopped.poll() is None
                rows = await con.fetch("select key, pid from business")
                if session == "refused":
                    kept = await con.fetch("select outcome, reply_type from contrapas_inbox")
                    assert rows == [] and [tuple(r) for r in kept] == [("done", "!failed")]
                    return
                assert [r["pid"] for r in rows] == [stopped.pid if session == "kept" else heir.pid]
                inbox = await con.fetch("select id, outcome from contrapas_inbox")
                assert [(r["id"], r["outcome"]) for r in inbox] == [(rows[0]["key"], "done")]
                state = await client.state("entry/e")
                assert str(rows[0]["pid"]) in state.outcome_body, "the result that the saga has is the row's"
    finally:
        await client.close()
        await con.close()
        await log.close()
