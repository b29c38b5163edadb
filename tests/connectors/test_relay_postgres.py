"""The relay on a real PostgreSQL: complete and in order whatever is killed, where the naive cursor is neither."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from contrapas.log.memory import MemoryLog
from contrapas.log.sqlite import SqliteLog
from contrapas.participant import Receipt, Store
from contrapas.participant.rows import digest
from contrapas.runtime.relay import Relay
from tests.connectors import relaying
from tests.connectors.relaying import MODULE, a_store, verdict, writes
from tests.postgres import Database, StartServer

POINTS = ("outbox.claimed", "outbox.read", "outbox.sent", "outbox.noted", "outbox.release.before")


class Process:
    """`contrapas relay` as its users run it."""

    def __init__(self, folder: Path, url: str, armed: str = "") -> None:
        (folder / "bank.py").write_text(MODULE.format(url=url))
        env = {k: v for k, v in os.environ.items() if not k.startswith("CONTRAPAS_")}
        if armed:
            env["CONTRAPAS_FAILPOINTS"] = armed
        self.words = folder / f"words-{secrets.token_hex(4)}"
        with open(self.words, "ab") as words:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "contrapas", "relay", "bank:store", "--namespace", "bank",
                 "--log", f"sqlite:///{folder / 'bank.db'}"],
                cwd=folder, env=env, stdout=words, stderr=words,
            )  # fmt: skip

    async def end(self, seconds: float) -> int | None:
        """Its exit code, None when it still runs then."""
        until = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return self.process.poll()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def started() -> Iterator[list[Process]]:
    found: list[Process] = []
    yield found
    for one in found:
        one.kill()


async def a_log(folder: Path) -> SqliteLog:
    log = SqliteLog(str(folder / "bank.db"), "bank", 4)
    await log.create_topics({"counted": 3})
    return log


async def position(pool: asyncpg.Pool[asyncpg.Record]) -> int:
    return cast("int", await pool.fetchval("select coalesce(max(last_seq), 0) from contrapas_relay"))


async def all_noted(pool: asyncpg.Pool[asyncpg.Record], seconds: float = 60) -> None:
    newest = await pool.fetchval("select max(seq) from contrapas_outbox")
    async with asyncio.timeout(seconds):
        while await position(pool) < newest:
            await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_i20_i21_i22_twelve_writers_and_a_relay_that_is_killed_at_every_point(
    postgres: Database, tmp_path: Path, started: list[Process]
) -> None:
    log = await a_log(tmp_path)
    async with a_store(postgres.url) as (store, pool):
        writing = asyncio.create_task(writes(pool, store, 400, seed=1))
        killed = 0
        for point in POINTS:
            visit = 1 if point in ("outbox.claimed", "outbox.release.before") else 3
            relay = Process(tmp_path, postgres.url, f"{point}=kill@{visit}")
            started.append(relay)
            if point == "outbox.release.before":
                await until_said(relay, "relaying")
                relay.process.send_signal(signal.SIGTERM)
            code = await relay.end(60)
            assert code == -signal.SIGKILL, relay.words.read_text()
            killed += 1
        last = Process(tmp_path, postgres.url)
        started.append(last)
        await writing
        await until_said(last, "relaying")
        await all_noted(pool)
        last.process.send_signal(signal.SIGTERM)
        assert await last.end(20) == 0, last.words.read_text()
        found = await verdict(pool, log)
        assert found.rows > 3000 and killed == len(POINTS)
        assert (found.lost, found.invented, found.disordered, found.changed) == ([], [], 0, [])
        applied = await applied_by_an_inbox(store, pool, log)
        assert applied == found.rows
    await log.close()


async def applied_by_an_inbox(
    store: PostgresStoreLike, pool: asyncpg.Pool[asyncpg.Record], log: SqliteLog
) -> int:
    """Every record is given to the inbox as a service's delivery; rows of its business are counted. I-20, last part."""
    await pool.execute("create table applied (id text)")
    for partition in range(3):
        records, _ = await log.read("counted", partition, 0, max_records=100_000)
        for start in range(0, len(records), 500):
            await asyncio.gather(*(_apply(store, r) for r in records[start : start + 500]))
    rows = await pool.fetchrow("select count(*), count(distinct id) from applied")
    assert rows is not None and rows[0] == rows[1]
    return int(rows[0])


PostgresStoreLike = Store[Any]


async def _apply(store: PostgresStoreLike, record: Any) -> None:
    h = {k: v.decode() for k, v in record.headers}
    print_of = digest(h["ce_type"], h["content-type"], record.value)
    receipt = Receipt("bank", "counting", h["ce_source"], h["ce_id"], print_of)
    async with store.begin() as tx:
        known = await tx.take(receipt)
        if known is not None:
            assert known.digest == print_of
            return
        await tx.session.execute("insert into applied values ($1)", h["ce_id"])
        await tx.finish(receipt, reply=None, reply_type="", rows=())


class Naive:
    """What most outboxes do: everything above the last number."""

    def __init__(self, store: Any, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.inner = store.outbox
        self.name = store.name
        self.outbox = self
        self.pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def upto(self, last: int, *, wait_ms: int) -> int:
        await asyncio.sleep(0.002)
        return int(await self.pool.fetchval("select coalesce(max(seq), 0) from contrapas_outbox"))

    async def page(self, after: int, upto: int, limit: int) -> Sequence[Any]:
        return cast("Sequence[Any]", await self.inner.page(after, upto, limit))


@pytest.mark.parametrize("naive", [False, True])
async def test_the_barrier_is_what_keeps_late_rows_from_being_lost(postgres: Database, naive: bool) -> None:
    log = MemoryLog("bank", 4)
    await log.create_topics({"counted": 3})
    async with a_store(postgres.url) as (store, pool):
        chosen: Any = Naive(store, pool) if naive else store
        relay = Relay(chosen, log, "bank")
        work = asyncio.create_task(relay.run())
        await writes(pool, store, 60, seed=2)
        await all_noted(pool)
        await relay.stop(5_000)
        await work
        found = await verdict(pool, log)
    assert found.invented == [] and found.changed == []
    if naive:
        assert found.lost
    else:
        assert (found.lost, found.disordered, found.repeated) == ([], 0, 0)


async def test_a_relay_takes_over_from_one_that_was_killed(
    postgres: Database, tmp_path: Path, started: list[Process]
) -> None:
    log = await a_log(tmp_path)
    async with a_store(postgres.url) as (store, pool):
        first = Process(tmp_path, postgres.url)
        started.append(first)
        await until_said(first, "relaying")
        second = Process(tmp_path, postgres.url)
        started.append(second)
        await until_said(second, "waiting")
        await publish(pool, store, 1)
        await all_noted(pool)
        first.kill()
        await publish(pool, store, 2)
        began = time.monotonic()
        await all_noted(pool)
        assert time.monotonic() - began < 8, "its session has ended with it"
        assert (await verdict(pool, log))[1:] == ([], [], 0, 0, [])
    await log.close()


@pytest.mark.slow
async def test_a_relay_that_is_stopped_is_taken_over_and_fenced_when_it_goes_on(
    postgres: Database, tmp_path: Path, started: list[Process]
) -> None:
    log = await a_log(tmp_path)
    async with a_store(postgres.url) as (store, pool):
        first = Process(tmp_path, postgres.url)
        started.append(first)
        await until_said(first, "relaying")
        first.process.send_signal(signal.SIGSTOP)
        second = Process(tmp_path, postgres.url)
        started.append(second)
        await publish(pool, store, 1)
        await all_noted(pool, 40)
        first.process.send_signal(signal.SIGCONT)
        await until_said(first, "waiting", 20)
        await publish(pool, store, 2)
        await all_noted(pool)
        assert (await verdict(pool, log))[1:] == ([], [], 0, 0, [])
    await log.close()


@pytest.mark.slow
async def test_a_database_that_is_killed_and_comes_back_is_waited_for_and_nothing_is_lost(
    own_postgres: StartServer,
) -> None:
    server = own_postgres()
    log = MemoryLog("bank", 4)
    await log.create_topics({"counted": 3})
    async with a_store(server.url()) as (store, pool):
        relay = Relay(cast("Store[Any]", store), log, "bank")
        work = asyncio.create_task(relay.run())
        for n in range(1, 4):
            for m in range(100):
                await publish(pool, store, n * 1000 + m)
            server.kill()
            async with asyncio.timeout(20):
                while relay.state().colour == "green":
                    await asyncio.sleep(0.02)
            assert not work.done()
            server.start()
        await publish(pool, store, 9_999)
        await all_noted(pool)
        assert relay.state().colour == "green"
        await relay.stop(10_000)
        await work
        found = await verdict(pool, log)
        assert (found.rows, found.lost, found.invented, found.disordered, found.changed) == (
            301,
            [],
            [],
            0,
            [],
        )


async def test_a_transaction_that_holds_the_outbox_back_is_named(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contrapas.runtime.relay.HELD_MS", 500)
    monkeypatch.setattr("contrapas.runtime.relay.LOOK_MS", 100)
    log = MemoryLog("bank", 4)
    await log.create_topics({"counted": 1})
    async with a_store(postgres.url) as (store, pool), pool.acquire() as con:
        await con.execute("create table elsewhere (n int)")
        relay = Relay(cast("Store[Any]", store), log, "bank")
        work = asyncio.create_task(relay.run())
        async with con.transaction():
            await con.execute("insert into elsewhere values (4711)")
            await publish(pool, store, 1)
            async with asyncio.timeout(10):
                while relay.state().colour != "amber":
                    await asyncio.sleep(0.02)
            [reason] = relay.state().reasons
            assert "CP515" in reason and f"pid {con.get_server_pid()}" in reason and "elsewhere" in reason
            assert relay.sent == 0
        async with asyncio.timeout(10):
            while relay.sent == 0 or relay.state().colour != "green":
                await asyncio.sleep(0.02)
        await relay.stop(5_000)
        await work


def test_a_pool_that_nobody_opened_is_refused_with_the_line_that_opens_it(tmp_path: Path) -> None:
    module = "import asyncpg\nfrom contrapas_postgres import PostgresStore\n"
    (tmp_path / "shut.py").write_text(
        module + 'store = PostgresStore(asyncpg.create_pool("postgresql:///x"))\n'
    )
    asyncio.run(a_log_closed(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-m", "contrapas", "relay", "shut", "--namespace", "bank",
         "--log", f"sqlite:///{tmp_path / 'bank.db'}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 6 and "CP850" in ran.stderr and "await asyncpg.create_pool" in ran.stderr


async def a_log_closed(folder: Path) -> None:
    await (await a_log(folder)).close()


async def publish(pool: asyncpg.Pool[asyncpg.Record], store: Any, n: int) -> None:
    async with pool.acquire() as con, con.transaction():
        await store.publish(con, relaying.Counted(key="k", n=n))


async def until_said(process: Process, word: str, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while word not in process.words.read_text():
            assert process.process.poll() is None, process.words.read_text()
            await asyncio.sleep(0.05)
