"""Conformance of the lanes: order, stability, atomicity, replay, latest, back-pressure, identity, durability."""

from __future__ import annotations

import asyncio

from contrapas.core.lane import Draft
from contrapas.core.partition import partition as partition_of
from contrapas.errors import DataError, LogError, Refused, Retriable
from contrapas.testing.conformance import Bench, Owner, case, draft, everything, folded, raises


@case("order")
async def offsets_grow_and_reading_goes_on_from_where_it_stopped(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    for n in range(30):
        await owner.write(*[owner.next(f"k{n}-{i}") for i in range(n % 4)])
    records = await everything(log)
    offsets = [r.offset for r in records]
    assert offsets == sorted(set(offsets))
    assert sum(1 for r in records if not r.key.startswith(b"$")) == sum(n % 4 for n in range(30))
    start, end = await log.bounds("log", 0)
    assert start <= offsets[0] and offsets[-1] < end
    assert await log.read("log", 0, end) == ([], end)


@case("order")
async def bytes_come_back_as_they_went(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    headers = (("a", b""), ("a", b"\x00\xff"), ("b", b"x" * 300), ("a", b"again"), ("ä", "ö".encode()))
    sent = [
        Draft("", 0, b"k", b"", headers),
        Draft("", 0, b"\xff\xfe", bytes(range(256)), ()),
        Draft("", 0, b"k", None, (("cp-epoch", b"%d" % owner.epoch),)),
    ]
    await owner.write(*sent)
    got = [r for r in await everything(log) if not r.key.startswith(b"$")]
    assert [(r.key, r.value, r.headers) for r in got] == [(d.key, d.value, d.headers) for d in sent]
    await log.publish([d._replace(to="in", partition=1) for d in sent[:2]])
    got = await everything(log, "in", 1)
    assert [(r.key, r.value, r.headers) for r in got] == [(d.key, d.value, d.headers) for d in sent[:2]]


@case("order")
async def a_record_at_the_limit_passes_and_one_above_it_is_refused_before_sending(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    limit = log.caps.max_record_bytes
    for size in (1, 4096, limit - 2):
        done = (
            await owner.write(Draft("", 0, b"k", b"x" * size, (("cp-epoch", b"%d" % owner.epoch),)))
            if size < limit // 2
            else None
        )
        assert done is None or done.first <= done.last
    await log.publish([Draft("in", 0, b"k", b"x" * (limit - 64))])
    _, before = await log.bounds("log", 0)
    await raises(DataError, owner.write(Draft("", 0, b"k", b"x" * (limit + 1))), "CP409")
    await raises(DataError, log.publish([Draft("in", 0, b"k", b"x" * (limit + 1))]), "CP409")
    assert (await log.bounds("log", 0))[1] == before
    assert len(await everything(log, "in", 0)) == 1


@case("order")
async def a_reader_never_sees_half_a_publish_or_a_record_that_vanishes(bench: Bench) -> None:
    log, other = await bench.open(), await bench.open()
    seen: list[int] = []

    async def watch() -> None:
        at = 0
        while len(seen) < 200:
            records, at = await other.read("in", 0, at, wait_ms=2_000)
            seen.extend(r.offset for r in records)

    watcher = asyncio.create_task(watch())
    for n in range(20):
        await log.publish([Draft("in", 0, b"k", b"%d" % (n * 10 + i)) for i in range(10)])
        await asyncio.sleep(0)
    await watcher
    assert seen == [r.offset for r in await everything(other, "in", 0)]


@case("order")
async def a_reader_waits_for_another_client_and_not_longer_than_told(bench: Bench) -> None:
    log, other = await bench.open(), await bench.open()
    assert await other.read("in", 2, 0, wait_ms=1) == ([], 0)
    waiting = asyncio.create_task(other.read("in", 2, 0, wait_ms=10_000))
    await asyncio.sleep(0)
    await log.publish([Draft("in", 2, b"k", b"v")])
    records, after = await waiting
    assert [r.value for r in records] == [b"v"] and after == (await log.bounds("in", 2))[1]


@case("atomicity")
async def one_many_and_the_most_records_are_all_there_and_more_are_refused_whole(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    most = log.caps.max_commit_records - 1
    for count in (1, min(500, most), most):
        done = await owner.write(*[owner.next(f"k{i}") for i in range(count)])
        records = [r for r in await everything(log, start=done.first) if not r.key.startswith(b"$")]
        assert len(records) == count and records[0].offset == done.first
    _, before = await log.bounds("log", 0)
    await raises(Retriable, owner.write(*[draft(f"x{i}", 1, owner.epoch) for i in range(most + 1)]))
    assert (await log.bounds("log", 0))[1] == before


@case("atomicity")
async def the_control_record_comes_with_the_records(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    serial = owner.control.serial
    control = owner.control._replace(cursor={("in@1", 0): 7, ("orders@2", 3): 9}, relayed=4, trying="{}")
    await owner.write(owner.next("k"), control=control)
    assert owner.control.serial == serial + 1
    heir = await Owner.of(bench, await bench.open(), name="heir")
    assert heir.control.cursor == {("in@1", 0): 7, ("orders@2", 3): 9}
    assert (heir.control.relayed, heir.control.trying, heir.control.owner) == (4, "{}", "heir")
    assert heir.control.serial == serial + 2 and heir.control.epoch == heir.epoch


@case("atomicity")
async def what_goes_out_becomes_visible_with_the_commit_or_is_published_after_it_in_order(
    bench: Bench,
) -> None:
    log = await bench.open()
    await bench.create({"orders.events": 3})
    owner = await Owner.of(bench, log)
    out = [Draft("in", 1, b"o-9", b"%d" % n) for n in range(5)]
    out += [Draft("orders.events", -1, b"o-9", b"%d" % n) for n in range(5)]
    if log.caps.atomic_external:
        await owner.write(owner.next("k"), out=out)
    else:
        await owner.write(owner.next("k"))
        await log.publish(out)
    assert [r.value for r in await everything(log, "in", 1)] == [b"0", b"1", b"2", b"3", b"4"]
    at = partition_of(b"o-9", 3)
    assert [r.value for r in await everything(log, "orders.events", at)] == [b"0", b"1", b"2", b"3", b"4"]


@case("atomicity")
async def a_commit_of_the_control_record_alone_is_a_commit(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    await owner.write(owner.next("k"))
    done = await owner.write(control=owner.control._replace(relayed=1))
    assert done.durable and owner.control.relayed == 1
    judge, states = await folded(log)
    assert states == {b"k": b"state"} and not judge.owed


@case("replay", "clock")
async def offset_at_finds_the_first_record_at_or_after_a_time(bench: Bench) -> None:
    log = await bench.open()
    times: list[int] = []
    for n in range(50):
        await log.publish([Draft("in", 0, b"k", b"%d" % n)])
        records = await everything(log, "in", 0)
        times.append(records[-1].timestamp_ms)
        bench.advance(0 if n % 3 else 10)
    records = await everything(log, "in", 0)
    end = (await log.bounds("in", 0))[1]
    for moment in range(times[0] - 3, times[-1] + 4):
        want = next((r.offset for r in records if r.timestamp_ms >= moment), end)
        assert await log.offset_at("in", 0, moment) == want
    assert await log.offset_at("in", 1, times[0]) == 0


@case("replay", "clock")
async def timestamps_never_go_back_even_if_the_clock_does(bench: Bench) -> None:
    log = await bench.open()
    await log.publish([Draft("in", 0, b"k", b"1")])
    bench.advance(-3_600_000)
    await log.publish([Draft("in", 0, b"k", b"2")])
    first, second = await everything(log, "in", 0)
    assert second.timestamp_ms >= first.timestamp_ms


@case("replay")
async def a_position_beyond_the_end_is_an_error_and_never_a_jump(bench: Bench) -> None:
    log = await bench.open()
    await log.publish([Draft("in", 0, b"k", b"v")])
    end = (await log.bounds("in", 0))[1]
    await raises(LogError, log.read("in", 0, end + 1), "CP506")


@case("latest")
async def latest_yields_each_living_key_once_and_ends_where_told(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    for n in range(40):
        await owner.write(*[owner.next(f"k{i}", b"%d-%d" % (n, i)) for i in range(n % 7)])
    middle = (await log.bounds("log", 0))[1]
    await owner.write(*[owner.next(f"k{i}", b"late") for i in range(3)])
    await owner.write(draft("k5", 0, owner.epoch, None))
    for upto in (middle, (await log.bounds("log", 0))[1], None):
        whole = [r for r in await everything(log) if upto is None or r.offset < upto]
        want: dict[bytes, bytes] = {}
        for record in whole:
            if record.value is None:
                want.pop(record.key, None)
            elif not record.key.startswith(b"$"):
                want[record.key] = record.value
        got = [r async for batch in log.latest(0, upto=upto) for r in batch if not r.key.startswith(b"$")]
        assert [r.offset for r in got] == sorted(r.offset for r in got)
        assert {r.key: r.value for r in got} == want and len(got) == len(want)


@case("latest")
async def a_checkpoint_and_the_tail_give_what_the_whole_lane_gives(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    cut = 0
    for n in range(60):
        await owner.write(*[owner.next(f"k{i % 11}", b"%d" % n) for i in range(n, n + 5)])
        if n % 9 == 8:
            gone = f"k{n % 11}"
            await owner.write(draft(gone, 0, owner.epoch, None))
            owner.versions.pop(gone, None)
        if n == 30:
            cut = (await log.bounds("log", 0))[1]
    states = {r.key: r.value async for batch in log.latest(0, upto=cut) for r in batch}
    async for batch in log.latest(0, after=cut):
        for record in batch:
            states[record.key] = record.value
    got = {k: v for k, v in states.items() if v is not None and not k.startswith(b"$")}
    assert got == (await folded(log))[1]


@case("backpressure")
async def a_read_keeps_to_its_limits_and_makes_progress(bench: Bench) -> None:
    log = await bench.open()
    await log.publish([Draft("in", 0, b"k", b"x" * 1000) for _ in range(50)])
    records, after = await log.read("in", 0, 0, max_bytes=4500)
    assert len(records) == 4 and after == records[-1].offset + 1
    records, _ = await log.read("in", 0, after, max_bytes=10)
    assert len(records) == 1
    records, after = await log.read("in", 0, 0, max_records=7)
    assert len(records) == 7 and after == records[-1].offset + 1


@case("backpressure", "clock")
async def lag_is_the_age_of_the_next_unread_record(bench: Bench) -> None:
    log = await bench.open()
    await log.publish([Draft("in", 0, b"k", b"1")])
    first = (await everything(log, "in", 0))[0].timestamp_ms
    bench.advance(5000)
    await log.publish([Draft("in", 0, b"k", b"2")])
    records, _ = await log.read("in", 0, 0)
    assert records[0].timestamp_ms == first and records[1].timestamp_ms >= first + 5000


@case("identity")
async def a_record_without_a_partition_goes_where_its_key_says(bench: Bench) -> None:
    log = await bench.open()
    await bench.create({"orders.events": 5})
    for n in range(20):
        await log.publish([Draft("orders.events", -1, b"o-%d" % n, b"v")])
    for p in range(5):
        assert all(partition_of(r.key, 5) == p for r in await everything(log, "orders.events", p))


@case("identity")
async def a_missing_topic_is_an_error_and_is_not_created(bench: Bench) -> None:
    log = await bench.open()
    await raises(LogError, log.publish([Draft("nowhere", -1, b"k", b"v")]), "CP505")
    await raises(LogError, log.read("nowhere", 0, 0), "CP505")
    assert await log.topic("nowhere") is None
    found = await log.topic("in")
    assert found is not None and found.partitions == log.partitions


@case("identity")
async def nobody_publishes_to_the_log_lane(bench: Bench) -> None:
    log = await bench.open()
    await raises(DataError, log.publish([Draft("log", 0, b"k", b"v")]))
    assert (await log.bounds("log", 0))[1] == 0


@case("identity", "topics")
async def a_recreated_topic_has_another_id_and_old_positions_are_refused(bench: Bench) -> None:
    log = await bench.open()
    await bench.create({"orders.events": 2})
    old = await log.topic("orders.events")
    assert old is not None
    await log.save_positions("shop.service.x", {(f"orders.events@{old.id}", 1): 5})
    assert await log.positions("shop.service.x") == {(f"orders.events@{old.id}", 1): 5}
    await bench.drop("orders.events")
    await bench.create({"orders.events": 2})
    again = await bench.open()
    new = await again.topic("orders.events")
    assert new is not None and new.id != old.id
    await raises(
        Refused, again.save_positions("shop.service.x", {(f"orders.events@{old.id}", 1): 6}), "CP506"
    )


@case("durability")
async def a_commit_says_that_it_is_durable(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    assert (await owner.write(owner.next("k"))).durable


@case("membership")
async def members_share_the_partitions_and_take_over_what_one_leaves(bench: Bench) -> None:
    logs = [await bench.open() for _ in range(3)]
    members = [log.membership("shop.workers", ("in",)) for log in logs]
    every = {("in", p) for p in range(logs[0].partitions)}
    shares: list[frozenset[tuple[str, int]]] = [frozenset() for _ in members]

    async def follow(n: int) -> None:
        async for share in members[n].assignments():
            shares[n] = share

    following = [asyncio.create_task(follow(n)) for n in range(len(members))]

    async def settle() -> None:
        """A group may take a moment, and give partitions in turns; in the end each has one member."""
        sizes: list[int] = []
        async with asyncio.timeout(60):
            while sum(sizes) != len(every) or max(sizes) - min(sizes) > 1 or set().union(*shares) != every:
                await asyncio.sleep(0.02)
                sizes = [len(share) for share in shares]

    while members:
        await settle()
        await members[-1].leave()
        members.pop()
        shares.pop()
        following.pop().cancel()
