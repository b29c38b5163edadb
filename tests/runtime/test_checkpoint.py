"""Checkpoints: a takeover from one is the takeover from zero, and one that is not what it should be is thrown away."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.fold import fold
from contrapas.core.lane import Record
from contrapas.errors import Damaged
from contrapas.log.memory import MemoryLog
from contrapas.runtime.checkpoint import EMPTY, Checkpoint, Identity, State
from contrapas.runtime.clock import JumpClock
from contrapas.runtime.keeper import Keeper
from contrapas.runtime.worker import Worker
from tests.runtime.machines import CALLS, Began, Go, definition_of, world_of
from tests.runtime.rig import Killed, Rig, kill_at, rig_of
from tests.runtime.test_heal import DAY_MS, loser, on_top, tops

WHOLE = Identity("t", "t-log", 1, 0)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    CALLS.clear()
    yield
    failpoints.disarm()


def record(key: bytes, version: int, offset: int, value: bytes = b"v") -> Record:
    headers = (("cp-kind", b"instance"), ("cp-version", b"%d" % version), ("cp-epoch", b"3"))
    return Record(0, offset, key, value, headers, 1_000 + offset)


def filled(path: Path, count: int = 3) -> Checkpoint:
    file = Checkpoint(path, WHOLE)
    assert file.begin() == EMPTY
    file.put([record(b"k%d" % n, 1, n, b"value %d" % n) for n in range(count)])
    file.seal(State(count, 3, None, {b"k0": 9}, 1_000 + count))
    file.close()
    return file


def read(file: Checkpoint) -> dict[bytes, Record]:
    return {r.key: r for batch in file.records() for r in batch}


def keeper_of(rig: Rig, folder: Path, log: Any = None) -> Keeper:
    return Keeper(log or rig.log.peer(), folder, WHOLE, clock=rig.clock, chance=lambda: 0.5)


def asked(log: Any) -> list[int]:
    """From where `latest` was asked for, from now on."""
    seen: list[int] = []
    right = log.latest

    def latest(partition: int, *, after: int = 0, upto: int | None = None) -> Any:
        seen.append(after)
        return right(partition, after=after, upto=upto)

    log.latest = latest
    return seen


def entries(w: Worker) -> dict[str, Any]:
    return dict(w.stations[0].partition.entries)


async def waiting(rig: Rig, *names: str) -> None:
    for name in names:
        await rig.client().start("wait", Began(id=name, n=1))
    await rig.until(lambda: all(rig.status(f"wait/{name}") == "waiting" for name in names))
    await rig.turn(1, 1200)


# ---- the file


def test_what_was_sealed_is_there_and_what_was_not_is_not(tmp_path: Path) -> None:
    file = filled(tmp_path / "c")
    again = Checkpoint(tmp_path / "c", WHOLE)
    assert again.state() == State(3, 3, None, {b"k0": 9}, 1_003)
    assert read(again)[b"k1"] == record(b"k1", 1, 1, b"value 1")
    again.begin()
    again.put([record(b"k1", 2, 7), record(b"new", 1, 8)], [b"k2"])
    again.close()
    assert file.state().upto == 3 and read(file).keys() == {b"k0", b"k1", b"k2"}
    file.close()
    again.begin()
    again.put([record(b"k1", 2, 7), record(b"new", 1, 8)], [b"k2"])
    again.seal(State(9, 4, None, {}, 1_009))
    assert file.state() == State(9, 4, None, {}, 1_009)
    assert {k: r.offset for k, r in read(file).items()} == {b"k0": 0, b"k1": 7, b"new": 8}


@pytest.mark.parametrize(
    "other",
    [
        WHOLE._replace(namespace="u"),
        WHOLE._replace(topic="made again"),
        WHOLE._replace(partitions=2),
        WHOLE._replace(partition=1),
    ],
)
def test_a_checkpoint_of_another_lane_is_thrown_away_and_is_nothing_to_warn_of(
    tmp_path: Path, other: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path / "c")
    with caplog.at_level("INFO"):
        found = Checkpoint(tmp_path / "c", other).state()
    assert [(r.levelname, "another log" in r.getMessage()) for r in caplog.records] == [("INFO", True)]
    assert found == EMPTY
    assert not (tmp_path / "c").exists()


def test_a_damaged_file_is_never_believed(tmp_path: Path) -> None:
    """Bits flip, pages are lost, the file is cut: whatever is still given is what was written."""
    chance = random.Random(5)
    wrong = 0
    for turn in range(150):
        path = tmp_path / f"c{turn}"
        file = filled(path, 40)
        good = read(file)
        file.close()
        data = bytearray(path.read_bytes())
        if turn % 3 == 0:
            del data[chance.randrange(len(data)) :]
        elif turn % 3 == 1:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        else:
            at = chance.randrange(len(data) // 4096) * 4096
            data[at : at + 4096] = bytes(4096)
        path.write_bytes(data)
        broken = Checkpoint(path, WHOLE)
        state = broken.state()
        try:
            found = read(broken) if state != EMPTY else {}
        except Damaged as why:
            assert why.place == str(path)
            wrong += 1
            continue
        finally:
            broken.close()
        assert state == EMPTY or (found == good and state.upto == 40 and state.owed == {b"k0": 9})
        wrong += state == EMPTY
    assert wrong > 30


def test_of_two_that_write_one_waits_for_another_time(tmp_path: Path) -> None:
    filled(tmp_path / "c")
    first, second = Checkpoint(tmp_path / "c", WHOLE), Checkpoint(tmp_path / "c", WHOLE)
    first.begin()
    with pytest.raises(BlockingIOError):
        second.begin()
    first.close()
    assert second.begin().upto == 3
    with sqlite3.connect(tmp_path / "c") as stranger:
        assert stranger.execute("select count(*) from entry").fetchone() == (3,)


# ---- in a worker


@pytest.mark.parametrize("fence", ["order", "refuse"])
async def test_checkpoint_and_tail_are_the_same_as_the_whole_lane(tmp_path: Path, fence: Any) -> None:
    async with rig_of(definition_of(), world_of("wait", "seq"), partitions=1, fence=fence) as rig:
        await rig.worker()
        await waiting(rig, "a", "b", "c")
        await keeper_of(rig, tmp_path).catch_up()
        await rig.client().signal("wait", "b", Go(id="b"))
        await rig.client().start("seq", Began(id="d", n=2))
        await rig.until(lambda: rig.status("wait/b") == "done" and rig.status("seq/d") == "done")
        await rig.turn(1, 1200)
        await rig.kill()
        plain = entries(await rig.worker())
        await rig.kill()
        log = rig.log.peer()
        seen = asked(log)
        w = await rig.worker(log, checkpoints=tmp_path)
        assert seen[0] > 0 and entries(w) == plain
        await rig.client().signal("wait", "a", Go(id="a"))
        await rig.until(lambda: rig.status("wait/a") == "done")


async def test_steps_and_messages_that_are_owed_are_found_in_a_checkpoint(tmp_path: Path) -> None:
    async with rig_of(definition_of(), world_of("pay", "seq"), partitions=1, fence="order") as rig:
        await rig.worker()
        kill_at("relay.read")
        await rig.client().start("pay", Began(id="a", n=1))
        await rig.killed()
        await keeper_of(rig, tmp_path).catch_up()
        assert not rig.records("pay.commands")
        log = rig.log.peer()
        seen = asked(log)
        await rig.worker(log, checkpoints=tmp_path)
        await rig.until(lambda: len(rig.records("pay.commands")) == 1)
        assert seen[0] > 0


async def test_row_21_a_checkpoint_older_than_the_history_is_thrown_away(tmp_path: Path) -> None:
    """Its tombstone was compacted away, and the key has begun again: from the old one on, the new run would be stale."""
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a", "b")
        await rig.client().signal("wait", "a", Go(id="a"))
        await rig.until(lambda: rig.status("wait/a") == "done")
        await rig.turn(1, 1200)
        await keeper_of(rig, tmp_path).catch_up()
        rig.clock.advance(31 * DAY_MS)
        await rig.until(lambda: rig.status("wait/a") == "", turns=20_000)  # its retention has passed
        store = rig.log.store
        rig.clock.advance(9 * DAY_MS)
        await rig.turn(1, 1200)
        end = store.bounds("log", 0)[1]
        store.clean(0, end)
        shelf = store.shelf("log", 0)
        shelf.records = [
            r for r in shelf.records if r.value is not None
        ]  # `delete.retention.ms` has passed too
        await waiting(rig, "a")
        await rig.kill()
        log = rig.log.peer()
        seen = asked(log)
        w = await rig.worker(log, checkpoints=tmp_path)
        assert seen[0] > 0 and seen[1] == 0, "it was tried, and thrown away"
        assert entries(w)["wait/a"].version == 1 and rig.status("wait/a") == "waiting"
        assert "wait/b" in entries(w)


async def test_a_key_that_ended_and_began_again_after_the_checkpoint_is_its_new_run(tmp_path: Path) -> None:
    """The tombstone in between is superseded, so the tail says version 1 of a key that the checkpoint has at 2."""
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a")
        await rig.client().signal("wait", "a", Go(id="a"))
        await rig.until(lambda: rig.status("wait/a") == "done")
        keeper = keeper_of(rig, tmp_path)
        await keeper.catch_up()
        rig.clock.advance(31 * DAY_MS)
        await rig.until(lambda: rig.status("wait/a") == "", turns=20_000)
        await waiting(rig, "a")
        rig.log.history_ms = 60 * DAY_MS
        await rig.kill()
        log = rig.log.peer()
        log.history_ms = 60 * DAY_MS
        seen = asked(log)
        w = await rig.worker(log, checkpoints=tmp_path)
        assert len(seen) == 1 and seen[0] > 0
        assert entries(w)["wait/a"].version == 1
        await rig.client().signal("wait", "a", Go(id="a"))
        await rig.until(lambda: rig.status("wait/a") == "done")


async def test_a_heal_that_is_owed_is_owed_across_a_checkpoint(tmp_path: Path) -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a", "b")
        await rig.kill()
        loser(rig, b"wait/a")
        keeper = keeper_of(rig, tmp_path)
        await keeper.catch_up()
        state = await keeper.load()
        assert state is not None and state.owed == {b"wait/a": 6} and on_top(rig) == {b"wait/a"}
        keeper.file.close()
        log = rig.log.peer()
        seen = asked(log)
        w = await rig.worker(log, checkpoints=tmp_path)
        assert seen[0] > 0 and not on_top(rig)
        assert w.counts().healed == 1 and rig.versions("wait/a") == [1, 6, 7]


async def test_a_damaged_checkpoint_costs_time_and_nothing_else(tmp_path: Path) -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a", "b")
        keeper = keeper_of(rig, tmp_path)
        await keeper.catch_up()
        await rig.kill()
        conn = sqlite3.connect(keeper.file.path)
        conn.execute("update entry set value = value || x'00' where key = ?", (b"wait/a",))
        conn.commit()
        conn.close()
        w = await rig.worker(checkpoints=tmp_path)
        assert len([k for k in entries(w) if k.startswith("wait/")]) == 2
        assert w.health().colour == "green"


async def test_a_checkpoint_of_a_lane_that_was_cut_or_made_again_is_thrown_away(tmp_path: Path) -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a")
        keeper = keeper_of(rig, tmp_path)
        await keeper.catch_up()
        other = MemoryLog("t", 1, clock=rig.clock, fence="order")
        fresh = keeper_of(rig, tmp_path, other)
        assert await fresh.load() is None and not keeper.file.path.exists()


async def test_a_stop_writes_a_checkpoint_before_the_release(tmp_path: Path) -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker(checkpoints=tmp_path)
        await waiting(rig, "a")
        stopping = asyncio.ensure_future(w.stop())
        while not stopping.done():
            await rig.turn(1)
            await asyncio.sleep(0.001)  # the file is written by a thread
        keeper = keeper_of(rig, tmp_path)
        state = await keeper.load()
        assert state is not None and state.upto == rig.log.store.bounds("log", 0)[1] - 1, (
            "all but the release"
        )
        assert b"wait/a" in read(keeper.file)


@pytest.mark.parametrize("place", ["checkpoint.before", "checkpoint.after"])
async def test_a_checkpoint_that_is_killed_is_as_it_was_before_or_whole(tmp_path: Path, place: str) -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a")
        keeper = keeper_of(rig, tmp_path)
        await keeper.catch_up()
        was = await keeper.load()
        await waiting(rig, "b")
        kill_at(place)
        with pytest.raises(Killed):
            await keeper.catch_up()
        left = await keeper_of(rig, tmp_path).load()
        assert left is not None and was is not None
        assert left == was if place == "checkpoint.before" else left.upto > was.upto
        await keeper.catch_up()
        now = await keeper.load()
        assert now is not None and now.upto > was.upto


async def test_a_standby_follows_what_others_own_and_takes_over_from_there(tmp_path: Path) -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=2, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a", "b", "c")
        log = rig.log.peer()
        seen = asked(log)
        second = await rig.worker(log, checkpoints=tmp_path, standby=True)
        await rig.until(lambda: len(second.stations) == 1)
        (mine,) = second.stations
        theirs = 1 - mine
        path = tmp_path / f"t-{theirs}.checkpoint"

        def followed() -> bool:
            time.sleep(0.002)  # the file is written by a thread
            return path.exists() and seen.count(0) >= 2

        await rig.until(followed, ms=20)
        await rig.turn(20, 300)
        identity = Identity("t", "t-log", 2, theirs)

        def known() -> int:
            time.sleep(0.002)
            return Checkpoint(path, identity).state().upto

        await rig.until(lambda: known() > 0, ms=20)
        seen.clear()
        await rig.kill(0)
        await rig.until(lambda: len(second.stations) == 2, ms=5, turns=20_000)
        assert max(seen) > 0, "the takeover read the tail alone"
        for name in "abc":
            await rig.client(second).signal("wait", name, Go(id=name))
        await rig.until(lambda: all(rig.status(f"wait/{n}") == "done" for n in "abc"))


async def test_a_random_life_folds_the_same_from_any_checkpoint(tmp_path: Path) -> None:
    """Keepers at random moments, losers, tombstones: checkpoint and tail fold to what the whole lane folds to."""
    chance = random.Random(11)
    clock = JumpClock()
    log = MemoryLog("t", 1, clock=clock, fence="order")
    store = log.store
    keepers = [Keeper(log, tmp_path / str(n), WHOLE, clock=clock, chance=lambda: 0.5) for n in range(2)]
    lease = await log.acquire(0, "w")
    versions: dict[bytes, int] = {}
    for _ in range(120):
        key = b"k%d" % chance.randrange(6)
        roll = chance.random()
        if roll < 0.15:
            lease = await log.acquire(0, "w")
        elif roll < 0.3:
            old = (("cp-version", b"%d" % chance.randrange(9)), ("cp-epoch", b"0"), ("cp-sum", b"00000000"))
            store.append("log", 0, key, b"old", old)
        elif roll < 0.45:
            await chance.choice(keepers).catch_up()
        else:
            await _write(log, lease, key, versions, gone=roll > 0.92)
    for keeper in keepers:
        await keeper.catch_up()
        state = keeper.file.state()
        judge, states = fold(store.shelf("log", 0).records)
        assert (state.epoch, state.control) == (judge.epoch, judge.control)
        assert tops(store.shelf("log", 0).records) <= state.owed.keys() <= judge.owed.keys()
        found = {r.key: r for batch in keeper.file.records() for r in batch}
        assert found == states
        keeper.file.close()


async def _write(log: Any, lease: Any, key: bytes, versions: dict[bytes, int], *, gone: bool) -> None:
    from contrapas.core.lane import Draft
    from contrapas.runtime.batch import checksum

    judge, _ = fold(log.store.shelf("log", 0).records)
    version = max(judge.known.get(key, 0), judge.owed.get(key, 0)) + 1
    value = None if gone else b"%s %d" % (key, version)
    cause = b"heal" if key in judge.owed else b"local"
    headers: Any = (("cp-version", b"%d" % version), ("cp-epoch", b"%d" % lease.epoch), ("cp-cause", cause))
    if value is not None:
        headers = (*headers, ("cp-sum", checksum(value)))
    await lease.commit([Draft("", 0, key, value, headers)], [], lease.control)
    versions[key] = version
