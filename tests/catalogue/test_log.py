"""Rows of the catalogue about the log: positions where nothing is, files that cannot be used, strangers on the lane."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from contrapas.core.lane import Draft
from contrapas.core.partition import partition
from contrapas.log.sqlite import SqliteLog
from tests.catalogue.desk import NEIGHBOUR, TOPIC, desk
from tests.catalogue.files import edited, made, opened, positioned, put, using
from tests.catalogue.shell import Cli


def on_the_inbound_lane(path: Path, count: int) -> None:
    put(path, *(Draft("in", 0, b"k-%d" % n, b"{}", (), f"m-{n}") for n in range(count)))


# ---- B-62, B-63: positions outside of what is there


def test_b62_a_position_beyond_the_end_stops_the_worker_with_9(cli: Cli) -> None:
    path = made(cli.here)
    on_the_inbound_lane(path, 3)
    positioned(path, {("in", 0): 50})
    ran = cli.process("worker", "desk:app")
    assert ran.code == 9, ran
    assert "CP506" in ran.err
    assert "desk.in/0@50" in ran.err
    assert "Traceback" not in ran.err


def test_b62_a_position_of_a_service_in_a_topic_that_was_made_anew_is_refused(tmp_path: Path) -> None:
    from contrapas.errors import Refused

    path = made(tmp_path)

    async def work(log: SqliteLog) -> None:
        topic = await log.topic("desk.events")
        assert topic is not None
        await log.save_positions("g", {(f"desk.events@{topic.id}", 0): 0})
        log.store.drop_topic("desk.events")
        await log.create_topics({"desk.events": 1})
        with pytest.raises(Refused) as why:
            await log.save_positions("g", {(f"desk.events@{topic.id}", 0): 1})
        assert why.value.code == "CP506"

    using(path, work)


async def test_b62_events_of_a_topic_that_was_made_anew_are_no_duplicates_of_those_before() -> None:
    async with desk() as d:
        await d.put(b'{"id":"k-1","cents":1}', key=b"k-1")
        await d.settle()
        await d.rig.kill()
        d.rig.log.store.drop_topic(TOPIC)
        d.rig.log.store.create_topics({TOPIC: 2})
        await d.put(b'{"id":"k-1","by":"bob"}', key=b"k-1", type="Approved", id="e-2")
        d.worker = await d.rig.worker()
        d.client = d.rig.client()
        await d.rig.until(lambda: d.rig.status("claim/k-1") == "done")
        record = d.record("claim/k-1")
        assert record is not None
        assert [at for place, at in record.positions.items() if place.startswith(TOPIC)] == [0, 0]
        assert d.dead() == []
        d.counted = False


def test_b63_input_that_was_removed_unread_stops_the_worker_with_6_and_names_the_gap(cli: Cli) -> None:
    path = made(cli.here)
    on_the_inbound_lane(path, 10)
    positioned(path, {("in", 0): 2})
    edited(path, "delete from lane_in where i < 7", "update part set in_start = 7")
    ran = cli.process("worker", "desk:app")
    assert ran.code == 6, ran
    assert "CP519" in ran.err
    assert "desk.in/0@2" in ran.err
    assert "7" in ran.err
    left = cli("log", "describe", "-o", "json")
    assert '"unread": 8' in left.out, left.out  # it did not jump to either end


async def test_b63_one_partition_that_cannot_go_on_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "contrapas.runtime")
    async with desk() as d:
        bad = 1 - partition(b"n-1", 2)
        key = next(k for k in (b"a", b"b", b"c", b"d", b"e") if partition(k, 2) == bad)
        await d.put(b'{"id":"%s","cents":1}' % key, key=key)
        await d.settle()
        await d.rig.kill()
        for n in range(5):
            await d.rig.log.publish([Draft("in", bad, key, b"{}", (), f"m-{n}")])
        d.rig.log.store.trim("in", bad, 4)
        d.worker = await d.rig.worker()
        d.client = d.rig.client()
        await d.rig.until(lambda: bool(d.worker.troubles))
        health = d.worker.health()
        assert (health.colour, len(health.reasons)) == ("red", 1)
        assert "CP519" in health.reasons[0]
        assert any(f"partition {bad} of desk stops" in r.getMessage() for r in caplog.records)
        d.counted = False


# ---- B-27: a stranger's empty value on the log lane


async def test_b27_an_empty_value_on_the_log_lane_that_no_owner_wrote_is_an_alarm_and_healed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "contrapas.runtime")
    async with desk(fence="order") as d:
        at = partition(b"n-1", 2)
        before = d.record(NEIGHBOUR)
        assert before is not None
        d.rig.log.store.append("log", at, NEIGHBOUR.encode(), None, ())
        await d.rig.kill()
        d.worker = await d.rig.worker()
        d.client = d.rig.client()
        await d.settle()
        after = d.record(NEIGHBOUR)
        assert after is not None
        assert (after.status, after.state, after.cause.kind) == (before.status, before.state, "heal")
        assert d.worker.counts().healed == 1
        (alarm,) = [r.getMessage() for r in caplog.records if "CP411" in r.getMessage()]
        assert f"desk.log/{at}@" in alarm
        assert NEIGHBOUR in alarm
        d.counted = False


# ---- B-72: the file


def test_b72_a_file_of_a_newer_release_is_refused_with_6_and_left_as_it_is(cli: Cli) -> None:
    path = made(cli.here)
    edited(path, "pragma user_version=99")
    before = path.read_bytes()
    for ran in (cli("ls"), cli.process("worker", "desk:app")):
        assert (ran.code, "CP516" in ran.err, "newer contrapas" in ran.err) == (6, True, True), ran
    assert path.read_bytes() == before


def some_rows(folder: Path) -> Path:
    rows = folder / "rows.jsonl"
    rows.write_text('{"id":"k-1","cents":1}\n')
    return rows


def test_b72_a_file_copied_without_its_wal_is_refused_with_6(cli: Cli) -> None:
    path, rows = made(cli.here), some_rows(cli.here)
    old = path.read_bytes()
    put(path, *(opened(f"k-{n}") for n in range(50)))
    for part in path.parent.glob("desk.db-*"):
        part.unlink()
    path.write_bytes(old)
    for ran in (cli("ls"), cli("topic", "produce", "desk.events", "--key", "id", "--file", str(rows))):
        assert (ran.code, "CP516" in ran.err, "newest commits" in ran.err) == (6, True, True), ran


def test_b72_a_file_that_is_damaged_is_said_with_9(cli: Cli) -> None:
    path, rows = made(cli.here), some_rows(cli.here)
    data = bytearray(path.read_bytes())
    data[0:16] = b"not a database!!"
    path.write_bytes(bytes(data))
    for ran in (cli("ls"), cli("topic", "produce", "desk.events", "--key", "id", "--file", str(rows))):
        assert (ran.code, "CP520" in ran.err) == (9, True), ran


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_b72_a_read_only_file_is_refused_with_6(cli: Cli) -> None:
    path = made(cli.here)
    path.chmod(stat.S_IRUSR)
    ran = cli.process("worker", "desk:app")
    assert (ran.code, "CP516" in ran.err) == (6, True), ran


def test_b72_a_busy_file_is_waited_for_and_nothing_is_dropped(tmp_path: Path) -> None:
    import sqlite3
    import threading
    import time

    path = made(tmp_path)
    holder = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    holder.execute("begin immediate")

    def release() -> None:
        time.sleep(0.3)
        holder.execute("commit")

    threading.Thread(target=release).start()
    put(path, opened("k-1"))
    count = holder.execute("select count(*) from lane_topic").fetchone()[0]
    holder.close()
    assert count == 1
