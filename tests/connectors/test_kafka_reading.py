"""Reading on a real Kafka: positions, transactions of strangers, nulls, back-pressure, the cleaner, a peer that is silent."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from contrapas.errors import LogError, Retriable
from contrapas.log import NULL, Draft, Known, Record
from contrapas.testing.conformance import Owner, draft, everything, folded
from contrapas_kafka import streams
from contrapas_kafka.log import KafkaLog
from contrapas_kafka.options import Cluster
from tests.connectors.kafka_bench import append, create, lanes
from tests.kafka import Broker


@asynccontextmanager
async def opened(kafka: Broker, **settings: str) -> AsyncGenerator[KafkaLog]:
    """A log of two partitions. settings: of the log lane."""
    lanes(kafka.address, kafka.name, 2, **settings)
    log = KafkaLog(Cluster(kafka.url), kafka.name, 2)
    try:
        yield log
    finally:
        await log.close()


async def test_what_the_claim_has_read_is_not_read_once_more(kafka: Broker) -> None:
    async with opened(kafka) as log:
        owner = Owner(log, await log.acquire(0, "a"))
        for n in range(5):
            await owner.write(*[owner.next(f"k{i}", b"%d" % n) for i in range(20)])
        heir = await log.acquire(0, "heir")
        read: list[int] = []
        plain = log.raw.span

        async def span(*args: Any, **said: Any) -> AsyncIterator[Sequence[Record]]:
            async for some in plain(*args, **said):
                read.append(len(some))
                yield some

        log.raw.span = span  # type: ignore[method-assign]
        found = [r async for some in log.latest(0) for r in some]
        assert sum(read) <= 1  # the claim itself
        assert {r.key: r.value for r in found if r.key.startswith(b"k")} == {
            b"k%d" % i: b"4" for i in range(20)
        }
        assert heir.scan is None
        again = [r async for some in log.latest(0) for r in some]
        assert again == found


async def test_with_a_checkpoint_the_claim_reads_only_from_there(kafka: Broker) -> None:
    async with opened(kafka) as log:
        owner = Owner(log, await log.acquire(0, "a"))
        await owner.write(owner.next("k", b"1"))
        upto = (await log.bounds("log", 0))[1]
        known = Known(upto, owner.epoch, owner.control)
        await owner.write(owner.next("k", b"2"), control=owner.control._replace(cursor={("in", 0): 7}))
        heir = await log.acquire(0, "heir", known=known)
        assert heir.epoch > owner.epoch and dict(heir.control.cursor) == {("in", 0): 7}
        found = [r async for some in log.latest(0, after=upto) for r in some]
        assert [r.value for r in found if r.key == b"k"] == [b"2"] and min(r.offset for r in found) >= upto


async def test_open_and_aborted_transactions_of_strangers_are_not_seen_on_the_inbound_lane(
    kafka: Broker,
) -> None:
    async with opened(kafka) as log:
        await log.publish([Draft("in", 0, b"k", b"before")])
        stranger = Producer({"bootstrap.servers": kafka.address, "transactional.id": f"{kafka.name}-tx"})
        stranger.init_transactions(30)
        for name, ends in (
            ("aborted", stranger.abort_transaction),
            ("committed", stranger.commit_transaction),
        ):
            stranger.begin_transaction()
            for topic in ("in", "log"):
                stranger.produce(f"{kafka.name}.{topic}", name.encode(), b"k", 0)
            stranger.flush(30)
            before = (await log.bounds("in", 0))[1]
            assert await log.read("in", 0, before) == ([], before)
            ends(30)
        await log.publish([Draft("in", 0, b"k", b"after")])
        assert [r.value for r in await everything(log, "in", 0)] == [b"before", b"committed", b"after"]
        lane = await everything(log, "log", 0)  # as it stands: nobody has business with transactions there
        assert [r.value for r in lane] == [b"aborted", b"committed"]


async def test_an_open_transaction_on_the_log_lane_stops_nobody(kafka: Broker) -> None:
    async with opened(kafka) as log:
        owner = Owner(log, await log.acquire(0, "a"))
        await owner.write(owner.next("k", b"1"))
        stranger = Producer({"bootstrap.servers": kafka.address, "transactional.id": f"{kafka.name}-tx"})
        stranger.init_transactions(30)
        stranger.begin_transaction()
        stranger.produce(f"{kafka.name}.log", b"junk", b"junk", 0)
        stranger.flush(30)
        done = await owner.write(owner.next("k", b"2"))
        assert [r.key for r in done.losers] == [b"junk"]
        assert (await folded(log))[1] == {b"k": b"2"}
        stranger.abort_transaction(30)
        heir = Owner(log, await log.acquire(0, "b"))  # past the marker, which is no record
        heir.versions = {"k": 2}
        await heir.write(heir.next("k", b"3"))
        assert (await folded(log))[1] == {b"k": b"3"}


async def test_null_keys_and_headers_come_and_go_as_they_are(kafka: Broker) -> None:
    async with opened(kafka) as log:
        create(kafka.address, {f"{kafka.name}-orders": 1})
        plain = Producer({"bootstrap.servers": kafka.address})
        plain.produce(f"{kafka.name}-orders", b"v", None, 0, headers=[("a", None), ("a", b""), ("b", b"x")])
        plain.produce(f"{kafka.name}-orders", b"", b"", 0)
        assert plain.flush(30) == 0
        first, second = await everything(log, f"{kafka.name}-orders", 0)
        assert first.key is NULL and first.headers[0] == ("a", b"") and first.headers[0][1] is NULL
        assert first.headers[1][1] is not NULL and second.key == b"" and second.key is not NULL
        assert second.value == b"" and second.headers == ()
        await log.publish(
            [Draft(f"{kafka.name}-orders", 0, r.key, r.value, r.headers) for r in (first, second)]
        )
        third, fourth = (await everything(log, f"{kafka.name}-orders", 0))[2:]
        assert third.key is NULL and third.headers[0][1] is NULL and fourth.key is not NULL


async def test_a_reader_that_is_slow_holds_the_broker_back_and_misses_nothing(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MANY", 50)
    monkeypatch.setattr(streams, "BATCH", 20)
    async with opened(kafka) as log:
        for n in range(4):
            await log.publish(
                [Draft("in", p, b"k", b"%d" % (n * 500 + i)) for i in range(500) for p in (0, 1)]
            )
        at, seen = [0, 0], [list[bytes](), list[bytes]()]
        while min(at) < 2000:
            for p in (0, 1):
                records, at[p] = await log.read("in", p, at[p], max_records=37, wait_ms=1000)
                seen[p] += [r.value or b"" for r in records]
                held = [len(s.buffer) for shelf in log.committed.hub.shelves for s in shelf.streams.values()]
                assert max(held) <= 50 + 2 * 20
        assert seen[0] == seen[1] == [b"%d" % n for n in range(2000)]


async def test_readers_at_several_places_of_one_partition_do_not_disturb_each_other(kafka: Broker) -> None:
    async with opened(kafka) as log:
        await log.publish([Draft("in", 0, b"k", b"%d" % n) for n in range(300)])

        async def follow(start: int, step: int) -> list[int]:
            at, seen = start, list[int]()
            while len(seen) < 400 - start:
                records, at = await log.read("in", 0, at, max_records=step, wait_ms=10_000)
                seen += [int(r.value or b"-1") for r in records]
            return seen

        reading = [asyncio.create_task(follow(start, 7 + start)) for start in (0, 0, 100, 300)]
        await asyncio.sleep(0.2)
        await log.publish([Draft("in", 0, b"k", b"%d" % n) for n in range(300, 400)])
        for task, start in zip(reading, (0, 0, 100, 300), strict=True):
            assert await asyncio.wait_for(task, 60) == list(range(start, 400))


async def test_offset_at_finds_the_first_record_at_or_after_a_time(kafka: Broker) -> None:
    async with opened(kafka) as log:
        for n in range(4):
            await log.publish([Draft("in", 0, b"k", b"%d" % n)])
            await asyncio.sleep(0.02)
        records = await everything(log, "in", 0)
        times = [r.timestamp_ms for r in records]
        assert times == sorted(set(times))
        for moment in (times[0] - 1, times[0], times[0] + 1, times[2], times[-1], times[-1] + 1):
            want = next((r.offset for r in records if r.timestamp_ms >= moment), 4)
            assert await log.offset_at("in", 0, moment) == want
        assert await log.offset_at("in", 1, times[0]) == 0


async def test_the_fold_of_what_a_real_cleaner_leaves_is_the_fold_of_the_lane(kafka: Broker) -> None:
    tiny = {"segment_ms": "200", "min_compaction_lag_ms": "0", "min_cleanable_dirty_ratio": "0.01"}
    async with opened(kafka, **tiny, delete_retention_ms="60000") as log:
        former = Owner(log, await log.acquire(0, "former"))
        owner = former
        states: dict[bytes, bytes] = {}
        until = time.monotonic() + 60
        number = left = 0
        while time.monotonic() < until:
            number += 1
            key = f"k{number % 5}"
            await owner.write(owner.next(key, b"%d" % number))
            if number % 40 == 0:
                heir = Owner(log, await log.acquire(0, "heir"))
                heir.versions, former, owner = owner.versions, owner, heir
                late = draft(key, owner.versions[key] + 1, former.epoch, b"late")
                append(kafka.address, f"{kafka.name}.log", 0, [late])
                owner.versions[key] += 2
                await owner.write(draft(key, owner.versions[key], owner.epoch, b"%d" % number, cause="heal"))
            states[key.encode()] = b"%d" % number
            if number % 40 == 20:
                end = (await log.bounds("log", 0))[1]
                judge, found = await folded(log, floor=end)
                assert found == states and not judge.owed
                left = len(await everything(log))
                if number > 150 and left < end // 2:
                    break
        assert left < (await log.bounds("log", 0))[1] // 2, "the cleaner never came"
        heir = Owner(log, await log.acquire(0, "last"))
        kept = {r.key: r.value async for some in log.latest(0) for r in some if r.key.startswith(b"k")}
        assert kept == states


async def test_every_call_ends_by_its_deadline_with_a_silent_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        log = KafkaLog(Cluster(f"kafka://127.0.0.1:{silent.getsockname()[1]}"), "shop", 2)
        log.calls.call_s = 0.3
        began = time.monotonic()
        for call in (
            log.acquire(0, "me"),
            log.bounds("in", 0),
            log.read("in", 0, 0),
            log.publish([Draft("in", 0, b"k", b"v")]),
            log.topic("in"),
            log.offset_at("in", 0, 1),
            log.positions("shop.service.x"),
        ):
            with pytest.raises((Retriable, LogError)):
                await call
        assert time.monotonic() - began < 10
        await log.close()
