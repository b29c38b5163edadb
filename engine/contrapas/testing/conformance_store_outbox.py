"""Conformance of stores: the outbox in order and without loss, and one relay at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

from contrapas.core.messages import VALUE_MAX
from contrapas.errors import Fenced
from contrapas.participant import PAGE_BYTES, Outgoing, Row, Store
from contrapas.testing.conformance_store import (
    Broke,
    Noted,
    StoreBench,
    case,
    deliver,
    held_back,
    message,
    raises,
    receipt,
    relayed,
)

GROUP = "outbox"
WRITERS = 12
EACH = 12
KEYS = 4


@case(GROUP)
async def rows_come_back_as_they_were_written_in_the_order_of_their_numbers(bench: StoreBench) -> None:
    store = await bench.open()
    written = [
        message("m1", "clé \"'; --"),
        message("m2", payload=b'{"text":"\\u0001 \xf0\x9f\xa6\x86","n":0.1}'),
        message("m3")._replace(headers={"z": "1", "a": "é", "ce_subject": "k"}, traceparent="00-ab-cd-01"),
        message("m4")._replace(type="", topic="shop.in", content_type="application/json; charset=utf-8"),
        *(message(f"n{n}") for n in range(20)),
    ]
    await deliver(store, receipt(), rows=written)
    rows = await relayed(await bench.open())
    assert all(a.seq < b.seq for a, b in pairwise(rows))
    found = [r.message for r in rows]
    assert [_plain(m) for m in found] == [_plain(m) for m in written]
    assert all(r.created_at_ms > 0 for r in rows)


def _plain(m: Outgoing) -> tuple[Any, ...]:
    """What must come back; a JSON column may write the same JSON otherwise."""
    import json

    return (*m._replace(payload=b"", headers={}), json.loads(m.payload), dict(m.headers))


@case(GROUP)
async def nothing_new_gives_the_same_number_after_the_wait(bench: StoreBench) -> None:
    store = await bench.open()
    assert await store.outbox.upto(0, wait_ms=0) == 0
    await deliver(store, receipt(), rows=[message("m1")])
    last = await store.outbox.upto(0, wait_ms=500)
    assert last > 0
    assert await store.outbox.upto(last, wait_ms=0) == last
    assert await store.outbox.upto(last, wait_ms=30) == last


@case(GROUP)
async def a_page_ends_at_its_limit_and_goes_on_behind_it(bench: StoreBench) -> None:
    store = await bench.open()
    await deliver(store, receipt(), rows=[message(f"m{n}") for n in range(25)])
    upto = await store.outbox.upto(0, wait_ms=500)
    first = await store.outbox.page(0, upto, 10)
    rest = await store.outbox.page(first[-1].seq, upto, 100)
    assert (len(first), len(rest)) == (10, 15)
    assert [r.message.id for r in [*first, *rest]] == [message(f"m{n}").id for n in range(25)]
    assert await store.outbox.page(first[3].seq, first[5].seq, 100) == first[4:6]
    large = b'{"a":"' + VALUE_MAX // 2 * b"x" + b'"}'
    await deliver(store, receipt("large"), rows=[message(f"l{n}", payload=large) for n in range(25)])
    upto = await store.outbox.upto(upto, wait_ms=500)
    full = await store.outbox.page(rest[-1].seq, upto, 100)
    size = [len(row.message.payload) for row in full]
    assert sum(size[:-1]) < PAGE_BYTES <= sum(size), "as much as fits into memory, whatever the limit"
    assert len(full) + len(await store.outbox.page(full[-1].seq, upto, 100)) == 25


@case(GROUP)
async def a_commit_wakes_the_relay_that_waits(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    waiting = asyncio.ensure_future(store.outbox.upto(0, wait_ms=20_000))
    await asyncio.sleep(0.02)
    await deliver(other, receipt(), rows=[message("m1")])
    assert await asyncio.wait_for(waiting, 5) > 0


@case(GROUP)
async def the_hole_of_a_rollback_holds_nobody_up(bench: StoreBench) -> None:
    store = await bench.open()

    async def broken() -> None:
        async with bench.transaction(store) as session:
            await store.publish(session, Noted(key="k"))
            raise Broke

    for n in range(3):
        await raises(Broke, broken())
        await deliver(store, receipt(f"c-{n}"), rows=[message(f"m{n}")])
    assert [r.message.id for r in await relayed(store)] == [message(f"m{n}").id for n in range(3)]


@case(GROUP, "parallel")
async def a_row_that_may_still_appear_below_holds_back_what_is_above_it(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    async with bench.transaction(other) as session:
        await store.publish(session, Noted(key="early"))
        await deliver(store, receipt(), rows=[message("m1", "late")])
        assert await held_back(store) == []
        assert await store.outbox.upto(0, wait_ms=50) == 0
        held = await store.outbox.horizon()
        assert held.age_ms > 0 and held.pid != 0 and len(held.query) <= 200, held
    assert [r.message.key for r in await relayed(store)] == ["early", "late"]


Cursor = Callable[[Store[Any], int], Awaitable[tuple[list[Row], int]]]


@case(GROUP, "parallel")
async def twelve_jittered_writers_lose_nothing_and_keep_the_order_of_their_keys(bench: StoreBench) -> None:
    for seed in range(3):
        lost, turned = await _race(bench, _barrier, seed)
        assert (lost, turned) == (0, 0), f"seed {seed}: {lost} lost, {turned} out of order"


@case(GROUP, "parallel")
async def the_naive_cursor_loses_rows_under_the_same_writers(bench: StoreBench) -> None:
    assert any([(await _race(bench, _naive, seed))[0] > 0 for seed in range(5)])


async def _barrier(store: Store[Any], last: int) -> tuple[list[Row], int]:
    upto = await store.outbox.upto(last, wait_ms=5)
    rows = list(await store.outbox.page(last, upto, 100)) if upto > last else []
    return rows, rows[-1].seq if len(rows) == 100 else upto


async def _naive(store: Store[Any], last: int) -> tuple[list[Row], int]:
    await asyncio.sleep(0.001)
    rows = list(await store.outbox.page(last, 1 << 60, 100))
    return rows, rows[-1].seq if rows else last


async def _race(bench: StoreBench, cursor: Cursor, seed: int) -> tuple[int, int]:
    """Rows lost, and rows out of order within their key."""
    chance = random.Random(seed)
    store = await bench.open()
    counts = [0] * KEYS
    written: list[Outgoing] = []

    async def writes(writer: int) -> None:
        own = await bench.open() if writer < 2 else store
        for _ in range(EACH):
            k = chance.randrange(KEYS)
            async with own.begin() as tx:
                await asyncio.sleep(chance.random() * 0.004)
                await bench.put(tx.session, f"key{k}", str(seed))  # the row lock makes the key's order
                counts[k] += 1
                name = f"{seed}/{writer}/{k}/{counts[k]}"
                row = message(name, f"{seed}-{k}", b'{"n":%d}' % counts[k])
                r = receipt(name)
                await tx.take(r)
                await tx.finish(r, reply=None, reply_type="", rows=[row])
                await asyncio.sleep(chance.random() * 0.006)
            written.append(row)

    work = asyncio.ensure_future(asyncio.gather(*(writes(n) for n in range(WRITERS))))
    found: list[Row] = []
    last, quiet = 0, 0
    while quiet < 3:
        rows, last = await cursor(store, last)
        found += [r for r in rows if r.message.key.startswith(f"{seed}-")]
        quiet = quiet + 1 if work.done() and not rows else 0
    await work
    lost = {m.id for m in written} - {r.message.id for r in found}
    turned = 0
    for k in range(KEYS):
        mine = [
            int(r.message.payload.split(b":")[1].strip(b" }"))
            for r in found
            if r.message.key == f"{seed}-{k}"
        ]
        turned += sum(a > b for a, b in pairwise(mine))
    return len(lost), turned


# ---- one relay at a time


@case("relay")
async def a_claim_keeps_others_out_until_it_is_given_up(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    await deliver(store, receipt(), rows=[message("m1")])
    first = await store.outbox.claim("shop", "one")
    assert first.last == 0 and first.epoch > 0
    await raises(Fenced, other.outbox.claim("shop", "two"))
    upto = await store.outbox.upto(0, wait_ms=500)
    await store.outbox.advance("shop", first.epoch, upto)
    await store.outbox.release("shop", first.epoch)
    second = await other.outbox.claim("shop", "two")
    assert second.epoch > first.epoch and second.last == upto


@case("relay")
async def a_relay_that_was_deposed_moves_nothing_any_more(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    await deliver(store, receipt(), rows=[message(f"m{n}") for n in range(3)])
    old = await store.outbox.claim("shop", "one")
    upto = await store.outbox.upto(0, wait_ms=500)
    await store.outbox.advance("shop", old.epoch, upto - 1)
    await bench.depose(store)
    new = await other.outbox.claim("shop", "two")
    assert (new.epoch > old.epoch, new.last) == (True, upto - 1)
    await raises(Fenced, store.outbox.advance("shop", old.epoch, upto))
    await store.outbox.release("shop", old.epoch)
    third = await bench.open()
    await raises(Fenced, third.outbox.claim("shop", "three"))
    await other.outbox.advance("shop", new.epoch, upto)
    assert (await other.status()).relays["shop"] == (new.epoch, upto)


@case("relay")
async def a_relay_killed_at_any_point_delivers_all_in_order(bench: StoreBench) -> None:
    for point in ("claimed", "read", "half", "sent", "advanced"):
        store = await bench.open()
        base = (await store.status()).relays.get("shop", (0, 0))[1]
        for n in range(4):
            await deliver(store, receipt(f"{point}-{n}"), rows=[message(f"{point}-{n}", f"k{n % 2}")])
        sent: list[str] = []
        await raises(Broke, _relay(store, "one", sent, point))
        await bench.depose(store)
        await _relay(await bench.open(), "two", sent, "")
        first = list(dict.fromkeys(sent))
        assert first == [message(f"{point}-{n}").id for n in range(4)], point
        assert (await store.status()).relays["shop"][1] > base


async def _relay(store: Store[Any], owner: str, sent: list[str], point: str) -> None:
    def reached(here: str) -> None:
        if here == point:
            raise Broke(here)

    claim = await store.outbox.claim("shop", owner)
    reached("claimed")
    upto = await store.outbox.upto(claim.last, wait_ms=500)
    rows = await store.outbox.page(claim.last, upto, 100)
    reached("read")
    for n, row in enumerate(rows):
        if n == 2:
            reached("half")
        sent.append(row.message.id)
    reached("sent")
    await store.outbox.advance("shop", claim.epoch, upto)
    reached("advanced")
    await store.outbox.release("shop", claim.epoch)
