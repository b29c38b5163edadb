"""PostgreSQL over TCP with faults between: lost answers, late requests, silence, resets; and what the log makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from contrapas.errors import ContrapasError, Fenced, Indeterminate, LogError, Retriable, Unreachable
from contrapas.log import Draft
from contrapas.testing.conformance import Owner, everything, folded
from contrapas_postgres import connector
from contrapas_postgres.log import PostgresLog
from tests.postgres import StartServer
from tests.proxy import Link, Proxy, proxied


@asynccontextmanager
async def behind(start: StartServer) -> AsyncGenerator[tuple[Proxy, PostgresLog, PostgresLog]]:
    """A proxy, a log through it with short deadlines, and one straight to the server."""
    server = start(tcp=True)
    straight = await connector.open(server.tcp_url(), "shop", partitions=2, make=True)
    async with proxied(server.port) as proxy:
        log = await connector.open(server.tcp_url(port=proxy.port), "shop")
        log.pool.call_s = log.server.connect_s = 0.7
        try:
            yield proxy, log, straight
        finally:
            await log.close()
            await straight.close()


async def decided(straight: PostgresLog, owner: Owner) -> tuple[int, dict[bytes, bytes]]:
    """What the next owner finds: the serial, and the states."""
    await straight.break_lock(0)
    lease = await straight.acquire(0, "heir")
    _, states = await folded(straight)
    assert lease.epoch > owner.epoch
    return lease.control.serial, states


def soon(call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(call)


async def first(log: PostgresLog) -> Owner:
    owner = Owner(log, await log.acquire(0, "first"))
    await owner.write(owner.next("k", b"one"))
    return owner


async def test_a_commit_whose_answer_is_lost_is_indeterminate_and_stands(own_postgres: StartServer) -> None:
    async with behind(own_postgres) as (proxy, log, straight):
        owner = await first(log)
        proxy.when(b"marker-1", lambda link: link.cut.add("down"))
        with pytest.raises(Indeterminate):
            await owner.write(owner.next("k", b"marker-1"))
        with pytest.raises(Fenced):
            await owner.write(owner.next("k", b"again"))
        serial, states = await decided(straight, owner)
        assert states == {b"k": b"marker-1"}
        assert serial == owner.control.serial + 2


async def test_a_commit_that_never_arrived_is_indeterminate_and_is_not_there(
    own_postgres: StartServer,
) -> None:
    async with behind(own_postgres) as (proxy, log, straight):
        owner = await first(log)
        proxy.when(b"marker-2", lambda link: link.cut.add("up"))
        with pytest.raises(Indeterminate):
            await owner.write(owner.next("k", b"marker-2"))
        serial, states = await decided(straight, owner)
        assert states == {b"k": b"one"}
        assert serial == owner.control.serial + 1


async def test_a_commit_that_arrives_after_the_next_owner_changes_nothing(own_postgres: StartServer) -> None:
    async with behind(own_postgres) as (proxy, log, straight):
        owner = await first(log)
        held: list[Link] = []

        def hold(link: Link) -> None:
            link.hold("up")
            held.append(link)

        proxy.when(b"marker-3", hold)
        with pytest.raises(Indeterminate):
            await owner.write(owner.next("k", b"marker-3"), out=[Draft("in", 1, b"k", b"to-send")])
        _, states = await decided(straight, owner)
        assert states == {b"k": b"one"}
        held[0].release()
        await asyncio.sleep(0.3)
        assert (await folded(straight))[1] == {b"k": b"one"}
        assert await everything(straight, "in", 1) == []


async def test_the_connection_reset_in_the_middle_of_a_commit_is_indeterminate(
    own_postgres: StartServer,
) -> None:
    async with behind(own_postgres) as (proxy, log, straight):
        owner = await first(log)
        proxy.when(b"marker-4", lambda link: soon(link.reset))
        with pytest.raises(Indeterminate):
            await owner.write(owner.next("k", b"marker-4"))
        serial, states = await decided(straight, owner)
        landed = states == {b"k": b"marker-4"}
        assert landed or states == {b"k": b"one"}
        assert serial == owner.control.serial + 1 + landed


async def test_without_a_connection_nothing_was_written_and_trying_again_helps(
    own_postgres: StartServer,
) -> None:
    async with behind(own_postgres) as (proxy, log, _):
        owner = await first(log)
        proxy.refusing = True
        proxy.reset()
        await asyncio.sleep(0.05)
        two = owner.next("k", b"two")
        with pytest.raises(Retriable):
            await owner.write(two)
        with pytest.raises(Retriable):
            await log.publish([Draft("in", 0, b"k", b"v")])
        with pytest.raises(Retriable):
            await log.read("in", 0, 0)
        proxy.refusing = False
        await owner.write(two)
        assert (await folded(log))[1] == {b"k": b"two"}


async def test_every_call_ends_by_its_deadline_when_the_server_is_silent(own_postgres: StartServer) -> None:
    async with behind(own_postgres) as (proxy, log, _):
        owner = await first(log)
        member = log.membership("shop.workers", ("in",))
        proxy.cut.add("down")
        calls = [
            owner.write(owner.next("k", b"two")),
            log.publish([Draft("in", 0, b"k", b"v")]),
            log.bounds("in", 0),
            log.read("in", 0, 0, wait_ms=100),
            log.offset_at("in", 0, 0),
            log.topic("orders.events"),
            log.positions("g"),
            log.save_positions("g", {}),
            log.acquire(1, "second"),
            connector.open(log.server.url, "shop"),
        ]
        log.pool.call_s = 0.5
        ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 45)
        for each in ended:
            assert isinstance(each, LogError | Unreachable), each
        proxy.reset()
        await member.leave()


async def test_a_publish_whose_answer_is_lost_may_be_repeated_and_keeps_its_order(
    own_postgres: StartServer,
) -> None:
    async with behind(own_postgres) as (proxy, log, straight):
        drafts = [Draft("in", 0, b"k", b"answer-%d" % n, (), f"id-{n}") for n in range(3)]
        proxy.when(b"answer-0", lambda link: link.cut.add("down"))
        with pytest.raises(Indeterminate):
            await log.publish(drafts)
        await log.publish(drafts)
        got = [r.value for r in await everything(straight, "in", 0)]
        assert [v for n, v in enumerate(got) if v not in got[:n]] == [b"answer-0", b"answer-1", b"answer-2"]


async def test_a_session_that_breaks_is_made_again_and_keeps_what_nobody_took(
    own_postgres: StartServer,
) -> None:
    async with behind(own_postgres) as (proxy, log, straight):
        owner = await first(log)
        other = Owner(log, await log.acquire(1, "first"))
        await straight.break_lock(1)
        heir = await straight.acquire(1, "second")
        proxy.reset()
        await asyncio.wait_for(other.lease.lost(), 10)
        await asyncio.sleep(0.3)
        await owner.write(owner.next("k", b"two"))
        with pytest.raises(Fenced):
            await other.write(other.next("x"))
        straight.acquire_s = 0.3
        with pytest.raises(Fenced):
            for _ in range(50):  # until its lock is back
                lease = await straight.acquire(0, "third")
                await lease.release()
        assert heir.epoch > other.epoch


async def test_a_server_killed_in_the_middle_loses_nothing_that_was_acknowledged(
    own_postgres: StartServer,
) -> None:
    server = own_postgres()
    log = await connector.open(server.url(), "shop", partitions=1, make=True)
    acknowledged: list[int] = []
    try:
        owner = Owner(log, await log.acquire(0, "first"))

        async def write() -> None:
            for n in range(100_000):
                await owner.write(owner.next(f"k{n}", b"%d" % n), out=[Draft("in", 0, b"k", b"%d" % n)])
                acknowledged.append(n)

        writing = asyncio.create_task(write())
        while len(acknowledged) < 200:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        with pytest.raises(ContrapasError) as ended:
            await writing
        assert isinstance(ended.value, Indeterminate | Retriable)
        await asyncio.to_thread(server.start)
        heir = Owner(log, await log.acquire(0, "heir"))
        _, states = await folded(log)
        assert set(range(len(acknowledged))) <= {int(v) for v in states.values()}
        assert len(states) <= len(acknowledged) + 1
        sent = [int(r.value or b"") for r in await everything(log, "in", 0)]
        assert sent == sorted(int(v) for v in states.values())
        await heir.write(heir.next("after"))
    finally:
        await log.close()
