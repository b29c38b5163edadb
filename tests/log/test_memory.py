"""The twin in memory: faults by script and by seed, gaps, a clock that stands still, members."""

from __future__ import annotations

import pytest

from contrapas.core.lane import Draft
from contrapas.errors import ContrapasError, Fenced, Indeterminate, Retriable
from contrapas.log.faults import KINDS
from contrapas.log.memory import Faults, MemoryLog, VirtualClock
from contrapas.log.memory_store import Fence, MemoryStore
from contrapas.log.sharing import share
from contrapas.testing.conformance import draft

RATES = {f"{call}:{kind}": 0.05 for call in ("commit", "acquire", "publish") for kind in KINDS}


def a_run(seed: int, fence: Fence) -> list[str]:
    """What two hundred calls end as, and what the lane holds then."""
    store = MemoryStore("shop", 2, clock=VirtualClock(), fence=fence, faults=Faults(seed, RATES))
    told: list[str] = []
    hold = None
    for n in range(200):
        try:
            if hold is None:
                hold = store.acquire(0, f"w{n}")
            elif n % 5:
                store.commit(hold, [draft(f"k{n % 7}", n, hold.epoch)], [], hold.control)
            else:
                store.publish([Draft("in", p, b"k", b"%d" % n) for p in (0, 1, 0)])
            told.append("done")
        except ContrapasError as error:
            told.append(type(error).__name__)
            if not isinstance(error, Retriable):
                hold = None
        if n % 11 == 0:
            store.land()
    return [*told, repr(store.shelf("log", 0).records)]


@pytest.mark.parametrize("fence", ["refuse", "order"])
def test_the_same_seed_gives_the_same_run(fence: Fence) -> None:
    assert a_run(5, fence) == a_run(5, fence)
    assert a_run(5, fence) != a_run(6, fence)
    assert {"done", "Retriable", "Indeterminate"} <= set(a_run(5, fence))


@pytest.mark.parametrize("fence", ["refuse", "order"])
@pytest.mark.parametrize("kind", KINDS)
async def test_any_call_can_end_without_an_answer(fence: Fence, kind: str) -> None:
    log = MemoryLog("shop", 2, clock=VirtualClock(), fence=fence)
    lease = await log.acquire(0, "owner")
    expected = Retriable if kind == "retriable" else Indeterminate
    log.store.faults.script("commit", kind)
    with pytest.raises(expected):
        await lease.commit([draft("k", 1, lease.epoch)], [], lease.control)
    log.store.faults.script("publish", kind)
    with pytest.raises(expected):
        await log.publish([Draft("in", 0, b"k", b"v")])
    log.store.faults.script("acquire", kind)
    with pytest.raises(expected):
        await log.acquire(1, "owner")
    log.store.faults.script("read", kind)
    with pytest.raises(Retriable):
        await log.read("in", 0, 0)
    assert log.store.faults.count == 4


async def test_gaps_between_offsets_are_normal_on_a_refusing_log() -> None:
    log = MemoryLog("shop", 2, clock=VirtualClock(), faults=Faults(1, gaps=0.5))
    lease = await log.acquire(0, "owner")
    for n in range(40):
        await lease.commit([draft("k", n + 1, lease.epoch)], [], lease.control)
    records, after = await log.read("log", 0, 0)
    assert len(records) == 40 and after == (await log.bounds("log", 0))[1] > 40


async def test_a_hole_under_the_order_fence_is_not_passed_over() -> None:
    log = MemoryLog("shop", 2, clock=VirtualClock(), fence="order")
    lease = await log.acquire(0, "owner")
    log.store.shelf("log", 0).end += 1
    with pytest.raises(Indeterminate):
        await lease.commit([draft("k", 1, lease.epoch)], [], lease.control)


async def test_a_claim_overtaken_by_an_equal_one_is_fenced() -> None:
    store = MemoryStore("shop", 2, clock=VirtualClock(), fence="order")
    first, second = store.begin_claim(0, "first"), store.begin_claim(0, "second")
    assert first.epoch == second.epoch
    store.place_claim(first)
    store.place_claim(second)
    hold = store.check_claim(first)
    with pytest.raises(Fenced):
        store.check_claim(second)
    assert store.commit(hold, [draft("k", 1, hold.epoch)], [], hold.control).durable


async def test_time_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(5000)
    log = MemoryLog("shop", 2, clock=clock)
    await log.publish([Draft("in", 0, b"k", b"v")])
    clock.advance(250)
    await log.publish([Draft("in", 0, b"k", b"v")])
    records, _ = await log.read("in", 0, 0)
    assert [r.timestamp_ms for r in records] == [5000, 5250]


async def test_peers_share_one_store() -> None:
    log = MemoryLog("shop", 2)
    peer = log.peer()
    await log.publish([Draft("in", 1, b"k", b"v")])
    assert (await peer.bounds("in", 1))[1] == 1
    first = await log.acquire(0, "a")
    await peer.acquire(0, "b")
    await first.lost()


def test_shares_are_even_and_few_partitions_move() -> None:
    slots = [("in", p) for p in range(24)]
    members = [f"m{n}" for n in range(5)]
    whole = share(members, slots)
    assert sorted(len(s) for s in whole.values()) == [4, 5, 5, 5, 5]
    assert set().union(*whole.values()) == set(slots)
    without = share(members[1:], slots)
    stayed = sum(len(whole[m] & without[m]) for m in members[1:])
    assert stayed >= 12
    assert share([], slots) == {} and share(["a"], slots)["a"] == frozenset(slots)
