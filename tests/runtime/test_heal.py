"""Losers met by an owner at work: found in a gap, inside a commit, while idle; owed a heal until it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import pytest

from contrapas import failpoints
from contrapas.author.entity import call_of
from contrapas.core.fold import Fold, Verdict, fold
from contrapas.core.lane import Record
from contrapas.runtime.build import build
from tests.runtime import entities, mapped
from tests.runtime.machines import CALLS, Began, Go, definition_of, world_of
from tests.runtime.mapped import GATES, Wanted
from tests.runtime.rig import Rig, kill_at, rig_of

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    CALLS.clear()
    mapped.reset()
    entities.GATES.clear()
    entities.RAN.clear()
    yield
    failpoints.disarm()


def newest(rig: Rig, key: bytes) -> Record:
    """The newest record of a key that an owner wrote."""
    found: list[Record] = rig.records()
    return next(r for r in reversed(found) if r.key == key and dict(r.headers)["cp-epoch"] != b"0")


def loser(rig: Rig, key: bytes, *, above: int = 5, number: int = 0) -> Record:
    """A former owner's record of a key arrives late, some versions ahead."""
    found = [r for r in rig.records() if r.key == key]
    mine = found[-1] if found else Record(number, 0, key, b"x", (("cp-version", b"0"),), 0)
    said = dict(mine.headers)
    said |= {"cp-version": b"%d" % (int(said["cp-version"]) + above), "cp-epoch": b"0"}
    stored: Record = rig.log.store.append("log", mine.partition, key, mine.value, tuple(said.items()))
    return stored


def on_top(rig: Rig) -> set[bytes]:
    """Keys on which a loser lies."""
    return tops(rig.records())


def tops(records: Iterable[Record]) -> set[bytes]:
    """The same of one partition's records."""
    found: set[bytes] = set()
    judge = Fold()
    for r in records:
        verdict = judge.judge(r)
        assert judge.error is None, judge.error
        if verdict is Verdict.LOSER:
            found.add(r.key)
        elif verdict in (Verdict.APPLIED, Verdict.REMOVED):
            found.discard(r.key)
    return found


def keys(rig: Rig) -> set[bytes]:
    return {r.key for r in rig.records() if not r.key.startswith((b"$part", b"$claim"))}


def bodies(records: Iterable[Record]) -> dict[bytes, int]:
    """Living keys and their versions."""
    judge, states = fold(records)
    return {k: judge.known[k] for k in states}


async def waiting(rig: Rig, *names: str) -> None:
    for name in names or ("a",):
        await rig.client().start("wait", Began(id=name, n=1))
    await rig.until(lambda: all(rig.status(f"wait/{name}") == "waiting" for name in names or ("a",)))
    await rig.turn(1, 1500)


async def test_a_loser_is_healed_within_a_second_while_nothing_else_is_to_be_written() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker()
        await waiting(rig)
        loser(rig, b"wait/a")
        assert on_top(rig) == {b"wait/a"}
        began = rig.clock.ms()
        await rig.until(lambda: not on_top(rig))
        assert rig.clock.ms() - began <= 1_100
        assert rig.versions("wait/a") == [1, 6, 7]
        assert (w.counts().losers, w.counts().healed) == (1, 1)
        await rig.client().signal("wait", "a", Go(id="a"))
        await rig.until(lambda: rig.status("wait/a") == "done")
        assert rig.versions("wait/a") == [1, 6, 7, 8]


async def test_a_loser_between_two_commits_is_healed_first_in_the_next_one() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a", "b")
        loser(rig, b"wait/a")
        await rig.client().signal("wait", "b", Go(id="b"))
        await rig.until(lambda: rig.status("wait/b") == "done")
        await rig.until(lambda: not on_top(rig), turns=100)
        assert rig.versions("wait/a") == [1, 6, 7] and rig.versions("wait/b") == [1, 2]


async def test_a_loser_inside_a_commit_is_healed_above_both_versions() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig)
        armed = [True]

        def between(number: int, at: int) -> None:
            if at == 1 and armed:
                armed.clear()
                loser(rig, b"wait/a", above=3)

        rig.log.store.faults.on_between = between
        await rig.client().signal("wait", "a", Go(id="a"))
        await rig.until(lambda: not armed and not on_top(rig))
        assert rig.versions("wait/a") == [1, 2, 5, 6]
        assert rig.status("wait/a") == "done"


async def test_a_heal_stays_owed_while_the_log_is_busy() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker()
        await waiting(rig)
        loser(rig, b"wait/a")
        rig.log.store.faults.script("look", "retriable", "retriable")
        rig.log.store.faults.script("commit", *["retriable"] * 5)
        await rig.until(lambda: not on_top(rig), turns=20_000)
        assert rig.versions("wait/a") == [1, 6, 7]
        assert w.counts().healed == 1


async def test_an_owner_that_cannot_look_for_half_a_minute_gives_the_partition_back() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker()
        await waiting(rig)
        epoch = w.stations[0].partition.epoch
        rig.log.store.faults.script("look", *["retriable"] * 200)
        loser(rig, b"wait/a")
        await rig.until(lambda: 0 in w.troubles, ms=20, turns=4000)
        assert w.health().colour == "red"
        await rig.until(lambda: not on_top(rig), ms=20)
        assert w.stations[0].partition.epoch > epoch


async def test_a_look_that_meets_another_owner_ends_the_tenure_at_once() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker()
        await waiting(rig)
        store = rig.log.store
        epoch = w.stations[0].partition.epoch
        claim = store.begin_claim(0, "other")
        store.place_claim(claim)  # it is on the lane; whoever wrote it dies before it reads it back
        await rig.until(lambda: 0 not in w.stations or w.stations[0].partition.epoch > epoch, turns=1500)
        await rig.until(lambda: 0 in w.stations)
        assert w.stations[0].partition.epoch > claim.epoch
        await rig.client().signal("wait", "a", Go(id="a"))
        await rig.until(lambda: rig.status("wait/a") == "done")


async def test_a_hole_at_the_lane_s_end_makes_the_owner_claim_again() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker()
        await waiting(rig)
        epoch = w.stations[0].partition.epoch
        rig.log.store.shelf("log", 0).end += 2
        await rig.until(lambda: 0 in w.stations and w.stations[0].partition.epoch > epoch)
        assert rig.versions("wait/a") == [1]


async def test_a_foreign_record_under_our_own_epoch_stops_the_partition_aloud() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker()
        await waiting(rig)
        mine = newest(rig, b"wait/a")
        rig.log.store.append("log", 0, mine.key, mine.value, mine.headers)
        with pytest.raises(Exception, match="CP509"):
            await rig.until(lambda: rig.tasks[0].done())
            rig.tasks[0].result()
        assert "CP509" in w.troubles[0]


async def test_keys_that_an_owner_does_not_know_get_a_tombstone_with_its_epoch() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker()
        await waiting(rig)
        strange = [b"wait/never", b"$wait/Go/none", b"$item/x/1", b"$graph/none", b"\xff\xfe no text"]
        for key in strange:
            loser(rig, key)
        rig.log.store.append("log", 0, b"plain", b"no header at all", ())
        await rig.until(lambda: not on_top(rig))
        for key in (*strange, b"plain"):
            mine = newest(rig, key)
            headers = dict(mine.headers)
            assert mine.value is None and int(headers["cp-epoch"]) == w.stations[0].partition.epoch
            assert int(headers["cp-version"]) > (5 if key != b"plain" else -1)
        store = rig.log.store
        store.clean(0, store.bounds("log", 0)[1])
        assert bodies(rig.records()).keys() == {b"wait/a"}


async def test_a_former_owner_s_control_record_on_top_is_covered_by_ours() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        w = await rig.worker()
        await waiting(rig)
        mine = newest(rig, b"$part")
        headers = tuple((n, b"0" if n == "cp-epoch" else v) for n, v in mine.headers)
        rig.log.store.append("log", 0, mine.key, mine.value, headers)
        await rig.until(lambda: dict(rig.records()[-1].headers)["cp-epoch"] != b"0")
        assert rig.records()[-1].key == b"$part" and w.counts().losers == 1


async def test_a_heal_owed_is_owed_by_the_next_owner_too() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a", "b")
        loser(rig, b"wait/a")
        kill_at("commit.before")
        await rig.client().signal("wait", "b", Go(id="b"))
        await rig.killed()
        w = await rig.worker()
        assert not on_top(rig) and rig.versions("wait/a") == [1, 6, 7]
        assert w.counts().healed == 1


async def test_more_heals_than_a_commit_holds_come_before_the_first_input() -> None:
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig)
        await rig.kill()
        for n in range(2_500):
            loser(rig, b"wait/x%d" % n)
        loser(rig, b"wait/a")
        await rig.client().signal("wait", "a", Go(id="a"))
        w = await rig.worker()
        await rig.until(lambda: rig.status("wait/a") == "done")
        assert rig.versions("wait/a") == [1, 6, 7, 8] and not on_top(rig)
        assert w.counts().healed == 2_501


async def test_the_only_thing_left_of_a_key_is_kept_and_said_aloud_when_it_is_older_than_the_history() -> (
    None
):
    async with rig_of(definition_of(), world_of("wait"), partitions=1, fence="order") as rig:
        await rig.worker()
        await waiting(rig, "a", "b")
        await rig.kill()
        await rig.worker()
        await rig.kill()
        loser(rig, b"wait/a", above=1)
        store = rig.log.store
        store.clean(0, store.bounds("log", 0)[1])  # nobody healed it in time: the owner's record is gone
        rig.clock.advance(8 * DAY_MS)
        w = await rig.worker()
        await rig.turn(1, 1500)
        assert on_top(rig) == {b"wait/a"}
        health = w.health()
        assert health.colour == "amber" and any("CP509" in why and "wait/a" in why for why in health.reasons)
        await rig.client().signal("wait", "b", Go(id="b"))
        await rig.until(lambda: rig.status("wait/b") == "done")


async def _lay_on_all(rig: Rig) -> dict[bytes, int]:
    """A loser on every key; all are healed; what counts is what was there, at other versions."""
    before = bodies(rig.records())
    for key in sorted(keys(rig)):
        loser(rig, key, above=4)
    await rig.until(lambda: not on_top(rig))
    after = bodies(rig.records())
    assert after.keys() == before.keys()
    assert all(after[k] == before[k] + 5 for k in before), "one above both"
    return before


async def test_instances_and_rendezvous_and_graphs_of_an_app_are_healed_and_go_on() -> None:
    definition = entities.app.definition()
    async with rig_of(definition, build(definition), partitions=1, fence="order") as rig:
        w = await rig.worker()
        entities.GATES["slow"] = asyncio.Event()
        client = rig.client()
        call = call_of(entities.Cart, "add", "a", ("slow",), {}).value
        task = asyncio.ensure_future(client.ask(call, timeout_ms=5_000_000))
        await client.send(entities.Poked(id="nobody"))
        await rig.until(lambda: rig.status("Cart/a") == "running")
        await rig.turn(1, 1500)
        found = await _lay_on_all(rig)
        assert {k.partition(b"/")[0] for k in found} >= {b"Cart", b"$graph", b"$wait"}
        entities.GATES["slow"].set()
        await rig.until(task.done)
        assert entities.RAN == ["slow"] and task.result().status != "parked"
        await rig.kill()
        w = await rig.worker()
        assert w.counts().healed == 0, "nothing is owed any more"


async def test_items_of_a_map_in_progress_are_healed_and_go_on_above_the_heal() -> None:
    definition = mapped.app.definition()
    async with rig_of(definition, build(definition), partitions=1, fence="order") as rig:
        await rig.worker()
        GATES[3] = asyncio.Event()
        mapped.BROKEN[1] = [ValueError("once")]  # position 1 has a record, and writes another one later
        await rig.client().start("few", Wanted(id="a", items=list(range(5))))
        await rig.until(lambda: sum(k.startswith(b"$item/") for k in keys(rig)) >= 2)
        await rig.turn(0, 100)
        for key in sorted(k for k in keys(rig) if k.startswith(b"$item/")):
            loser(rig, key)
        await rig.until(lambda: not on_top(rig), turns=8000)
        GATES[3].set()
        await rig.until(lambda: rig.status("few/a") == "done", turns=20_000)
        assert on_top(rig) == set()
        await rig.client().start("few", Wanted(id="b", items=[1]))
        await rig.until(lambda: rig.status("few/b") == "done", turns=20_000)
