"""The SQLite file: marker, modes, settings, refusals, damage, headers, compaction of tombstones and input, idle cost."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from contrapas.core.lane import Draft, Headers
from contrapas.errors import (
    ContrapasError,
    Damaged,
    DataError,
    Fenced,
    LogError,
    Refused,
    Retriable,
    Unreachable,
)
from contrapas.failpoints import NAMES
from contrapas.log import sqlite_file, sqlite_sweep
from contrapas.log.memory import VirtualClock
from contrapas.log.sqlite import SqliteLog
from contrapas.log.sqlite_admin import apply, examine, plan, verify
from contrapas.log.sqlite_owners import break_membership
from contrapas.log.sqlite_read import SqliteReader
from contrapas.log.sqlite_rows import pack_headers, pack_with_deadline, unpack_headers
from tests.log.child import record

DAY = 86_400_000


async def a_log(path: Path, commits: int = 3) -> None:
    log = SqliteLog(path, "shop", 4)
    lease = await log.acquire(1, "owner")
    for n in range(commits):
        await lease.commit(
            [record("k", n + 1, lease.epoch, b"value %d" % n)], [Draft("in", 2, b"k", b"x")], lease.control
        )
    await log.close()


def refused(
    kind: type[ContrapasError], code: str, path: Path, namespace: str = "shop", partitions: int | None = 4
) -> None:
    with pytest.raises(kind, match=code):
        SqliteLog(path, namespace, partitions)
    with pytest.raises(kind, match=code):
        SqliteReader(str(path), namespace, partitions)


async def test_files_and_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.db"
    log = SqliteLog(path, "shop", 4)
    await log.acquire(0, "owner")
    for name in os.listdir(path.parent):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await log.close()


async def test_the_settings_are_read_back_from_the_connection(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", "shop", 4)
    conn = log.store.conn
    found = {
        name: conn.execute(f"pragma {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "mmap_size")
    }
    assert found == {"journal_mode": "wal", "synchronous": 2, "mmap_size": 0}
    assert conn.execute("pragma wal_autocheckpoint").fetchone()[0] == 0
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        log.reader.conn.execute("delete from part")
    await log.close()


async def test_a_lazy_log_never_calls_itself_durable(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", "shop", 4, synchronous="normal")
    lease = await log.acquire(0, "owner")
    assert not (await lease.commit([record("k", 1, 1, b"v")], [], lease.control)).durable
    await log.close()


async def test_another_namespace_count_or_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await a_log(path)
    refused(LogError, "CP505", path, namespace="other")
    refused(Refused, "CP504", path, partitions=8)
    assert SqliteReader(str(path)).partitions == 4
    foreign = tmp_path / "foreign.db"
    conn = sqlite3.connect(foreign)
    conn.execute("create table t(i)")
    conn.close()
    refused(LogError, "CP505", foreign)
    text = tmp_path / "text.db"
    text.write_bytes(b"not a database, but long enough to be looked at\n" * 100)
    refused(Damaged, "CP520", text)


async def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await a_log(path)
    conn = sqlite3.connect(path)
    conn.execute("pragma user_version=9")
    conn.close()
    before = path.read_bytes()
    refused(Refused, "CP516", path)
    assert path.read_bytes() == before


async def test_a_file_without_its_newest_commits_is_refused(tmp_path: Path) -> None:
    path, copy, moved = tmp_path / "log.db", tmp_path / "copy" / "log.db", tmp_path / "moved.db"
    log = SqliteLog(path, "shop", 4)
    lease = await log.acquire(1, "owner")
    for n in range(5):
        await lease.commit([record("k", n + 1, lease.epoch, b"v")], [], lease.control)
    copy.parent.mkdir()
    shutil.copy(path, copy)
    refused(Refused, "CP516", copy)
    refused(Refused, "CP516", copy)
    for end in ("", "-wal", ".lock"):
        shutil.copy(f"{path}{end}", f"{moved}{end}")
    again = SqliteLog(moved, "shop", 4)
    assert len((await again.read("log", 1, 0))[0]) == 5
    await again.close()
    shutil.copy(path, moved)
    refused(Refused, "CP516", moved)
    await log.close()
    assert not os.path.exists(f"{path}-wal")
    shutil.copy(path, copy)
    await SqliteLog(copy, "shop", 4).close()


async def test_a_killed_log_that_another_program_tidied_up_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path, "shop", 4)
    lease = await log.acquire(1, "owner")
    await lease.commit([record("k", 1, lease.epoch, b"v")], [], lease.control)
    dead = tmp_path / "dead.db"
    for end in ("", "-wal", ".lock"):
        shutil.copy(f"{path}{end}", f"{dead}{end}")
    conn = sqlite3.connect(dead)
    conn.execute("select * from part").fetchall()
    conn.close()
    assert not os.path.exists(f"{dead}-wal")
    await SqliteLog(dead, "shop", 4).close()
    await log.close()


async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nfs(path: str) -> str:
        return "nfs4"

    monkeypatch.setattr(sqlite_file, "mount_type", nfs)
    with pytest.raises(Refused, match="CP804"):
        SqliteLog(tmp_path / "log.db", "shop", 4)
    assert [(f.refused, f.code) for f in examine(str(tmp_path / "log.db"))] == [(True, "CP804")]


@pytest.mark.parametrize(
    ("code", "kind", "number"),
    [
        (sqlite3.SQLITE_BUSY, Retriable, "CP523"),
        (sqlite3.SQLITE_LOCKED, Retriable, "CP523"),
        (sqlite3.SQLITE_FULL, Unreachable, "CP516"),
        (sqlite3.SQLITE_IOERR | 10 << 8, Unreachable, "CP516"),
        (sqlite3.SQLITE_READONLY, Unreachable, "CP516"),
        (sqlite3.SQLITE_CORRUPT, Damaged, "CP520"),
        (sqlite3.SQLITE_NOTADB, Damaged, "CP520"),
        (sqlite3.SQLITE_TOOBIG, DataError, "CP409"),
    ],
)
def test_each_error_of_sqlite_means_one_of_ours(code: int, kind: type[ContrapasError], number: str) -> None:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    ours = sqlite_file.explain(error, "log.db")
    assert type(ours) is kind and ours.code == number


async def test_a_busy_file_is_retriable_and_the_commit_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path, "shop", 4)
    lease = await log.acquire(0, "owner")
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("begin immediate")
    log.store.conn.execute("pragma busy_timeout=1")
    monkeypatch.setattr("contrapas.log.sqlite_store.BUSY_MS", 1)
    with pytest.raises(Retriable, match="CP523"):
        await lease.commit([record("k", 1, lease.epoch, b"v")], [], lease.control)
    foreign.execute("rollback")
    await lease.commit([record("k", 1, lease.epoch, b"v")], [], lease.control)
    assert len((await log.read("log", 0, 0))[0]) == 1
    foreign.close()
    await log.close()


async def test_a_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await a_log(path)
    data = path.read_bytes()
    assert data.count(b"value 1") == 1
    path.write_bytes(data.replace(b"value 1", b"vblue 1"))
    (found,) = verify(str(path))
    assert (found.refused, found.code, found.place) == (True, "CP520", "shop.log/1@1")
    conn = sqlite3.connect(path)
    conn.execute("update lane_log set headers=x'00010001ff' where i & 1023 = 2")
    conn.commit()
    conn.close()
    assert [f.place for f in verify(str(path))] == ["shop.log/1@1", "shop.log/1@2"]
    log = SqliteLog(path, "shop", 4)
    with pytest.raises(Damaged, match="CP520"):
        await log.read("log", 1, 2)
    assert (await log.read("log", 0, 0))[0] == []
    await log.close()


async def test_a_page_full_of_rubbish_is_refused_or_found(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await a_log(path, 200)
    data = path.read_bytes()
    path.write_bytes(data[: 4096 * 12] + b"\xff" * 4096 + data[4096 * 13 :])
    try:
        found = list(verify(str(path)))
    except Damaged:
        return
    assert found and {f.code for f in found} <= {"CP520", "CP509"}


async def test_doctor_finds_positions_outside_the_lane(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path, "shop", 4)
    lease = await log.acquire(0, "owner")
    await lease.commit([], [], lease.control._replace(cursor={("in", 0): 5}))
    found = examine(str(path), "shop", 4)
    assert [(f.refused, f.code, f.place) for f in found if f.refused] == [(True, "CP506", "shop.in/0@5")]
    assert any("SQLite" in f.text and not f.refused for f in found) is (
        sqlite3.sqlite_version_info < (3, 51, 3)
    )
    await log.close()


def test_a_plan_lists_what_is_missing_and_apply_makes_it_once(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    made = plan(path, "shop", 4, {"orders.events": 3})
    assert made.make and len(made.words()) == 2 and not os.path.exists(path)
    apply(made)
    again = plan(path, "shop", 4, {"orders.events": 3, "stock.events": 2})
    assert again.words() == ["topic stock.events, 2 partitions"]
    apply(again)
    apply(again)
    assert plan(path, "shop", 4, {"orders.events": 3, "stock.events": 2}).words() == []


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("a", b""),),
        (("", b"x"),),
        (("a", b"\0" * 70_000), ("a", b"2")),
        tuple((f"h{n}", b"%d" % n) for n in range(300)),
    ],
)
def test_headers_come_back_as_they_went(headers: Headers) -> None:
    assert unpack_headers(pack_headers(headers)) == headers


def test_headers_that_are_cut_or_lie_are_not_read() -> None:
    data = pack_headers((("cp-kind", b"instance"), ("cp-version", b"17")))
    for cut in range(1, len(data)):
        with pytest.raises(ValueError, match="headers"):
            unpack_headers(data[:cut])
    with pytest.raises(ValueError, match="headers"):
        unpack_headers(data + b"x")
    with pytest.raises(DataError):
        pack_headers((("a\0b", b""),))
    assert [pack_with_deadline((("cp-deadline", text),))[1] for text in (b"12", b"x")] == [12, None]


async def test_tombstones_and_read_input_go_when_they_are_old(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = SqliteLog(tmp_path / "log.db", "shop", 4, clock=clock)
    lease = await log.acquire(0, "owner")
    epoch = lease.epoch
    await lease.commit([record("a", 1, epoch, b"v"), record("b", 1, epoch, b"v")], [], lease.control)
    await lease.commit([Draft("", 0, b"a", None, (("cp-epoch", b"%d" % epoch),))], [], lease.control)
    await log.publish([Draft("in", 0, b"k", b"%d" % n) for n in range(10)])
    await lease.commit([], [], lease.control._replace(relayed=3, cursor={("in", 0): 6}))
    assert await lease.compact(3, budget_ms=1000) == 3
    assert [r.key for r in (await log.read("log", 0, 0))[0]] == [b"b", b"a"]
    assert await log.bounds("in", 0) == (0, 10)
    clock.advance(4 * DAY)
    await lease.compact(3, budget_ms=1000)
    assert [r.key for r in (await log.read("log", 0, 0))[0]] == [b"b"]
    assert [r.key async for batch in log.latest(0, after=0) for r in batch] == [b"b"]
    assert await log.bounds("in", 0) == (6, 10)
    with pytest.raises(LogError, match="CP519"):
        await log.read("in", 0, 5)
    await log.close()


async def test_compaction_goes_in_chunks_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_sweep, "CHUNK", 10)
    log = SqliteLog(tmp_path / "log.db", "shop", 4)
    lease = await log.acquire(0, "owner")
    for n in range(30):
        await lease.commit(
            [record(f"k{i}", n + 1, lease.epoch, b"%d" % n) for i in range(5)], [], lease.control
        )
    await lease.commit([], [], lease.control._replace(relayed=150))
    left: list[int] = []
    for _ in range(20):
        assert await lease.compact(120, budget_ms=0) == 120
        left.append(len((await log.read("log", 0, 0))[0]))
    assert left[0] > left[5] > left[-1] == 35 and left == sorted(left, reverse=True)
    assert len([r async for batch in log.latest(0) for r in batch]) == 5
    await log.close()


async def test_latest_picks_where_the_lane_is_mostly_superseded_and_gives_the_same(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", "shop", 4)
    lease = await log.acquire(0, "owner")
    for n in range(120):
        await lease.commit([record(f"k{n % 3}", n // 3 + 1, lease.epoch, b"%d" % n)], [], lease.control)
    picked = [r async for batch in log.latest(0, upto=118) for r in batch]
    assert [r.value for r in picked] == [b"115", b"116", b"117"]
    swept = [row for batch in log.reader._swept(0, 0, 118, {115, 116}, 50) for row in batch]  # pyright: ignore[reportPrivateUsage]
    assert [row[0] for row in swept if row[0] >= 115] == [115, 116, 117]
    await log.close()


async def test_a_living_holder_is_not_robbed_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    one, two = SqliteLog(path, "shop", 4), SqliteLog(path, "shop", 4)
    lease = await one.acquire(2, "worker-1")
    two.acquire_s = 0.0
    with pytest.raises(Fenced, match=f"worker-1 .pid {os.getpid()}"):
        await two.acquire(2, "worker-2")
    await lease.commit([record("k", 1, lease.epoch, b"v")], [], lease.control)
    two.acquire_s = 5.0
    waiting = asyncio.create_task(two.acquire(2, "worker-2"))
    await asyncio.sleep(0)
    await lease.release()
    assert (await waiting).control.takeovers == 0
    await one.close()
    await two.close()


async def test_a_slow_disk_moves_the_commits_to_a_thread_and_they_share_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contrapas.log.sqlite.QUICK_S", 0.0)
    log = SqliteLog(tmp_path / "log.db", "shop", 4)
    leases = [await log.acquire(p, "owner") for p in range(4)]
    before = log.reader.version()
    for n in range(10):
        await asyncio.gather(
            *[lease.commit([record("k", n + 1, lease.epoch, b"v")], [], lease.control) for lease in leases]
        )
    assert log.reader.version() != before
    for p in range(4):
        assert len((await log.read("log", p, 0))[0]) == 10
    await log.close()


async def test_waiting_costs_next_to_nothing(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", "shop", 8)
    for p in range(8):
        await log.acquire(p, "owner")
    member = log.membership("shop.workers", ("in",))

    async def follow() -> None:
        async for _ in member.assignments():
            pass

    async def read(p: int) -> None:
        while True:
            await log.read("in", p, 0, wait_ms=60_000)

    tasks = [asyncio.create_task(follow()), *[asyncio.create_task(read(p)) for p in range(8)]]
    log._moved_at = -1e9  # pyright: ignore[reportPrivateUsage]
    await asyncio.sleep(0.2)
    log._moved_at = -1e9  # pyright: ignore[reportPrivateUsage]
    began, used = time.monotonic(), time.process_time()
    await asyncio.sleep(1)
    share = (time.process_time() - used) / (time.monotonic() - began)
    for task in tasks:
        task.cancel()
    await log.close()
    assert share < 0.02


def test_a_reader_opens_quickly_beside_a_writer_and_takes_no_lock(tmp_path: Path) -> None:
    asyncio.run(a_log(tmp_path / "log.db"))
    before = set(os.listdir(tmp_path))
    reader = SqliteReader(str(tmp_path / "log.db"))
    assert reader.newest(1, b"k") is not None
    assert [p.owner for p in reader.parts()] == [
        "",
        "owner",
        "",
        "",
    ]  # closed without a release: as by a crash
    reader.close()
    assert set(os.listdir(tmp_path)) - before <= {"log.db-wal", "log.db-shm"}


def test_every_failpoint_of_the_log_is_listed_with_its_place() -> None:
    source = "".join(p.read_text() for p in Path(sqlite_file.__file__).parent.glob("*.py"))
    listed = {name for name in NAMES if name.startswith("sqlite.")}
    assert listed == {part.split('"')[0] for part in source.split('failpoint("')[1:]}


async def test_a_member_whose_file_was_taken_away_joins_again_when_it_goes_on(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", "shop", 4)
    stopped = log.membership("shop.workers", ("in",))
    other = log.membership("shop.workers", ("in",))
    assert len(other.living()) == 2
    assert break_membership(str(tmp_path / "log.db"), stopped.member)
    assert other.living() == [other.member]
    assert len(other.assigned()) == 4
    assert sorted(stopped.living()) == sorted((stopped.member, other.member))
    assert len(stopped.assigned()) + len(other.assigned()) == 4
    assert not break_membership(str(tmp_path / "log.db"), "nobody")
    await log.close()
    assert not [f for f in tmp_path.iterdir() if ".m." in f.name]
