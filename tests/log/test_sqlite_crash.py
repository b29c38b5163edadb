"""SQLite with real processes: killed at every named point, racing for a partition, stopped, sharing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from contrapas.core.fold import fold
from contrapas.failpoints import NAMES
from contrapas.log.sqlite import SqliteLog
from contrapas.log.sqlite_admin import verify
from contrapas.log.sqlite_read import SqliteReader
from tests.log.processes import line, run, start, tell

POINTS = sorted(name for name in NAMES if name.startswith("sqlite."))


async def after_a_crash(path: Path, acked: int) -> None:
    """Whatever was acknowledged is there, whole; the next owner goes on at once."""
    log = SqliteLog(path, "shop", 4)
    lease = await log.acquire(0, "heir")
    records, _ = await log.read("log", 0, 0)
    judge, states = fold(records, floor=lease.control.horizon)
    found = {key: judge.known.get(key, 0) for key in (b"a", b"b", b"c")}
    assert len(set(found.values())) == 1, "half a commit"
    assert found[b"a"] in (acked, acked + 1)
    assert len({record.value for record in states.values()}) <= 1
    published, _ = await log.read("in", 1, 0)
    assert [r.value for r in published] == [b"%d" % n for n in range(1, found[b"a"] + 1)]
    assert list(verify(str(path))) == []
    await log.close()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("visit", (1, 3))
async def test_a_kill_at_a_named_point_loses_nothing_that_was_acknowledged(
    tmp_path: Path, point: str, visit: int
) -> None:
    path = tmp_path / "log.db"
    code, lines = run("write", path, "12", CONTRAPAS_FAILPOINTS=f"{point}=kill@{visit}", WAL_PAGES="10")
    visited_once = point.startswith(("sqlite.acquire", "sqlite.release", "sqlite.compact"))
    assert code == (0 if visit > 1 and visited_once else -signal.SIGKILL), lines
    await after_a_crash(path, sum(1 for said in lines if said.startswith("ack")))


async def test_a_lost_answer_after_the_commit_is_indeterminate_and_the_tail_decides(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    code, lines = run("write-on", path, "5", CONTRAPAS_FAILPOINTS="sqlite.commit.accepted=raise@4")
    assert code == 0
    assert lines[:3] == ["ack 1", "ack 2", "error CP507 "]
    with_loss = SqliteReader(str(path))
    assert len(list(with_loss.scan("log", 0, 0, 1 << 40))) >= 9
    with_loss.close()


async def test_forty_takeover_races_never_let_two_owners_write(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path, "shop", 4)
    racers = [start("race", path, "10") for _ in range(4)]
    said = [racer.communicate(timeout=120)[0].splitlines() for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    acks = {tuple(map(int, text.split()[1:])) for lines in said for text in lines if text.startswith("ack")}
    records = list(log.reader.scan("log", 0, 0, 1 << 40))
    judge, _ = fold(records)
    stored = [(int(dict(r.headers)["cp-version"]), int(dict(r.headers)["cp-epoch"])) for r in records]
    assert [version for version, _ in stored] == list(range(1, len(stored) + 1))
    assert [epoch for _, epoch in stored] == sorted(epoch for _, epoch in stored)
    assert acks <= set(stored) and judge.losers == 0
    assert log.reader.epochs()[0] >= 40
    assert list(verify(str(path))) == []
    await log.close()


async def test_a_stopped_holder_is_named_and_its_lock_can_be_broken_and_it_is_fenced(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    holder = start("hold", path)
    try:
        assert line(holder) == "own"
        tell(holder)
        assert line(holder) == "ack"
        os.kill(holder.pid, signal.SIGSTOP)
        log = SqliteLog(path, "shop", 4)
        log.acquire_s = 0
        assert log.stalled() == []
        silent = time.time() - 31
        os.utime(f"{path}.p0", (silent, silent))
        (found,) = log.stalled()
        assert (found.pid, found.owner, found.partition) == (holder.pid, "holder", 0)
        broken = log.break_lock(0)
        assert broken is not None and broken.pid == holder.pid
        lease = await log.acquire(0, "heir")
        os.kill(holder.pid, signal.SIGCONT)
        tell(holder)
        assert line(holder) == "fenced"
        assert lease.control.takeovers == 1
        await log.close()
    finally:
        holder.kill()
        holder.communicate()


def test_two_processes_share_the_partitions_and_one_killed_gives_its_share_up_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    first = start("share", path)
    try:
        assert line(first) == "assigned 0 1 2 3"
        second = start("share", path)
        try:
            mine, theirs = line(first).split()[1:], line(second).split()[1:]
            assert sorted(mine + theirs) == ["0", "1", "2", "3"] and len(mine) == 2
        finally:
            second.kill()
            killed = time.monotonic()
            second.communicate()
        assert line(first) == "assigned 0 1 2 3"
        assert time.monotonic() - killed < 1
    finally:
        first.kill()
        first.communicate()
