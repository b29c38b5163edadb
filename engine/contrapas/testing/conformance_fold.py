"""Conformance of fold, heal and compaction: what a cleaner may do never changes what counts."""

from __future__ import annotations

import random
from collections.abc import Callable

from contrapas.core.fold import fold
from contrapas.core.lane import Record
from contrapas.errors import Fenced
from contrapas.testing.conformance import Bench, Owner, case, draft, everything, folded, raises


@case("fold", "order")
async def a_loser_between_commits_or_while_idle_is_healed_above_both_versions(bench: Bench) -> None:
    log = await bench.open()
    former = await Owner.of(bench, log, name="former")
    await former.write(former.next("k", b"one"))
    owner = await Owner.of(bench, log, name="owner")
    bench.stranger(0, [draft("k", 2, former.epoch, b"late"), draft("gone", 1, former.epoch, b"late")])
    judge, states = await folded(log)
    assert states == {b"k": b"one"} and judge.owed == {b"k": 2, b"gone": 1}
    await owner.write(draft("k", 3, owner.epoch, b"one", cause="heal"), draft("gone", 2, owner.epoch, None))
    judge, states = await folded(log)
    assert states == {b"k": b"one"} and not judge.owed
    bench.clean(0, (await log.bounds("log", 0))[1], lambda r: True)
    assert (await folded(log, floor=(await log.bounds("log", 0))[1]))[1] == {b"k": b"one"}


@case("fold", "order")
async def a_heal_owed_goes_on_being_owed_for_the_next_owner(bench: Bench) -> None:
    log = await bench.open()
    former = await Owner.of(bench, log, name="former")
    await former.write(former.next("k", b"one"))
    await Owner.of(bench, log, name="dies")
    bench.stranger(0, [draft("k", 2, former.epoch, b"late")])
    heir = await Owner.of(bench, log, name="heir")
    judge, _ = await folded(log)
    assert judge.owed == {b"k": 2}
    await heir.write(draft("k", 3, heir.epoch, b"one", cause="heal"))
    assert not (await folded(log))[0].owed


@case("fold", "order")
async def latest_lets_a_fold_see_the_losers_too(bench: Bench) -> None:
    log = await bench.open()
    former = await Owner.of(bench, log, name="former")
    for n in range(5):
        await former.write(former.next("k", b"%d" % n), former.next("l", b"%d" % n))
    await Owner.of(bench, log, name="owner")
    bench.stranger(0, [draft("k", 6, former.epoch, b"late")])
    found = [r async for batch in log.latest(0) for r in batch]
    judge, states = fold(found, floor=(await log.bounds("log", 0))[1])
    assert {k: r.value for k, r in states.items()} == {b"k": b"4", b"l": b"4"}
    assert judge.owed == {b"k": 6}


@case("fold", "order")
async def latest_keeps_a_loser_until_an_owner_stands_above_its_version(bench: Bench) -> None:
    """A key that ended and began anew counts from one again: its records may follow a loser and stand below it."""
    log = await bench.open()
    former = await Owner.of(bench, log, name="former")
    owner = await Owner.of(bench, log, name="owner")
    bench.stranger(0, [draft("k", 8, former.epoch, b"late"), draft("k", 3, former.epoch, b"later")])
    await owner.write(owner.next("k", b"one"))
    await owner.write(owner.next("k", b"two"))
    for after in ((), (draft("k", 9, owner.epoch, b"two", cause="heal"),)):
        if after:
            await owner.write(*after)
        end = (await log.bounds("log", 0))[1]
        found = [r async for batch in log.latest(0) for r in batch]
        newest, whole = fold(found, floor=end), await folded(log)
        assert newest[1][b"k"].value == whole[1][b"k"] == b"two"
        assert newest[0].owed == whole[0].owed == ({} if after else {b"k": 8})


@case("fold", "order")
async def the_fold_of_a_compacted_log_is_the_fold_of_the_log_among_former_owners(bench: Bench) -> None:
    for seed in range(24):
        await _life(bench, seed, seed % 8)


@case("compaction", "owner-compaction")
async def the_fold_of_a_compacted_log_is_the_fold_of_the_log(bench: Bench) -> None:
    log = await bench.open()
    chance = random.Random(7)
    owner = await Owner.of(bench, log)
    floors: list[int] = []
    for n in range(60):
        await _step(owner, chance)
        if n % 6 == 5:
            before = (await folded(log, floor=owner.control.horizon))[1]
            end = (await log.bounds("log", 0))[1]
            await owner.write(control=owner.control._replace(relayed=end - chance.randrange(3)))
            floors.append(await owner.lease.compact(chance.randrange(end + 1), budget_ms=1000))
            owner.control = owner.lease.control
            assert (await folded(log, floor=floors[-1]))[1] == before
        if n % 20 == 19:
            heir = await Owner.of(bench, log, name=f"w{n}")
            heir.versions = owner.versions
            owner = heir
    assert floors == sorted(floors)
    assert len(await everything(log)) < (await log.bounds("log", 0))[1]


@case("compaction", "owner-compaction")
async def young_history_and_what_is_not_relayed_stay(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    for n in range(20):
        await owner.write(owner.next("k", b"%d" % n))
    await owner.write(control=owner.control._replace(relayed=12))
    assert await owner.lease.compact(15, budget_ms=1000) == 12
    assert [r.offset for r in await everything(log)] == list(range(11, 20))
    owner.control = owner.lease.control
    await owner.write(control=owner.control._replace(relayed=20))
    assert await owner.lease.compact(16, budget_ms=1000) == 16
    assert await owner.lease.compact(3, budget_ms=1000) == 16
    assert [r.offset for r in await everything(log)] == [15, 16, 17, 18, 19]
    assert [r.value async for batch in log.latest(0) for r in batch] == [b"19"]


@case("compaction", "owner-compaction")
async def a_former_owner_compacts_nothing(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    for _ in range(10):
        await owner.write(owner.next("k"))
    await owner.write(control=owner.control._replace(relayed=10))
    await Owner.of(bench, await bench.open(), name="heir")
    try:
        await owner.lease.compact(10, budget_ms=1000)
    except Fenced:
        pass
    assert len(await everything(log)) == 10
    await raises(Fenced, owner.write(owner.next("k")))


async def _step(owner: Owner, chance: random.Random) -> None:
    keys = chance.sample([f"k{i}" for i in range(8)], chance.randint(1, 4))
    drafts = [owner.next(key, b"%d" % chance.randrange(1000)) for key in keys]
    if chance.random() < 0.15:
        gone = chance.choice(keys)
        drafts.append(draft(gone, 0, owner.epoch, None))
        owner.versions.pop(gone)
    await owner.write(*drafts)


async def _life(bench: Bench, seed: int, partition: int) -> None:
    """Owners come and go, former ones write late, a cleaner works; what owners committed is what the fold says."""
    chance = random.Random(seed)
    log = await bench.open()
    _, truth = await folded(log, partition, floor=(await log.bounds("log", partition))[1])
    former: list[int] = []
    for _ in range(6):
        owner = await Owner.of(bench, log, partition, name=f"w{seed}")
        # no cleaner removed anything above this: it works below the claim that is now in place
        floor = (await log.bounds("log", partition))[1]
        judge, states = await folded(log, partition, floor=floor)
        assert states == truth, f"seed {seed}"
        owner.versions = {k.decode(): v for k, v in judge.known.items()}
        await _heal(owner, judge.owed, truth)
        for _ in range(chance.randint(1, 5)):
            key = f"k{chance.randrange(6)}"
            if chance.random() < 0.2 and key in owner.versions:
                await owner.write(draft(key, 0, owner.epoch, None))
                del owner.versions[key]
                truth.pop(key.encode(), None)
            else:
                value = b"%d" % chance.randrange(10_000)
                await owner.write(owner.next(key, value))
                truth[key.encode()] = value
            if former and chance.random() < 0.5:
                late = chance.choice(former)
                version = owner.versions.get(key, 0) + chance.randint(0, 2)
                bench.stranger(partition, [draft(key, version, late, chance.choice([b"zombie", None]))])
        judge, states = await folded(log, partition, floor=floor)
        assert states == truth, f"seed {seed}"
        await _heal(owner, judge.owed, truth)
        end = (await log.bounds("log", partition))[1]
        bench.clean(partition, chance.randrange(end + 1), _chooser(chance))
        judge, states = await folded(log, partition, floor=end)
        assert states == truth, f"seed {seed}, cleaned"
        former.append(owner.epoch)


async def _heal(owner: Owner, owed: dict[bytes, int], truth: dict[bytes, bytes]) -> None:
    for key, version in owed.items():
        name = key.decode()
        if key in truth:
            owner.versions[name] = max(version, owner.versions.get(name, 0)) + 1
            await owner.write(draft(name, owner.versions[name], owner.epoch, truth[key], cause="heal"))
        else:
            await owner.write(draft(name, version + 1, owner.epoch, None))
            owner.versions.pop(name, None)


def _chooser(chance: random.Random) -> Callable[[Record], bool]:
    return lambda record: chance.random() < 0.7
