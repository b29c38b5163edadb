"""Each row of the crash table is a test: the worker dies at the named place, the next owner does what the row says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.lane import Draft, Record
from contrapas.core.partition import partition
from contrapas.errors import Refused as RefusedError
from tests.runtime.machines import CALLS, Began, Done, Go, definition_of, world_of
from tests.runtime.rig import Killed, Rig, kill_at, rig_of


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    CALLS.clear()
    yield
    failpoints.disarm()


def _sent(rig: Rig, topic: str) -> Counter[str]:
    """How often each id was published on a topic."""
    return Counter(dict(r.headers)["ce_id"].decode() for r in rig.records(topic))


async def _dies_and_goes_on(place: str, *, nth: int = 1, fence: Any = "refuse") -> Rig:
    """`seq` of three steps; the first worker dies at `place`, the second one ends the instance."""
    async with rig_of(definition_of(), world_of("seq"), fence=fence) as rig:
        await rig.worker()
        client = rig.client()
        kill_at(place, nth)
        await client.start("seq", Began(id="a", n=3))
        await rig.killed()
        await rig.worker()
        await rig.until(lambda: rig.status("seq/a") == "done")
        assert rig.versions("seq/a") == [1, 2, 3, 4]
        assert len(_sent(rig, "seq.events")) == 1
        return rig


@pytest.mark.case(80, "crash between compute and commit: same keys")
async def test_row_1_what_was_computed_and_not_committed_is_computed_again() -> None:
    await _dies_and_goes_on("commit.before")
    assert CALLS == [0, 1, 2]


@pytest.mark.parametrize("nth", [1, 2])
async def test_row_2_a_commit_that_was_not_answered_is_decided_by_what_is_there(nth: int) -> None:
    rig = await _dies_and_goes_on("commit.unread", nth=nth)
    assert max(_sent(rig, "seq.events").values()) == 1


@pytest.mark.parametrize("fault", ["lost-before", "lost-after", "late", "cut"])
@pytest.mark.parametrize("fence", ["refuse", "order"])
async def test_row_2_an_unanswered_commit_is_never_repeated_blindly(fence: Any, fault: str) -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=1, fence=fence) as rig:
        w = await rig.worker()
        client = rig.client()
        rig.log.store.faults.script("commit", "", fault)
        await client.start("seq", Began(id="a", n=3))
        await rig.until(lambda: rig.status("seq/a") == "done")
        rig.log.store.land()
        await rig.turn(1, 200)
        first = w.stations[0].partition.load("seq/a")
        assert first is not None and first.status == "done"
        accepted = [r.version for r in _folded(rig, "seq/a")]
        assert accepted == sorted(set(accepted))
        ran = Counter(CALLS)
        assert ran.keys() == {0, 1, 2} and max(ran.values()) <= 2, (
            "issued again at most once, by one takeover"
        )


async def test_row_3_a_claim_inside_a_commit_fences_it_and_nothing_of_it_is_dispatched() -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=1, fence="order") as rig:
        await rig.worker()
        client = rig.client()
        store = rig.log.store
        armed = [True]

        def between(number: int, at: int) -> None:
            if armed and at == 1 and client.setting:
                armed.clear()
                claim = store.begin_claim(0, "other")
                store.place_claim(claim)
                store.check_claim(claim)

        await client.start("seq", Began(id="a", n=2))
        store.faults.on_between = between
        await rig.until(lambda: rig.status("seq/a") == "done", turns=20000)
        assert not armed
        assert [r.version for r in _folded(rig, "seq/a")][-1] >= 3


async def test_row_4_what_was_committed_and_not_dispatched_is_issued_under_the_same_ids() -> None:
    await _dies_and_goes_on("commit.undispatched")
    assert CALLS == [0, 1, 2]


async def test_row_5_a_local_step_whose_result_was_not_committed_runs_again_under_its_key() -> None:
    await _dies_and_goes_on("step.done")
    assert CALLS == [0, 0, 1, 2]


async def test_row_6_a_fenced_owner_starts_no_attempt_and_its_results_count_for_nobody() -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=1) as rig:
        first = await rig.worker()
        client = rig.client()
        await client.start("seq", Began(id="a", n=2))
        await rig.until(lambda: rig.status("seq/a") == "done")
        station = first.stations[0]
        await rig.log.peer().acquire(0, "other")
        station.result(station.partition.epoch - 1, None)  # type: ignore[arg-type]
        assert not station.partition.results
        await rig.until(lambda: first.stations.get(0) is not station)


async def test_row_8_a_message_published_and_not_noted_leaves_again_under_the_same_id() -> None:
    async with rig_of(definition_of(), world_of("pay"), partitions=1, fence="order") as rig:
        await rig.worker()
        client = rig.client()
        kill_at("relay.published")
        await client.start("pay", Began(id="a", n=1))
        await rig.killed()
        await rig.worker()
        await rig.until(lambda: sum(_sent(rig, "pay.commands").values()) >= 2)
        assert len(_sent(rig, "pay.commands")) == 1


@pytest.mark.parametrize("place", ["relay.read", "relay.marked"])
async def test_row_8_a_message_leaves_at_least_once(place: str) -> None:
    async with rig_of(definition_of(), world_of("pay"), partitions=1, fence="order") as rig:
        await rig.worker()
        client = rig.client()
        kill_at(place)
        await client.start("pay", Began(id="a", n=1))
        await rig.killed()
        await rig.worker()
        await rig.until(lambda: len(_sent(rig, "pay.commands")) == 1)


async def test_row_9_a_message_of_a_superseded_record_leaves_from_the_newest() -> None:
    async with rig_of(definition_of(), world_of("pay"), partitions=1, fence="order") as rig:
        await rig.worker()
        client = rig.client()
        kill_at("relay.read")
        await client.start("pay", Began(id="a", n=1))
        await rig.killed()
        store = rig.log.store
        newest = [r for r in rig.records() if r.key == b"pay/a"][-1]
        assert dict(newest.headers)["cp-out"] == b"1"
        store.clean(0, store.bounds("log", 0)[1])
        await rig.worker()
        await rig.until(lambda: len(_sent(rig, "pay.commands")) == 1)


@pytest.mark.parametrize("place", ["ingress.read", "ingress.published"])
async def test_row_10_what_ingress_published_twice_is_known_by_its_place(place: str) -> None:
    async with rig_of(definition_of(), world_of("seq")) as rig:
        await rig.worker()
        client = rig.client()
        kill_at(place)
        await client.send(Began(id="a", n=1))
        await rig.killed()
        w = await rig.worker()
        await rig.until(lambda: rig.status("seq/a") == "done")
        await rig.turn(1, 50)
        assert rig.versions("seq/a") == [1, 2]
        assert w.counts().duplicates == (1 if place == "ingress.published" else 0)


async def test_row_11_a_dead_letter_written_again_has_the_same_context() -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=1) as rig:
        await rig.worker()
        kill_at("commit.unread")
        await rig.log.publish([Draft("in", 0, b"x", b"junk", (("a", b"1"),))])
        await rig.killed()
        await rig.worker()
        await rig.until(lambda: len(rig.records("t.dlq")) == 2)
        one, two = rig.records("t.dlq")
        places = {dict(r.headers)["cp-dlq-offset"] for r in (one, two)}
        assert places == {b"0"} and one.value == two.value == b"junk" and one.headers[0] == ("a", b"1")


async def test_row_13_a_timer_that_was_popped_and_not_committed_fires() -> None:
    async with rig_of(definition_of(), world_of("pay")) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("pay", Began(id="a", n=1))
        await rig.until(lambda: rig.status("pay/a") == "waiting")
        kill_at("timer.due")
        rig.clock.advance(31_000)
        await rig.killed()
        await rig.worker()
        await rig.until(lambda: rig.status("pay/a") not in ("waiting", ""))
        assert rig.versions("pay/a") == [1, 2]


async def test_row_14_an_answer_that_came_in_time_is_heard_before_the_timer() -> None:
    async with rig_of(definition_of(), world_of("pay")) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("pay", Began(id="a", n=1))
        await rig.until(lambda: rig.status("pay/a") == "waiting")
        await rig.kill()
        rig.clock.advance(20_000)
        await client.send(Done(id="a"))
        rig.clock.advance(3_600_000)
        await rig.worker()
        await rig.until(lambda: rig.status("pay/a") == "done")
        assert rig.versions("pay/a") == [1, 2]


async def test_row_15_of_cancel_and_completion_the_first_record_counts() -> None:
    async with rig_of(definition_of(), world_of("wait")) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("wait", Began(id="a", n=1))
        await rig.until(lambda: rig.status("wait/a") == "waiting")
        await client.signal("wait", "a", Go(id="a"))
        asking = client.operate("wait/a", "cancel")
        with pytest.raises(RefusedError, match="already ended"):
            await _pumped(rig, asking)
        assert rig.status("wait/a") == "done"


@pytest.mark.parametrize("place", ["tombstone.before", "tombstone.after"])
async def test_row_20_a_tombstone_is_written_once_and_a_late_start_is_a_new_run(place: str) -> None:
    async with rig_of(definition_of(), world_of("seq")) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("seq", Began(id="a", n=1))
        await rig.until(lambda: rig.status("seq/a") == "done")
        kill_at(place)
        rig.clock.advance(31 * 86_400_000)
        await rig.killed()
        await rig.worker()
        await rig.until(lambda: [r.value for r in rig.records() if r.key == b"seq/a"][-1] is None)
        await rig.turn(1, 50)
        assert [r.value for r in rig.records() if r.key == b"seq/a"].count(None) == 1
        await rig.client().start("seq", Began(id="a", n=1))
        await rig.until(lambda: rig.status("seq/a") == "done")
        await rig.until(lambda: len(_sent(rig, "seq.events")) == 2)  # each run's event under an id of its own


async def test_row_21_a_worker_that_returns_knows_what_was_let_go_meanwhile() -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=1) as rig:
        w = await rig.worker()
        client = rig.client()
        await client.start("seq", Began(id="a", n=1))
        await rig.until(lambda: rig.status("seq/a") == "done")
        await rig.kill()
        rig.clock.advance(31 * 86_400_000)
        await rig.worker()
        await rig.until(lambda: [r.value for r in rig.records() if r.key == b"seq/a"][-1] is None)
        rig.log.store.clean(0, rig.log.store.bounds("log", 0)[1])
        await rig.kill()
        w = await rig.worker()
        assert w.stations[0].partition.load("seq/a") is None


@pytest.mark.parametrize("place", ["cursor.before", "cursor.after"])
async def test_row_22_a_quiet_partition_brings_its_cursor_level(place: str) -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=1) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("seq", Began(id="a", n=1))
        await rig.until(lambda: rig.status("seq/a") == "done")
        kill_at(place)
        rig.clock.advance(1_500)
        await rig.killed()
        await rig.worker()
        store = rig.log.store
        for _ in range(10):
            await rig.turn(500, 20)
        assert store.parts[0].control.cursor[("in", 0)] == store.bounds("in", 0)[1]
        store.trim("in", 0, store.bounds("in", 0)[1])
        await rig.kill()
        w = await rig.worker()
        assert w.health().colour == "green"


async def test_row_24_a_loser_on_top_is_healed_before_the_first_input() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        client = rig.client()
        await client.start("wait", Began(id="a", n=1))
        await rig.until(lambda: rig.status("wait/a") == "waiting")
        await rig.kill()
        await rig.worker()
        await rig.kill()
        mine = [r for r in rig.records() if r.key == b"wait/a"][-1]
        headers = tuple(
            (n, b"7" if n == "cp-version" else b"0" if n == "cp-epoch" else v) for n, v in mine.headers
        )
        rig.log.store.append("log", 0, mine.key, mine.value, headers)
        w = await rig.worker()
        await client.signal("wait", "a", Go(id="a"))
        await rig.until(lambda: rig.status("wait/a") == "done")
        assert rig.versions("wait/a") == [1, 7, 8, 9]
        assert w.counts().healed == 1


async def test_a_killed_worker_leaves_its_partitions_to_the_other_one() -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=8) as rig:
        first = await rig.worker()
        second = await rig.worker(rig.log.peer())
        await rig.until(lambda: len(first.stations) == 4 and len(second.stations) == 4)
        await rig.kill(1)
        await rig.until(lambda: len(first.stations) == 8)
        await rig.client(first).start("seq", Began(id="a", n=2))
        await rig.until(lambda: rig.status("seq/a") == "done")


def _folded(rig: Rig, instance: str) -> list[Any]:
    from contrapas.core.envelope_avro import decode
    from contrapas.core.fold import Fold, Verdict

    judge = Fold()
    number = partition(instance.partition("/")[2].encode(), rig.log.partitions)
    found: list[Any] = []
    for record in rig.log.store.lanes["log"][number].records:
        if judge.judge(record) is Verdict.APPLIED and record.key == instance.encode():
            found.append(decode(record.value))
        assert judge.error is None
    return found


async def _pumped(rig: Rig, asking: Any) -> Any:
    import asyncio

    task = asyncio.ensure_future(asking)
    while not task.done():
        await rig.turn(1)
    return await task


async def test_row_23_a_step_that_kills_every_owner_parks_its_instance_and_the_others_go_on() -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=1) as rig:
        deaths = 0

        def die() -> None:
            nonlocal deaths
            deaths += 1
            raise Killed("os._exit")

        await rig.worker()
        failpoints.arm("step.started", die)
        await rig.client().start("seq", Began(id="a", n=1))
        for _ in range(10):
            await rig.until(lambda: rig.tasks[-1].done() or rig.status("seq/a") == "parked")
            if rig.status("seq/a") == "parked":
                break
            await rig.killed()
            await rig.worker()
        assert deaths <= 7
        failpoints.disarm()
        await rig.client().start("seq", Began(id="b", n=1))
        await rig.until(lambda: rig.status("seq/b") == "done")
        assert rig.status("seq/a") == "parked"
        record = rig.workers[-1].stations[0].partition.load("seq/a")
        assert record is not None and record.parked is not None and record.parked.code == "CP844"


async def test_row_23_an_input_that_kills_every_owner_parks_its_instance() -> None:
    async with rig_of(definition_of(), world_of("seq"), partitions=1) as rig:
        kills = [0]
        await rig.worker()

        def die() -> None:
            station = rig.workers[-1].stations.get(0)
            batch = station.partition.inflight if station is not None else None
            if batch is not None and any(isinstance(r, Record) and r.key == b"a" for r in batch.taken):
                kills[0] += 1
                raise Killed("sys.exit")

        failpoints.arm("commit.before", die)
        await rig.client().start("seq", Began(id="a", n=1))
        for _ in range(10):
            await rig.until(lambda: rig.tasks[-1].done() or rig.status("seq/a") != "")
            if rig.status("seq/a"):
                break
            await rig.killed()
            if kills[0] == 7:
                failpoints.disarm()
            await rig.worker()
        assert rig.status("seq/a") == "parked"
        await rig.client().start("seq", Began(id="b", n=1))
        await rig.until(lambda: rig.status("seq/b") == "done")
