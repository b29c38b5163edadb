"""What a PostgreSQL server must be like, and what is said of one that is not: each with its code, nothing lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import asyncpg
import pytest

from contrapas.errors import ContrapasError, Fenced, LogError, Refused, Retriable, Unreachable
from contrapas.log import Draft
from contrapas.testing.conformance import Owner, everything, folded
from contrapas_postgres import connector
from contrapas_postgres.log import PostgresLease, PostgresLog
from tests.connectors.pooling import Pooling
from tests.postgres import Database, StartServer, execute


async def made(url: str, partitions: int = 2) -> PostgresLog:
    return await connector.open(url, "shop", partitions=partitions, make=True)


async def refused(code: str, url: str, *, partitions: int | None = None) -> ContrapasError:
    """Opening is refused with a code; `doctor` finds the same."""
    with pytest.raises(ContrapasError) as why:
        await connector.open(url, "shop", partitions=partitions)
    assert why.value.code == code, why.value
    found = await connector.examine(url, "shop", partitions)
    assert code in {one.code for one in found if one.refused}, found
    return why.value


async def ran(url: str, *statements: str) -> None:
    await asyncio.to_thread(execute, url, *statements)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
async def test_a_server_that_loses_what_it_confirms_is_refused_unless_told_so(
    own_postgres: StartServer, name: str
) -> None:
    server = own_postgres(settings={name: "off"})
    url = server.url()
    relaxed = f"{url}&contrapas_durability=none"
    log = await connector.open(relaxed, "shop", partitions=1, make=True)
    owner = Owner(log, await log.acquire(0, "me"))
    assert not (await owner.write(owner.next("k"))).durable
    await log.close()
    why = await refused("CP514", url)
    assert name in why.text
    found = await connector.examine(relaxed, "shop")
    assert [one.refused for one in found if name in one.text] == [False]


async def test_a_database_that_takes_no_writes_is_refused(postgres: Database) -> None:
    await (await made(postgres.url)).close()
    await ran(postgres.url, f"alter database {postgres.name} set default_transaction_read_only = on")
    why = await refused("CP514", postgres.url)
    assert "default_transaction_read_only" in why.text


async def test_a_primary_that_becomes_read_only_ends_ownership(postgres: Database) -> None:
    log = await made(postgres.url)
    owner = Owner(log, await log.acquire(0, "me"))
    await owner.write(owner.next("k", b"one"))

    async def read_only(conn: asyncpg.Connection[asyncpg.Record]) -> None:
        await conn.execute("set default_transaction_read_only = on")

    await log.pool.read(read_only)
    with pytest.raises(Fenced):
        await owner.write(owner.next("k", b"two"))
    await asyncio.wait_for(owner.lease.lost(), 5)
    assert (await folded(log))[1] == {b"k": b"one"}
    await log.close()


async def test_tables_newer_or_older_than_this_release_are_refused(postgres: Database) -> None:
    await (await made(postgres.url)).close()
    await ran(postgres.url, "update contrapas_shop.meta set value = '99' where name = 'schema'")
    assert "newer" in (await refused("CP514", postgres.url)).text
    await ran(postgres.url, "update contrapas_shop.meta set value = '0' where name = 'schema'")
    assert "version 0" in (await refused("CP514", postgres.url)).text


async def test_no_tables_another_count_and_a_copy_on_another_server_are_refused(postgres: Database) -> None:
    why = await refused("CP505", postgres.url)
    assert "contrapas topic create" in why.fix
    await (await made(postgres.url)).close()
    await refused("CP504", postgres.url, partitions=3)
    await ran(postgres.url, "update contrapas_shop.meta set value = '12345' where name = 'cluster'")
    assert "copy" in (await refused("CP521", postgres.url)).text


async def test_a_server_that_is_down_or_unknown_is_named(own_postgres: StartServer) -> None:
    server = own_postgres(tcp=True)
    await (await made(server.tcp_url())).close()
    assert isinstance(await refused("CP501", server.tcp_url("nowhere")), Refused)
    wrong = await refused("CP501", server.tcp_url().replace(server.password, "wrong"))
    assert isinstance(wrong, Unreachable) and not wrong.again and "wrong" not in str(wrong)
    await asyncio.to_thread(server.stop)
    down = await refused("CP501", server.tcp_url())
    assert isinstance(down, Unreachable) and down.again


async def test_a_missing_permission_is_named(own_postgres: StartServer) -> None:
    server = own_postgres(tcp=True)
    log = await made(server.tcp_url())
    await ran(
        server.url(),
        f"create role clerk login password '{server.password}'",
        "grant usage on schema contrapas_shop to clerk",
        "grant select on all tables in schema contrapas_shop to clerk",
    )
    url = f"postgresql://clerk:{server.password}@127.0.0.1:{server.port}/postgres"
    theirs = await connector.open(url, "shop")
    with pytest.raises(Refused) as why:
        await theirs.publish([Draft("in", 0, b"k", b"v")])
    assert why.value.code == "CP822"
    found = await connector.examine(url, "shop")
    assert any(one.code == "CP822" and "insert" in one.text for one in found)
    await theirs.close()
    await log.close()


async def test_a_proxy_that_pools_by_transaction_is_refused(own_postgres: StartServer) -> None:
    server = own_postgres()
    await (await made(server.url())).close()
    async with Pooling(str(server.folder / f".s.PGSQL.{server.port}")) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
        why = await refused("CP514", url)
        assert "proxy" in why.text and "session" in why.fix


async def test_a_full_disk_stops_the_partition_and_loses_nothing(postgres: Database) -> None:
    log = await made(postgres.url)
    owner = Owner(log, await log.acquire(0, "me"))
    await owner.write(owner.next("k", b"one"))
    await ran(
        postgres.url,
        "create function full_disk() returns trigger language plpgsql as "
        "$$ begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$",
        "create trigger full_disk before insert on contrapas_shop.lane_log for each row execute function full_disk()",
    )
    two = owner.next("k", b"two")
    with pytest.raises(Unreachable) as why:
        await owner.write(two)
    assert why.value.code == "CP524"
    await ran(postgres.url, "drop trigger full_disk on contrapas_shop.lane_log")
    await owner.write(two)
    assert (await folded(log))[1] == {b"k": b"two"}
    await log.close()


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014"])
async def test_what_the_server_undid_may_be_tried_again(postgres: Database, state: str) -> None:
    log = await made(postgres.url)
    owner = Owner(log, await log.acquire(0, "me"))
    await ran(
        postgres.url,
        f"create function no() returns trigger language plpgsql as $$ begin raise exception 'no' using errcode = '{state}'; end $$",
        "create trigger no before insert on contrapas_shop.lane_log for each row execute function no()",
    )
    one = owner.next("k", b"one")
    with pytest.raises(Retriable):
        await owner.write(one)
    await ran(postgres.url, "drop trigger no on contrapas_shop.lane_log")
    await owner.write(one)
    assert (await folded(log))[1] == {b"k": b"one"}
    await log.close()


async def test_tables_dropped_under_a_worker_are_named(postgres: Database) -> None:
    log = await made(postgres.url)
    owner = Owner(log, await log.acquire(0, "me"))
    await ran(postgres.url, "drop table contrapas_shop.lane_log")
    with pytest.raises(LogError) as why:
        await owner.write(owner.next("k"))
    assert why.value.code == "CP506"
    await log.close()


async def test_what_holds_back_the_horizon_is_named_with_pid_age_and_query(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contrapas_postgres import log_examine

    monkeypatch.setattr(log_examine, "HELD_S", 0)
    await (await made(postgres.url)).close()
    conn = await asyncpg.connect(postgres.url)
    pid = await conn.fetchval("select pg_backend_pid()")
    await conn.execute("begin; create table slow(x int)")
    await conn.execute("select 'a long business transaction'")
    found = [one for one in await connector.examine(postgres.url, "shop") if one.code == "CP515"]
    assert len(found) == 1 and not found[0].refused
    assert f"pid {pid}" in found[0].text and "a long business transaction" in found[0].text
    await conn.execute("prepare transaction 'forgotten'")
    await conn.close()
    found = [one for one in await connector.examine(postgres.url, "shop") if one.code == "CP515"]
    assert [("forgotten" in one.text) for one in found] == [True]
    await ran(postgres.url, "rollback prepared 'forgotten'")


async def test_positions_outside_of_their_lane_are_found(postgres: Database) -> None:
    log = await made(postgres.url)
    owner = Owner(log, await log.acquire(0, "me"))
    topic = await log.topic("in")
    assert topic is not None
    await owner.write(control=owner.control._replace(cursor={(f"in@{topic.id}", 0): 9}))
    await owner.lease.release()
    assert "CP506" in {one.code for one in await connector.examine(postgres.url, "shop")}
    await log.close()


# ---- one transaction for business rows and a transition


async def balances(conn: asyncpg.Connection[asyncpg.Record]) -> list[int]:
    return [row[0] for row in await conn.fetch("select cents from account order by id")]


async def account(url: str) -> asyncpg.Connection[asyncpg.Record]:
    conn = await asyncpg.connect(url)
    await conn.execute(
        "create table account(id int primary key, cents int); insert into account values (1, 100)"
    )
    return conn


async def test_a_transition_and_business_rows_are_one_commit(postgres: Database) -> None:
    log = await made(postgres.url)
    assert log.caps.joins_user_sql
    conn = await account(postgres.url)
    owner = Owner(log, await log.acquire(0, "me"))
    lease = owner.lease
    assert isinstance(lease, PostgresLease)
    serial = lease.control.serial
    async with lease.joining(conn) as commit:
        await conn.execute("update account set cents = cents - 30")
        done = await commit([owner.next("k", b"paid")], [Draft("in", 1, b"k", b"tell")], owner.lease.control)
        assert (await everything(log)) == []
    assert await balances(conn) == [70]
    assert [r.offset for r in await everything(log)] == [done.first]
    assert len(await everything(log, "in", 1)) == 1
    assert owner.lease.control.serial == serial + 1
    await owner.write(owner.next("k", b"next"))
    await conn.close()
    await log.close()


async def test_neither_is_there_when_the_block_fails_or_another_owns_the_partition(
    postgres: Database,
) -> None:
    log = await made(postgres.url)
    conn = await account(postgres.url)
    owner = Owner(log, await log.acquire(0, "me"))
    lease = owner.lease
    assert isinstance(lease, PostgresLease)
    with pytest.raises(ZeroDivisionError):
        async with lease.joining(conn) as commit:
            await conn.execute("update account set cents = 0")
            await commit([owner.next("k")], [], lease.control)
            raise ZeroDivisionError
    assert (await balances(conn), await everything(log)) == ([100], [])
    owner.versions.clear()
    await owner.write(owner.next("k", b"one"))
    heir = await log.acquire(0, "heir")
    with pytest.raises(Fenced):
        async with lease.joining(conn) as commit:
            await conn.execute("update account set cents = 0")
    assert await balances(conn) == [100]
    assert heir.epoch > lease.epoch
    other = await made(postgres.url)
    await other.break_lock(0)
    with pytest.raises(Fenced):
        async with heir.joining(conn) as commit:
            await conn.execute("update account set cents = 0")
            await commit([owner.next("k")], [], heir.control)
    assert await balances(conn) == [100]
    await conn.close()
    await other.close()
    await log.close()


async def test_of_commits_that_go_together_the_fenced_one_leaves_nothing(postgres: Database) -> None:
    log, other = await made(postgres.url, 4), await made(postgres.url, 4)
    owners = [Owner(log, await log.acquire(p, "me")) for p in range(4)]
    await other.break_lock(2)

    async def write(n: int) -> None:
        owner = owners[n]
        await owner.write(
            *[owner.next(f"k{i}", b"%d" % n) for i in range(n + 1)],
            out=[Draft("in", 3, b"k", b"%d-%d" % (n, i)) for i in range(2)],
        )

    ended = await asyncio.gather(*map(write, range(4)), return_exceptions=True)
    assert [type(each) for each in ended] == [type(None), type(None), Fenced, type(None)]
    for n in range(4):
        states = (await folded(log, n))[1]
        assert states == ({} if n == 2 else {f"k{i}".encode(): b"%d" % n for i in range(n + 1)})
    sent = [r.value for r in await everything(log, "in", 3)]
    assert sorted(sent, key=str) == [b"0-0", b"0-1", b"1-0", b"1-1", b"3-0", b"3-1"]
    assert [v for v in sent if v and v[:1] == b"3"] == [b"3-0", b"3-1"]
    await log.close()
    await other.close()


@pytest.mark.parametrize("which", ["newest", "oldest"])
async def test_owners_that_write_to_each_other_s_partitions_neither_wait_for_ever_nor_lose_a_place(
    postgres: Database, postgres_oldest: Database, which: str
) -> None:
    url = (postgres if which == "newest" else postgres_oldest).url
    logs = [await made(url, 6) for _ in range(3)]
    chance = random.Random(3)
    sent: Counter[int] = Counter()

    async def own(log: PostgresLog, p: int) -> None:
        owner = Owner(log, await log.acquire(p, "me"))
        for n in range(25):
            to = [chance.randrange(6) for _ in range(chance.randrange(5))]
            sent.update(to)
            await owner.write(owner.next(f"k{n}"), out=[Draft("in", q, b"k", b"%d" % p) for q in to])

    async def publish(log: PostgresLog) -> None:
        for _ in range(25):
            to = [chance.randrange(6) for _ in range(4)]
            sent.update(to)
            await log.publish([Draft("in", q, b"k", b"door") for q in to])

    works = [own(logs[p % 3], p) for p in range(6)] + [publish(log) for log in logs]
    await asyncio.wait_for(asyncio.gather(*works), 60)
    for p in range(6):
        records = await everything(logs[0], "in", p)
        assert [r.offset for r in records] == list(range(sent[p]))
        assert [r.offset for r in await everything(logs[0], "log", p)] == list(range(25))
        assert [r.timestamp_ms for r in records] == sorted(r.timestamp_ms for r in records)
    for log in logs:
        await log.close()
