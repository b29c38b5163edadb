"""Conformance of ownership: fencing, former owners, claims, unknown answers, positions."""

from __future__ import annotations

import asyncio

from contrapas.core.control import encode_control, record_headers
from contrapas.core.lane import Draft
from contrapas.errors import Fenced, Indeterminate, LogError, Retriable
from contrapas.testing.conformance import Bench, Owner, case, draft, everything, folded, raises


@case("fencing")
async def a_second_acquire_fences_the_first(bench: Bench) -> None:
    first = await Owner.of(bench, await bench.open(), name="first")
    await first.write(first.next("k", b"one"))
    second = await Owner.of(bench, await bench.open(), name="second")
    assert second.epoch > first.epoch
    error = await raises(Fenced, first.write(first.next("k", b"zombie"), first.next("other")))
    assert isinstance(error, Fenced)
    await asyncio.wait_for(first.lease.lost(), 5)
    second.versions["k"] = 1
    await second.write(second.next("k", b"two"))
    judge, states = await folded(second.log)
    assert states == {b"k": b"two"} and judge.epoch == second.epoch


@case("fencing")
async def a_lease_that_was_released_commits_nothing(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    await owner.write(owner.next("k"))
    await owner.lease.release()
    await owner.lease.release()
    heir = Owner(log, await log.acquire(0, "heir"))
    await raises(Fenced, owner.write(owner.next("k", b"late")))
    assert (await folded(log))[1] == {b"k": b"state"}
    assert heir.control.takeovers == 0


@case("fencing")
async def epochs_never_fall_and_takeovers_count_until_a_release(bench: Bench) -> None:
    log = await bench.open()
    epochs: list[int] = []
    for n in range(12):
        owner = await Owner.of(bench, log, name=f"w{n}")
        epochs.append(owner.epoch)
        assert owner.control.takeovers == n % 4
        if n % 2:
            await owner.write(owner.next(f"k{n}"))
        if n % 4 == 3:
            await owner.lease.release()
    assert epochs == sorted(set(epochs))


@case("fencing")
async def partitions_are_fenced_each_for_itself(bench: Bench) -> None:
    log, other = await bench.open(), await bench.open()
    mine = [await Owner.of(bench, log, p) for p in range(3)]
    await Owner.of(bench, other, 1)
    await mine[0].write(mine[0].next("a"))
    await mine[2].write(mine[2].next("b"))
    await raises(Fenced, mine[1].write(mine[1].next("c")))


@case("fencing")
async def what_was_committed_before_the_fence_is_there_for_the_next_owner(bench: Bench) -> None:
    first = await Owner.of(bench, await bench.open(), name="first")
    for n in range(25):
        await first.write(first.next("k", b"%d" % n))
    second = await Owner.of(bench, await bench.open(), name="second")
    assert (await folded(second.log))[1] == {b"k": b"24"}
    assert second.control.takeovers == 1


@case("fencing")
async def commits_of_several_partitions_at_once_all_arrive(bench: Bench) -> None:
    log = await bench.open()
    owners = [await Owner.of(bench, log, p) for p in range(4)]
    for n in range(10):
        await asyncio.gather(*[o.write(*[o.next(f"k{i}", b"%d" % n) for i in range(3)]) for o in owners])
    for p in range(4):
        assert (await folded(log, p))[1] == {f"k{i}".encode(): b"9" for i in range(3)}


@case("fencing")
async def a_commit_while_the_partition_is_taken_over_is_whole_or_void(bench: Bench) -> None:
    for n in range(10):
        first = await Owner.of(bench, await bench.open(), name=f"first{n}")
        known, _ = await folded(first.log)
        batch = [
            draft(f"k{i}", known.known.get(f"k{i}".encode(), 0) + 1, first.epoch, b"%d" % n) for i in range(5)
        ]
        writing = asyncio.create_task(first.write(*batch))
        if n % 2:
            await asyncio.sleep(0)
        second = await Owner.of(bench, await bench.open(), name=f"second{n}")
        try:
            await writing
            kept = True
        except (Fenced, Indeterminate):
            kept = False
        judge, states = await folded(second.log)
        assert judge.epoch >= second.epoch or not judge.epoch or kept or judge.epoch < second.epoch
        values = {states.get(f"k{i}".encode()) == b"%d" % n for i in range(5)}
        assert len(values) == 1, "half a commit counts"
        assert not kept or values == {True}
        await second.lease.release()


@case("fencing", "faults", "refuse")
async def a_commit_in_flight_that_arrives_after_the_fence_is_refused(bench: Bench) -> None:
    first = await Owner.of(bench, await bench.open(), name="first")
    await first.write(first.next("k", b"one"))
    bench.fault("commit", "late")
    await raises(Indeterminate, first.write(first.next("k", b"late")))
    second = await Owner.of(bench, await bench.open(), name="second")
    bench.land()
    assert (await folded(second.log))[1] == {b"k": b"one"}


@case("fencing", "faults", "order")
async def a_commit_in_flight_counts_before_the_claim_and_is_void_after_it(bench: Bench) -> None:
    for before in (True, False):
        first = await Owner.of(bench, await bench.open(), 1, name="first")
        judge, _ = await folded(first.log, 1)
        version = judge.known.get(b"k", 0) + 1
        await first.write(draft("k", version, first.epoch, b"one"))
        bench.fault("commit", "late")
        await raises(Indeterminate, first.write(draft("k", version + 1, first.epoch, b"late")))
        if before:
            bench.land()
        second = await Owner.of(bench, await bench.open(), 1, name="second")
        bench.land()
        judge, states = await folded(second.log, 1)
        assert states[b"k"] == (b"late" if before else b"one")
        assert (b"k" in judge.owed) is not before
        if not before:
            await second.write(draft("k", judge.owed[b"k"] + 1, second.epoch, b"one", cause="heal"))
            judge, states = await folded(second.log, 1)
            assert states[b"k"] == b"one" and not judge.owed


@case("fencing", "order")
async def a_claim_inside_a_commit_makes_the_writer_fenced_and_its_first_half_the_heirs(bench: Bench) -> None:
    log = await bench.open()
    first = await Owner.of(bench, log, name="first")
    await first.write(first.next("a"), first.next("b"))
    rival: list[Draft] = []

    def claim(partition: int, number: int) -> None:
        if number == 1 and not rival:
            control = first.control._replace(epoch=first.epoch + 40, owner="rival")
            value = encode_control(control)
            rival.append(Draft("", 0, b"$claim/rival", value, record_headers("claim", control.epoch, value)))
            bench.stranger(partition, rival)

    bench.between(claim)
    error = await raises(Fenced, first.write(first.next("a", b"half"), first.next("b", b"half")))
    bench.between(None)
    assert isinstance(error, Fenced) and error.theirs == first.epoch + 40
    judge, states = await folded(log)
    assert states == {b"a": b"half", b"b": b"state"} and set(judge.owed) == {b"b"}


@case("fencing", "order")
async def a_strangers_record_in_a_gap_is_a_loser_and_the_commit_counts(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    await owner.write(owner.next("k", b"one"))
    bench.stranger(0, [draft("k", 9, owner.epoch - 1, b"stranger")])
    done = await owner.write(owner.next("other"))
    assert done.durable
    judge, states = await folded(log)
    assert states == {b"k": b"one", b"other": b"state"} and judge.owed == {b"k": 9}


@case("fencing", "order")
async def a_commit_begins_behind_what_others_wrote_before_it(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    value = encode_control(owner.control)
    late = Draft("", 0, b"$claim/late", value, record_headers("claim", owner.epoch, value))
    for stranger in (draft("x", 9, owner.epoch - 1, b"a loser"), late):
        _, end = await log.bounds("log", 0)
        bench.stranger(0, [stranger])
        done = await owner.write(owner.next("k"))
        assert (done.first, done.last) == (end + 1, end + 2)


@case("fencing", "faults", "order")
async def of_two_equal_claims_the_first_counts(bench: Bench) -> None:
    log, other = await bench.open(), await bench.open()
    bench.fault("acquire", "late")
    await raises(Indeterminate, log.acquire(0, "first"))
    end = (await log.bounds("log", 0))[1]
    again = await Owner.of(bench, other, name="second")
    bench.land()
    assert again.epoch >= end
    await again.write(again.next("k"))
    judge, states = await folded(log)
    assert states == {b"k": b"state"} and judge.epoch == again.epoch


@case("fencing", "faults")
async def a_claim_that_was_lost_is_made_again_and_gives_a_new_epoch(bench: Bench) -> None:
    log = await bench.open()
    epochs: list[int] = []
    for kind in ("lost-before", "lost-after", "retriable"):
        bench.fault("acquire", kind)
        await raises(Retriable if kind == "retriable" else Indeterminate, log.acquire(0, "owner"))
        owner = await Owner.of(bench, log)
        epochs.append(owner.epoch)
        await owner.write(owner.next(f"k-{kind}"))
    assert epochs == sorted(set(epochs))
    assert len((await folded(log))[1]) == 3


@case("indeterminate", "faults")
async def after_a_lost_answer_the_tail_says_what_happened(bench: Bench) -> None:
    log = await bench.open()
    for n, kind in enumerate(("lost-before", "lost-after", "cut", "late")):
        owner = await Owner.of(bench, log, n)
        await owner.write(owner.next("k", b"one"))
        serial = owner.control.serial
        bench.fault("commit", kind)
        await raises(Indeterminate, owner.write(owner.next("k", b"two"), owner.next("l", b"two")))
        heir = await Owner.of(bench, log, n, name="heir")
        bench.land()
        judge, states = await folded(log, n)
        landed = states.get(b"k") == b"two" and states.get(b"l") == b"two"
        assert (heir.control.serial == serial + 2) is (landed and kind != "cut")
        if kind == "lost-after":
            assert landed
        if kind in ("lost-before", "late"):
            assert not landed
        heir.versions = {k.decode(): v for k, v in judge.known.items()}
        for key in ("k", "l"):
            version = max(judge.owed.get(key.encode(), 0), judge.known.get(key.encode(), 0)) + 1
            await heir.write(draft(key, version, heir.epoch, b"two", cause="heal" if judge.owed else "local"))
        judge, states = await folded(log, n)
        assert states == {b"k": b"two", b"l": b"two"} and not judge.owed


@case("indeterminate", "faults")
async def retriable_means_that_nothing_was_written(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    one = owner.next("k")
    bench.fault("commit", "retriable", "retriable")
    for _ in range(2):
        await raises(Retriable, owner.write(one))
    await owner.write(one)
    assert (await folded(log))[1] == {b"k": b"state"}
    bench.fault("publish", "retriable")
    await raises(Retriable, log.publish([Draft("in", 0, b"k", b"v")]))
    assert (await log.bounds("in", 0))[1] == 0


@case("idempotence")
async def a_cursor_never_moves_back(bench: Bench) -> None:
    log = await bench.open()
    owner = await Owner.of(bench, log)
    await owner.write(control=owner.control._replace(cursor={("in@1", 0): 7, ("x@2", 1): 3}))
    await owner.write(control=owner.control._replace(cursor={("in@1", 0): 5, ("y@3", 0): 1}))
    want = {("in@1", 0): 7, ("x@2", 1): 3, ("y@3", 0): 1}
    assert dict(owner.control.cursor) == want
    heir = await Owner.of(bench, log, name="heir")
    assert dict(heir.control.cursor) == want


@case("idempotence", "faults")
async def a_publish_that_fails_in_the_middle_leaves_a_prefix_of_each_partition(bench: Bench) -> None:
    log = await bench.open()
    for n in range(10):
        drafts = [Draft("in", p, b"k", b"%d-%d" % (n, i)) for i in range(4) for p in range(3)]
        before = [(await log.bounds("in", p))[1] for p in range(3)]
        bench.fault("publish", "cut")
        await raises(Indeterminate, log.publish(drafts))
        for p in range(3):
            got = [r.value for r in await everything(log, "in", p, start=before[p])]
            assert got == [b"%d-%d" % (n, i) for i in range(4)][: len(got)]


@case("idempotence")
async def a_publish_that_is_repeated_is_stored_twice_and_stays_in_order(bench: Bench) -> None:
    log = await bench.open()
    drafts = [Draft("in", 0, b"k", b"%d" % i, (), f"id-{i}") for i in range(3)]
    await log.publish(drafts)
    await log.publish(drafts)
    got = [r.value for r in await everything(log, "in", 0)]
    assert [v for n, v in enumerate(got) if v not in got[:n]] == [b"0", b"1", b"2"]


@case("idempotence")
async def positions_of_a_group_are_kept_by_source(bench: Bench) -> None:
    log = await bench.open()
    await bench.create({"orders.events": 2})
    topic = await log.topic("orders.events")
    assert topic is not None
    source = f"orders.events@{topic.id}"
    assert await log.positions("shop.service.x") == {}
    await log.save_positions("shop.service.x", {(source, 0): 3})
    await log.save_positions("shop.service.x", {(source, 1): 8, (source, 0): 4})
    again = await bench.open()
    assert await again.positions("shop.service.x") == {(source, 0): 4, (source, 1): 8}
    assert await again.positions("shop.service.y") == {}


@case("replay", "faults")
async def a_position_below_the_start_is_an_error_and_never_a_jump(bench: Bench) -> None:
    log = await bench.open()
    await log.publish([Draft("in", 0, b"k", b"%d" % n) for n in range(10)])
    bench.fault("trim in 0", "6")
    await raises(LogError, log.read("in", 0, 5), "CP519")
    records, _ = await log.read("in", 0, 6)
    assert records[0].value == b"6"
