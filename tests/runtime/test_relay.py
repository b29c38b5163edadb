"""The relay: in order, complete, noted only after the log has it, and loud when it cannot go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from contrapas import Event, failpoints
from contrapas.errors import Indeterminate, LogError, Refused, Retriable
from contrapas.log import Draft
from contrapas.log.memory import MemoryLog
from contrapas.participant import PAGE_BYTES, Horizon, Receipt, Row
from contrapas.participant.memory import MemoryStore
from contrapas.participant.rows import digest
from contrapas.runtime.relay import Relay, held
from contrapas.testing.conformance_store import deliver, message, receipt
from tests.runtime.outboxes import BUSY, FakeOutbox, Table


class Made(Event, topic="events", key="key"):
    key: str
    n: int


POINTS = ("outbox.claimed", "outbox.read", "outbox.sent", "outbox.noted", "outbox.release.before")


class Killed(BaseException):
    """Stands for kill -9."""


async def a_log() -> MemoryLog:
    log = MemoryLog("shop", 4)
    await log.create_topics({"events": 3, "others": 2})
    return log


async def stored(log: MemoryLog, topic: str = "events") -> dict[str, list[tuple[str, bytes]]]:
    """Key -> (id, value) in the order of the log."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    whole = await log.topic(topic)
    for p in range(log.partitions if whole is None else whole.partitions):
        for r in (await log.read(topic, p, 0, max_records=100_000))[0]:
            found.setdefault(r.key.decode(), []).append((dict(r.headers)["ce_id"].decode(), r.value or b""))
    return found


def firsts(ids: list[tuple[str, bytes]]) -> list[str]:
    """Each id once, where it came first; a repetition has the same bytes."""
    values: dict[str, bytes] = {}
    for ident, value in ids:
        assert values.setdefault(ident, value) == value
    return list(values)


async def until(true: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(relay: Relay) -> AsyncGenerator[asyncio.Task[None]]:
    work = asyncio.create_task(relay.run())
    try:
        yield work
    finally:
        if not work.done():
            await relay.stop(2_000)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_rows_arrive_whole_in_order_and_are_noted_and_the_outbox_is_given_up_at_the_end() -> None:
    log, table = await a_log(), Table()
    made = [
        table.add(f"k{n % 5}", n, traceparent="00-ab-cd-01", headers={"ce_subject": "x"}) for n in range(2500)
    ]
    relay = Relay(FakeOutbox(table).store(), log, "shop")
    async with running(relay):
        await until(lambda: table.last == 2500)
        assert relay.state().holds
    found = await stored(log)
    for key in found:
        assert [i for i, _ in found[key]] == [m.id for m in made if m.key == key]
    assert sum(map(len, found.values())) == 2500
    assert (relay.sent, relay.last, table.alive) == (2500, 2500, False)
    record = (await log.read("events", 0, 0, max_records=1))[0][0]
    assert [n for n, _ in record.headers] == [
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "content-type",
        "traceparent",
        "ce_subject",
    ]


async def test_a_row_for_the_lane_goes_to_the_partition_of_its_key() -> None:
    log, table = await a_log(), Table()
    table.add("place_order/o-1", 1, topic="shop.in")
    async with running(Relay(FakeOutbox(table).store(), log, "shop")):
        await until(lambda: table.last == 1)
    assert list(await stored(log, "in")) == ["place_order/o-1"]


async def test_what_is_committed_late_below_others_is_waited_for() -> None:
    log, table = await a_log(), Table()
    early = table.take()
    table.add("a", 2)
    relay = Relay(FakeOutbox(table).store(), log, "shop")
    async with running(relay):
        await asyncio.sleep(0.05)
        assert (table.last, relay.sent) == (0, 0)
        table.commit(early, table.rows[2].message._replace(id="a-1"))
        await until(lambda: table.last == 2)
    assert [i for i, _ in (await stored(log))["a"]] == ["a-1", "a-2"]


async def test_numbers_that_were_rolled_back_do_not_stop_the_position() -> None:
    log, table = await a_log(), Table()
    table.add("a", 1)
    table.open.discard(table.take())
    async with running(Relay(FakeOutbox(table).store(), log, "shop")):
        await until(lambda: table.last == 2)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("visit", [1, 2, 3])
async def test_i22_a_row_is_noted_only_after_the_log_acknowledged_that_row(point: str, visit: int) -> None:
    """Killed at every point: nothing is lost, order per key holds, what repeats has the same id."""
    log, table = await a_log(), Table()
    made = [table.add(f"k{n % 3}", n) for n in range(700)]
    visits = 0

    def act() -> None:
        nonlocal visits
        visits += 1
        assert table.last <= sum(map(len, shelf())), "noted before it was acknowledged"
        if visits == visit:
            raise Killed

    def shelf() -> list[list[str]]:
        return [[r.key.decode() for r in s.records] for s in log.store.lanes["events"]]

    failpoints.arm(point, act)
    try:
        for _ in range(3):
            table.alive = False  # its session ended with it
            relay = Relay(FakeOutbox(table).store(), log, "shop")
            work = asyncio.create_task(relay.run())
            await until(lambda work=work: work.done() or table.last == 700)  # type: ignore[misc]
            if not work.done():
                stop = asyncio.create_task(relay.stop(500))
                await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
                await stop
            assert work.done()
            if work.exception() is None:
                break
            assert isinstance(work.exception(), Killed)
    finally:
        failpoints.disarm()
    assert table.last == 700
    found = await stored(log)
    for key in ("k0", "k1", "k2"):
        assert firsts(found[key]) == [m.id for m in made if m.key == key]


@pytest.mark.parametrize("fault", ["retriable", "lost-before", "lost-after", "cut", "late"])
async def test_a_publish_that_fails_or_is_not_answered_is_repeated_from_the_last_acknowledged_row(
    fault: str,
) -> None:
    log, table = await a_log(), Table()
    made = [table.add(f"k{n % 3}", n) for n in range(300)]
    log.store.faults.script("publish", fault, fault)
    async with running(Relay(FakeOutbox(table).store(), log, "shop")):
        await until(lambda: table.last == 300)
        for late in log.store.in_flight:
            late()
    found = await stored(log)
    for key in found:
        assert firsts(found[key]) == [m.id for m in made if m.key == key]


async def test_a_row_whose_topic_is_missing_stays_names_itself_and_holds_what_is_behind_it() -> None:
    log, table = await a_log(), Table()
    for n in range(300):
        table.add("a", n)
    table.add("a", 300, topic="evnets")
    for n in range(301, 400):
        table.add("a", n)
    relay = Relay(FakeOutbox(table).store(), log, "shop")
    async with running(relay):
        await until(lambda: relay.state().colour == "red")
        [reason] = relay.state().reasons
        assert "CP505" in reason and "a-300 (seq 301)" in reason and "'evnets'" in reason and "fix" in reason
        await until(lambda: table.last == 300)
        assert len((await stored(log))["a"]) == 300
        await log.create_topics({"evnets": 1})
        await until(lambda: table.last == 400)
        assert relay.state().colour == "green"
    assert [i for i, _ in (await stored(log))["a"]] == [f"a-{n}" for n in range(400) if n != 300]
    assert list(await stored(log, "evnets")) == ["a"]


@pytest.mark.parametrize("topic", ["log", "in", "shop.log", ""])
async def test_a_row_that_names_a_lane_is_not_let_in_and_may_be_deleted(topic: str) -> None:
    log, table = await a_log(), Table()
    table.add("a", 1)
    table.add("a", 2, topic=topic)
    table.add("a", 3)
    relay = Relay(FakeOutbox(table).store(), log, "shop")
    async with running(relay):
        await until(lambda: relay.state().colour == "red")
        assert "(seq 2)" in relay.state().reasons[0]
        await until(lambda: table.last == 1)
        del table.rows[2]
        await until(lambda: table.last == 3)
        assert relay.state().colour == "green"
    assert [i for i, _ in (await stored(log))["a"]] == ["a-1", "a-3"]


async def test_a_blocked_relay_stops_at_once() -> None:
    log, table = await a_log(), Table()
    table.add("a", 1, topic="none")
    relay = Relay(FakeOutbox(table).store(), log, "shop")
    async with running(relay) as work:
        await until(lambda: relay.state().colour == "red")
        async with asyncio.timeout(1):
            await relay.stop(30_000)
            await work
    assert not table.alive


async def test_one_relay_sends_at_a_time_and_the_next_takes_over() -> None:
    log, table = await a_log(), Table()
    first, second = (Relay(FakeOutbox(table).store(), log.peer(), "shop", chance=lambda: 0) for _ in range(2))
    said: list[str] = []
    second.on_wait = said.append
    async with running(first):
        await until(lambda: first.state().holds)
        async with running(second):
            await until(lambda: bool(said))
            table.add("a", 1)
            await until(lambda: table.last == 1)
            assert (first.sent, second.sent) == (1, 0)
            await first.stop()
            table.add("a", 2)
            await until(lambda: table.last == 2)
            assert (second.sent, second.state().epoch) == (1, 2)


async def test_a_relay_that_stood_still_learns_that_it_is_fenced_and_waits() -> None:
    log, table = await a_log(), Table()
    first = Relay(FakeOutbox(table).store(), log, "shop")
    async with running(first):
        await until(lambda: first.state().holds)
        table.epoch, table.owner, table.last = table.epoch + 1, "another", 5  # it took over meanwhile
        table.top = 5
        table.add("a", 6)
        await until(lambda: not first.state().holds)
        assert table.last == 5
        table.alive = False
        await until(lambda: table.last == 6)


async def test_a_database_that_is_away_is_waited_for_and_seen_in_health(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, table = await a_log(), Table()
    table.add("a", 1)
    box = FakeOutbox(table)
    box.fail = {"claim": [OSError("connection refused"), BUSY], "page": [BUSY, BUSY], "advance": [BUSY]}
    relay = Relay(box.store(), log, "shop")
    seen: list[str] = []
    say = relay.fails

    def heard(why: BaseException, *, row: Row | None = None) -> None:
        say(why, row=row)
        seen.append(relay.state().colour)

    monkeypatch.setattr(relay, "fails", heard)
    async with running(relay):
        await until(lambda: table.last == 1)
        assert relay.state().colour == "green"
    assert set(seen) == {"amber"} and len(seen) >= 4


async def test_tables_that_are_missing_turn_health_red() -> None:
    log, table = await a_log(), Table()
    box = FakeOutbox(table)
    box.fail = {"claim": [Refused("CP514", "there is no contrapas_outbox", fix="contrapas store sql")] * 3}
    relay = Relay(box.store(), log, "shop", chance=lambda: 0)
    async with running(relay):
        await until(lambda: relay.state().colour == "red")
        assert "contrapas store sql" in relay.state().reasons[0]
        await until(lambda: relay.state().holds)
        assert relay.state().colour == "green"


async def test_whoever_holds_the_outbox_back_for_long_is_named(caplog: pytest.LogCaptureFixture) -> None:
    log, table = await a_log(), Table()
    box = FakeOutbox(table)
    box.held = Horizon(11_000, 4711, "update orders\n set cents = 1")
    relay = Relay(box.store(), log, "shop")
    async with running(relay):
        await until(lambda: relay.state().colour == "amber")
        assert relay.state().horizon.age_ms == 11_000
        [reason] = relay.state().reasons
        assert (
            reason == "CP515 held back for 11 s by the transaction of pid 4711: update orders set cents = 1"
        )
    assert caplog.text.count("CP515") == 1
    prepared = Horizon(12_000, 0, "prepared transaction 'x'")
    assert held(prepared).endswith("by a transaction without a session: prepared transaction 'x'")


async def test_rows_are_read_while_others_are_published_but_one_publish_is_in_flight() -> None:
    log, table = await a_log(), Table()
    for n in range(3000):
        table.add("a", n)
    box = FakeOutbox(table)
    flying, pages = 0, list[int]()
    inner = log.publish

    async def slow(drafts: list[Draft]) -> None:
        nonlocal flying
        flying += 1
        assert flying == 1
        await asyncio.sleep(0.01)
        pages.append(box.calls.count("page"))
        await inner(drafts)
        flying -= 1

    log.publish = slow  # type: ignore[method-assign, assignment]
    async with running(Relay(box.store(), log, "shop")):
        await until(lambda: table.last == 3000)
    assert pages[0] > 1


async def test_i42_a_page_of_large_rows_after_small_ones_is_cut_by_the_store_and_nothing_is_passed_over() -> (
    None
):
    log, store = await a_log(), MemoryStore("shop")
    large = b'{"a":"' + 450_000 * b"x" + b'"}'
    rows = [
        message(f"m{n}", payload=large if n > 100 else b"{}")._replace(topic="events") for n in range(140)
    ]
    await deliver(store, receipt(), rows=rows)
    sizes, sent, inner = list[int](), list[str](), log.publish

    async def noted(drafts: list[Draft]) -> None:
        await inner(drafts)
        sizes.append(sum(len(d.value or b"") for d in drafts))
        sent.extend(d.message_id for d in drafts)

    log.publish = noted  # type: ignore[method-assign, assignment]
    relay = Relay(store, log, "shop")
    async with running(relay):
        await until(lambda: relay.sent == 140)
    assert max(sizes) < PAGE_BYTES + len(large)
    assert sent == [row.id for row in rows]


async def test_an_error_of_the_log_that_no_repetition_cures_names_the_row() -> None:
    log, table = await a_log(), Table()
    for n in range(10):
        table.add("a", n)
    inner = log.publish

    async def picky(drafts: list[Draft]) -> None:
        if any(d.message_id == "a-7" for d in drafts):
            raise LogError("CP508", "the broker takes 10 bytes", fix="raise max.message.bytes")
        await inner(drafts)

    log.publish = picky  # type: ignore[method-assign, assignment]
    relay = Relay(FakeOutbox(table).store(), log, "shop")
    async with running(relay):
        await until(lambda: relay.state().colour == "red" and table.last == 7)
        assert "row a-7 (seq 8)" in relay.state().reasons[0]
        assert "raise max.message.bytes" in relay.state().reasons[0]


async def test_i23_what_a_relay_repeats_after_a_long_outage_is_still_known_to_the_inbox() -> None:
    day = 86_400_000
    now = 0
    log, store = await a_log(), MemoryStore("shop", clock=lambda: now)
    async with store.transaction() as session:
        await store.publish(session, Made(key="a", n=1))

    def killed() -> None:
        raise Killed

    failpoints.arm("outbox.sent", killed)
    try:
        with pytest.raises(Killed):
            await Relay(store, log, "shop").run()
    finally:
        failpoints.disarm()

    async def apply() -> int:
        applied = 0
        for p in range(3):
            for r in (await log.read("events", p, 0))[0]:
                h = {name: value.decode() for name, value in r.headers}
                mark = digest(h["ce_type"], h["content-type"], r.value or b"")
                receipt = Receipt("shop", "reader", h["ce_source"], h["ce_id"], mark)
                async with store.begin() as tx:
                    if (known := await tx.take(receipt)) is None:
                        await tx.finish(receipt, reply=None, reply_type="", rows=())
                        applied += 1
                    else:
                        assert known.digest == mark
        return applied

    assert await apply() == 1
    now += store.inbox_ms - day
    await store.prune(budget_ms=1_000)
    relay = Relay(store, log, "shop")
    async with running(relay):
        await until(lambda: relay.sent == 1)
    assert len((await stored(log))["a"]) == 2, (
        "unacknowledged as far as anybody knew: neither dropped nor skipped"
    )
    assert await apply() == 0


def test_errors_that_pass_are_those_of_the_seam() -> None:
    from contrapas.runtime.relay import _passes  # pyright: ignore[reportPrivateUsage]

    assert _passes(Retriable("x")) and _passes(Indeterminate("x"))
    assert not _passes(Refused("CP514", "x"))
