"""What is SQLite's own in its store: the guard around the transaction, the user's connections, other processes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from contrapas.errors import DataError, Refused, Retriable
from contrapas.participant.sqlite import SqliteStore
from contrapas.testing.conformance_store import Noted, deliver, receipt, relayed


async def _store(folder: Path) -> SqliteStore:
    store = SqliteStore(folder / "shop.db")
    await store.prepare()
    with closing(sqlite3.connect(store.path)) as con:
        con.execute("create table charges(id text)")
    return store


def _charges(store: SqliteStore) -> int:
    with closing(sqlite3.connect(store.path)) as con:
        return int(con.execute("select count(*) from charges").fetchone()[0])


@pytest.mark.parametrize("how", ["commit", "with", "statement", "rollback", "end", "begin"])
async def test_a_handler_that_ends_its_transaction_itself_is_refused_and_leaves_nothing(
    tmp_path: Path, how: str
) -> None:
    store = await _store(tmp_path)

    async def handle(tx: Any) -> None:
        con: sqlite3.Connection = tx.session
        con.execute("insert into charges values ('x')")
        if how == "commit":
            con.commit()
        elif how == "with":
            with con:
                con.execute("insert into charges values ('y')")
        elif how == "rollback":
            con.rollback()
        else:
            con.execute({"statement": "commit", "end": "END TRANSACTION", "begin": "begin"}[how])

    for _ in range(2):
        with pytest.raises(Refused) as said:
            await deliver(store, receipt(), handle)
        assert said.value.code == "CP850" and _charges(store) == 0
    assert await deliver(store, receipt()) is None


async def test_a_handler_may_use_savepoints(tmp_path: Path) -> None:
    store = await _store(tmp_path)

    async def handle(tx: Any) -> None:
        tx.session.execute("savepoint a")
        tx.session.execute("insert into charges values ('x')")
        tx.session.execute("rollback to a")
        tx.session.execute("insert into charges values ('y')")
        tx.session.execute("release a")

    await deliver(store, receipt(), handle)
    assert _charges(store) == 1


async def test_the_user_s_own_connection_publishes_in_its_own_transaction(tmp_path: Path) -> None:
    store = await _store(tmp_path)
    with closing(sqlite3.connect(store.path)) as con:
        with con:
            con.execute("insert into charges values ('x')")
            await store.publish(con, Noted(key="a"))
        assert len(await relayed(store)) == 1
    with (
        closing(sqlite3.connect(store.path, isolation_level=None)) as con,
        pytest.raises(DataError, match="in no transaction"),
    ):
        await store.publish(con, Noted(key="a"))
    assert len(await relayed(store)) == 1


async def test_a_row_written_by_another_program_is_relayed(tmp_path: Path) -> None:
    store = await _store(tmp_path)
    with closing(sqlite3.connect(store.path)) as con, con:
        con.execute(
            "insert into contrapas_outbox(id, aggregatetype, aggregateid, type, payload, source, created_at) "
            "values ('1', 'orders.events', 'o-1', 'OrderPlaced', '{\"n\":1}', '/services/php', 1)"
        )
    (row,) = await relayed(store)
    assert (row.message.payload, row.message.headers, row.message.traceparent) == (b'{"n":1}', {}, "")


async def test_a_file_that_is_gone_makes_the_delivery_wait(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "nowhere" / "shop.db")
    with pytest.raises(Retriable) as said:
        await deliver(store, receipt())
    assert said.value.code == "CP516"
    (finding,) = await store.examine()
    assert finding.refused and finding.code == "CP516"


async def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    store = await _store(tmp_path)
    with closing(sqlite3.connect(store.path)) as con, con:
        con.execute("update contrapas_store set version = 7")
    (finding,) = await store.examine()
    assert finding.refused and finding.code == "CP514" and "7" in finding.text


async def test_a_delivery_that_is_cancelled_while_it_waits_leaves_no_lock(tmp_path: Path) -> None:
    store, other = await _store(tmp_path), SqliteStore(tmp_path / "shop.db")
    async with other.transaction() as con:
        con.execute("insert into charges values ('x')")
        waiting = asyncio.ensure_future(deliver(store, receipt()))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await asyncio.wait_for(deliver(other, receipt("c-2")), 5) is None
    assert _charges(store) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _fill(place: Path) -> Path:
    with open(place / "ballast", "wb", buffering=0) as filled, suppress(OSError):
        while True:
            filled.write(bytes(1024))
    return place / "ballast"


@pytest.mark.parametrize("rows", [0, 40], ids=["ours", "the-handler-s"])
async def test_a_full_disk_is_named_whoever_meets_it_and_the_store_goes_on_when_there_is_space(
    small_disk: Path, rows: int
) -> None:
    """rows: pages that the handler writes of its own; what it meets there is no outcome of the handler's."""
    store = await _store(small_disk)
    ballast = _fill(small_disk)

    async def writes(tx: Any) -> None:
        try:
            tx.session.execute("pragma cache_size=2")
            for _ in range(rows):
                tx.session.execute("insert into charges values (?)", ("x" * 8_000,))
        except sqlite3.Error as why:
            raise ValueError("the handler's own words") from why

    for _ in range(3):
        with pytest.raises(Retriable, match="full") as said:
            await deliver(store, receipt(), writes, rows=[])
        assert said.value.code == "CP516"
    ballast.unlink()
    assert await deliver(store, receipt(), writes) is None
    known = await deliver(store, receipt(), writes)
    assert known is not None and _charges(store) == rows
    await store.close()
