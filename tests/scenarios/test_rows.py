"""The table of real-process tests: every row is there; and short forms of rows that no other file holds."""

from __future__ import annotations

import ast
import asyncio
import os
import threading
from pathlib import Path

import pytest

from contrapas.core.fold import fold
from contrapas.log.sqlite import SqliteLog
from contrapas.log.sqlite_admin import verify
from contrapas.log.sqlite_read import SqliteReader
from tests.scenarios import bank, busy, clocks, former, leaks, looking, poison, rows

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_is_there_and_says_what_shows_it_or_what_it_waits_for() -> None:
    assert list(rows.ROWS) == [f"R-{n}" for n in range(1, 23)]
    for name, row in rows.ROWS.items():
        assert bool(row.tests) != bool(row.waits), name
        for test in row.tests:
            file, _, function = test.partition("::")
            path = ROOT / file
            assert path.exists(), test
            if function:
                nodes = ast.walk(ast.parse(path.read_text()))
                assert any(getattr(n, "name", "") == function for n in nodes), test
        for command in row.long:
            where = command[1].replace(".", "/") + ".py" if command[0] == "-m" else command[0]
            assert (ROOT / where).exists(), command


@pytest.mark.slow
async def test_r02_a_worker_dies_at_one_place_and_the_next_at_another(tmp_path: Path) -> None:
    verdict = await busy.siege(
        tmp_path, ("commit.undispatched", "takeover.read"), instances=40, more=10, seed=3
    )
    assert verdict.exact, verdict


@pytest.mark.slow
async def test_r03_a_worker_that_was_stopped_and_robbed_goes_on_and_changes_nothing(tmp_path: Path) -> None:
    verdict = await former.loop(tmp_path, rounds=2, seed=3)
    assert verdict.books.exact and not verdict.counted, verdict
    assert verdict.named == 2 and verdict.fenced > 0, verdict


@pytest.mark.slow
async def test_r12_no_timer_is_early_or_waits_for_a_clock_that_was_put_back(tmp_path: Path) -> None:
    verdict = await clocks.run(tmp_path, rounds=4, seed=2, naps=10)
    assert verdict.jumps == 4 and verdict.kills == 2 and verdict.naps == 40
    assert not verdict.early and not verdict.missing, verdict
    assert verdict.latest_ms < 60_000, verdict


async def test_r17_a_poisoned_instance_parks_or_fails_alone_and_every_neighbour_goes_on(
    tmp_path: Path,
) -> None:
    poisons = ("raises", "hangs", "returns 10 MB", "blocks the loop")
    verdict = await poison.run(tmp_path, rounds=1, count=12, poisons=poisons)
    assert verdict.lost == 0
    assert verdict.ends == {
        "raises": "failed",
        "hangs": "failed",
        "returns 10 MB": "parked CP843",
        "blocks the loop": "done",
    }
    assert all(len(verdict.with_ms[what]) == 12 for what in poisons)


async def test_r21_a_hundred_takeovers_leave_no_descriptor_or_thread_behind(tmp_path: Path) -> None:
    async def round_() -> None:
        log = SqliteLog(tmp_path / "log.db", "shop", 2)
        lease = await log.acquire(0, "w")
        await lease.commit([], [], lease.control)
        await lease.release()
        await log.close()

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not say which files are open")
    for _ in range(3):
        await round_()
    before = held()
    for _ in range(100):
        await round_()
    assert held() == before


async def test_r21_workers_that_join_and_leave_and_doors_that_open_and_close_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not say which files are open")
    monkeypatch.setenv("WOKE", os.devnull)
    verdict = await leaks.run(tmp_path, rounds=6, warm=4)
    assert verdict.takeovers >= 60, verdict
    assert verdict.after.fds <= verdict.before.fds and verdict.after.tasks <= verdict.before.tasks, verdict
    assert verdict.after.threads <= verdict.before.threads, verdict
    assert not [name for name in verdict.threads if name.startswith(leaks.STEPS)], verdict
    assert verdict.after.objects < verdict.before.objects * 1.05, verdict


async def test_r22_whoever_looks_while_workers_die_changes_nothing(tmp_path: Path) -> None:
    looked: list[int] = []

    async def look(number: int) -> None:
        path = str(tmp_path / "scenario.db")

        def see() -> int:
            reader = SqliteReader(path)
            try:
                seen = 0
                for p in range(reader.partitions):
                    with reader.moment():
                        records = [r for batch in reader.latest(p) for r in batch]
                    fold(records, floor=1 << 47)
                    seen += len(records)
                reader.parts()
                return seen
            finally:
                reader.close()

        looked.append(await asyncio.to_thread(see))
        assert list(await asyncio.to_thread(lambda: list(verify(path)))) == []

    verdict = await bank.kill_loop(tmp_path, kills=3, seed=5, pause=(0.2, 0.5), strike=look)
    assert verdict.exact, verdict
    assert len(looked) == 3 and looked[-1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(looking.VERBS)))
async def test_r22_a_command_that_looks_is_answered_while_workers_work(tmp_path: Path, number: int) -> None:
    verdict = looking.Verdict(bank.Verdict(0, 0, 0, []))
    under, books = bank.supervisor(tmp_path)
    try:
        under.start()
        async with under.outside() as engine:
            asked = looking.bank_transfers(0, 100)
            await bank.ask(engine, asked)
            await asyncio.to_thread(looking.look, tmp_path, under.url, number, verdict)
            verdict.books = await bank.judge(engine, books, asked)
    finally:
        under.close()
    assert not verdict.failed and verdict.books.exact, verdict
